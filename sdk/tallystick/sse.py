"""Server-sent events, as much of them as we use: id, event, data, and a retry we leave alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    id: str
    event: str
    data: str


async def events(lines: AsyncIterator[str]) -> AsyncIterator[ServerEvent]:
    """Events from the lines of a text/event-stream; comments and empty blocks are passed over."""
    last_id, kind, data = "", "message", list[str]()
    async for line in lines:
        if line == "":
            if data:
                yield ServerEvent(last_id, kind, "\n".join(data))
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value or "message"
        elif name == "id" and "\0" not in value:
            last_id = value
