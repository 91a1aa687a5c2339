"""Calling an app, and looking at calls afterwards.

A call is one request that is answered with the result's own bytes. Each carries an Idempotency-Key,
so sending it again after a lost answer gives the first one's answer and costs nothing more.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tallystick import apps, own_vouchers, sse
from tallystick.errors import (
    CallFailed,
    Conflict,
    InvalidRequest,
    NotFound,
    ServiceError,
    TallystickError,
    TimedOut,
    VerificationFailed,
)
from tallystick.jobs import Money
from tallystick.own_key import AskedCall
from tallystick.prices import Price
from tallystick.protocol.app_manifest import MIB
from tallystick.protocol.call_views import (
    BALANCE_HEADER,
    CALL_ID_HEADER,
    CHARGE_HEADER,
    MAX_CHARGE_HEADER,
    SIGNER_HEADER,
    TOTAL_HEADER,
    CallPage,
    CallReceiptView,
    CallView,
    SummaryPage,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import Digest

if TYPE_CHECKING:
    from tallystick.session import Session

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
MAX_RESULT_BYTES: Final = 64 * MIB
LONGEST_WAIT_S: Final = 60
"""On one open connection; the SDK asks again until the call is over."""
FIRST_LOOK_S: Final = 0.2
LONGEST_LOOK_S: Final = 2.0
JUST_TAKEN_LOOKS: Final = 5
_OVER: Final = ("completed", "failed", "canceled")
FAILURES: Final = frozenset(
    {"handler_failed", "call_timed_out", "result_too_large", "call_canceled", "call_stopped"}
)
"""Problems of calls that came to nothing; nothing was charged."""
_UNSURE: Final = frozenset({"journal_failed", "gateway_not_ready", "internal_error"})
"""Problems after which the call may have been answered all the same."""


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Where the time went, in milliseconds. Only `run_ms` can be charged."""

    queued_ms: float | None = None
    cold_start_ms: float | None = None
    run_ms: float | None = None
    gateway_ms: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {
            "queued_ms": self.queued_ms,
            "cold_start_ms": self.cold_start_ms,
            "run_ms": self.run_ms,
            "gateway_ms": self.gateway_ms,
        }


@dataclass(frozen=True, slots=True)
class CallResult:
    """What an app answered, and what that cost."""

    call_id: str
    content: bytes = field(repr=False)
    """As the app sent it: its keccak-256 is the receipt's `result`."""
    media_type: str
    charge: Money
    total: Money
    """Of the channel, with this call."""
    balance: Money | None
    """What the channel's deposit still covers, where the answer said it."""
    times: CallTimes
    input_digest: Digest | None = None
    """Of what was sent, where this client sent it."""

    @property
    def output(self) -> Any:
        """JSON as Python values, text as text, all else as bytes."""
        kind = self.media_type.partition(";")[0].strip().lower()
        return output_of(self.content, kind, self.call_id)

    def to_json(self) -> dict[str, Any]:
        output = self.output
        return {
            "call_id": self.call_id,
            "output": f"{len(output)} bytes" if isinstance(output, bytes) else output,
            "media_type": self.media_type,
            "charge": self.charge.to_json(),
            "total": self.total.to_json(),
            "balance": None if self.balance is None else self.balance.to_json(),
            "times": self.times.to_json(),
        }


@dataclass(frozen=True, slots=True)
class _Asked:
    app_id: str
    body: bytes
    headers: Mapping[str, str]
    version: int | None
    most_units: int | None = None

    @property
    def path(self) -> str:
        of = "" if self.version is None else f"?version={self.version}"
        return f"/v1/apps/{self.app_id}/calls{of}"


async def call(
    session: Session,
    app: str,
    input: Any,
    *,
    version: int | None,
    max_charge: Price | None,
    timeout_s: float | None,
) -> CallResult:
    """Raises `CallFailed` for what the app or its provider did wrong: then nothing was charged."""
    ends_s = None if timeout_s is None else session.now() + timeout_s
    asked = await _asked(session, app, input, version, max_charge)
    wait_s = LONGEST_WAIT_S if timeout_s is None else min(LONGEST_WAIT_S, max(1, int(timeout_s)))
    noted = _noted(session, asked)
    try:
        answer = await _send_signed(session, asked, {"Prefer": f"wait={wait_s}"}, wait_s + 30)
        if answer.status_code == 202:
            made = await wait(session, _call_id(answer), ends_s, digest_of(asked.body))
        else:
            made = await _result(session, answer, digest_of(asked.body))
    except TallystickError as problem:
        _give_up(session, noted, problem)
        raise
    await own_vouchers.sign_for(session, made.call_id, noted, made.content)
    return made


