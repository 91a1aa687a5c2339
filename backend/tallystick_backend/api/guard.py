"""In front of everything: nothing oversized, slow, nested or ambiguous gets past here, nothing but
a problem gets out, and every answer carries the headers of a careful server.

Pure ASGI, so that streams stay streams.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick_backend.api.errors import place_of, response_to
from tallystick_backend.api.patience import Patience
from tallystick_backend.api.refusals import (
    BodyTooLarge,
    HeadersTooLarge,
    MalformedBody,
    WrongMediaType,
)
from tallystick_backend.errors import BackendError

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_DEPTH: Final = 32

# Answers are data: nothing in them is to be run, framed, guessed at or kept by a shared cache.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Strict-Transport-Security": "max-age=31536000",
    "Cache-Control": "no-store",
}

Measure = Callable[[Scope, int, float], None]
"""Told of each request: scope, status, seconds."""

log = structlog.get_logger(__name__)


class Edge:
    """The outermost layer: request id, security headers, one log line, and no traceback ever."""

    def __init__(self, app: ASGIApp, measure: Measure) -> None:
        self.app = app
        self.measure = measure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            except Exception as error:
                if status:  # the answer has begun: nothing can be said any more
                    log.error("stream_failed", path=place_of(scope["path"]), exc_info=error)
                else:
                    response = response_to(error, instance=scope["path"])
                    await response(scope, receive, send_with_headers)
            finally:
                seconds = time.monotonic() - started
                self.measure(scope, status, seconds)
                log.info(
                    "request_served",
                    method=scope["method"],
                    path=place_of(scope["path"]),
                    status=status,
                    ms=round(seconds * 1000),
                )


class BodyGuard:
    """Reads JSON bodies whole, within limits, and refuses what two readers could read differently.

    Sealed bundles pass piece by piece: their size is checked where they are written."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_s: float, raw_prefix: str) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self.raw_prefix = raw_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            checked = await self._checked(scope, receive)
        except BackendError as error:
            response = response_to(error, instance=scope["path"])
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self.app(scope, checked, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        size_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
        if len(scope["headers"]) > MAX_HEADERS or size_bytes > MAX_HEADER_BYTES:
            raise HeadersTooLarge(len(scope["headers"]), size_bytes)
        if scope["method"] not in ("POST", "PUT", "DELETE"):  # no other takes a body here
            return receive
        headers = Headers(scope=scope)
        if headers.get("content-encoding", "identity") != "identity":
            raise WrongMediaType("the body is encoded")
        if scope["method"] == "PUT" and scope["path"].startswith(self.raw_prefix):
            return _with_timeout(receive, self.timeout_s)
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self.max_bytes:
            raise BodyTooLarge(self.max_bytes)
        body = await self._read(_with_timeout(receive, self.timeout_s))
        if body:
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise WrongMediaType(f"the media type is {media_type[:80] or 'not given'}")
            await asyncio.to_thread(check_json, body)
        return _replay(body, receive)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MalformedBody("the connection closed before the body ended")
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                raise BodyTooLarge(self.max_bytes)
            if not message.get("more_body", False):
                return bytes(body)


def _with_timeout(receive: Receive, timeout_s: float) -> Receive:
    """Bounds the wait for the body, and for nothing after its end."""
    ended = False
    patience = Patience(timeout_s)

    async def receive_soon() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        message = await patience.next(receive)
        ended = not message.get("more_body", False)
        return message

    return receive_soon


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


# --- JSON that means one thing only -----------------------------------------------------------

# An unclosed string runs to the end: one pass, whatever the body.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")


def check_json(body: bytes) -> None:
    """Raises `MalformedBody` for what is no JSON, too deep, or read differently by others: NaN,
    a name twice, NUL characters and lone surrogates."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise MalformedBody(f"the body is nested more than {MAX_DEPTH} deep")
    try:
        document = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_each_name_once
        )
    except (ValueError, RecursionError):
        raise MalformedBody("the body is no JSON in UTF-8") from None
    _check_texts(document)


def _check_texts(document: Any) -> None:
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str):
            check_text(value)


def check_text(text: str) -> None:
    """NUL cannot be stored and a lone surrogate cannot be sent."""
    if "\0" in text:
        raise MalformedBody("the body has a NUL character in a text")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise MalformedBody("the body has half a character (a lone surrogate) in a text")


def _refuse_constant(name: str) -> Any:
    raise MalformedBody(f"{name} is no JSON number")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedBody("an object has the same name twice")
    return document
