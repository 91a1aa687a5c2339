"""Calls, session keys, allowances, manifests and what was spent: the rows of pay per call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    AnnouncementRow,
    CallRow,
    ChannelAllowanceRow,
    ChannelRow,
    GatewayJournalRow,
    KeepWarmRow,
    ManifestRow,
    OperatorKeyRow,
    PayingChannelRow,
    SessionKeyRow,
    SpendLimitRow,
    SpendRow,
)

# --- manifests --------------------------------------------------------------------------------


async def manifest(session: AsyncSession, digest: str) -> ManifestRow | None:
    return await session.get(ManifestRow, digest)


async def add_manifest(session: AsyncSession, digest: str, text: str, now_ms: int) -> None:
    """The same bytes again change nothing."""
    if await session.get(ManifestRow, digest) is None:
        session.add(ManifestRow(digest=digest, text=text, created_at_ms=now_ms))
        await session.flush()


# --- session keys and allowances --------------------------------------------------------------


async def session_key_of(session: AsyncSession, account: str) -> SessionKeyRow | None:
    """The one in use."""
    query = (
        select(SessionKeyRow)
        .where(
            col(SessionKeyRow.account) == account.lower(),
            col(SessionKeyRow.retired_at_ms).is_(None),
        )
        .order_by(col(SessionKeyRow.created_at_ms), col(SessionKeyRow.signer))
        .limit(1)
    )
    return (await session.exec(query)).first()


async def session_key(session: AsyncSession, signer: str) -> SessionKeyRow | None:
    return await session.get(SessionKeyRow, signer.lower())


async def note_gas(session: AsyncSession, signer: str, gas_wei: int) -> None:
    await session.exec(
        update(SessionKeyRow)
        .where(col(SessionKeyRow.signer) == signer.lower())
        .values(gas_wei=gas_wei)
    )


async def allowances_of(session: AsyncSession, payer: str) -> Sequence[ChannelAllowanceRow]:
    """Newest first."""
    query = (
        select(ChannelAllowanceRow)
        .where(col(ChannelAllowanceRow.payer) == payer.lower())
        .order_by(col(ChannelAllowanceRow.created_at_ms).desc(), col(ChannelAllowanceRow.digest))
        .limit(200)
    )
    return (await session.exec(query)).all()


async def add_allowance(session: AsyncSession, row: ChannelAllowanceRow) -> None:
    if await session.get(ChannelAllowanceRow, row.digest) is None:
        session.add(row)
        await session.flush()


# --- channels ---------------------------------------------------------------------------------


async def channels_between(
    session: AsyncSession, payer: str, signer: str, provider: str
) -> Sequence[ChannelRow]:
    """The last opened first."""
    query = (
        select(ChannelRow)
        .where(
            col(ChannelRow.payer) == payer.lower(),
            col(ChannelRow.signer) == signer.lower(),
            col(ChannelRow.provider) == provider.lower(),
        )
        .order_by(col(ChannelRow.opened_at_s).desc(), col(ChannelRow.channel_id))
    )
    return (await session.exec(query)).all()


async def channels_signed_by(
    session: AsyncSession, payer: str, signer: str
) -> Sequence[ChannelRow]:
    query = select(ChannelRow).where(
        col(ChannelRow.payer) == payer.lower(), col(ChannelRow.signer) == signer.lower()
    )
    return (await session.exec(query)).all()


async def channels_by_id(session: AsyncSession, ids: Sequence[str]) -> dict[str, ChannelRow]:
    found: dict[str, ChannelRow] = {}
    for start in range(0, len(ids), 500):
        query = select(ChannelRow).where(col(ChannelRow.channel_id).in_(ids[start : start + 500]))
        found |= {row.channel_id: row for row in await session.exec(query)}
    return found


async def paying_channel(session: AsyncSession, channel_id: str) -> PayingChannelRow | None:
    return await session.get(PayingChannelRow, channel_id)


async def channels_used_last(session: AsyncSession, limit: int) -> list[str]:
    query = (
        select(col(PayingChannelRow.channel_id))
        .order_by(col(PayingChannelRow.used_at_ms).desc(), col(PayingChannelRow.channel_id))
        .limit(limit)
    )
    return list((await session.exec(query)).all())


async def gateway_journal(session: AsyncSession) -> Sequence[GatewayJournalRow]:
    """What is not in the other tables yet, in order."""
    query = select(GatewayJournalRow).order_by(col(GatewayJournalRow.id))
    return (await session.exec(query)).all()


async def operator_keys(
    session: AsyncSession, providers: Iterable[str]
) -> dict[str, frozenset[str]]:
    """Keys bound and not retired, by provider."""
    names = [provider.lower() for provider in providers]
    query = select(OperatorKeyRow).where(
        col(OperatorKeyRow.provider).in_(names), col(OperatorKeyRow.retired_at_s).is_(None)
    )
    found: dict[str, set[str]] = {name: set() for name in names}
    for row in await session.exec(query):
        found[row.provider].add(row.key)
    return {name: frozenset(keys) for name, keys in found.items()}


async def providers_online(session: AsyncSession, seen_since_ms: int) -> list[str]:
    query = select(col(AnnouncementRow.provider)).where(
        col(AnnouncementRow.last_seen_ms) >= seen_since_ms, col(AnnouncementRow.draining).is_(False)
    )
    return list((await session.exec(query)).all())


# --- calls ------------------------------------------------------------------------------------


async def call(session: AsyncSession, call_id: str) -> CallRow | None:
    return await session.get(CallRow, call_id)


async def call_by_key(session: AsyncSession, account: str, key: str) -> CallRow | None:
    query = select(CallRow).where(
        col(CallRow.account) == account, col(CallRow.idempotency_key) == key
    )
    return (await session.exec(query)).first()


async def calls_under_way(session: AsyncSession) -> Sequence[CallRow]:
    """Queued or running, the first asked first."""
    query = (
        select(CallRow)
        .where(col(CallRow.state).in_(("queued", "running")))
        .order_by(col(CallRow.asked_at_ms), col(CallRow.call_id))
    )
    return (await session.exec(query)).all()


async def webhooks_due(session: AsyncSession, now_ms: int, limit: int) -> Sequence[CallRow]:
    query = (
        select(CallRow)
        .where(col(CallRow.webhook_state) == "due", col(CallRow.webhook_at_ms) <= now_ms)
        .order_by(col(CallRow.webhook_at_ms), col(CallRow.call_id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def note_webhook(session: AsyncSession, call_id: str, **values: Any) -> None:
    await session.exec(update(CallRow).where(col(CallRow.call_id) == call_id).values(**values))


async def forget_results(session: AsyncSession, now_ms: int) -> int:
    """Results past their time; the rows stay. A key whose answer is gone may be used again."""
    done = await session.exec(
        update(CallRow)
        .where(
            col(CallRow.forget_at_ms) <= now_ms,
            col(CallRow.state).in_(("completed", "failed", "canceled")),
        )
        .values(result=None, forget_at_ms=None, idempotency_key=None)
    )
    return int(done.rowcount)


# --- what was spent ---------------------------------------------------------------------------


async def limits_of(session: AsyncSession, account: str) -> Sequence[SpendLimitRow]:
    query = select(SpendLimitRow).where(col(SpendLimitRow.account) == account.lower())
    return (await session.exec(query)).all()


async def spent_by(session: AsyncSession, account: str) -> Sequence[SpendRow]:
    """Every row of an account."""
    query = select(SpendRow).where(col(SpendRow.account) == account.lower())
    return (await session.exec(query)).all()


# --- apps that are kept warm ------------------------------------------------------------------


async def warm_due(session: AsyncSession, until_ms: int, limit: int) -> Sequence[KeepWarmRow]:
    query = (
        select(KeepWarmRow)
        .where(col(KeepWarmRow.next_at_ms) <= until_ms)
        .order_by(col(KeepWarmRow.next_at_ms), col(KeepWarmRow.id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def warm(session: AsyncSession, warm_id: str) -> KeepWarmRow | None:
    return await session.get(KeepWarmRow, warm_id)


async def warm_by_wish(session: AsyncSession, wish: str) -> KeepWarmRow | None:
    return (await session.exec(select(KeepWarmRow).where(KeepWarmRow.wish == wish))).first()


async def warm_on(session: AsyncSession, account: str) -> int:
    query = select(func.count()).where(
        col(KeepWarmRow.account) == account.lower(), col(KeepWarmRow.wish).is_not(None)
    )
    return (await session.exec(query)).one()


async def warm_of(session: AsyncSession, account: str, limit: int) -> Sequence[KeepWarmRow]:
    """Those that are on first, then the newest."""
    query = (
        select(KeepWarmRow)
        .where(col(KeepWarmRow.account) == account.lower())
        .order_by(
            col(KeepWarmRow.wish).is_(None),
            col(KeepWarmRow.created_at_ms).desc(),
            col(KeepWarmRow.id),
        )
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def warm_calls_after(
    session: AsyncSession, warm_id: str, asked_after_ms: int
) -> Sequence[CallRow]:
    """Oldest first; there is one at a time, so there are few."""
    query = (
        select(CallRow)
        .where(col(CallRow.warm_id) == warm_id, col(CallRow.asked_at_ms) > asked_after_ms)
        .order_by(col(CallRow.asked_at_ms), col(CallRow.call_id))
        .limit(100)
    )
    return (await session.exec(query)).all()
