"""The chain as the index has it: events newest first, one task, a search, and what comes new.

All of it is public. A page knows as of which block it is; each event names its transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.market_views import (
    EventKind,
    ExplorerPage,
    ExplorerTask,
    SearchHit,
    SearchResult,
)
from tallystick.protocol.types import to_address
from tallystick_backend import tasks
from tallystick_backend.api.callers import Public, from_network
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.problems import problems
from tallystick_backend.api.refusals import BadCursor, TooManyStreams
from tallystick_backend.api.schemas import TaskIdPath
from tallystick_backend.explorer import KINDS, explorer_event
from tallystick_backend.store.repositories import apps, chain, explorer
from tallystick_backend.store.repositories.explorer import EventFilter
from tallystick_backend.store.tables import ChainEventRow

router = APIRouter(prefix="/v1", tags=["explorer"])

BATCH = 100
_HISTORY = 200
"""Most events of one task that are shown; a task has a dozen."""


class EventQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Annotated[EventKind | None, Field(description="Only events of this kind.")] = None
    address: Annotated[
        str | None,
        Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="Only events that name this account."),
    ] = None
    cursor: Cursor = None
    limit: Limit = 50


@router.get(
    "/explorer/events",
    operation_id="listChainEvents",
    summary="What happened on the chain, the last first",
    description="Tasks, redemptions, stakes, unbondings, slashes, disputes, deposits, apps.",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_events(backend: Ctx, query: Annotated[EventQuery, Query()]) -> ExplorerPage:
    address = None if query.address is None else query.address.lower()
    of = f"events:{query.kind}:{address}"
    before = None
    if query.cursor is not None:
        before = int(open_cursor(backend.seals, of, query.cursor)[0])
    wanted = EventFilter(
        names=None if query.kind is None else KINDS[query.kind], address=address, before=before
    )
    async with backend.database.read() as session:
        found = await explorer.newest_events(session, wanted, query.limit + 1)
        block = await _block(session)
    shown = found[: query.limit]
    more = len(found) > query.limit
    return ExplorerPage(
        items=tuple(map(explorer_event, shown)),
        next_cursor=make_cursor(backend.seals, of, [shown[-1].id]) if more else None,
        block=block,
    )


@router.get(
    "/explorer/tasks/{task_id}",
    operation_id="getChainTask",
    summary="A task as the chain has it",
    description="Public: who asked, who ran it, what it cost, and each transaction.",
    dependencies=[Public],
    responses=problems(tasks.UnknownTask),
)
async def get_task(backend: Ctx, task_id: TaskIdPath) -> ExplorerTask:
    return await chain_task(backend, task_id)


async def chain_task(backend: Backend, task_id: str) -> ExplorerTask:
    async with backend.database.read() as session:
        row = await chain.task(session, task_id)
        if row is None:
            raise tasks.UnknownTask(task_id)
        history = await explorer.events_of_entity(session, f"task:{row.task_id}", _HISTORY)
        block = await _block(session)
    return ExplorerTask(
        id=row.task_id,
        state=row.state,
        consumer=to_address(row.consumer),
        provider=None if row.provider is None else to_address(row.provider),
        max_charge=row.max_charge,
        charge=row.charge,
        end=row.end_s,
        receipt=row.receipt_digest,
        created_tx=row.created_tx,
        proven_tx=row.proven_tx,
        settled_tx=row.settled_tx,
        block=block,
        events=tuple(map(explorer_event, history)),
    )


# --- search -------------------------------------------------------------------------------------


@router.get(
    "/search",
    operation_id="search",
    summary="What an id, an address, a transaction or a name could be",
    description="A task, an app, a channel, a transaction (66 characters); a provider or an "
    "account (42); a block (digits); else apps whose manifest's address has this text, at most "
    "ten.",
    dependencies=[Public],
    responses=problems(),
)
async def search(
    backend: Ctx,
    q: Annotated[str, Query(pattern=r"^[\x20-\x7e]{1,100}$", description="Any of these.")],
) -> SearchResult:
    text = q.strip()
    low = text.lower()
    async with backend.database.read() as session:
        if low.startswith("0x") and len(low) == 66:
            hits = await _of_digest(session, low)
        elif low.startswith("0x") and len(low) == 42:
            hits = await _of_address(session, low)
        elif text.isdigit() and len(text) <= 15:
            hits = await _of_number(session, int(text))
        else:
            hits = await _of_name(session, text, backend.now_s())
    return SearchResult(items=tuple(hits))


async def _of_digest(session: AsyncSession, digest: str) -> list[SearchHit]:
    hits = []
    task = await chain.task(session, digest)
    if task is not None:
        hits.append(SearchHit(kind="task", id=digest, title=task.state))
    app = await apps.app(session, digest)
    if app is not None:
        hits.append(SearchHit(kind="app", id=digest, title=app.manifest_uri))
    if await explorer.is_channel(session, digest):
        hits.append(SearchHit(kind="channel", id=digest, title=""))
    found = await explorer.events_of_transaction(session, digest, 3)
    if found:
        title = ", ".join(dict.fromkeys(row.name for row in found))
        hits.append(SearchHit(kind="transaction", id=digest, title=title))
    return hits


async def _of_address(session: AsyncSession, address: str) -> list[SearchHit]:
    shown = to_address(address)
    if await chain.provider(session, address) is not None:
        return [SearchHit(kind="provider", id=shown, title="")]
    if await explorer.is_party(session, address):
        return [SearchHit(kind="account", id=shown, title="")]
    return []


async def _of_number(session: AsyncSession, number: int) -> list[SearchHit]:
    cursor = await chain.cursor(session)
    if cursor is None or number > cursor.block_number:
        return []
    return [SearchHit(kind="block", id=str(number), title="")]


async def _of_name(session: AsyncSession, text: str, now_s: int) -> list[SearchHit]:
    found = await apps.newest_apps(
        session, publisher=None, text=text, retired=None, now_s=now_s, after=None, limit=10
    )
    return [SearchHit(kind="app", id=row.app_id, title=row.manifest_uri) for row in found]


# --- what comes new -----------------------------------------------------------------------------

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}-[0-9a-f]{8}$",
        description="Id of the last event seen; the stream goes on after it.",
    ),
]


async def _open_gate(
    backend: Ctx, network: Annotated[str, Depends(from_network)]
) -> AsyncIterator[None]:
    with backend.streams.entered(network):
        yield


@router.get(
    "/explorer/stream",
    operation_id="streamChainEvents",
    summary="What happens on the chain, as it comes",
    description="Events `event` with one `ExplorerEvent` each, in the order of the chain, and "
    "`head` with the block that is indexed. A `reset` says that what was told last is no longer on "
    "the chain: read the list again. Without `Last-Event-ID` it begins now.",
    response_class=EventSourceResponse,
    dependencies=[Depends(_open_gate)],
    responses=problems(TooManyStreams),
)
async def stream_events(
    backend: Ctx, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    known: str | None = last_event_id
    told: tuple[int, str] | None = None
    while True:
        async with backend.database.read() as session:
            lost = known is not None and not await _is_there(session, known)
            if known is None or lost:
                known = _place(await explorer.last_event(session))
            rows = await explorer.events_after(session, int(known.partition("-")[0]), BATCH)
            cursor = await chain.cursor(session)
        # Told outside the snapshot: a slow reader holds no connection.
        if lost:
            block = 0 if cursor is None else cursor.block_number
            yield ServerSentEvent(data={"block": block}, event="reset", id=known)
        for row in rows:
            known = _place(row)
            yield ServerSentEvent(data=explorer_event(row), event="event", id=known)
        if cursor is not None and len(rows) < BATCH:
            head = (cursor.block_number, cursor.block_hash)
            if head != told:
                told = head
                data = {"block": cursor.block_number, "at": cursor.block_timestamp_s}
                yield ServerSentEvent(data=data, event="head", id=known)
        if len(rows) < BATCH and await _stopping(backend):
            return


def _place(row: ChainEventRow | None) -> str:
    """Id and a piece of the block's hash: after a reorganisation an id may be another event's."""
    return "0-00000000" if row is None else f"{row.id}-{row.block_hash[2:10]}"


async def _is_there(session: AsyncSession, place: str) -> bool:
    event_id = int(place.partition("-")[0])
    if event_id == 0:
        return True
    row = await explorer.event(session, event_id)
    return row is not None and _place(row) == place


async def _stopping(backend: Backend) -> bool:
    """Waits for the next look; True at once when the process ends."""
    try:
        await asyncio.wait_for(backend.stopping.wait(), backend.settings.stream_poll_ms / 1000)
    except TimeoutError:
        return False
    return True


async def _block(session: AsyncSession) -> int:
    cursor = await chain.cursor(session)
    return 0 if cursor is None else cursor.block_number
