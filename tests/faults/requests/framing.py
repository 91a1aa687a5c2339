"""What a stranger can do to a connection: say it slowly, say too much, say it two ways, or nothing.

Against a backend with a second of patience. Every attack ends in a refusal or a closed connection
within a few of these seconds, and the backend answers others all the while in less than twice the
memory that it had."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.campaign import Broken
from tests.faults.requests.place import Place
from tests.faults.requests.wire import Answer, Ask, Wire, read_answer

PATIENCE: Final = {"HEAD_TIMEOUT_S": "1", "BODY_TIMEOUT_S": "1"}
"""Settings under which this is to be run."""
CLOSED_WITHIN_S: Final = 8.0
MIB: Final = 2**20

Attack = Callable[[Place, random.Random], Awaitable[None]]


async def _connect(here: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", here.port, limit=2**21)


async def _end_of(reader: asyncio.StreamReader, what: str) -> Answer:
    """The answer, or none, and then the end of the connection; both soon."""
    answer = Answer(0)
    try:
        async with asyncio.timeout(CLOSED_WITHIN_S):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                answer, _ = await read_answer(reader, "POST")
                await reader.read()
    except TimeoutError:
        raise Broken(f"{what}: still open after {CLOSED_WITHIN_S:g} s ({answer.status})") from None
    except ConnectionError:
        pass
    return answer


def _refused(answer: Answer, what: str, *allowed: int) -> None:
    if answer.status not in (0, *allowed):
        raise Broken(f"{what}: {answer.status} {answer.body[:300]!r}, expected one of {allowed}")


def _head(here: Place, method: str, path: str) -> str:
    """Without its end: of a request with a JSON body."""
    media = "Content-Type: application/json\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{_bearer(here)}{media}"


def _bearer(here: Place) -> str:
    return f"Authorization: Bearer {here.tokens['consumer']}\r\n"


async def _send(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """False when the other side has closed."""
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        return False
    return True


# --- slowly -------------------------------------------------------------------------------------


async def slow_head(here: Place, chance: random.Random) -> None:
    reader, writer = await _connect(here)
    await _send(writer, b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    ended = asyncio.create_task(_end_of(reader, "a header a moment"))
    until = time.monotonic() + CLOSED_WITHIN_S
    while not ended.done() and time.monotonic() < until:
        if not await _send(writer, b"X-%d: y\r\n" % chance.randrange(10**6)):
            break
        await asyncio.sleep(0.15)
    _refused(await ended, "a header a moment", 408)
    writer.close()


async def slow_second_head(here: Place, _: random.Random) -> None:
    """On a connection that was good once."""
    reader, writer = await _connect(here)
    await _send(writer, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await read_answer(reader, "GET")
    for letter in b"GET /heal":
        if not await _send(writer, bytes([letter])):
            break
        await asyncio.sleep(0.15)
    _refused(await _end_of(reader, "a slow second request"), "a slow second request", 408)
    writer.close()


async def silence(here: Place, _: random.Random) -> None:
    reader, writer = await _connect(here)
    _refused(await _end_of(reader, "a silent connection"), "a silent connection", 408)
    writer.close()


async def slow_body(here: Place, chance: random.Random) -> None:
    """A byte now and then: never a pause that is too long by itself."""
    path = chance.choice(
        (
            "/v1/tasks",
            "/v1/auth/login",
            f"/v1/apps/{here.ids['app']}/calls",
            "/v1/blobs/0x" + "5a" * 32,
        )
    )
    method = "PUT" if "blobs" in path else "POST"
    reader, writer = await _connect(here)
    head = _head(here, method, path)
    await _send(writer, (head + "Content-Length: 4000\r\n\r\n").encode())
    ended = asyncio.create_task(_end_of(reader, f"a slow body to {path}"))
    until = time.monotonic() + CLOSED_WITHIN_S
    while not ended.done() and time.monotonic() < until:
        if not await _send(writer, b" "):
            break
        await asyncio.sleep(0.2)
    _refused(await ended, "a slow body", 408, 400)
    writer.close()


# --- too much -----------------------------------------------------------------------------------


async def huge_body(here: Place, chance: random.Random) -> None:
    """100 MB, declared or in chunks."""
    reader, writer = await _connect(here)
    chunked = chance.random() < 0.5
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {100 * MIB}"
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{_bearer(here)}Content-Type: application/json\r\n"
    )
    await _send(writer, (head + length + "\r\n\r\n").encode())
    ended = asyncio.create_task(_end_of(reader, "100 MB"))
    piece = b" " * MIB
    for _ in range(100):
        data = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
        if ended.done() or not await _send(writer, data):
            break
    _refused(await ended, "100 MB", 413)
    writer.close()


async def huge_head(here: Place, chance: random.Random) -> None:
    """One header of 20 MB, or 100,000 of them."""
    reader, writer = await _connect(here)
    await _send(writer, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
    ended = asyncio.create_task(_end_of(reader, "endless headers"))
    one = b"y" * 2**16 if chance.random() < 0.5 else b"y\r\nX-Long: " * 6_000
    for _ in range(300):
        if ended.done() or not await _send(writer, one):
            break
    _refused(await ended, "endless headers", 431)
    writer.close()


async def many_headers(here: Place, chance: random.Random) -> None:
    many = chance.choice((101, 1_000, 10_000))
    reader, writer = await _connect(here)
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(many))
    await _send(writer, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    answer = await _first(reader)
    _refused(answer, f"{many} headers", 431)
    writer.close()


async def deep_json(here: Place, chance: random.Random) -> None:
    kind = chance.choice((b'{"a":', b"["))
    body = kind * 10_000 + b"1" + (b"}" if kind[0] == 123 else b"]") * 10_000
    answer = await _one(here, "POST", "/v1/auth/login", body, "Content-Type: application/json\r\n")
    _refused(answer, "JSON of depth 10,000", 400)


async def packed_bomb(here: Place, chance: random.Random) -> None:
    """10 MB that would be 10 GB; nothing here unpacks."""
    bomb = gzip.compress(b"\0" * 10 * MIB) * 20
    coding = chance.choice(("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"))
    headers = f"Content-Type: application/json\r\nContent-Encoding: {coding}\r\n"
    path = chance.choice(("/v1/tasks", f"/v1/apps/{here.ids['app']}/calls"))
    answer = await _one(here, "POST", path, bomb, headers)
    _refused(answer, f"a body as {coding}", 415)


# --- two ways -----------------------------------------------------------------------------------


async def smuggled(here: Place, chance: random.Random) -> None:
    """Framings that two readers would read differently: one request, at most, is heard."""
    inner = b"GET /v1/deployment HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    post = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    shapes = (
        post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        post + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + inner,
        post + b"Content-Length: 0\r\nContent-Length: 48\r\n\r\n" + inner,
        post + b"Content-Length: +4\r\n\r\n{}  " + inner,
        post + b"Content-Length: 0x4\r\n\r\n{}  " + inner,
        post + b"Content-Length: -1\r\n\r\n" + inner,
        post + b"Content-Length: 99999999999999999999\r\n\r\n" + inner,
        post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
        post + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
        post
        + b"Transfer-Encoding:\tchunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
        + inner,
        post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
        post + b"Content-Length: 4\r\n Transfer-Encoding: chunked\r\n\r\n{}  " + inner,
        post + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + inner,
        post + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + inner,
        post + b"X: y\rContent-Length: 4\r\n\r\n" + inner,
        post + b"X: y\nContent-Length: 4\n\n{}  " + inner,
        b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    number = chance.randrange(len(shapes))
    reader, writer = await _connect(here)
    await _send(writer, shapes[number])
    with contextlib.suppress(OSError):
        writer.write_eof()
    try:
        async with asyncio.timeout(CLOSED_WITHIN_S):
            said = await reader.read()
    except TimeoutError:
        raise Broken(f"framing {number} keeps the connection open") from None
    except ConnectionError:
        said = b""
    if b'"escrow"' in said and said.index(b'"escrow"') and number in _ONE_REQUEST:
        raise Broken(f"framing {number} was heard as two requests: {said[:600]!r}")
    if b"HTTP/1.1 5" in said:
        raise Broken(f"framing {number}: {said[:300]!r}")
    writer.close()


_TWO_CODINGS = b"Transfer-Encoding:\tchunked\r\nTransfer-Encoding: identity\r\n\r\n"
_ONE_REQUEST = frozenset(range(16)) - {15}
"""In these the second request is the first one's body for one reader, and a request for another."""


