"""The ASGI application of a worker: `POST /call` and `GET /ready`. Plain ASGI without a framework,
which would take twice as long for a call as all that is here.

    POST /call    the input as JSON; answers the output as JSON, or bytes as they are. A generator's
                  pieces are sent as they come: server-sent events for `Accept: text/event-stream`,
                  one JSON document for `Accept: application/json`, else JSON lines.
    GET /ready    200 once the worker takes calls, 503 until then and when it is stuck.

Every failure is one problem document (see `problems`). In a stream that has begun it is the last
event, and what comes after the last piece otherwise is `completed`: a stream without either was cut
off.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from tallystick.app.context import Call
from tallystick.app.outputs import Answer, answer_of, json_bytes, read_json
from tallystick.app.problems import PROBLEM_JSON, Failure, problem
from tallystick.app.running import (
    CallerLeft,
    HandlerRaised,
    Leaving,
    Slot,
    Worker,
    close_later,
    deadline,
    each,
    failure_of,
    within,
)
from tallystick.protocol.input_schemas import InputNotValid, InputSchema

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Finished = Callable[[str, int, int], None]
"""Told of each call that was answered: its id, the milliseconds it took, the bytes it was sent."""

CALL_ID: Final = "tallystick-call-id"
"""The request's header names the call; without one the server makes up an id. In every answer."""

_CALL_ID_BYTES: Final = CALL_ID.encode()
_CALL_ID_TEXT: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_JSON: Final = "application/json"
_JSON_BYTES: Final = _JSON.encode()
"""Asked for by name: a page in a browser cannot send it to a local port unasked."""
_EVENTS, _LINES, _WHOLE = "text/event-stream", "application/x-ndjson", "application/json"

_LAST_WORD_S: Final = 1.0
"""After the deadline, for the event that says so."""

log = logging.getLogger("tallystick.app")


def log_finished(call_id: str, ms: int, sent_bytes: int) -> None:
    extra = {"call_id": call_id, "ms": ms, "sent_bytes": sent_bytes}
    log.info("call_finished", extra=extra)


def application(
    worker: Worker,
    *,
    max_request_bytes: int,
    max_response_bytes: int,
    input_schema: InputSchema | None = None,
    finished: Finished = log_finished,
) -> Application:
    calls = _Calls(worker, max_request_bytes, max_response_bytes, finished, input_schema)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/call" and method == "POST":
            await calls(scope, receive, send)
        elif path == "/ready" and method in ("GET", "HEAD"):
            await _tell_ready(worker, send)
        else:
            failure = (
                Failure("wrong_method", f"{path} is not for {method}.")
                if path in ("/call", "/ready")
                else Failure("unknown_path", f"There is no {path}: a worker has /call, /ready.")
            )
            await _tell(send, failure, _call_id(_headers_of(scope)))

    return answer


async def _tell_ready(worker: Worker, send: Send) -> None:
    state = "stuck" if worker.stuck else worker.state
    told = {"state": state, "running": worker.taken, "concurrency": worker.concurrency}
    headers = [(b"retry-after", b"1")] if state == "starting" else []
    await _send_whole(send, 200 if state == "ready" else 503, _JSON, json_bytes(told), headers)


