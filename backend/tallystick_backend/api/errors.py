"""The one table from error to status (RFC 9457 problem details).

Errors elsewhere know nothing of HTTP. An error that is not in the table is a fault of ours: it is
logged and answered as 500 without a word about its inside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from tallystick.protocol.errors import MessageError, ProtocolError, SignatureError
from tallystick.protocol.wire import Problem
from tallystick_backend import access, blobs, offer_search, orders, summaries, tasks
from tallystick_backend.api import refusals
from tallystick_backend.chain import ChainError
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway import errors as gateway
from tallystick_backend.store.session import StoreError, is_conflict

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:tallystick:problem:"
MAX_FIELD_ERRORS = 20
MAX_PLACE = 200
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    title: str


TABLE: dict[type[Exception], Answer] = {
    # who asks
    access.NotLoggedIn: Answer(401, "Not logged in"),
    access.LoginRefused: Answer(401, "Log-in refused"),
    access.ScopeMissing: Answer(403, "Scope missing"),
    access.CapabilityRefused: Answer(403, "Link refused"),
    access.UnknownKey: Answer(404, "No such API key"),
    access.TooManyRequests: Answer(429, "Too many requests"),
    # how it was asked
    refusals.MalformedBody: Answer(400, "Body cannot be read"),
    refusals.BadCursor: Answer(400, "Cursor refused"),
    refusals.BodyTooSlow: Answer(408, "Body came too slowly"),
    refusals.BodyTooLarge: Answer(413, "Body too large"),
    refusals.WrongMediaType: Answer(415, "Media type not supported"),
    refusals.HeadersTooLarge: Answer(431, "Headers too large"),
    refusals.IdempotencyConflict: Answer(409, "Idempotency-Key used for another request"),
    refusals.InvalidRequest: Answer(422, "Request does not fit"),
    refusals.TooManyStreams: Answer(429, "Too many streams"),
    # what is asked for
    refusals.NotThereYet: Answer(404, "Not there yet"),
    refusals.UnknownProvider: Answer(404, "No such provider"),
    refusals.UnknownApp: Answer(404, "No such app"),
    refusals.NotThePublisher: Answer(403, "Not your app"),
    refusals.UnknownVersion: Answer(404, "No such version"),
    refusals.NotPublishedYet: Answer(404, "No price at that time"),
    refusals.AppRetired: Answer(410, "App is retired"),
    refusals.UnknownChannel: Answer(404, "No such channel"),
    # calls, afterwards
    refusals.NoReceipt: Answer(404, "No receipt"),
    refusals.UnknownLimit: Answer(404, "No such limit"),
    refusals.LimitSubjectRefused: Answer(422, "Limit does not fit"),
    refusals.KeepWarmRefused: Answer(422, "Cannot be kept warm"),
    refusals.KeptWarmAlready: Answer(409, "Kept warm already"),
    refusals.UnknownKeepWarm: Answer(404, "Nothing kept warm"),
    offer_search.SearchRefused: Answer(422, "Search not understood"),
    summaries.UnknownTimeZone: Answer(422, "No such time zone"),
    summaries.SummaryError: Answer(422, "Sums cannot be made"),
    tasks.UnknownTask: Answer(404, "No such task"),
    tasks.TaskIsOver: Answer(409, "Task is over"),
    tasks.NothingToAccept: Answer(409, "Nothing to accept yet"),
    tasks.AcceptanceMismatch: Answer(409, "Acceptance is for another receipt"),
    tasks.IllegalMove: Answer(409, "Task has changed"),
    tasks.StaleFence: Answer(409, "Lease is over"),
    # orders
    orders.NotYourOrder: Answer(403, "Not your order"),
    orders.TaskExists: Answer(409, "Order taken before"),
    orders.FenceGiven: Answer(409, "Lease given already"),
    orders.OrderError: Answer(422, "Order cannot be taken"),
    # calls
    gateway.IdempotencyConflict: Answer(409, "Idempotency-Key used for another request"),
    gateway.UnknownManifest: Answer(404, "No such manifest"),
    gateway.ManifestRefused: Answer(422, "Manifest refused"),
    gateway.ManifestMissing: Answer(409, "Manifest not uploaded"),
    gateway.NoPrice: Answer(409, "App has no such price"),
    gateway.InputTooLarge: Answer(413, "Input too large"),
    gateway.InputRefused: Answer(415, "Input refused"),
    gateway.InvalidInput: Answer(422, "Input does not fit"),
    gateway.MaxChargeTooLow: Answer(422, "Maximum charge too low"),
    gateway.WebhookRefused: Answer(422, "Webhook refused"),
    gateway.AllowanceRefused: Answer(422, "Allowance refused"),
    gateway.TooManyCallsOpen: Answer(429, "Too many calls open"),
    gateway.SpendLimitReached: Answer(402, "Spend limit reached"),
    gateway.NoAllowance: Answer(402, "No allowance"),
    gateway.NoOwnChannel: Answer(402, "No channel of your own"),
    gateway.VoucherDue: Answer(409, "Voucher not signed"),
    gateway.OwnSignerRefused: Answer(422, "Not your own key"),
    gateway.UnknownOwnChannel: Answer(404, "No such channel of yours"),
    gateway.VoucherRefused: Answer(422, "Voucher refused"),
    gateway.PausedFunds: Answer(402, "Paused for funds"),
    gateway.ChannelsClosing: Answer(409, "Channel is closing"),
    gateway.NoProvider: Answer(503, "No provider"),
    gateway.ProviderLost: Answer(502, "Provider lost"),
    gateway.CallTimedOut: Answer(504, "Call timed out"),
    gateway.HandlerFailed: Answer(502, "Handler failed"),
    gateway.ResultTooLarge: Answer(502, "Result too large"),
    gateway.CallCanceled: Answer(409, "Call canceled"),
    gateway.UnknownCall: Answer(404, "No such call"),
    gateway.ResultNotThere: Answer(404, "No result"),
    gateway.ResultForgotten: Answer(410, "Result not kept"),
    gateway.JournalFailed: Answer(503, "Call not written down"),
    gateway.ChainInDoubt: Answer(503, "Chain in doubt"),
    gateway.GatewayNotReady: Answer(503, "Gateway not ready"),
    # bundles
    blobs.UnknownBlob: Answer(404, "No such bundle"),
    blobs.BlobTooLarge: Answer(413, "Bundle too large"),
    blobs.StorageFull: Answer(413, "Storage full"),
    blobs.DigestMismatch: Answer(422, "Digest does not match"),
    # values only the protocol can judge
    SignatureError: Answer(422, "Signature refused"),
    MessageError: Answer(422, "Message refused"),
    ProtocolError: Answer(422, "Value refused"),
    # not now
    refusals.ServiceNotReady: Answer(503, "Not ready"),
    ChainError: Answer(503, "Chain cannot be read"),
    StoreError: Answer(503, "Database busy"),
}

RETRY_AFTER_S = 1


def answer_for(error: type[BaseException]) -> Answer | None:
    """The nearest entry up the error's own line of classes."""
    for ancestor in error.__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    return None


