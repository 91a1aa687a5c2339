"""What the API shows: reads across the tables of all writers. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, func
from sqlalchemy.orm import Mapped
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.repositories import chain
from tallystick_backend.store.tables import (
    AcceptanceRow,
    AnnouncementRow,
    LeaseRow,
    OperatorKeyRow,
    ProviderRow,
    ReceiptRow,
    TaskChainRow,
    TaskOrderRow,
    TaskWorkRow,
)
from tallystick_backend.tasks import LIVE_LEASES

_IN_LIMIT = 500
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class TaskView:
    """Everything known of one task, as of one moment."""

    order: TaskOrderRow
    chain: TaskChainRow | None
    work: TaskWorkRow | None
    lease: LeaseRow | None
    """The one with the highest fence."""
    receipt: ReceiptRow | None
    """The one with the highest fence."""
    acceptance: AcceptanceRow | None
    announcements: Mapping[str, AnnouncementRow]
    """Of the providers that hold the lease or lack a key."""


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider on chain and on the bus."""

    provider: ProviderRow
    keys: Sequence[OperatorKeyRow]
    announcement: AnnouncementRow | None
    gpus_leased: Mapping[str, int]
    """By GPU class, over live leases."""


async def task_views(session: AsyncSession, orders: Sequence[TaskOrderRow]) -> list[TaskView]:
    """In the order of `orders`, with one query a table."""
    ids = [row.task_id for row in orders]
    chain = {row.task_id: row for row in await _in(session, TaskChainRow, "task_id", ids)}
    work = {row.task_id: row for row in await _in(session, TaskWorkRow, "task_id", ids)}
    accepted = {row.task_id: row for row in await _in(session, AcceptanceRow, "task_id", ids)}
    leases: dict[str, LeaseRow] = {}
    for lease in await _in(session, LeaseRow, "task_id", ids):
        if lease.task_id not in leases or leases[lease.task_id].fence < lease.fence:
            leases[lease.task_id] = lease
    receipts: dict[str, ReceiptRow] = {}
    for receipt in await _in(session, ReceiptRow, "task_id", ids):
        if receipt.task_id not in receipts or receipts[receipt.task_id].fence < receipt.fence:
            receipts[receipt.task_id] = receipt
    names = {lease.provider for lease in leases.values()}
    names |= {row.needs_key_provider for row in work.values() if row.needs_key_provider}
    announced = {
        row.provider: row for row in await _in(session, AnnouncementRow, "provider", names)
    }
    return [
        TaskView(
            order=row,
            chain=chain.get(row.task_id),
            work=work.get(row.task_id),
            lease=leases.get(row.task_id),
            receipt=receipts.get(row.task_id),
            acceptance=accepted.get(row.task_id),
            announcements=announced,
        )
        for row in orders
    ]


async def task_view(session: AsyncSession, order: TaskOrderRow) -> TaskView:
    return (await task_views(session, [order]))[0]


async def provider_view(session: AsyncSession, address: str) -> ProviderView | None:
    row = await session.get(ProviderRow, address.lower())
    return None if row is None else (await _with_the_rest(session, [row]))[0]


async def provider_views(
    session: AsyncSession, *, after: str = "", limit: int, seen_since_ms: int | None = None
) -> list[ProviderView]:
    """By address; with `seen_since_ms` those only that were heard of since."""
    query = select(ProviderRow).where(col(ProviderRow.address) > after)
    if seen_since_ms is not None:
        query = query.join(
            AnnouncementRow, col(AnnouncementRow.provider) == col(ProviderRow.address)
        ).where(col(AnnouncementRow.last_seen_ms) >= seen_since_ms)
    query = query.order_by(col(ProviderRow.address)).limit(limit)
    return await _with_the_rest(session, (await session.exec(query)).all())


async def known_providers(session: AsyncSession, addresses: Iterable[str]) -> frozenset[str]:
    """Those of `addresses` that ever staked here, in lower case."""
    wanted = {address.lower() for address in addresses}
    return frozenset(row.address for row in await _in(session, ProviderRow, "address", wanted))


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts for the metrics page."""

    tasks_on_chain: Mapping[str, int]
    tasks_by_work: Mapping[str, int]
    orders: int
    leases: Mapping[str, int]
    providers_online: int
    block_number: int | None
    head_number: int | None
    books_block_number: int | None = None
    books_differences: int = 0


async def figures(session: AsyncSession, *, seen_since_ms: int) -> Figures:
    cursor = await chain.cursor(session)
    books = await chain.books(session)
    online = select(func.count()).where(col(AnnouncementRow.last_seen_ms) >= seen_since_ms)
    orders = select(func.count(col(TaskOrderRow.task_id)))
    is_live = col(LeaseRow.state).in_(sorted(LIVE_LEASES))
    return Figures(
        tasks_on_chain=await _counts(session, col(TaskChainRow.state)),
        tasks_by_work=await _counts(session, col(TaskWorkRow.state)),
        orders=(await session.exec(orders)).one(),
        leases=await _counts(session, col(LeaseRow.state), is_live),
        providers_online=(await session.exec(online)).one(),
        block_number=None if cursor is None else cursor.block_number,
        head_number=None if cursor is None else cursor.head_number,
        books_block_number=None if books is None else books.block_number,
        books_differences=len((books and books.differences) or ()),
    )


async def online_count(session: AsyncSession, *, seen_since_ms: int) -> int:
    query = select(func.count()).where(col(AnnouncementRow.last_seen_ms) >= seen_since_ms)
    return (await session.exec(query)).one()


async def _with_the_rest(session: AsyncSession, rows: Sequence[ProviderRow]) -> list[ProviderView]:
    names = [row.address for row in rows]
    announced = {
        row.provider: row for row in await _in(session, AnnouncementRow, "provider", names)
    }
    keys: dict[str, list[OperatorKeyRow]] = {}
    for key in await _in(session, OperatorKeyRow, "provider", names):
        keys.setdefault(key.provider, []).append(key)
    leased: dict[str, dict[str, int]] = {}
    for lease in await _in(session, LeaseRow, "provider", names, live_only=True):
        by_class = leased.setdefault(lease.provider, {})
        by_class[lease.gpu_class] = by_class.get(lease.gpu_class, 0) + lease.gpus
    return [
        ProviderView(
            provider=row,
            keys=sorted(keys.get(row.address, []), key=lambda key: key.key),
            announcement=announced.get(row.address),
            gpus_leased=leased.get(row.address, {}),
        )
        for row in rows
    ]


async def _in(
    session: AsyncSession,
    table: type[_Row],
    column: str,
    values: Iterable[str],
    *,
    live_only: bool = False,
) -> list[_Row]:
    wanted = list(values)
    found: list[_Row] = []
    for start in range(0, len(wanted), _IN_LIMIT):
        part = wanted[start : start + _IN_LIMIT]
        query = select(table).where(getattr(table, column).in_(part))
        if live_only:
            query = query.where(col(LeaseRow.state).in_(sorted(LIVE_LEASES)))
        found += (await session.exec(query)).all()
    return found


async def _counts(
    session: AsyncSession, state: Mapped[str], *only: ColumnElement[bool]
) -> dict[str, int]:
    query = select(state, func.count()).where(*only).group_by(state)
    rows = (await session.exec(query)).all()
    return dict(rows)