async def pipelined(here: Place, chance: random.Random) -> None:
    """Many requests at once on one connection: answered in order, and not all in memory."""
    many = chance.choice((2, 50, 300))
    reader, writer = await _connect(here)
    await _send(writer, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * many)
    try:
        async with asyncio.timeout(30):
            for _ in range(many):
                answer, _ = await read_answer(reader, "GET")
                if answer.status != 200:
                    raise Broken(f"a pipelined request was answered {answer.status}")
    except (TimeoutError, asyncio.IncompleteReadError) as failure:
        raise Broken(f"{many} pipelined requests were not all answered") from failure
    writer.close()


async def gone_halfway(here: Place, chance: random.Random) -> None:
    """Content-Length says more than comes; then the caller is gone."""
    reader, writer = await _connect(here)
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\n{_bearer(here)}Content-Type: application/json\r\n"
    )
    await _send(writer, (head + f"Content-Length: {chance.randrange(20, 900)}\r\n\r\n{{").encode())
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await reader.read()


ATTACKS: Final[tuple[Attack, ...]] = (
    slow_head,
    slow_second_head,
    silence,
    slow_body,
    huge_body,
    huge_head,
    many_headers,
    deep_json,
    packed_bomb,
    smuggled,
    pipelined,
    gone_halfway,
)


