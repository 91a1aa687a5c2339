"""HTTP to a worker over its Unix socket. The worker is a stranger's program: everything that comes
from there is bounded in size and time, and nothing of it is followed.

Parsed by httptools (the parser of Node and uvicorn, in C): aiohttp takes three times and httpx
fifty times as long for a call (docs/discussions), and neither connects to an inode that was looked
at before.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import httptools

from tallystick_provider.errors import (
    AnswerTooLarge,
    AnswerTooLate,
    WorkerBroken,
    WorkerFailure,
    WorkerLost,
)

MAX_HEAD_BYTES: Final = 16 * 1024
"""Without a byte of content among them."""
KEPT_IDLE_S: Final = 2.0
"""Below the five seconds after which uvicorn hangs up: a request must not meet its goodbye."""
MAX_MEDIA_TYPE: Final = 100
EVENT_STREAM: Final = "text/event-stream"
OTHER: Final = "application/octet-stream"
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}", re.ASCII)
"""A media type that may stand in a request's head."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    media_type: str
    content: bytes


Piece = Callable[[bytes], None]
"""Told each piece of an answer as it comes, if the answer is a stream of events."""


class WorkerLine:
    """Kept connections to one worker; one request at a time on each."""

    def __init__(self, directory: Path, socket_name: str) -> None:
        self._directory = directory
        self._socket_name = socket_name
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def ready(self, path: str, within_s: float) -> Reply | None:
        """What it answers on its ready path; None if it answers nothing that can be read."""
        try:
            head = f"GET {path} HTTP/1.1\r\nhost: worker\r\n\r\n".encode("ascii")
            return await self._exchange(head, b"", within_s, MAX_HEAD_BYTES, None)
        except WorkerFailure:
            return None

    async def call(
        self,
        path: str,
        content: bytes,
        *,
        media_type: str = "application/json",
        call_id: str,
        within_s: float,
        max_bytes: int,
        piece: Piece | None = None,
    ) -> Reply:
        """Raises a WorkerFailure. Cancelled, it hangs up, which tells the worker."""
        kind = media_type if _PLAIN.fullmatch(media_type) else OTHER
        accepted = EVENT_STREAM if piece is not None else "application/json"
        head = (
            f"POST {path} HTTP/1.1\r\nhost: worker\r\ncontent-type: {kind}\r\n"
            f"accept: {accepted}\r\ntallystick-call-id: {call_id}\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        return await self._exchange(head.encode("ascii"), content, within_s, max_bytes, piece)

    def close(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()

    async def _exchange(
        self, head: bytes, content: bytes, within_s: float, max_bytes: int, piece: Piece | None
    ) -> Reply:
        connection = self._kept() or await self._connect()
        self._busy.add(connection)
        try:
            reply = await connection.exchange(head + content, within_s, max_bytes, piece)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.abort()
        return reply

    def _kept(self) -> _Connection | None:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and loop.time() - connection.idle_since_s < KEPT_IDLE_S:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        end = _open(self._directory, self._socket_name)
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(_Connection, sock=end)
        except OSError as error:
            end.close()
            raise WorkerLost(f"the worker is not to be reached: {error.strerror}") from error
        return connection


def _open(directory: Path, name: str) -> socket.socket:
    """Connected to the socket that lies there, and to nothing that a link there names: the folder
    is the worker's to fill, and other sockets of this machine (the engine's) obey who reaches them.
    """
    folder = inode = -1
    end = socket.socket(socket.AF_UNIX)
    try:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(directory, flags | os.O_DIRECTORY)
        inode = os.open(name, flags, dir_fd=folder)
        if not stat.S_ISSOCK(os.fstat(inode).st_mode):
            raise WorkerBroken(f"the worker put something at {name} that is no socket")
        end.setblocking(False)
        # By the open inode: its name may be another thing by now. And no path is too long.
        end.connect(f"/proc/self/fd/{inode}")
    except (OSError, WorkerBroken) as error:
        end.close()
        if isinstance(error, WorkerBroken):
            raise
        raise WorkerLost(f"the worker does not listen: {error.strerror or error}") from error
    finally:
        for descriptor in (folder, inode):
            if descriptor >= 0:
                os.close(descriptor)
    return end


class _Connection(asyncio.Protocol):
    """One connection, and on it one request after the other."""

    def __init__(self) -> None:
        self.reusable = False
        self.idle_since_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Reply] | None = None
        self._piece: Piece | None = None
        self._max_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        """For the next answer. The parser goes on by itself: what it would not is aborted."""
        self._idle_bytes = 0
        self._bounded = False
        self._media_type = ""
        self._content = bytearray()
        self._fresh = bytearray()
        self._complete = False
        self._keep = False

    async def exchange(
        self, request: bytes, within_s: float, max_bytes: int, piece: Piece | None
    ) -> Reply:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise WorkerLost("the worker hung up")
        loop = asyncio.get_running_loop()
        self._reset()
        self._max_bytes, self._piece = max_bytes, piece
        self.reusable = False
        done: asyncio.Future[Reply] = loop.create_future()
        self._done = done
        late = loop.call_later(within_s, self._too_late, within_s)
        transport.write(request)
        try:
            return await done
        finally:
            late.cancel()
            self._done = None
            self.idle_since_s = loop.time()

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.abort()  # it speaks unasked
            return
        had = len(self._content)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error.__context__ or error)
            return
        # Headers, trailers and what may stand beside a chunk: the parser keeps them until they end.
        self._idle_bytes = 0 if len(self._content) > had else self._idle_bytes + len(data)
        if self._idle_bytes > MAX_HEAD_BYTES:
            self._fail(
                WorkerBroken(f"the worker sent {self._idle_bytes} bytes that are no content")
            )
            return
        if self._fresh and self._piece is not None and self._streams:
            self._piece(bytes(self._fresh))
        self._fresh.clear()
        if self._complete and not self._done.done():
            self.reusable = self._keep
            status = self._parser.get_status_code()
            self._done.set_result(Reply(status, self._media_type, bytes(self._content)))

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._fail(WorkerLost("the worker hung up before its answer was whole"))

    # --- httptools' ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise WorkerBroken("the worker answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        wanted = name.lower()
        if wanted == b"content-type":
            self._media_type = _media_type(value)
        elif wanted == b"content-length":
            self._bounded = True
            if value.isdigit() and int(value[:20]) > self._max_bytes:
                raise AnswerTooLarge(f"the answer is longer than {self._max_bytes} bytes")
        elif wanted == b"transfer-encoding":
            self._bounded = True

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            raise WorkerBroken("the worker sent an interim answer, which nobody asked for")
        if not self._bounded:
            raise WorkerBroken("the answer says neither its length nor that it comes in chunks")

    def on_body(self, data: bytes) -> None:
        if len(self._content) + len(data) > self._max_bytes:
            raise AnswerTooLarge(f"the answer is longer than {self._max_bytes} bytes")
        self._content += data
        if self._piece is not None:
            self._fresh += data

    def on_message_complete(self) -> None:
        self._complete = True
        # The parser knows it here and forgets it with the message.
        self._keep = bool(self._parser.should_keep_alive())

    # --- ours ----------------------------------------------------------------------------------

    @property
    def _streams(self) -> bool:
        return self._media_type == EVENT_STREAM and self._parser.get_status_code() == 200

    def _too_late(self, within_s: float) -> None:
        self._fail(AnswerTooLate(f"no whole answer within {within_s:g} s"))

    def _fail(self, error: BaseException) -> None:
        if self._done is not None and not self._done.done():
            if not isinstance(error, WorkerFailure):
                error = WorkerBroken(f"the worker does not speak HTTP: {str(error)[:100]}")
            self._done.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


@lru_cache(maxsize=256)
def _media_type(value: bytes) -> str:
    """Without parameters, and only if it is one that may stand in a header elsewhere."""
    text = value.partition(b";")[0].strip().lower()
    plain = text.isascii() and len(text) <= MAX_MEDIA_TYPE and text.count(b"/") == 1
    known = plain and all(c in _MEDIA_TYPE_BYTES for c in text)
    return text.decode() if known else OTHER


_MEDIA_TYPE_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789/!#$&-^_.+")
