"""What anybody may look up: events newest first, pools, totals. Every query walks an index and has
an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    AnnouncementRow,
    AppRow,
    ChainEventEntityRow,
    ChainEventPartyRow,
    ChainEventRow,
    ChannelRow,
    DelegationRow,
    EarnedRow,
    PoolRow,
    TaskChainRow,
    TotalsRow,
)


@dataclass(frozen=True, slots=True)
class EventFilter:
    names: Sequence[str] | None = None
    """None: every event."""
    address: str | None = None
    before: int | None = None
    """Only events with a lower id."""


async def newest_events(
    session: AsyncSession, wanted: EventFilter, limit: int
) -> list[ChainEventRow]:
    """The last one first. With names, one short walk for each: a rare one is not looked for among
    all the others."""
    if wanted.names is None:
        return list((await session.exec(_walk(wanted, None, limit))).all())
    found: list[ChainEventRow] = []
    for name in wanted.names:
        found += (await session.exec(_walk(wanted, name, limit))).all()
    return sorted(found, key=lambda row: -(row.id or 0))[:limit]


def _walk(wanted: EventFilter, name: str | None, limit: int) -> Any:
    query = select(ChainEventRow)
    place = col(ChainEventRow.id)
    if wanted.address is not None:
        place = col(ChainEventPartyRow.event_id)
        query = query.join(
            ChainEventPartyRow, col(ChainEventPartyRow.event_id) == col(ChainEventRow.id)
        ).where(col(ChainEventPartyRow.address) == wanted.address.lower())
        if name is not None:
            query = query.where(col(ChainEventPartyRow.name) == name)
    elif name is not None:
        query = query.where(col(ChainEventRow.name) == name)
    if wanted.before is not None:
        query = query.where(place < wanted.before)
    return query.order_by(place.desc()).limit(limit)


async def events_after(session: AsyncSession, last_id: int, limit: int) -> Sequence[ChainEventRow]:
    """In the order of the chain."""
    query = (
        select(ChainEventRow)
        .where(col(ChainEventRow.id) > last_id)
        .order_by(col(ChainEventRow.id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def last_event(session: AsyncSession) -> ChainEventRow | None:
    query = select(ChainEventRow).order_by(col(ChainEventRow.id).desc()).limit(1)
    return (await session.exec(query)).first()


async def event(session: AsyncSession, event_id: int) -> ChainEventRow | None:
    return await session.get(ChainEventRow, event_id)


async def events_of_entity(
    session: AsyncSession, entity: str, limit: int
) -> Sequence[ChainEventRow]:
    """The first ones that changed it, in the order of the chain."""
    query = (
        select(ChainEventRow)
        .join(ChainEventEntityRow, col(ChainEventEntityRow.event_id) == col(ChainEventRow.id))
        .where(col(ChainEventEntityRow.entity) == entity)
        .order_by(col(ChainEventEntityRow.event_id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def events_of_transaction(
    session: AsyncSession, tx_hash: str, limit: int
) -> Sequence[ChainEventRow]:
    query = (
        select(ChainEventRow)
        .where(col(ChainEventRow.tx_hash) == tx_hash)
        .order_by(col(ChainEventRow.id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


# --- sums -------------------------------------------------------------------------------------


async def totals(session: AsyncSession) -> TotalsRow:
    """Zeros before the first event."""
    return await session.get(TotalsRow, "market") or TotalsRow(name="market")


async def earned(session: AsyncSession, address: str) -> EarnedRow:
    return await session.get(EarnedRow, address.lower()) or EarnedRow(address=address.lower())


async def pool(session: AsyncSession, provider: str) -> PoolRow:
    return await session.get(PoolRow, provider.lower()) or PoolRow(provider=provider.lower())


async def pools(session: AsyncSession, providers: Sequence[str]) -> dict[str, PoolRow]:
    """At most a page of them."""
    query = select(PoolRow).where(col(PoolRow.provider).in_(providers))
    return {row.provider: row for row in await session.exec(query)}


async def delegations(
    session: AsyncSession,
    *,
    provider: str | None,
    delegator: str | None,
    after: str,
    limit: int,
) -> Sequence[DelegationRow]:
    """By provider and delegator."""
    query = select(DelegationRow).where(col(DelegationRow.place) > after)
    if delegator is not None:
        query = query.where(col(DelegationRow.delegator) == delegator.lower())
    if provider is not None:
        # The place begins with the provider: its range is one walk over the key.
        start, end = f"{provider.lower()}/", f"{provider.lower()}0"
        query = query.where(col(DelegationRow.place) > start, col(DelegationRow.place) < end)
    query = query.order_by(col(DelegationRow.place)).limit(limit)
    return (await session.exec(query)).all()


async def tasks_by_state(session: AsyncSession) -> dict[str, int]:
    query = select(TaskChainRow.state, func.count()).group_by(TaskChainRow.state)
    return dict((await session.exec(query)).all())


async def app_count(session: AsyncSession) -> int:
    return (await session.exec(select(func.count(col(AppRow.app_id))))).one()


async def announced(
    session: AsyncSession, *, seen_since_ms: int, after: str, limit: int
) -> Sequence[AnnouncementRow]:
    """Providers heard of since then that take work, by address."""
    query = (
        select(AnnouncementRow)
        .where(
            col(AnnouncementRow.provider) > after,
            col(AnnouncementRow.last_seen_ms) >= seen_since_ms,
            col(AnnouncementRow.draining).is_(False),
        )
        .order_by(col(AnnouncementRow.provider))
        .limit(limit)
    )
    return (await session.exec(query)).all()


# --- search -----------------------------------------------------------------------------------


async def is_channel(session: AsyncSession, channel_id: str) -> bool:
    return await session.get(ChannelRow, channel_id) is not None


async def is_party(session: AsyncSession, address: str) -> bool:
    query = (
        select(ChainEventPartyRow.event_id)
        .where(col(ChainEventPartyRow.address) == address.lower())
        .limit(1)
    )
    return (await session.exec(query)).first() is not None
