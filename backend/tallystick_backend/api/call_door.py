"""`POST /v1/apps/{app}/calls`, the hot path: plain ASGI in front of everything else, without
models, dependencies or a row in the way. What it answers and refuses is documented by `api.calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.protocol.types import ZERO_ADDRESS, to_address
from tallystick_backend.access import Caller, NotLoggedIn
from tallystick_backend.api.callers import CallerCache
from tallystick_backend.api.context import Backend
from tallystick_backend.api.errors import place_of, response_to
from tallystick_backend.api.guard import MAX_HEADER_BYTES, MAX_HEADERS, SECURITY_HEADERS
from tallystick_backend.api.limits import network_of
from tallystick_backend.api.patience import Patience
from tallystick_backend.api.refusals import (
    HeadersTooLarge,
    InvalidRequest,
    MalformedBody,
    ServiceNotReady,
    UnknownApp,
    UnknownVersion,
    WrongMediaType,
)
from tallystick_backend.gateway.bus import MAX_CONTENT_BYTES
from tallystick_backend.gateway.errors import (
    InputRefused,
    InputTooLarge,
    ResultForgotten,
)
from tallystick_backend.gateway.orders import Due, Ended, Live, Order
from tallystick_backend.gateway.shelf import Target, UnknownTarget

log = structlog.get_logger(__name__)

ROUTE: Final = "/v1/apps/{app}/calls"
_PATH: Final = re.compile(r"/v1/apps/(0x[0-9a-f]{64})/calls", re.ASCII)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)
_AMOUNT: Final = re.compile(r"[0-9]{1,39}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_MEDIA: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}", re.ASCII)

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"
MAX_WAIT_S: Final = 3_600
WATCHED_AFTER_S: Final = 0.05
"""Whether the caller is still there is looked at for calls that take longer; most do not."""

_ALWAYS: Final = tuple(
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
)
_TOLD: Final = (
    "Idempotency-Replayed, Location, Retry-After, Server-Timing, Tallystick-Balance, "
    "Tallystick-Call-Id, Tallystick-Charge, Tallystick-Total, Tallystick-Voucher-Due, X-Request-Id"
)

Measure = Callable[[str, str, int, float], None]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the request's headers say."""

    token: str = ""
    media_type: str = ""
    key: str | None = None
    max_charge: int | None = None
    webhook_url: str = ""
    queued: bool = False
    wait_s: int | None = None
    stream: str = ""
    """`EVENTS`, `LINES`, or empty."""
    origin: str = ""
    length: int | None = None
    signer: str = ""


