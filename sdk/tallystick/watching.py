"""Looking at a task: its status, waiting for it, its log, and why it waits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable

import httpx

from tallystick import sealing_keys, sse
from tallystick.errors import (
    ChainError,
    Conflict,
    InvalidRequest,
    NotFound,
    ServiceError,
    TallystickError,
    TimedOut,
)
from tallystick.jobs import (
    Explanation,
    Job,
    JobState,
    JobStatus,
    LogEntry,
    MarketOffer,
)
from tallystick.orders import seal_one
from tallystick.protocol import sealing
from tallystick.protocol.types import Digest
from tallystick.protocol.wire import ExplainBody, LogLine, LogPage, TaskBody, TaskPage
from tallystick.receipts import check_terms
from tallystick.session import Session

FIRST_POLL_S = 0.25
LONGEST_POLL_S = 2.0
LOG_PAGE = 500
STREAM_ATTEMPTS = 3
"""A stream that breaks this often without a new line is given up; polling goes on instead."""

OnStatus = Callable[[JobStatus], None]


def task_id_of(job: Job | str) -> str:
    """The id, checked here so that a typo never becomes part of a path."""
    text = job.id if isinstance(job, Job) else job
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(text), re.ASCII):
        raise NotFound(
            f"{str(text)[:80]!r} is no task id.",
            next_step="An id is 0x and 64 hex digits; `tallystick task list` shows yours.",
        )
    return str(text).lower()


async def fetch_task(session: Session, task_id: str) -> TaskBody:
    """The task; on the way it supplies an input key if the dispatcher waits for one."""
    task = await look(session, task_id)
    if task.needs_key is not None and session.has_wallet:
        await supply_key(session, task)
    return task


async def look(session: Session, task_id: str) -> TaskBody:
    """The task and nothing else, for whoever wants it stopped."""
    return await session.connection.get(f"/v1/tasks/{task_id}", TaskBody)


async def supply_key(session: Session, task: TaskBody) -> None:
    """Seals the content key to the provider and fence that were chosen. The key follows from the
    wallet and the terms' nonce, so any machine with the wallet can do it. Raises VerificationFailed
    when the key asked for is not the provider's."""
    asked, wallet = task.needs_key, session.wallet
    if asked is None or task.manifest.input_digest is None:
        return
    terms = check_terms(await session.domain(), task.id, task, wallet.address)
    try:
        problem = await sealing_keys.key_problem(
            session, asked.provider, asked.hpke_key, asked.hpke_signature
        )
    except ChainError:
        return  # nobody to ask now: nothing is sealed, and the next look tries again
    if problem:
        raise sealing_keys.refusal([problem])
    key = sealing.content_key(wallet.sealing_key, terms.nonce)
    sealed = seal_one(asked.provider, asked.hpke_key, asked.fence, Digest(task.id), key)
    try:
        await session.connection.post_and_forget(f"/v1/tasks/{task.id}/keys", sealed)
    except Conflict:
        return  # another machine with this wallet was faster, or the provider changed again


async def status(session: Session, job: Job | str) -> JobStatus:
    return await shown(session, await fetch_task(session, task_id_of(job)))


async def shown(session: Session, task: TaskBody) -> JobStatus:
    deployment = await session.deployment()
    return JobStatus.from_body(task, deployment.token_decimals, deployment.token_symbol)


async def wait(
    session: Session,
    job: Job | str,
    *,
    timeout_s: float | None,
    until: str,
    on_status: OnStatus | None = None,
) -> JobStatus:
    """Until there is a result ("finished") or it is paid too ("settled"), or the task is over."""
    if until not in ("finished", "settled"):
        raise InvalidRequest(
            f"A task cannot be waited for until {until!r}.",
            next_step="Use until='finished' (there is a result) or 'settled' (it is paid).",
        )
    began, pause_s = session.now(), FIRST_POLL_S
    while True:
        seen = await status(session, job)
        if on_status is not None:
            on_status(seen)
        if seen.is_over or (until == "finished" and seen.has_result):
            return seen
        waited = session.now() - began
        if timeout_s is not None and waited >= timeout_s:
            raise TimedOut(
                f"Task {seen.id} is {seen.state.value} after {timeout_s:g} s of waiting.",
                next_step="It goes on by itself: wait again later, look with "
                f"`tallystick task explain {seen.id}`, or cancel it.",
                state=seen.state.value,
            )
        left = LONGEST_POLL_S if timeout_s is None else max(0.01, timeout_s - waited)
        await session.sleep(min(pause_s, left))
        pause_s = min(LONGEST_POLL_S, pause_s * 1.5)


