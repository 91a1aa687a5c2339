"""A worker's side of the socket is hostile: sizes, headers, time, links
├── a plain answer, kept connections, a stream's pieces
├── every way to say too much, too little, too late or no HTTP at all
├── links and other things in the socket's folder are not followed
└── a caller that leaves hangs up
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from tallystick_provider.calls.http import Reply, WorkerLine
from tallystick_provider.errors import (
    AnswerTooLarge,
    AnswerTooLate,
    WorkerBroken,
    WorkerLost,
)

NAME = "worker.sock"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
GOOD = HEAD + b"content-length: 2\r\n\r\n{}"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="th-") as made:
        yield Path(made)


async def heard(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length: "):
            head += await reader.readexactly(int(line.removeprefix(b"content-length: ")))
    return head


def says(*parts: bytes, hang_up: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await heard(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hang_up:
                writer.close()
                return

    return talk


@asynccontextmanager
async def worker(folder: Path, talk: Talk) -> AsyncIterator[WorkerLine]:
    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_unix_server(quiet, folder / NAME)
    line = WorkerLine(folder, NAME)
    try:
        yield line
    finally:
        line.close()
        server.close()
        await asyncio.sleep(0)


async def call(line: WorkerLine, max_bytes: int = 1000, within_s: float = 5) -> Reply:
    return await line.call("/call", b"{}", call_id="c1", within_s=within_s, max_bytes=max_bytes)


class TestPlain:
    async def test_what_is_asked_and_answered(self, folder: Path) -> None:
        asked: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await heard(reader))
            writer.write(GOOD)

        async with worker(folder, talk) as line:
            assert await call(line) == Reply(200, "application/json", b"{}")
        assert asked[0].startswith(b"POST /call HTTP/1.1\r\nhost: worker\r\n")
        assert b"tallystick-call-id: c1\r\n" in asked[0]
        assert asked[0].endswith(b"\r\n\r\n{}")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("image/png", b"image/png"),
            ("application/json\r\nx: y", b"application/octet-stream"),
            ("text/plain; charset=utf-8", b"application/octet-stream"),
            ("", b"application/octet-stream"),
        ],
    )
    async def test_the_input_s_media_type_goes_along_if_it_is_one(
        self, folder: Path, given: str, said: bytes
    ) -> None:
        asked: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await heard(reader))
            writer.write(GOOD)

        async with worker(folder, talk) as line:
            await line.call(
                "/call", b"{}", media_type=given, call_id="c1", within_s=5, max_bytes=1000
            )
        assert b"\r\ncontent-type: " + said + b"\r\n" in asked[0]
        assert b"x: y" not in asked[0]

    def test_on_the_loop_that_the_agent_has(self, folder: Path) -> None:
        async def talk_twice() -> None:
            async with worker(folder, says(GOOD)) as line:
                for _ in range(2):
                    assert await call(line) == Reply(200, "application/json", b"{}")

        uvloop.run(talk_twice())

    async def test_connections_are_kept_and_used_again(self, folder: Path) -> None:
        connections = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await says(GOOD)(reader, writer)

        async with worker(folder, talk) as line:
            for _ in range(5):
                await call(line)
            assert connections == 1
            await asyncio.gather(*(call(line) for _ in range(3)))
            assert connections <= 3

    async def test_one_that_closes_is_not_used_again(self, folder: Path) -> None:
        answer = HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
        async with worker(folder, says(answer, hang_up=True)) as line:
            for _ in range(3):
                assert (await call(line)).content == b"{}"

    async def test_chunks(self, folder: Path) -> None:
        chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
        async with worker(folder, says(*(bytes([byte]) for byte in chunked))) as line:
            assert (await call(line)).content == b"{}"

    async def test_a_redirect_is_an_answer_like_any_other(self, folder: Path) -> None:
        moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
        async with worker(folder, says(moved)) as line:
            assert (await call(line)).status == 302

    async def test_a_media_type_that_may_not_stand_in_a_header(self, folder: Path) -> None:
        odd = b"HTTP/1.1 200 OK\r\ncontent-type: text/\xff<b>\r\ncontent-length: 0\r\n\r\n"
        async with worker(folder, says(odd)) as line:
            assert (await call(line)).media_type == "application/octet-stream"

    async def test_pieces_of_a_stream_of_events_only(self, folder: Path) -> None:
        body = b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"
        for kind, expected in ((b"text/event-stream", b"abcd"), (b"text/plain", b"")):
            pieces: list[bytes] = []
            head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + body[0]
            (folder / NAME).unlink(missing_ok=True)
            async with worker(folder, says(head, *body[1:])) as line:
                reply = await line.call(
                    "/call", b"", call_id="c", within_s=5, max_bytes=99, piece=pieces.append
                )
            assert reply.content == b"abcd"
            assert b"".join(pieces) == expected


class TestHostile:
    @pytest.mark.parametrize(
        ("parts", "error"),
        [
            pytest.param(
                (HEAD + b"content-length: 1001\r\n\r\n",), AnswerTooLarge, id="announces too much"
            ),
            pytest.param(
                (HEAD + b"content-length: " + b"9" * 300 + b"\r\n\r\n",),
                (AnswerTooLarge, WorkerBroken),
                id="announces more than a number holds",
            ),
            pytest.param(
                (
                    HEAD + b"transfer-encoding: chunked\r\n\r\n",
                    *[b"64\r\n" + b"x" * 100 + b"\r\n"] * 11,
                ),
                AnswerTooLarge,
                id="chunk after chunk",
            ),
            pytest.param((b"x-a: b\r\n" * 5000,), WorkerBroken, id="no status line"),
            pytest.param((HEAD + b"x-a: b\r\n" * 5000,), WorkerBroken, id="headers without end"),
            pytest.param((HEAD, b"x-a: " + b"b" * 600_000), WorkerBroken, id="one endless header"),
            pytest.param(
                (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-a: ", b"b" * 600_000),
                WorkerBroken,
                id="an endless trailer",
            ),
            pytest.param(
                (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"b" * 600_000),
                WorkerBroken,
                id="an endless chunk extension",
            ),
            pytest.param((b"SSH-2.0-x\r\n",), WorkerBroken, id="another protocol"),
            pytest.param((b"\x00" * 100,), WorkerBroken, id="zeros"),
            pytest.param((HEAD + b"\r\n{}",), WorkerBroken, id="no length"),
            pytest.param((GOOD + GOOD,), WorkerBroken, id="answers twice"),
            pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", GOOD), WorkerBroken, id="interim"),
            pytest.param(
                (b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",),
                WorkerBroken,
                id="another protocol, politely",
            ),
            pytest.param(
                (HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",),
                WorkerBroken,
                id="two lengths",
            ),
        ],
    )
    async def test_ends_in_a_typed_error(
        self, folder: Path, parts: tuple[bytes, ...], error: type[Exception]
    ) -> None:
        async with worker(folder, says(*parts)) as line:
            with pytest.raises(error):
                await call(line)
            with pytest.raises(error):  # and so does the next: nothing of it is left over
                await call(line)

    async def test_hangs_up_in_the_middle(self, folder: Path) -> None:
        async with worker(
            folder, says(HEAD + b"content-length: 9\r\n\r\n{}", hang_up=True)
        ) as line:
            with pytest.raises(WorkerLost):
                await call(line)

    async def test_says_nothing(self, folder: Path) -> None:
        async with worker(folder, says()) as line:
            with pytest.raises(AnswerTooLate):
                await call(line, within_s=0.05)

    async def test_speaks_before_it_is_asked(self, folder: Path) -> None:
        async with worker(folder, says(GOOD + b"HTTP/1.1 200 OK\r\n")) as line:
            with pytest.raises(WorkerBroken):
                await call(line)

    async def test_nobody_is_there(self, folder: Path) -> None:
        with pytest.raises(WorkerLost):
            await call(WorkerLine(folder, NAME))
        assert await WorkerLine(folder, NAME).ready("/ready", 1) is None


class TestFolder:
    """The worker fills it. A link there must not turn a call into one of the engine's commands."""

    @pytest.fixture
    def engine(self, folder: Path) -> Iterator[socket.socket]:
        """Somebody else's socket, who must never hear of us."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "engine.sock"))
        listener.listen()
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()

    async def test_a_link_to_another_socket(self, folder: Path, engine: socket.socket) -> None:
        place = folder / "out"
        place.mkdir()
        (place / NAME).symlink_to(folder / "engine.sock")
        with pytest.raises((WorkerBroken, WorkerLost)):
            await call(WorkerLine(place, NAME))

    async def test_a_folder_that_is_a_link(self, folder: Path, engine: socket.socket) -> None:
        (folder / "out").symlink_to(folder)
        with pytest.raises((WorkerBroken, WorkerLost)):
            await call(WorkerLine(folder / "out", "engine.sock"))

    @pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
    async def test_something_that_is_no_socket(self, folder: Path, kind: str) -> None:
        path = folder / NAME
        if kind == "file":
            path.touch()
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        with pytest.raises(WorkerBroken, match="no socket"):
            await call(WorkerLine(folder, NAME))

    async def test_a_path_of_any_length(self, folder: Path) -> None:
        place = folder / ("d" * 100) / ("e" * 100)
        place.mkdir(parents=True)
        here = os.open(place, os.O_RDONLY)
        try:
            short = Path(f"/proc/self/fd/{here}")
            async with worker(short, says(GOOD)):
                assert (await call(WorkerLine(place, NAME))).content == b"{}"
        finally:
            os.close(here)


async def test_a_caller_that_leaves_hangs_up(folder: Path) -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        assert await reader.read() == b""
        left.set()

    async with worker(folder, talk) as line:
        waiting = asyncio.create_task(call(line, within_s=60))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(left.wait(), 5)
