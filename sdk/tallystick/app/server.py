"""The ASGI application of a worker: `POST /call` and `GET /ready`.

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
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tallystick.app.context import Call
from tallystick.app.outputs import Answer, answer_of, json_bytes, read_json
from tallystick.app.problems import PROBLEM_JSON, Failure, problem
from tallystick.app.running import (
    CallerLeft,
    HandlerRaised,
    Slot,
    Worker,
    close_later,
    deadline,
    each,
    failure_of,
    within,
)
from tallystick.protocol.input_schemas import InputNotValid, InputSchema

CALL_ID: Final = "tallystick-call-id"
"""The request's header names the call; without one the server makes up an id. In every answer."""

_CALL_ID_TEXT: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_JSON: Final = "application/json"
"""Asked for by name: a page in a browser cannot send it to a local port unasked."""
_EVENTS, _LINES, _WHOLE = "text/event-stream", "application/x-ndjson", "application/json"

_LAST_WORD_S: Final = 1.0
"""After the deadline, for the event that says so."""

log = logging.getLogger("tallystick.app")


def application(
    worker: Worker,
    *,
    max_request_bytes: int,
    max_response_bytes: int,
    input_schema: InputSchema | None = None,
) -> Starlette:
    calls = _Calls(worker, max_request_bytes, max_response_bytes, input_schema)

    async def ready(request: Request) -> Response:
        state = "stuck" if worker.stuck else worker.state
        told = {"state": state, "running": worker.taken, "concurrency": worker.concurrency}
        return JSONResponse(told, 200 if state == "ready" else 503, headers=_again(state))

    made = Starlette(
        routes=[
            Route("/call", calls, methods=["POST"]),
            Route("/ready", ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem},
    )
    made.router.redirect_slashes = False
    return made


def _again(state: str) -> dict[str, str]:
    return {"retry-after": "1"} if state == "starting" else {}


async def _http_problem(request: Request, error: Exception) -> Response:
    """Starlette's own: a path or method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    failure = (
        Failure("wrong_method", f"{request.url.path} is not for {request.method}.")
        if status == 405
        else Failure("unknown_path", f"There is no {request.url.path}: a worker has /call, /ready.")
    )
    return _told(failure, _call_id(request))


class _Calls:
    """`POST /call`, as an ASGI application: it watches whether the caller is still there."""

    def __init__(
        self,
        worker: Worker,
        max_request_bytes: int,
        max_response_bytes: int,
        input_schema: InputSchema | None,
    ) -> None:
        self._worker = worker
        self._input_schema = input_schema
        self._max_request_bytes = max_request_bytes
        self._max_response_bytes = max_response_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = Call(_call_id(request), deadline(self._worker.timeout_s))
        began = time.monotonic()
        reply = _Reply(call, scope, receive, send)
        try:
            await self._answer(request, call, reply)
            _note("call_finished", call, began, sent_bytes=reply.sent_bytes)
        except (CallerLeft, ClientDisconnect):
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

    async def _answer(self, request: Request, call: Call, reply: _Reply) -> None:
        worker = self._worker
        body = await self._body(request, call)
        given = read_json(body)
        self._require_fitting(body)
        arguments = worker.entry.arguments(call.call_id, given)
        slot = worker.take_slot()
        gone = asyncio.create_task(_until_gone(request))
        try:
            output = await within(call, slot, gone, worker.produce(slot, call, arguments))
            if isinstance(output, AsyncGenerator):
                pieces = each(call, slot, gone, output)
                try:
                    await self._stream(pieces, request, slot, reply)
                except BaseException:
                    close_later(slot, output)
                    raise
            else:
                slot.end()
                await reply.whole(self._fitting(answer_of(output)))
        finally:
            slot.end()
            gone.cancel()

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

    async def _body(self, request: Request, call: Call) -> bytes:
        """Never more of it in memory than is allowed."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != _JSON:
            raise Failure(
                "wrong_media_type",
                "The body is not application/json.",
                "Send the input as JSON with content-type: application/json.",
            )
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_request_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(call.remaining_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._max_request_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise Failure(
                "body_too_slow", f"The body did not arrive in {self._worker.timeout_s} s."
            ) from None
        return bytes(body)

    async def _stream(
        self, pieces: AsyncIterator[Any], request: Request, slot: Slot, reply: _Reply
    ) -> None:
        kind = _stream_kind(request.headers.get("accept", ""))
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

    def __init__(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        self._call = call
        self._scope, self._receive, self._send = scope, receive, send
        self._began_s = time.monotonic()
        self._kind = ""
        self.sent_bytes = 0

    async def whole(self, answer: Answer) -> None:
        response = Response(answer.content, 200, self._headers(), answer.media_type)
        self.sent_bytes = len(answer.content)
        await response(self._scope, self._receive, self._send)

    async def piece(self, kind: str, event: bytes, *, more: bool = True) -> None:
        if not self._kind:
            self._kind = kind
            headers = {**self._headers(), "content-type": kind, "cache-control": "no-store"}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self._in_time({"type": "http.response.start", "status": 200, "headers": raw})
        self.sent_bytes += len(event)
        await self._in_time({"type": "http.response.body", "body": event, "more_body": more})

    async def last(self, kind: str, event: bytes) -> None:
        await self.piece(kind, event, more=False)

    async def fail(self, failure: Failure) -> None:
        if self._kind:
            document = json_bytes(problem(failure, self._call.call_id))
            await self.last(self._kind, _event(self._kind, "error", document))
        else:
            await _told(failure, self._call.call_id)(self._scope, self._receive, self._send)

    async def _in_time(self, message: MutableMapping[str, Any]) -> None:
        """A caller that does not read what it is sent holds the slot no longer than the call."""
        try:
            async with asyncio.timeout(self._call.remaining_s + _LAST_WORD_S):
                await self._send(message)
        except TimeoutError:
            raise CallerLeft("the caller does not read") from None

    def _headers(self) -> dict[str, str]:
        ran_ms = (time.monotonic() - self._began_s) * 1000
        return {CALL_ID: self._call.call_id, "server-timing": f"run;dur={ran_ms:.1f}"}


def _told(failure: Failure, call_id: str) -> Response:
    headers = {CALL_ID: call_id}
    if failure.kind.status == 503:
        headers["retry-after"] = "1"
    return JSONResponse(
        problem(failure, call_id), failure.kind.status, headers, media_type=PROBLEM_JSON
    )


def _event(kind: str, name: str, document: bytes) -> bytes:
    """JSON has no line ends of its own, so one line holds one document in both formats."""
    if kind == _EVENTS:
        return b"event: " + name.encode() + b"\ndata: " + document + b"\n\n"
    return b'{"' + name.encode() + b'":' + document + b"}\n"


def _stream_kind(accept: str) -> str:
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = (kind for kind in wanted if kind in (_EVENTS, _LINES, _WHOLE))
    return next(known, _LINES)


def _call_id(request: Request) -> str:
    """The caller's, if it is one that may stand in a header and a log line."""
    given = request.headers.get(CALL_ID, "")
    return given if _CALL_ID_TEXT.fullmatch(given) else secrets.token_hex(16)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _note(
    event: str, call: Call, began_s: float, cause: BaseException | None = None, **fields: object
) -> None:
    ms = round((time.monotonic() - began_s) * 1000)
    level = logging.WARNING if event == "call_failed" else logging.INFO
    log.log(level, event, extra={"call_id": call.call_id, "ms": ms, **fields}, exc_info=cause)