async def list_tasks(
    session: Session, *, state: str | None, name: str | None, limit: int
) -> tuple[JobStatus, ...]:
    """Newest first, up to `limit`, page by page."""
    if state is not None and state not in {s.value for s in JobState}:
        raise InvalidRequest(
            f"There is no state {state!r}.",
            next_step=f"Use one of: {', '.join(s.value for s in JobState)}.",
        )
    if not 1 <= limit <= 10_000:
        raise InvalidRequest(f"The limit is {limit}.", next_step="Give 1 to 10000.")
    found: list[JobStatus] = []
    cursor: str | None = None
    while True:
        params: dict[str, str | int | None] = {
            "state": state,
            "name": name,
            "cursor": cursor,
            "limit": min(100, limit - len(found)),
        }
        page = await session.connection.get("/v1/tasks", TaskPage, params=params)
        for task in page.items:
            found.append(await shown(session, task))
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return tuple(found[:limit])


async def explain(session: Session, job: Job | str) -> Explanation:
    path = f"/v1/tasks/{task_id_of(job)}/explain"
    body = await session.connection.get(path, ExplainBody)
    decimals = (await session.deployment()).token_decimals
    offers = tuple(MarketOffer.from_body(offer, decimals) for offer in body.offers)
    # Without the chain's word the explanation is still worth reading.
    with contextlib.suppress(ChainError):
        offers = await sealing_keys.checked_offers(session, offers)
    return Explanation(
        task_id=body.task_id,
        state=JobState(body.state),
        summary=body.summary,
        offers=offers,
    )


async def logs(session: Session, job: Job | str, *, follow: bool) -> AsyncIterator[LogEntry]:
    """What the task wrote so far; with `follow` also what it goes on to write, until it ends.

    Follows the event stream, resuming after the last line seen when the line breaks; a backend or
    proxy that cannot stream is polled. No line comes twice.
    """
    task_id, last_id = task_id_of(job), 0
    async for entry in _stored(session, task_id, last_id):
        last_id = entry.id
        yield entry
    broken = 0
    while follow:
        over = await _writes_no_more(session, task_id)
        if over or broken >= STREAM_ATTEMPTS:
            # Asked before the read: whatever was written until then is in what follows.
            async for entry in _stored(session, task_id, last_id):
                last_id = entry.id
                yield entry
            if over:
                return
            await session.sleep(LONGEST_POLL_S / 2)
            continue
        before = last_id
        try:
            async for entry in _streamed(session, task_id, last_id):
                last_id = entry.id
                yield entry
        except (httpx.TransportError, ServiceError, NotFound):
            await session.sleep(FIRST_POLL_S)
        broken = 0 if last_id > before else broken + 1


async def _stored(session: Session, task_id: str, after: int) -> AsyncIterator[LogEntry]:
    cursor: str | None = str(after) if after else None
    while True:
        params: dict[str, str | int | None] = {"cursor": cursor, "limit": LOG_PAGE}
        page = await session.connection.get(f"/v1/tasks/{task_id}/logs", LogPage, params=params)
        for line in page.items:
            if line.id > after:
                after = line.id
                yield _entry(line)
        cursor = page.next_cursor
        if cursor is None or not page.items:
            return


async def _streamed(session: Session, task_id: str, after: int) -> AsyncIterator[LogEntry]:
    headers = {"Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = str(after)
    path = f"/v1/tasks/{task_id}/logs/stream"
    async with session.connection.stream(path, headers=headers) as answer:
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise ServiceError("The backend does not stream this log.")
        async for event in sse.events(answer.aiter_lines()):
            if event.event == "end":
                return
            try:
                line = LogLine.model_validate_json(event.data)
            except ValueError:
                continue  # an event kind that a newer backend knows
            if line.id > after:
                after = line.id
                yield _entry(line)


async def _writes_no_more(session: Session, task_id: str) -> bool:
    try:
        seen = await status(session, task_id)
    except NotFound:
        raise
    except TallystickError:
        return False
    return seen.is_over or seen.has_result


def _entry(line: LogLine) -> LogEntry:
    return LogEntry(line.id, line.fence, line.stream, line.at_ms, line.text)