def code_of(error: type[BaseException] | BaseException) -> str:
    """`SpecMismatch` -> `spec_mismatch`: stable, one per class."""
    name = error.__name__ if isinstance(error, type) else type(error).__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]] | None:
    """The problem and its headers; None when the error is no answer but a fault."""
    answer = answer_for(type(error))
    if answer is None:
        return _database_problem(error)
    headers: dict[str, str] = {}
    if answer.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="tallystick"'
    if answer.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, access.TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    code = code_of(error)
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=answer.title,
        status=answer.status,
        detail=_sentence(str(error)),
        code=code,
        next_step=error.next_step if isinstance(error, BackendError) else "",
        errors=_fields_of(error),
    )
    return problem, headers


def _fields_of(error: Exception) -> list[dict[str, Any]]:
    if isinstance(error, access.LoginRefused):
        return [{"field": error.reason, "message": str(error)}]
    if isinstance(error, gateway.InvalidInput):
        return [{"field": error.place, "message": error.why}]
    return []


def document_of(error: BackendError) -> dict[str, Any]:
    """An error of ours as it is kept and told again later."""
    known = problem_of(error)
    problem = fault("") if known is None else known[0]
    return problem.model_dump()


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(
        problem.model_dump(), problem.status, headers=headers, media_type=PROBLEM_JSON
    )