async def submit_call(
    session: Session,
    app: str,
    input: Any,
    *,
    version: int | None,
    max_charge: Price | None,
    webhook: str | None,
) -> CallView:
    asked = await _asked(session, app, input, version, max_charge)
    prefer = {"Prefer": "respond-async"}
    if webhook is not None:
        prefer["Tallystick-Webhook"] = webhook
    noted = _noted(session, asked)
    try:
        answer = await _send_signed(session, asked, prefer, 30)
    except TallystickError as problem:
        _give_up(session, noted, problem)
        raise
    return await _written_down(session, _call_id(answer))


class CallStream:
    """An answer that comes piece by piece, as an async iterator.

    A piece is what the handler yielded. An answer of one piece (the handler yields nothing) is its
    output. A stream that breaks is not begun again, as pieces were seen already: it raises
    `CallFailed`.
    """

    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces
        self.call_id = ""
        """Known once the first piece is there."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


def stream(
    session: Session, app: str, input: Any, *, version: int | None, max_charge: Price | None
) -> CallStream:
    async def pieces() -> AsyncIterator[Any]:
        asked = await _asked(session, app, input, version, max_charge)
        noted = _noted(session, asked)
        seen: list[Any] = []
        try:
            async with _streamed(session, asked) as answer:
                made.call_id = answer.headers.get(CALL_ID_HEADER, "")
                if _kind(answer) == EVENTS:
                    async for value in _outputs(made, answer):
                        if noted is not None:
                            seen.append(value)
                        yield value
                    await own_vouchers.sign_for_stream(session, made.call_id, noted, seen)
                else:
                    await answer.aread()
                    await own_vouchers.sign_for(session, made.call_id, noted, answer.content)
                    yield output_of(answer.content, _kind(answer), made.call_id)
        except TallystickError as problem:
            _give_up(session, noted, problem)
            raise
        except httpx.TransportError as lost:
            raise _broken(made.call_id, str(lost) or type(lost).__name__) from lost

    made = CallStream(pieces())
    return made


@asynccontextmanager
async def _streamed(session: Session, asked: _Asked) -> AsyncIterator[httpx.Response]:
    headers = {**asked.headers, "Accept": EVENTS, "Idempotency-Key": secrets.token_hex(16)}
    post = session.connection.post_stream
    async with AsyncExitStack() as opened:
        try:
            answer = await opened.enter_async_context(post(asked.path, asked.body, headers))
        except Conflict as problem:
            if not _is_voucher_due(session, problem):
                raise
            await own_vouchers.sign_left(session)
            answer = await opened.enter_async_context(post(asked.path, asked.body, headers))
        yield answer


async def _outputs(made: CallStream, answer: httpx.Response) -> AsyncIterator[Any]:
    """`output` for each piece; the gateway ends a stream with `charged` or `failed`, an app's own
    server with `completed` or `error`."""
    completed = False
    async for event in sse.events(answer.aiter_lines()):
        try:
            value = json.loads(event.data)
        except ValueError:
            value = event.data
        match event.event:
            case "output" | "message":
                yield value
            case "completed" | "charged":
                completed = True
            case "error" | "failed":
                raise _failed(made.call_id, _problem_in(value))
    if not completed:
        raise _broken(made.call_id, "it has no end")


async def wait(
    session: Session, call_id: str, ends_s: float | None, input_digest: Digest | None
) -> CallResult:
    """Looks until the call is over, then fetches its result."""
    pause_s = FIRST_LOOK_S
    while True:
        view = await _written_down(session, call_id)
        if view.state in _OVER:
            break
        if ends_s is not None and session.now() >= ends_s:
            raise TimedOut(
                f"Call {call_id} is {view.state}.",
                next_step=f"It goes on: `tallystick calls result {call_id}` fetches the answer.",
                call_id=call_id,
            )
        await session.sleep(pause_s)
        pause_s = min(LONGEST_LOOK_S, pause_s * 2)
    return await _fetched(session, view, input_digest)


async def _written_down(session: Session, call_id: str) -> CallView:
    """A call that was just taken is written down a moment later, with others."""
    for _ in range(JUST_TAKEN_LOOKS):
        with contextlib.suppress(NotFound):
            return await call_info(session, call_id)
        await session.sleep(FIRST_LOOK_S)
    return await call_info(session, call_id)


async def result(session: Session, call_id: str, timeout_s: float | None) -> CallResult:
    """Of a call made earlier: waits until it is over."""
    ends_s = None if timeout_s is None else session.now() + timeout_s
    made = await wait(session, call_id, ends_s, None)
    await own_vouchers.sign_for(session, call_id, None, made.content)
    return made


async def cancel(session: Session, call_id: str) -> CallView:
    """What was not answered yet is stopped, and costs nothing."""
    await session.connection.delete(f"/v1/calls/{checked_call_id(call_id)}")
    return await call_info(session, call_id)


async def call_info(session: Session, call_id: str) -> CallView:
    return await session.connection.get(f"/v1/calls/{checked_call_id(call_id)}", CallView)


async def call_receipt(session: Session, call_id: str) -> CallReceiptView:
    path = f"/v1/calls/{checked_call_id(call_id)}/receipt"
    return await session.connection.get(path, CallReceiptView)


async def list_calls(
    session: Session, filters: Mapping[str, str | int | None], limit: int
) -> tuple[CallView, ...]:
    found: list[CallView] = []
    cursor: str | None = None
    while len(found) < limit:
        params = {**filters, "limit": min(200, limit - len(found)), "cursor": cursor}
        page = await session.connection.get("/v1/calls", CallPage, params=params)
        found += page.items
        if (cursor := page.next_cursor) is None:
            break
    return tuple(found)


def summary_params(
    by: str,
    time_zone: str,
    group: Sequence[str],
    from_ms: int | None,
    until_ms: int | None,
    app: str | None,
    provider: str | None,
    key: str | None,
    kinds: Sequence[str] = ("call",),
) -> dict[str, Any]:
    return {
        "by": by,
        "kind": list(kinds),
        "time_zone": time_zone,
        "group": list(group),
        "from_ms": from_ms,
        "until_ms": until_ms,
        "app": app,
        "provider": provider,
        "key": key,
    }


async def summaries(session: Session, params: Mapping[str, Any]) -> SummaryPage:
    return await session.connection.get("/v1/summaries", SummaryPage, params=params)


async def summaries_csv(session: Session, params: Mapping[str, Any]) -> str:
    answer = await session.connection.send(
        "GET", "/v1/summaries", params={**params, "format": "csv"}
    )
    return answer.text


def checked_call_id(text: str) -> str:
    safe = 8 <= len(text) <= 64 and text.isascii()
    if safe and all(c.isalnum() or c in "-_" for c in text):
        return text
    raise InvalidRequest(
        f"{text[:80]!r} is no call id.", next_step="`tallystick calls list` shows them."
    )


def output_of(content: bytes, kind: str, call_id: str) -> Any:
    if kind == JSON:
        try:
            return json.loads(content)
        except ValueError as problem:
            raise ServiceError(
                f"The app's answer to call {call_id} says that it is JSON, and is not.",
                next_step="Use `.content`; tell the app's publisher.",
            ) from problem
    return content.decode("utf-8", errors="replace") if kind.startswith("text/") else content


def input_bytes(input: Any) -> bytes:
    """As it is sent: bytes as they are, all else as JSON."""
    if isinstance(input, bytes | bytearray | memoryview):
        return bytes(input)
    try:
        text = json.dumps(input, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidRequest(
            f"The input is no JSON: {problem}.",
            next_step="Give dict, list, str, numbers, bool or None; or the JSON text as bytes.",
        ) from problem


# --- requests and answers ----------------------------------------------------------------------


async def _asked(
    session: Session, app: str, input: Any, version: int | None, max_charge: Price | None
) -> _Asked:
    body, app_id = input_bytes(input), await apps.find(session, app)
    headers = {"Content-Type": JSON, "Accept": "*/*"}
    most: int | None = None
    if max_charge is not None:
        most = await session.units(max_charge, may_be=0)
        headers[MAX_CHARGE_HEADER] = str(most)
    if session.own_key is not None:
        headers[SIGNER_HEADER] = session.own_key.address
    return _Asked(app_id, body, headers, version, most)


def _noted(session: Session, asked: _Asked) -> AskedCall | None:
    return own_vouchers.begin(session, asked.app_id, asked.version, asked.body, asked.most_units)


def _give_up(session: Session, noted: AskedCall | None, problem: TallystickError) -> None:
    """No voucher is owed for it, unless only its answer was lost."""
    told = problem.values.get("problem")
    refused = isinstance(problem, InvalidRequest | VerificationFailed) or told
    if refused and told not in _UNSURE:
        own_vouchers.failed(session, noted)


async def _send_signed(
    session: Session, asked: _Asked, headers: Mapping[str, str], timeout_s: float
) -> httpx.Response:
    """The same once more after signing for a call that was left unsigned."""
    try:
        return await _send(session, asked, headers, timeout_s)
    except Conflict as problem:
        if not _is_voucher_due(session, problem):
            raise
        await own_vouchers.sign_left(session)
        return await _send(session, asked, headers, timeout_s)


def _is_voucher_due(session: Session, problem: Conflict) -> bool:
    return session.own_key is not None and problem.values.get("problem") == "voucher_due"


async def _send(
    session: Session, asked: _Asked, headers: Mapping[str, str], timeout_s: float
) -> httpx.Response:
    try:
        return await session.connection.send(
            "POST",
            asked.path,
            content=asked.body,
            headers={**asked.headers, **headers},
            timeout_s=timeout_s,
            final=_is_final,
        )
    except TallystickError as problem:
        if problem.values.get("problem") in FAILURES:
            raise CallFailed(
                problem.sentence, next_step=problem.next_step, **problem.values
            ) from problem
        raise


async def _result(session: Session, answer: httpx.Response, input_digest: Digest) -> CallResult:
    call_id = _call_id(answer)
    return CallResult(
        call_id=call_id,
        content=answer.content,
        media_type=answer.headers.get("Content-Type", "application/octet-stream"),
        charge=await session.money(_units(answer, CHARGE_HEADER)),
        total=await session.money(_units(answer, TOTAL_HEADER)),
        balance=await session.money(_units(answer, BALANCE_HEADER))
        if BALANCE_HEADER in answer.headers
        else None,
        times=_times(answer.headers.get("Server-Timing", "")),
        input_digest=input_digest,
    )


async def _fetched(session: Session, view: CallView, input_digest: Digest | None) -> CallResult:
    if view.state != "completed":
        told = {"detail": f"it was {view.state}"} if view.problem is None else view.problem
        raise _failed(view.call_id, told)
    if view.result is None:
        raise NotFound(
            f"The result of call {view.call_id} is not kept any more.",
            next_step="Call again; results of calls submitted with `--async` are kept for a while.",
            call_id=view.call_id,
        )
    path = f"/v1/calls/{checked_call_id(view.call_id)}/result"
    content = await session.connection.get_bytes(path, max_bytes=MAX_RESULT_BYTES)
    return CallResult(
        call_id=view.call_id,
        content=content,
        media_type=view.media_type,
        charge=await session.money(view.charge),
        total=await session.money(view.total),
        balance=None,
        times=CallTimes(view.queued_ms, view.cold_start_ms, view.run_ms),
        input_digest=input_digest,
    )


def _call_id(answer: httpx.Response) -> str:
    call_id: str = answer.headers.get(CALL_ID_HEADER, "")
    if not call_id:
        raise ServiceError(
            f"The backend's answer has no {CALL_ID_HEADER}.",
            next_step="Check TALLYSTICK_URL: something else answers there.",
        )
    return call_id


def _units(answer: httpx.Response, header: str) -> int:
    text = answer.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 39):
        raise ServiceError(
            f"The backend's answer says {header}: {text[:50]!r}, which is no amount.",
            next_step="`tallystick calls show` says what the call cost.",
        )
    return int(text)


def _times(header: str) -> CallTimes:
    """Of `Server-Timing: queue;dur=3, cold;dur=0, run;dur=12.5, gateway;dur=1`."""
    found: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur":
                try:
                    found[name] = float(value)
                except ValueError:
                    continue
    return CallTimes(found.get("queue"), found.get("cold"), found.get("run"), found.get("gateway"))


def _kind(answer: httpx.Response) -> str:
    header: str = answer.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower()


def _is_final(answer: httpx.Response) -> bool:
    """The call itself failed: the same key gives the same failure again."""
    try:
        return answer.json().get("code") in FAILURES
    except (ValueError, AttributeError):
        return False


def _failed(call_id: str, problem: Mapping[str, Any]) -> CallFailed:
    detail = str(problem.get("detail") or problem.get("title") or "it does not say why")
    return CallFailed(
        f"The call failed: {detail.rstrip('.')}.",
        next_step=str(problem.get("next_step") or "Nothing was charged; try again."),
        call_id=call_id,
        problem=problem.get("code", ""),
    )


def _problem_in(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        return {}
    inner = value.get("problem")
    return inner if isinstance(inner, dict) else value


def _broken(call_id: str, why: str) -> CallFailed:
    return CallFailed(
        f"The stream broke: {why}.",
        next_step=f"`tallystick calls show {call_id or 'CALL'}` says what became of the call.",
        call_id=call_id,
    )
