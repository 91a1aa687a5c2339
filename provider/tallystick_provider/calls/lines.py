"""The message bus's end of calls: subjects, bodies, and who answers them.

    lines(service)["call"](data, send, max_message)

`inbox.py` carries them; each message has a task of its own. What cannot be read is answered too, in
the words of its subject.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeVar

from tallystick.protocol.call_bodies import (
    AppBody,
    AppReplyBody,
    CancelBody,
    LoadRequestBody,
    StartsRequestBody,
)
from tallystick.protocol.call_codec import read_voucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.serving import Refusal
from tallystick.protocol.types import AppId, to_digest
from tallystick.protocol.wire import Ack, WireModel, parse
from tallystick_provider.calls.service import CallService
from tallystick_provider.inbox import Line, Send

Body = TypeVar("Body")
ACK: Final = Ack().model_dump_json().encode()


def lines(service: CallService) -> Mapping[str, Line]:
    async def load(_: LoadRequestBody) -> WireModel:
        return service.load()

    async def starts(body: StartsRequestBody) -> WireModel:
        return service.starts(AppId(to_digest(body.app_id)))

    return {
        "app": _answering(
            partial(parse, AppBody),
            service.on_app,
            lambda why: AppReplyBody(accepted=False, reason=why[:200]),
        ),
        "call": service.on_call,
        "voucher": _answering(
            read_voucher, service.on_voucher, lambda why: Refusal("voucher", why).to_body()
        ),
        "cancel": _answering(
            partial(parse, CancelBody), service.on_cancel, lambda why: Ack(ok=False, reason=why)
        ),
        "load": _answering(
            partial(parse, LoadRequestBody), load, lambda why: Ack(ok=False, reason=why)
        ),
        "starts": _answering(
            partial(parse, StartsRequestBody), starts, lambda why: Ack(ok=False, reason=why)
        ),
    }


def _answering(
    read: Callable[[bytes], Body],
    handle: Callable[[Body], Awaitable[WireModel]],
    refuse: Callable[[str], WireModel],
) -> Line:
    async def line(data: bytes, send: Send, _max_message: int) -> None:
        try:
            body = read(data)
        except ProtocolError as error:
            await send(refuse(str(error)).model_dump_json().encode())
            return
        told = await handle(body)
        await send(ACK if told == Ack() else told.model_dump_json().encode())

    return line
