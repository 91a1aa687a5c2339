"""The outermost door: a connection that says nothing, says it slowly or says too much is closed
before the application hears of it.

uvicorn bounds how long a kept connection may be silent between requests, and nothing else: not the
wait for the first byte, not how long a head may take, not how long a head may be.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tallystick_backend.api.errors import PROBLEM_JSON, TYPE_PREFIX
from tallystick_backend.api.guard import MAX_HEADER_BYTES, MAX_HEADERS

MAX_HEAD_BYTES: Final = 2 * MAX_HEADER_BYTES
"""Of a request line and its headers. What is longer than the application takes, but not than this,
is refused by the application, with its own words."""


class GuardedHttp(HttpToolsProtocol):
    """One connection. A head must be whole within `head_timeout_s` of the connection's beginning,
    or of its own first byte."""

    head_timeout_s: ClassVar[float] = 20.0

    @classmethod
    def within(cls, head_timeout_s: float) -> type[GuardedHttp]:
        """The same with another patience; the server makes the connections itself."""
        return type(cls.__name__, (cls,), {"head_timeout_s": head_timeout_s})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._head_bytes = 0
        self._head_ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_ends is None:
                self._expect_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._close_with(431, "headers_too_large", "Headers too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # More than the application takes are counted, and not kept.
        if len(self.headers) <= MAX_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head_came()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Answered before its body had come. Whoever goes on sending that is not idle, so the
        # server's own clock for kept connections never ends.
        if not self._in_head and self._head_ends is None and not self.transport.is_closing():
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        self._close_with(400, "malformed_request", "Request cannot be read")

    # ------------------------------------------------------------------------------------------

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        self._head_ends = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _head_is_late(self) -> None:
        self._head_ends = None
        if self.transport.is_closing():
            return
        if self._is_answering:
            # The next head may wait behind an answer that takes its time.
            self._expect_head()
        elif self._in_head and self._head_bytes:
            self._close_with(408, "head_too_slow", "Headers came too slowly")
        else:
            self.transport.close()

    def _close_with(self, status: int, code: str, title: str) -> None:
        if self.transport.is_closing():
            return
        if not self._is_answering:
            self.transport.write(_answer(status, code, title))
        self.transport.close()


def _answer(status: int, code: str, title: str) -> bytes:
    problem = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": title + ".",
        "instance": "",
        "code": code,
        "next_step": "Send a request as HTTP/1.1 writes it, without delay.",
        "errors": [],
    }
    body = json.dumps(problem).encode()
    return (
        b"HTTP/1.1 %d \r\nContent-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        % (status, PROBLEM_JSON.encode(), len(body))
    ) + body


__all__ = ["MAX_HEAD_BYTES", "GuardedHttp"]