async def run(here: Place, chance: random.Random, rounds: int, idle: int) -> int:
    """Every attack so many rounds, while `idle` connections say nothing and an honest caller is
    served. How many were made."""
    before = here.resident_bytes()
    made = 0
    waiting = [await _connect(here) for _ in range(idle)]
    honest = asyncio.create_task(_honest(here))
    try:
        for _ in range(rounds):
            picks = [random.Random(chance.random()) for _ in ATTACKS]
            await asyncio.gather(
                *(attack(here, pick) for attack, pick in zip(ATTACKS, picks, strict=True))
            )
            made += len(ATTACKS)
            if honest.done():
                honest.result()
            now = here.resident_bytes()
            if now > 2 * before:
                raise Broken(f"{now // MIB} MiB in memory, {before // MIB} before")
        for reader, _ in waiting:
            await _end_of(reader, "an idle connection")
            made += 1
    finally:
        honest.cancel()
        for _, writer in waiting:
            writer.close()
    return made


async def _honest(here: Place) -> None:
    """Somebody else, all the while."""
    wire = Wire(here.port, at_once=1)
    while True:
        began = time.monotonic()
        answer = await wire.one(Ask("getLiveness", "GET", "/healthz"))
        took_s = time.monotonic() - began
        if answer.status != 200 or took_s > 5:
            raise Broken(f"an honest caller got {answer.status} after {took_s:.1f} s")
        await asyncio.sleep(0.05)


async def _one(here: Place, method: str, path: str, body: bytes, headers: str) -> Answer:
    reader, writer = await _connect(here)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{_bearer(here)}{headers}"
    await _send(writer, (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
    answer = await _first(reader)
    writer.close()
    return answer


async def _first(reader: asyncio.StreamReader) -> Answer:
    try:
        async with asyncio.timeout(CLOSED_WITHIN_S):
            answer, _ = await read_answer(reader, "POST")
    except (ConnectionError, asyncio.IncompleteReadError):
        return Answer(0)
    return answer