class _Calls:
    """`POST /call`, as an ASGI application: it watches whether the caller is still there."""

    def __init__(
        self,
        worker: Worker,
        max_request_bytes: int,
        max_response_bytes: int,
        finished: Finished,
        input_schema: InputSchema | None,
    ) -> None:
        self._finished = finished
        self._worker = worker
        self._input_schema = input_schema
        self._max_request_bytes = max_request_bytes
        self._max_response_bytes = max_response_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers_of(scope)
        call = Call(_call_id(headers), deadline(self._worker.timeout_s))
        began = time.monotonic()
        reply = _Reply(call, send)
        try:
            await self._answer(headers, receive, call, reply)
            self._finished(call.call_id, _ms_since(began), reply.sent_bytes)
        except CallerLeft:
            _note("call_abandoned", call, began)
        except HandlerRaised as raised:
            failure = failure_of(raised)
            own = failure.code == "input_refused"
            _note(
                "call_failed",
                call,
                began,
                None if own else raised.cause,
                code=failure.code,
            )
            await reply.fail(failure)
        except Failure as failure:
            _note("call_failed", call, began, failure.__cause__, code=failure.code)
            await reply.fail(failure)
        except Exception as fault:
            _note("call_failed", call, began, fault, code="server_failed")
            await reply.fail(Failure("server_failed", "The worker's server failed."))

    async def _answer(
        self, headers: dict[bytes, bytes], receive: Receive, call: Call, reply: _Reply
    ) -> None:
        worker = self._worker
        body = await self._body(headers, receive, call)
        given = read_json(body)
        self._require_fitting(body)
        arguments = worker.entry.arguments(call.call_id, given)
        slot = worker.take_slot()
        leaving = Leaving(receive)
        try:
            output = await within(call, slot, leaving, worker.produce(slot, call, arguments))
            if isinstance(output, AsyncGenerator):
                pieces = each(call, slot, leaving, output)
                try:
                    await self._stream(pieces, headers, slot, reply)
                except BaseException:
                    close_later(slot, output)
                    raise
            else:
                slot.end()
                await reply.whole(self._fitting(answer_of(output)))
        finally:
            slot.end()
            leaving.end()

    def _require_fitting(self, body: bytes) -> None:
        if self._input_schema is None:
            return
        try:
            self._input_schema.check(body)
        except InputNotValid as misfit:
            raise Failure(
                "invalid_input",
                f"At {misfit.place}: {misfit.why}.",
                "See the app's input schema.",
            ) from None

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, call: Call) -> bytes:
        """Never more of it in memory than is allowed."""
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != _JSON_BYTES:
            raise Failure(
                "wrong_media_type",
                "The body is not application/json.",
                "Send the input as JSON with content-type: application/json.",
            )
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self._max_request_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(call.remaining_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise CallerLeft("the caller closed the connection")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._max_request_bytes:
                        raise self._too_large()
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Failure(
                "body_too_slow", f"The body did not arrive in {self._worker.timeout_s} s."
            ) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _stream(
        self, pieces: AsyncIterator[Any], headers: dict[bytes, bytes], slot: Slot, reply: _Reply
    ) -> None:
        kind = _stream_kind(headers.get(b"accept", b"").decode("latin-1"))
        count = 0
        if kind == _WHOLE:
            collected = []
            size = 0
            async for piece in pieces:
                collected.append(json_bytes(piece))
                size += len(collected[-1]) + 1
                self._require_room(size)
            slot.end()
            body = b"[" + b",".join(collected) + b"]"
            await reply.whole(self._fitting(Answer(body, _WHOLE)))
            return
        async for piece in pieces:
            event = _event(kind, "output", json_bytes(piece))
            self._require_room(reply.sent_bytes + len(event))
            await reply.piece(kind, event)
            count += 1
        slot.end()
        await reply.last(kind, _event(kind, "completed", json_bytes({"pieces": count})))

    def _fitting(self, answer: Answer) -> Answer:
        self._require_room(len(answer.content))
        return answer

    def _require_room(self, size: int) -> None:
        if size > self._max_response_bytes:
            raise Failure(
                "response_too_large",
                f"The answer is larger than {self._max_response_bytes} bytes.",
                "Ask for less at once, or raise max_response_bytes in the next version.",
            )

    def _too_large(self) -> Failure:
        return Failure(
            "request_too_large",
            f"The input is larger than {self._max_request_bytes} bytes.",
            "Send less, or raise max_request_bytes in the next version.",
        )


class _Reply:
    """What was sent of the answer so far: a failure before the first byte is a problem of its own,
    after it the stream's last event."""

    def __init__(self, call: Call, send: Send) -> None:
        self._call = call
        self._send = send
        self._began_s = time.monotonic()
        self._kind = ""
        self.sent_bytes = 0

    async def whole(self, answer: Answer) -> None:
        self.sent_bytes = len(answer.content)
        await _send_whole(self._send, 200, answer.media_type, answer.content, self._headers())

    async def piece(self, kind: str, event: bytes, *, more: bool = True) -> None:
        if not self._kind:
            self._kind = kind
            headers = [
                *self._headers(),
                (b"content-type", kind.encode()),
                (b"cache-control", b"no-store"),
            ]
            await self._in_time({"type": "http.response.start", "status": 200, "headers": headers})
        self.sent_bytes += len(event)
        await self._in_time({"type": "http.response.body", "body": event, "more_body": more})

    async def last(self, kind: str, event: bytes) -> None:
        await self.piece(kind, event, more=False)

    async def fail(self, failure: Failure) -> None:
        if self._kind:
            document = json_bytes(problem(failure, self._call.call_id))
            await self.last(self._kind, _event(self._kind, "error", document))
        else:
            await _tell(self._send, failure, self._call.call_id)

    async def _in_time(self, message: MutableMapping[str, Any]) -> None:
        """A caller that does not read what it is sent holds the slot no longer than the call."""
        try:
            async with asyncio.timeout(self._call.remaining_s + _LAST_WORD_S):
                await self._send(message)
        except TimeoutError:
            raise CallerLeft("the caller does not read") from None

    def _headers(self) -> list[tuple[bytes, bytes]]:
        ran_ms = (time.monotonic() - self._began_s) * 1000
        return [
            (_CALL_ID_BYTES, self._call.call_id.encode()),
            (b"server-timing", b"run;dur=%.1f" % ran_ms),
        ]


async def _tell(send: Send, failure: Failure, call_id: str) -> None:
    headers = [(_CALL_ID_BYTES, call_id.encode())]
    if failure.kind.status == 503:
        headers.append((b"retry-after", b"1"))
    document = json_bytes(problem(failure, call_id))
    await _send_whole(send, failure.kind.status, PROBLEM_JSON, document, headers)


async def _send_whole(
    send: Send, status: int, media_type: str, content: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    headers = [
        (b"content-length", b"%d" % len(content)),
        (b"content-type", media_type.encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _event(kind: str, name: str, document: bytes) -> bytes:
    """JSON has no line ends of its own, so one line holds one document in both formats."""
    if kind == _EVENTS:
        return b"event: " + name.encode() + b"\ndata: " + document + b"\n\n"
    return b'{"' + name.encode() + b'":' + document + b"}\n"


def _stream_kind(accept: str) -> str:
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = (kind for kind in wanted if kind in (_EVENTS, _LINES, _WHOLE))
    return next(known, _LINES)


def _headers_of(scope: Scope) -> dict[bytes, bytes]:
    """By name in lower case, as ASGI gives them; of those that are given twice the first."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    return headers


def _call_id(headers: dict[bytes, bytes]) -> str:
    """The caller's, if it is one that may stand in a header and a log line."""
    given = headers.get(_CALL_ID_BYTES, b"").decode("latin-1")
    return given if _CALL_ID_TEXT.fullmatch(given) else secrets.token_hex(16)


def _ms_since(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)


def _note(
    event: str, call: Call, began_s: float, cause: BaseException | None = None, **fields: object
) -> None:
    level = logging.WARNING if event == "call_failed" else logging.INFO
    extra = {"call_id": call.call_id, "ms": _ms_since(began_s), **fields}
    log.log(level, event, extra=extra, exc_info=cause)
