"""The server's own door: heads that come slowly, endlessly or never, and bodies left over.

Case 132, over real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from tallystick_backend.connections import MAX_HEAD_BYTES, GuardedHttp

PATIENCE_S = 0.3
CLOSED_WITHIN_S = 5.0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how many headers came, without a look at the body; `/slow` after a while."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * PATIENCE_S)
    body = str(len(scope["headers"])).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=GuardedHttp.within(PATIENCE_S), lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has no event
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served() as port:
        yield port


async def said(reader: asyncio.StreamReader) -> bytes:
    """All until the other side closes."""
    async with asyncio.timeout(CLOSED_WITHIN_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def drip(writer: asyncio.StreamWriter, piece: bytes, times: int = 40) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(PATIENCE_S / 5)


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    found: dict[str, object] = json.loads(body)
    return found


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await said(reader) == b""
    writer.close()


async def test_a_head_that_comes_slowly_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n")
    dripping = asyncio.create_task(drip(writer, b"X: y\r\n"))
    answer = await said(reader)
    assert problem(answer)["code"] == "head_too_slow"
    assert answer.startswith(b"HTTP/1.1 408 ")
    dripping.cancel()
    writer.close()


async def test_so_is_the_second_one_of_a_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    dripping = asyncio.create_task(drip(writer, b"G"))
    answer = await said(reader)
    assert b"408 " in answer or b"400 " in answer
    dripping.cancel()
    writer.close()


async def test_an_endless_head_is_refused_and_not_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(2 * MAX_HEAD_BYTES // 4096):
            writer.write(b"y" * 4096)
            await writer.drain()
            await asyncio.sleep(0)
    answer = await said(reader)
    assert not answer or problem(answer)["code"] == "headers_too_large"
    writer.close()


async def test_more_headers_than_are_taken_are_counted_and_not_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    # One above the application's limit, so that it refuses.
    assert await reader.readexactly(3) == b"101"
    writer.close()


async def test_a_body_left_over_does_not_keep_its_connection_open(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n")
    dripping = asyncio.create_task(drip(writer, b"z"))
    assert (await said(reader)).startswith(b"HTTP/1.1 200 ")
    dripping.cancel()
    writer.close()


async def test_an_answer_may_take_longer_than_a_head(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    for _ in range(2):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(1)
    writer.close()


async def test_what_is_no_http_is_refused_as_a_problem(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await said(reader)
    assert (problem(answer)["code"], problem(answer)["status"]) == ("malformed_request", 400)
    writer.close()
