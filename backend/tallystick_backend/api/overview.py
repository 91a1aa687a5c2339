"""The caller's account at a glance, once and as it changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tallystick.protocol.market_views import GpuSample, OverviewBody, TaskSample, TaskSamples
from tallystick.protocol.types import Address
from tallystick_backend import tasks
from tallystick_backend.api.callers import Reader
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.notices import notices_of
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.refusals import TooManyStreams
from tallystick_backend.api.schemas import TaskIdPath
from tallystick_backend.api.streams import LogCursor
from tallystick_backend.api.tasks import visible
from tallystick_backend.store.repositories import chain, explorer, usage, work
from tallystick_backend.store.repositories.explorer import EventFilter

router = APIRouter(prefix="/v1", tags=["account"])

HOUR_MS = 3_600_000
DAY_S = 86_400
NO_END_S = 253_402_300_799
"""The last second of the year 9999: what lasts longer has no end that anybody could write down."""
MOST_CALLS = 2_000
MOST_TASKS = 500
MOST_CHANNELS = 5_000
LOOKS_APART = 5
"""Times `stream_poll_ms`: an overview is more work than a look at one task."""

Alert = Literal["runs_out_today", "nothing_available", "index_stopped"]


@router.get(
    "/overview",
    operation_id="getOverview",
    summary="What I have, what I spend, until when that lasts, and what needs a look",
    responses=problems(LOGGED_IN),
)
async def get_overview(backend: Ctx, caller: Reader) -> OverviewBody:
    return await overview(backend, caller.address)


async def overview(backend: Backend, address: Address) -> OverviewBody:
    now_ms = backend.clock.now_ms()
    now_s, today = now_ms // 1000, now_ms // 1000 // DAY_S
    async with backend.database.read() as session:
        account = await chain.account(session, address)
        in_channels = await usage.unclaimed_of(session, address, MOST_CHANNELS)
        rates = await usage.running_rates(session, address, MOST_TASKS)
        charges = await usage.charges_since(session, address, now_ms - HOUR_MS, MOST_CALLS)
        calls_today = await usage.spent(
            session, address, scope="workspace", subject="", from_day=today
        )
        settled = await explorer.newest_events(
            session, EventFilter(names=("TaskSettled",), address=address), MOST_TASKS
        )
        cursor = await chain.cursor(session)
        doubt = await chain.doubt(session)
        notices = await notices_of(backend, session, address)
    tasks_today = sum(
        int(row.args["charge"])
        for row in settled
        if row.timestamp_s >= today * DAY_S and row.args["consumer"].lower() == address.lower()
    )
    pace = _pace_per_hour(charges, now_ms) + sum(rates) * 3600
    reserved = account.locked + in_channels
    has = account.available + reserved
    lasts_until = None if pace == 0 else now_s + has * 3600 // pace
    if lasts_until is not None and lasts_until > NO_END_S:
        lasts_until = None
    alerts: list[Alert] = []
    if doubt is not None:
        alerts.append("index_stopped")
    if lasts_until is not None and lasts_until < now_s + DAY_S:
        alerts.append("runs_out_today")
    if account.available == 0 and pace:
        alerts.append("nothing_available")
    return OverviewBody(
        address=address,
        block=0 if cursor is None else cursor.block_number,
        available=account.available,
        reserved=reserved,
        locked=account.locked,
        in_channels=in_channels,
        credit=account.credit,
        tasks_running=len(rates),
        spent_today_calls=calls_today,
        spent_today_tasks=tasks_today,
        pace_per_hour=pace,
        lasts_until=lasts_until,
        alerts=tuple(alerts),
        notices=tuple(notices),
    )


def _pace_per_hour(charges: Sequence[tuple[int, int]], now_ms: int) -> int:
    """Of the calls looked at; when there were more, by the time that these cover."""
    spent = sum(charge for _, charge in charges)
    if len(charges) < MOST_CALLS:
        return spent
    covered_ms = max(1, now_ms - charges[-1][0])
    return spent * HOUR_MS // covered_ms


LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9a-f]{16}$",
        description="Id of the last event seen; nothing is told until there is something else.",
    ),
]


async def _open_gate(backend: Ctx, caller: Reader) -> AsyncIterator[None]:
    with backend.streams.entered(caller.address):
        yield


@router.get(
    "/overview/stream",
    operation_id="streamOverview",
    summary="The overview, whenever it changes",
    description="Events `overview` with one `OverviewBody` each. A look is taken about once a "
    "second; the id says what was told, so a reader that comes back is not told the same again.",
    response_class=EventSourceResponse,
    dependencies=[Depends(_open_gate)],
    responses=problems(LOGGED_IN, TooManyStreams),
)
async def stream_overview(
    backend: Ctx, caller: Reader, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    told = last_event_id
    while True:
        body = await overview(backend, caller.address)
        name = _name(body)
        if name != told:
            told = name
            yield ServerSentEvent(data=body, event="overview", id=name)
        try:
            pause_s = LOOKS_APART * backend.settings.stream_poll_ms / 1000
            await asyncio.wait_for(backend.stopping.wait(), pause_s)
        except TimeoutError:
            continue
        return


def _name(body: OverviewBody) -> str:
    """By everything but what moves with the clock and the chain alone."""
    text = body.model_dump_json(exclude={"block", "lasts_until"})
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


# --- a task's cards -----------------------------------------------------------------------------


@router.get(
    "/tasks/{task_id}/samples",
    operation_id="listSamples",
    summary="Readings of the task's cards over time",
    description="As the provider's driver gave them, with each heartbeat; at most 480, the older "
    "ones further apart. With `cursor`, the id of the last one seen, only what follows.",
    responses=problems(LOGGED_IN, tasks.UnknownTask),
    tags=["tasks"],
)
async def list_samples(
    backend: Ctx, caller: Reader, task_id: TaskIdPath, cursor: LogCursor = None
) -> TaskSamples:
    async with backend.database.read() as session:
        await visible(session, task_id, caller.address)
        rows = await work.samples(session, task_id, int(cursor or 0))
    return TaskSamples(
        items=tuple(
            TaskSample(
                id=row.id or 0,
                fence=row.fence,
                at_ms=row.at_ms,
                gpus=tuple(GpuSample.model_validate(gpu) for gpu in row.gpus),
            )
            for row in rows
        )
    )