def response_to(error: Exception, *, instance: str) -> Response:
    """The answer to any error; logs those that are faults of ours."""
    known = problem_of(error)
    if known is None:
        where = place_of(instance)
        log.error("request_failed", path=where, error=type(error).__name__, exc_info=error)
        return respond(fault(instance))
    problem, headers = known
    return respond(problem.model_copy(update={"instance": place_of(instance)}), headers)


def place_of(path: str) -> str:
    """A path as answers and logs repeat it: whoever sends a long one gets no long one back."""
    return _short(path, MAX_PLACE)


def fault(instance: str) -> Problem:
    return Problem(
        type=TYPE_PREFIX + "internal_error",
        title="Fault of this backend",
        status=500,
        detail="The request failed for a reason that lies with this backend.",
        instance=place_of(instance),
        code="internal_error",
        next_step="Try again; if it stays, tell the operator the X-Request-Id of this answer.",
    )


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""
    app.add_exception_handler(BackendError, _on_error)
    app.add_exception_handler(ProtocolError, _on_error)
    app.add_exception_handler(DBAPIError, _on_error)
    app.add_exception_handler(PoolTimeoutError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(request: Request, error: Exception) -> Response:
    return response_to(error, instance=request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item.get("type") == "json_invalid" for item in found):
        return response_to(refusals.MalformedBody("the body is no JSON"), instance=request.url.path)
    known = problem_of(refusals.InvalidRequest(len(found)))
    assert known is not None
    update = {"instance": place_of(request.url.path), "errors": field_errors(found)}
    return respond(known[0].model_copy(update=update))


async def _on_http(request: Request, error: Exception) -> Response:
    """What routing refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        # Routing names those of the first route that has this path.
        headers["Allow"] = ", ".join(_methods_at(request)) or headers.get("Allow", "")
    code = {404: "unknown_path", 405: "method_not_allowed", 400: "malformed_body"}.get(
        status, status.phrase.lower().replace(" ", "_")
    )
    steps = {
        404: "GET /openapi.json lists every path.",
        405: f"Use {headers.get('Allow') or 'another method'}.",
    }
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=status.phrase,
        status=status,
        detail={
            404: "There is nothing at this path.",
            405: f"This path does not take {request.method}.",
        }.get(status, status.description or status.phrase),
        instance=place_of(request.url.path),
        code=code,
        next_step=steps.get(status, ""),
    )
    return respond(problem, headers)


def _methods_at(request: Request) -> list[str]:
    """All that any route takes at this path; to write the document for it would take seconds."""
    return sorted(
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    )


def field_errors(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Which fields, and why; never what was sent."""
    return [
        {
            "field": ".".join(_short(str(part)) for part in item["loc"][:8]),
            "message": _short(str(item["msg"]).removeprefix("Value error, "), 300),
            "type": str(item["type"]),
        }
        for item in found[:MAX_FIELD_ERRORS]
    ]


def _database_problem(error: Exception) -> tuple[Problem, dict[str, str]] | None:
    is_busy = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
    if not (is_busy or is_conflict(error)):
        return None
    log.warning("database_unavailable", error=type(error).__name__)
    problem = Problem(
        type=TYPE_PREFIX + "database_busy",
        title="Database busy",
        status=503,
        detail="The database could not take this request now; nothing was changed.",
        code="database_busy",
        next_step="Try again with the same Idempotency-Key.",
    )
    return problem, {"Retry-After": str(RETRY_AFTER_S)}


def _sentence(text: str) -> str:
    text = _short(text, 600)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
