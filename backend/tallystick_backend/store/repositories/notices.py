"""What of an account's needs a look. Every query walks an index and has an end."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    AnnouncementRow,
    ChannelRow,
    DelegationRow,
    KeepWarmRow,
    PoolRow,
    ProviderRow,
    TaskChainRow,
    TaskOrderRow,
    TaskWorkRow,
)

_MOST = 20
_LOOKED_AT = 500


async def failed_tasks(
    session: AsyncSession, consumer: str, since_ms: int
) -> Sequence[tuple[str, str]]:
    """Id and name of those ordered since then whose every attempt is spent, and whose ceiling was
    not given back."""
    query = (
        select(TaskOrderRow.task_id, TaskOrderRow.name)
        .join(TaskWorkRow, col(TaskWorkRow.task_id) == col(TaskOrderRow.task_id))
        .join(TaskChainRow, col(TaskChainRow.task_id) == col(TaskOrderRow.task_id), isouter=True)
        .where(
            col(TaskOrderRow.consumer) == consumer.lower(),
            col(TaskOrderRow.created_at_ms) >= since_ms,
            col(TaskWorkRow.state) == "failed",
            or_(col(TaskChainRow.state).is_(None), col(TaskChainRow.state) != "refunded"),
        )
        .order_by(col(TaskOrderRow.created_at_ms).desc())
        .limit(_MOST)
    )
    return (await session.exec(query)).all()


async def troubled_wishes(
    session: AsyncSession, account: str, now_ms: int
) -> Sequence[KeepWarmRow]:
    """Apps that the account keeps warm, and that are not being kept so."""
    query = (
        select(KeepWarmRow)
        .where(
            col(KeepWarmRow.account) == account.lower(),
            col(KeepWarmRow.state).in_(("paused_funds", "failing")),
            col(KeepWarmRow.until_ms) > now_ms,
        )
        .order_by(col(KeepWarmRow.created_at_ms).desc())
        .limit(_MOST)
    )
    return (await session.exec(query)).all()


async def closing_channels(session: AsyncSession, payer: str) -> list[ChannelRow]:
    """With money in them that nobody claimed."""
    query = (
        select(ChannelRow)
        .where(col(ChannelRow.payer) == payer.lower(), col(ChannelRow.close_at_s).is_not(None))
        .order_by(col(ChannelRow.close_at_s))
        .limit(_LOOKED_AT)
    )
    rows = (await session.exec(query)).all()
    return [row for row in rows if row.deposited > row.claimed][:_MOST]


async def delegated_to(session: AsyncSession, delegator: str) -> list[str]:
    """Providers that hold a delegation which is still worth something."""
    query = (
        select(DelegationRow)
        .join(PoolRow, col(PoolRow.provider) == col(DelegationRow.provider))
        .where(
            col(DelegationRow.delegator) == delegator.lower(),
            col(DelegationRow.generation) == col(PoolRow.generation),
        )
        .order_by(col(DelegationRow.place))
        .limit(_LOOKED_AT)
    )
    rows = (await session.exec(query)).all()
    return [row.provider for row in rows if row.shares > 0][:_MOST]


async def standing(
    session: AsyncSession, providers: Sequence[str]
) -> list[tuple[ProviderRow, int]]:
    """What the chain says of each, and when it was last heard of (0: never)."""
    names = [name.lower() for name in providers]
    found = (
        await session.exec(select(ProviderRow).where(col(ProviderRow.address).in_(names)))
    ).all()
    seen = {
        row.provider: row.last_seen_ms
        for row in await session.exec(
            select(AnnouncementRow).where(col(AnnouncementRow.provider).in_(names))
        )
    }
    return [(row, seen.get(row.address, 0)) for row in found]
