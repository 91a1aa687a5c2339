from tallystick.app import handler


@handler
async def echo(text: str) -> dict[str, str]:
    return {"text": text}
