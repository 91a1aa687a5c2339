"""What a task writes and goes through: stored, and as server-sent events that can be resumed.

Each event's `id` is the row's; a reader that comes back with `Last-Event-ID` gets what follows,
once and in order. An idle stream sends a comment every 15 seconds. A stream ends by itself with an
event `end`: that of the steps when the task is over, that of the log when nothing more is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tallystick.protocol.wire import LogLine, LogPage, TaskEventBody
from tallystick_backend import tasks
from tallystick_backend.api import bodies
from tallystick_backend.api.callers import Reader
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.refusals import TooManyStreams
from tallystick_backend.api.schemas import TaskIdPath
from tallystick_backend.api.tasks import visible
from tallystick_backend.store.repositories import events, work
from tallystick_backend.store.tables import TaskEventRow, TaskLogRow

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

BATCH = 200
ACTIVE = frozenset({"ordered", "funded", "leased", "running", "orphaned"})
"""States in which a task may still write to its log."""

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}$",
        description="Id of the last event seen; the stream goes on after it.",
    ),
]
LogCursor = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,18}$",
        description="`next_cursor` of the page before: the id of the last line seen.",
    ),
]


@router.get(
    "/{task_id}/logs",
    operation_id="listLogs",
    summary="What the task wrote",
    responses=problems(LOGGED_IN, tasks.UnknownTask),
)
async def list_logs(
    backend: Ctx,
    caller: Reader,
    task_id: TaskIdPath,
    cursor: LogCursor = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> LogPage:
    async with backend.database.read() as session:
        await visible(session, task_id, caller.address)
        rows = await work.logs(session, task_id, int(cursor or 0), limit + 1)
    more = len(rows) > limit
    lines = tuple(_line(row) for row in rows[:limit])
    return LogPage(items=lines, next_cursor=str(lines[-1].id) if more else None)


async def _open_gate(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> AsyncIterator[None]:
    """Before the first byte: the task is the caller's, and it has a stream left."""
    async with backend.database.read() as session:
        await visible(session, task_id, caller.address)
    with _counted(backend, caller.address):
        yield


@contextmanager
def _counted(backend: Backend, caller: str) -> Iterator[None]:
    with backend.streams.entered(caller):
        yield


@router.get(
    "/{task_id}/logs/stream",
    operation_id="streamLogs",
    summary="What the task writes, as it comes",
    description="Events `log` with one `LogLine` each, then `end`.",
    response_class=EventSourceResponse,
    dependencies=[Depends(_open_gate)],
    responses=problems(LOGGED_IN, tasks.UnknownTask, TooManyStreams),
)
async def stream_logs(
    backend: Ctx, caller: Reader, task_id: TaskIdPath, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    last_id = int(last_event_id or 0)
    while True:
        # The state is read in the same snapshot as the lines: nothing is written after it says so.
        async with backend.database.read() as session:
            view = await visible(session, task_id, caller.address)
            rows = await work.logs(session, task_id, last_id, BATCH)
        for row in rows:
            line = _line(row)
            last_id = line.id
            yield ServerSentEvent(data=line, event="log", id=str(line.id))
        if len(rows) == BATCH:
            continue
        if bodies.state_of(view, backend.now_s()) not in ACTIVE:
            yield ServerSentEvent(data={"task_id": task_id}, event="end")
            return
        if await _stopping(backend):
            return


@router.get(
    "/{task_id}/events",
    operation_id="streamEvents",
    summary="The steps of the task, as they come",
    description="Events named after their kind with one `TaskEventBody` each, then `end`.",
    response_class=EventSourceResponse,
    dependencies=[Depends(_open_gate)],
    responses=problems(LOGGED_IN, tasks.UnknownTask, TooManyStreams),
)
async def stream_events(
    backend: Ctx, caller: Reader, task_id: TaskIdPath, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    last_id = int(last_event_id or 0)
    while True:
        async with backend.database.read() as session:
            view = await visible(session, task_id, caller.address)
            rows = await events.after(session, task_id, last_id, BATCH)
        for row in rows:
            step = _step(row)
            last_id = step.id
            yield ServerSentEvent(data=step, event=step.kind, id=str(step.id))
        if len(rows) == BATCH:
            continue
        state = bodies.state_of(view, backend.now_s())
        if state in tasks.TERMINAL:
            yield ServerSentEvent(data={"task_id": task_id, "state": state}, event="end")
            return
        if await _stopping(backend):
            return


async def _stopping(backend: Backend) -> bool:
    """Waits for the next look; True at once when the process ends."""
    try:
        await asyncio.wait_for(backend.stopping.wait(), backend.settings.stream_poll_ms / 1000)
    except TimeoutError:
        return False
    return True


def _line(row: TaskLogRow) -> LogLine:
    assert row.id is not None
    return LogLine(id=row.id, fence=row.fence, stream=row.stream, at_ms=row.at_ms, text=row.text)


def _step(row: TaskEventRow) -> TaskEventBody:
    assert row.id is not None
    return TaskEventBody(
        id=row.id, task_id=row.task_id, at_ms=row.at_ms, kind=row.kind, data=row.data
    )