class CallDoor:
    def __init__(
        self,
        app: ASGIApp,
        backend: Callable[[], Backend | None],
        *,
        measure: Measure,
        origins: Sequence[str],
        body_timeout_s: float,
    ) -> None:
        self.app = app
        self._backend = backend
        self._measure = measure
        self._origins = frozenset(origins)
        self._body_timeout_s = body_timeout_s
        self._callers = CallerCache()
        self._ids, self._numbers = secrets.token_hex(4), itertools.count(1)
        """Of requests: asking the system for chance each time takes longer than finding the app."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            await self.app(scope, receive, send)
            return
        began_s = time.perf_counter()
        answer = _Answer(send, f"{self._ids}{next(self._numbers):08x}")
        try:
            await self._serve(scope, receive, answer, found[1], began_s)
        except Exception as error:
            if answer.status:
                log.error("call_answer_failed", path=place_of(scope["path"]), exc_info=error)
            else:
                response = response_to(error, instance=scope["path"])
                await answer.whole(
                    response.status_code,
                    [(n, v) for n, v in response.raw_headers if n != b"content-length"],
                    bytes(response.body),
                )
        finally:
            self._measure("POST", ROUTE, answer.status, time.perf_counter() - began_s)

    async def _serve(
        self, scope: Scope, receive: Receive, answer: _Answer, app_id: str, began_s: float
    ) -> None:
        wanted = read_headers(scope["headers"])
        if wanted.origin and wanted.origin in self._origins:
            answer.extra += [
                (b"access-control-allow-origin", wanted.origin.encode()),
                (b"access-control-expose-headers", _TOLD.encode()),
                (b"vary", b"Origin"),
            ]
        backend = self._backend()
        if backend is None:
            raise ServiceNotReady("the backend is starting")
        caller = await self._caller(backend, scope, wanted.token)
        calls = backend.gateway.calls
        try:
            target = await backend.gateway.shelf.get(app_id, _version(scope["query_string"]))
        except UnknownTarget as unknown:
            if unknown.latest:
                raise UnknownVersion(app_id, unknown.latest, unknown.version) from None
            raise UnknownApp(app_id) from None
        _require_media_type(wanted.media_type, target)
        if wanted.webhook_url:
            backend.gateway.webhooks.check(wanted.webhook_url)
        body = await self._body(receive, wanted, target)
        queued = wanted.queued or bool(wanted.webhook_url)
        order = Order(
            account=caller.address,
            key_id=caller.key_id,
            target=target,
            input=body,
            media_type=wanted.media_type or JSON,
            idempotency_key=wanted.key,
            max_charge=wanted.max_charge,
            webhook_url=wanted.webhook_url,
            queued=queued,
            keep=wanted.wait_s is not None,
            stream=bool(wanted.stream) and not queued,
            signer=wanted.signer,
        )
        target.require_input(order.media_type, body)
        placed = await calls.place(order)
        if isinstance(placed, Ended):
            await self._whole(answer, placed, began_s)
        elif order.stream and placed.order is order:
            await self._streamed(answer, receive, placed, wanted, backend, began_s)
        else:
            await self._waited(answer, receive, placed, wanted, backend, began_s)

    async def _caller(self, backend: Backend, scope: Scope, token: str) -> Caller:
        try:
            if not token:
                raise NotLoggedIn("the request has no Authorization: Bearer header")
            caller = await self._callers.find(backend, token)
        except NotLoggedIn:
            client = scope.get("client")
            await backend.limits.count("log-ins", network_of(client[0] if client else None))
            raise
        caller.require("calls")
        await backend.limits.count("calls", caller.address)
        return caller

    async def _body(self, receive: Receive, wanted: Wanted, target: Target) -> bytes:
        limit = min(target.manifest.max_request_bytes, MAX_CONTENT_BYTES)
        if wanted.length is not None and wanted.length > limit:
            raise InputTooLarge(limit)
        parts: list[bytes] = []
        size = 0
        patience = Patience(self._body_timeout_s)
        while True:
            message = await patience.next(receive)
            if message["type"] == "http.disconnect":
                raise MalformedBody("the connection closed before the body ended")
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise InputTooLarge(limit)
            if not message.get("more_body", False):
                if not parts:
                    return bytes(part)
                parts.append(part)
                return b"".join(parts)
            parts.append(part)

    # --- answers ------------------------------------------------------------------------------

    async def _waited(
        self,
        answer: _Answer,
        receive: Receive,
        live: Live,
        wanted: Wanted,
        backend: Backend,
        began_s: float,
    ) -> None:
        wait_s: float | None = None
        if wanted.queued or wanted.webhook_url:
            wait_s = float(wanted.wait_s or 0)
        elif wanted.wait_s is not None:
            wait_s = float(wanted.wait_s)
        if wait_s is None or wait_s > 0:
            ended = await _ended_or_gone(live, receive, wait_s)
            if ended is not None:
                await self._whole(answer, ended, began_s)
                return
            if answer_is_unwanted(live, wait_s):
                backend.gateway.calls.cancel(live)
                return
        await answer.whole(
            202,
            [
                (b"content-type", JSON.encode()),
                (b"location", f"/v1/calls/{live.call_id}".encode()),
                (b"tallystick-call-id", live.call_id.encode()),
            ],
            json.dumps(_accepted(live)).encode(),
        )

    async def _whole(self, answer: _Answer, ended: Ended, began_s: float) -> None:
        if ended.failure is not None:
            answer.extra.append((b"tallystick-call-id", ended.call_id.encode()))
            raise ended.failure
        if ended.result is None:
            raise ResultForgotten(ended.call_id)
        gateway_ms = (time.perf_counter() - began_s) * 1000 - ended.run_ms - ended.queued_ms
        headers: Headers = [
            (b"content-type", (ended.media_type or JSON).encode("ascii", "replace")),
            (b"tallystick-call-id", ended.call_id.encode()),
            (b"tallystick-charge", str(ended.charge).encode()),
            (b"tallystick-total", str(ended.total).encode()),
            (
                b"server-timing",
                f"queue;dur={ended.queued_ms}, cold;dur={ended.cold_start_ms}, "
                f"run;dur={ended.run_ms}, gateway;dur={max(0.0, gateway_ms):.1f}".encode(),
            ),
        ]
        if ended.due is not None:
            headers.append((b"tallystick-voucher-due", due_text(ended.due).encode()))
        if ended.balance is not None:
            headers.append((b"tallystick-balance", str(ended.balance).encode()))
        if ended.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        await answer.whole(200, headers, ended.result)

    async def _streamed(
        self,
        answer: _Answer,
        receive: Receive,
        live: Live,
        wanted: Wanted,
        backend: Backend,
        began_s: float,
    ) -> None:
        """Pieces as they come; a failure before the first is a problem of its own, after it the
        last event."""
        assert live.pieces is not None
        gone = asyncio.create_task(_until_gone(receive))
        events = EventWriter(wanted.stream)
        try:
            while True:
                piece = await _next_piece(live, gone)
                if piece is None:
                    break
                if not answer.status:
                    await answer.start(
                        200,
                        [
                            (b"content-type", wanted.stream.encode()),
                            (b"tallystick-call-id", live.call_id.encode()),
                        ],
                    )
                if data := events.piece(piece):
                    await answer.send(data)
            if not live.ended.done():
                if live.order.idempotency_key is None:
                    backend.gateway.calls.cancel(live)
                return
            ended = live.ended.result()
            if not answer.status:
                if ended.failure is not None or not live.streaming:
                    await self._whole(answer, ended, began_s)
                    return
                await answer.start(200, [(b"content-type", wanted.stream.encode())])
            await answer.send(events.last(ended), more=False)
        finally:
            gone.cancel()


class _Answer:
    """What was sent so far."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.status = 0
        self.extra: Headers = [(b"x-request-id", request_id.encode())]

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.send(body, more=False)

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        message: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, *_ALWAYS, *self.extra],
        }
        await self._send(message)

    async def send(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class EventWriter:
    """A stream as its reader asked for it, with a last event that says what it cost.

    Workers send lines, one JSON object `{"<event>": <document>}` each; those that do not are passed
    on as they are."""

    _LINE = re.compile(rb'\{"(output|completed|error)":(.*)\}', re.DOTALL)

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rest = b""

    def piece(self, content: bytes) -> bytes:
        if self._kind == LINES:
            return content
        *lines, self._rest = (self._rest + content).split(b"\n")
        return b"".join(map(self._event, lines))

    def last(self, ended: Ended) -> bytes:
        document: dict[str, Any] = {"call_id": ended.call_id, "state": ended.state}
        name = b"charged"
        if ended.failure is not None:
            name, document["problem"] = b"failed", ended.problem
        document |= {"charge": str(ended.charge), "total": str(ended.total)}
        if ended.balance is not None:
            document["balance"] = str(ended.balance)
        if ended.due is not None:
            document["voucher_due"] = due_text(ended.due)
        text = json.dumps(document, separators=(",", ":")).encode()
        if self._kind == LINES:
            return b'{"' + name + b'":' + text + b"}\n"
        rest, self._rest = self._rest, b""
        return (self._event(rest) if rest else b"") + _sse(name, text)

    def _event(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if not line:
            return b""
        found = self._LINE.fullmatch(line)
        return _sse(b"output", line) if found is None else _sse(found[1], found[2])


def _sse(name: bytes, document: bytes) -> bytes:
    # A carriage return ends a line for readers of events too.
    return b"event: " + name + b"\ndata: " + document.replace(b"\r", b"\ndata: ") + b"\n\n"


def read_headers(raw: Sequence[tuple[bytes, bytes]]) -> Wanted:
    """Raises what a header that cannot be read means."""
    if len(raw) > MAX_HEADERS:
        raise HeadersTooLarge(len(raw), 0)
    said: dict[str, Any] = {}
    size = 0
    for name, value in raw:
        size += len(name) + len(value)
        match name:
            case b"authorization":
                scheme, _, token = value.decode("latin-1").partition(" ")
                said["token"] = token.strip() if scheme.lower() == "bearer" else ""
            case b"content-type":
                said["media_type"] = _media_type(value)
            case b"content-length":
                said["length"] = int(value[:20]) if value.isdigit() else None
            case b"content-encoding":
                if value != b"identity":
                    raise WrongMediaType("the body is encoded")
            case b"idempotency-key":
                key = value.decode("latin-1")
                if _KEY.fullmatch(key) is None:
                    raise InvalidRequest(1)
                said["key"] = key
            case b"tallystick-max-charge":
                amount = value.decode("latin-1").strip()
                if _AMOUNT.fullmatch(amount) is None:
                    raise InvalidRequest(1)
                said["max_charge"] = int(amount)
            case b"tallystick-signer":
                said["signer"] = _signer(value.decode("latin-1").strip())
            case b"tallystick-webhook":
                said["webhook_url"] = value.decode("latin-1").strip()
            case b"prefer":
                said |= _preferences(value.decode("latin-1"))
            case b"accept":
                said["stream"] = _stream_kind(value.decode("latin-1"))
            case b"origin":
                said["origin"] = value.decode("latin-1")
    if size > MAX_HEADER_BYTES:
        raise HeadersTooLarge(len(raw), size)
    return Wanted(**said)


def due_text(due: Due) -> str:
    """`Tallystick-Voucher-Due`: what a consumer that keeps its key has to sign."""
    return f"channel={due.channel}; total={due.total}; receipt={due.receipt}"


def answer_is_unwanted(live: Live, wait_s: float | None) -> bool:
    """Its caller left and can never ask for it: it has no key and was not to be kept."""
    return wait_s is None and live.order.idempotency_key is None


def _accepted(live: Live) -> dict[str, Any]:
    return {
        "call_id": live.call_id,
        "state": "running" if live.state == "running" else "queued",
        "app_id": live.target.app_id,
        "version": live.target.version,
        "asked_at_ms": live.asked_at_ms,
        "events": f"/v1/calls/{live.call_id}/events",
        "result": f"/v1/calls/{live.call_id}/result",
    }


def _signer(text: str) -> str:
    try:
        signer = to_address(text)
    except ValueError:
        raise InvalidRequest(1) from None
    if signer == ZERO_ADDRESS:
        raise InvalidRequest(1)
    return signer


def _preferences(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.lower().split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name == "respond-async":
            found["queued"] = True
        elif name == "wait" and _DIGITS.fullmatch(value.strip()) is not None:
            found["wait_s"] = min(int(value.strip()[:6]), MAX_WAIT_S)
    return found


def _stream_kind(accept: str) -> str:
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((kind for kind in kinds if kind in (EVENTS, LINES)), "")


def _media_type(value: bytes) -> str:
    kind = value.decode("latin-1").partition(";")[0].strip().lower()
    if kind and _MEDIA.fullmatch(kind) is None:
        raise WrongMediaType("the media type cannot be read")
    return kind


def _require_media_type(kind: str, target: Target) -> None:
    if kind == JSON:
        return
    handler = target.manifest.handler.kind
    if handler != "http":
        raise InputRefused(
            f"the media type is {kind or 'not given'} and this app's handler takes JSON"
        )


def _version(query: bytes) -> int | None:
    if not query:
        return None
    try:
        pairs = parse_qsl(query.decode("ascii"), strict_parsing=True, max_num_fields=4)
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest(1) from None
    if [name for name, _ in pairs] != ["version"] or _VERSION.fullmatch(pairs[0][1]) is None:
        raise InvalidRequest(1)
    return int(pairs[0][1])


async def _ended_or_gone(live: Live, receive: Receive, wait_s: float | None) -> Ended | None:
    """None when the time is over, or the caller left."""
    first_s = WATCHED_AFTER_S if wait_s is None else min(wait_s, WATCHED_AFTER_S)
    await asyncio.wait({live.ended}, timeout=first_s)
    if live.ended.done():
        return live.ended.result()
    gone = asyncio.create_task(_until_gone(receive))
    left_s = None if wait_s is None else max(0.0, wait_s - first_s)
    try:
        either: set[asyncio.Future[Any]] = {live.ended, gone}
        await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    return live.ended.result() if live.ended.done() else None


async def _until_gone(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            continue


async def _next_piece(live: Live, gone: asyncio.Task[None]) -> bytes | None:
    """None once there are no more, or the caller left."""
    assert live.pieces is not None
    if not live.pieces.empty():
        return live.pieces.get_nowait()
    if live.ended.done() or gone.done():
        return None
    waiting = asyncio.ensure_future(live.pieces.get())
    try:
        any_of: set[asyncio.Future[Any]] = {waiting, live.ended, gone}
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
    finally:
        if not waiting.done():
            waiting.cancel()
    return None if live.pieces.empty() else live.pieces.get_nowait()
