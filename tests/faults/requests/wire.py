"""HTTP as bytes: what is sent is what was written, and nothing is put right on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.faults.campaign import Broken

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what it is called when it breaks something."""

    operation: str
    method: str
    target: str
    headers: tuple[tuple[str, bytes], ...] = ()
    body: bytes | None = None
    raw: bytes | None = None
    """In place of all of it."""
    alone: bool = False
    """On a connection of its own: framing may be a lie."""

    def wire(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"{self.method} {self.target} HTTP/1.1".encode("latin-1"), b"Host: backend.test"]
        lines += [name.encode("latin-1") + b": " + value for name, value in self.headers]
        if self.body is not None:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body or b"")


@dataclass(slots=True)
class Answer:
    status: int
    """0: the server closed without one."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Connections to one server, kept alive where the server keeps them."""

    def __init__(self, port: int, at_once: int = 8) -> None:
        self._port = port
        self._at_once = at_once
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answers in the order of the questions; `at_once` are under way together."""
        answers: list[Answer] = [Answer(0)] * len(asks)
        left = iter(enumerate(asks))

        async def worker() -> None:
            for number, ask in left:
                answers[number] = await self.one(ask)

        await asyncio.gather(*(worker() for _ in range(self._at_once)))
        return answers

    async def one(self, ask: Ask) -> Answer:
        # A kept connection may have been closed meanwhile: that says nothing about this request.
        for kept in (True, False):
            connection = self._idle.pop() if kept and self._idle and not ask.alone else None
            if kept and connection is None:
                continue
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
            reader, writer = connection
            try:
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(ask.wire())
                    if ask.alone:
                        writer.write_eof()
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                    answer, stays = await read_answer(reader, ask.method)
            except TimeoutError:
                writer.close()
                raise Broken(
                    f"{ask.operation}: no answer in {PATIENCE_S} s: {shown(ask)}"
                ) from None
            except (ConnectionError, asyncio.IncompleteReadError):
                answer, stays = Answer(0), False
            if stays and not ask.alone:
                self._idle.append(connection)
            else:
                writer.close()
            if answer.status or not kept:
                return answer
        raise AssertionError("a fresh connection is the last try")

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def read_answer(reader: asyncio.StreamReader, method: str) -> tuple[Answer, bool]:
    """The answer, and whether the connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    answer = Answer(int(first.split(" ", 2)[1]))
    for line in lines:
        name, _, value = line.partition(":")
        answer.headers[name.strip().lower()] = value.strip()
    stays = answer.headers.get("connection", "").lower() != "close"
    if method == "HEAD" or answer.status in (204, 304):
        return answer, stays
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return answer, False
    if answer.headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            answer.body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    elif "content-length" in answer.headers:
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
    else:
        answer.body, stays = await reader.read(), False
    return answer, stays


def shown(ask: Ask) -> str:
    return repr(ask.wire()[:1200])


def in_path(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")


def in_query(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{in_path(name)}={in_path(value)}" for name, value in pairs)
