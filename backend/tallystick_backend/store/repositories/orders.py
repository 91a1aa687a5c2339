"""What consumers asked for: orders, sealed keys, acceptances. Written by the API alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import AcceptanceRow, SealedKeyRow, TaskOrderRow


@dataclass(frozen=True, slots=True)
class SealedKeyFact:
    """An input key for one provider under one fence."""

    provider: str
    fence: int
    sealed: str


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which of a consumer's orders; `before` is the place of the last one seen."""

    consumer: str
    name_prefix: str = ""
    created_from_ms: int | None = None
    created_until_ms: int | None = None
    before: tuple[int, str] | None = None


async def order(session: AsyncSession, task_id: str) -> TaskOrderRow | None:
    return await session.get(TaskOrderRow, task_id)


async def order_of(session: AsyncSession, task_id: str, consumer: str) -> TaskOrderRow | None:
    """The order if it is this consumer's; to everybody else it does not exist."""
    row = await session.get(TaskOrderRow, task_id)
    return row if row is not None and row.consumer == consumer.lower() else None


async def add_order(session: AsyncSession, row: TaskOrderRow) -> None:
    session.add(row)
    await session.flush()


async def orders_of(
    session: AsyncSession, wanted: OrderFilter, limit: int
) -> Sequence[TaskOrderRow]:
    """Newest first; orders of the same millisecond by id."""
    created, task_id = col(TaskOrderRow.created_at_ms), col(TaskOrderRow.task_id)
    query = select(TaskOrderRow).where(col(TaskOrderRow.consumer) == wanted.consumer.lower())
    if wanted.name_prefix:
        query = query.where(col(TaskOrderRow.name).startswith(wanted.name_prefix, autoescape=True))
    if wanted.created_from_ms is not None:
        query = query.where(created >= wanted.created_from_ms)
    if wanted.created_until_ms is not None:
        query = query.where(created < wanted.created_until_ms)
    if wanted.before is not None:
        at, last = wanted.before
        query = query.where(or_(created < at, and_(created == at, task_id < last)))
    query = query.order_by(created.desc(), task_id.desc()).limit(limit)
    return (await session.exec(query)).all()


async def withdraw(session: AsyncSession, row: TaskOrderRow, now_ms: int) -> bool:
    """Marks the order as no longer wanted; False when it was marked before."""
    if row.withdrawn_at_ms is not None:
        return False
    row.withdrawn_at_ms = now_ms
    session.add(row)
    return True


async def put_sealed_keys(
    session: AsyncSession, task_id: str, keys: Iterable[SealedKeyFact]
) -> None:
    """A key sealed again takes the place of the one before: the provider's own key may be new."""
    for key in keys:
        await session.merge(
            SealedKeyRow(
                task_id=task_id,
                provider=key.provider.lower(),
                fence=key.fence,
                sealed=key.sealed,
            )
        )
    await session.flush()


async def acceptance(session: AsyncSession, task_id: str) -> AcceptanceRow | None:
    return await session.get(AcceptanceRow, task_id)


async def add_acceptance(session: AsyncSession, row: AcceptanceRow) -> None:
    session.add(row)
    await session.flush()
