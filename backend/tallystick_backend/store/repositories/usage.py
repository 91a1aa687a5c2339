"""Calls as they are looked at afterwards, and the limits on them. Of calls it writes nothing: the
gateway does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    CallRow,
    ChannelRow,
    LeaseRow,
    ManifestRow,
    SpendLimitRow,
    SpendRow,
    TaskOrderRow,
)
from tallystick_backend.summaries import Used

_BATCH = 250
"""Rows added up at a time: between two of these others of the process have their turn."""

_GROUPS = {
    "app": col(CallRow.app_id),
    "provider": col(CallRow.provider),
    "gpu": col(CallRow.gpu_class),
    "key": col(CallRow.key_id),
    "channel": col(CallRow.channel_id),
}


@dataclass(frozen=True, slots=True)
class CallFilter:
    account: str
    app_id: str | None = None
    provider: str | None = None
    key_id: str | None = None
    state: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    before: tuple[int, str] | None = field(default=None)
    """Time and id of the last one seen."""


async def call_of(session: AsyncSession, call_id: str, account: str) -> CallRow | None:
    """None for somebody else's, too."""
    row = await session.get(CallRow, call_id)
    return row if row is not None and row.account == account.lower() else None


async def newest_calls(session: AsyncSession, wanted: CallFilter, limit: int) -> Sequence[CallRow]:
    """Last asked for first."""
    query = select(CallRow).where(*_conditions(wanted))
    if wanted.before is not None:
        at_ms, call_id = wanted.before
        query = query.where(
            or_(
                col(CallRow.asked_at_ms) < at_ms,
                and_(col(CallRow.asked_at_ms) == at_ms, col(CallRow.call_id) > call_id),
            )
        )
    query = query.order_by(col(CallRow.asked_at_ms).desc(), col(CallRow.call_id))
    return (await session.exec(query.limit(limit))).all()


async def usage(
    session: AsyncSession, wanted: CallFilter, groups: Sequence[str]
) -> AsyncIterator[list[Used]]:
    """What each call adds, in batches."""
    by = [_GROUPS[name] for name in groups]
    at, call_id = col(CallRow.asked_at_ms), col(CallRow.call_id)
    last: tuple[int, str] | None = None
    while True:
        # More columns than the overloads of `select` know.
        query: Any = select(  # type: ignore[call-overload]
            at,
            call_id,
            col(CallRow.state),
            col(CallRow.charge),
            col(CallRow.gpu_ms),
            col(CallRow.run_ms),
            col(CallRow.cold_start_ms),
            *by,
        ).where(*_conditions(wanted))
        if last is not None:
            query = query.where(or_(at > last[0], and_(at == last[0], call_id > last[1])))
        rows: Sequence[Any] = (await session.exec(query.order_by(at, call_id).limit(_BATCH))).all()
        if rows:
            last = (rows[-1][0], rows[-1][1])
            yield [
                Used(
                    at_ms=row[0],
                    group=tuple(row[7:]),
                    state=row[2],
                    charge=row[3],
                    gpu_ms=row[4],
                    run_ms=row[5],
                    cold_start_ms=row[6],
                )
                for row in rows
            ]
        if len(rows) < _BATCH:
            return


async def spent(
    session: AsyncSession, account: str, *, scope: str, subject: str, from_day: int
) -> int:
    """By the sums that the gateway judges limits by; days are counted from 1970, in UTC."""
    query = select(SpendRow.charge).where(
        col(SpendRow.account) == account.lower(), col(SpendRow.day) >= from_day
    )
    if scope == "key":
        query = query.where(col(SpendRow.key_id) == subject)
    if scope == "app":
        query = query.where(col(SpendRow.app_id) == subject)
    return sum((await session.exec(query)).all())


async def receipt_at(session: AsyncSession, channel_id: str, seq: int) -> CallRow | None:
    """The call whose receipt has this place in the channel."""
    query = select(CallRow).where(
        col(CallRow.channel_id) == channel_id,
        col(CallRow.seq) == seq,
        col(CallRow.answer).is_not(None),
    )
    return (await session.exec(query)).first()


async def receipts_between(
    session: AsyncSession, channel_id: str, seq: int, total: int, limit: int
) -> Sequence[CallRow]:
    """Those behind place `seq` whose total is at most `total`, in order."""
    query = (
        select(CallRow)
        .where(
            col(CallRow.channel_id) == channel_id,
            col(CallRow.seq) > seq,
            col(CallRow.total) <= total,
            col(CallRow.answer).is_not(None),
        )
        .order_by(col(CallRow.seq))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def manifest_text(session: AsyncSession, digest: str) -> str | None:
    row = await session.get(ManifestRow, digest)
    return None if row is None else row.text


# --- limits -----------------------------------------------------------------------------------


async def limits_of(session: AsyncSession, account: str) -> Sequence[SpendLimitRow]:
    query = (
        select(SpendLimitRow)
        .where(col(SpendLimitRow.account) == account.lower())
        .order_by(col(SpendLimitRow.scope), col(SpendLimitRow.subject), col(SpendLimitRow.period))
    )
    return (await session.exec(query)).all()


async def set_limit(session: AsyncSession, wanted: SpendLimitRow) -> SpendLimitRow:
    """One for each scope, subject and period: setting it again changes the amount."""
    query = select(SpendLimitRow).where(
        col(SpendLimitRow.account) == wanted.account,
        col(SpendLimitRow.scope) == wanted.scope,
        col(SpendLimitRow.subject) == wanted.subject,
        col(SpendLimitRow.period) == wanted.period,
    )
    row = (await session.exec(query)).first()
    if row is None:
        row = wanted
    row.limit_units = wanted.limit_units
    session.add(row)
    await session.flush()
    return row


async def remove_limit(session: AsyncSession, limit_id: str, account: str) -> bool:
    """False when this account has no such limit."""
    row = await session.get(SpendLimitRow, limit_id)
    if row is None or row.account != account.lower():
        return False
    await session.exec(delete(SpendLimitRow).where(col(SpendLimitRow.id) == limit_id))
    return True


def _conditions(wanted: CallFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [col(CallRow.account) == wanted.account.lower()]
    if wanted.app_id is not None:
        found.append(col(CallRow.app_id) == wanted.app_id)
    if wanted.provider is not None:
        found.append(col(CallRow.provider) == wanted.provider.lower())
    if wanted.key_id is not None:
        found.append(col(CallRow.key_id) == wanted.key_id)
    if wanted.state is not None:
        found.append(col(CallRow.state) == wanted.state)
    if wanted.from_ms is not None:
        found.append(col(CallRow.asked_at_ms) >= wanted.from_ms)
    if wanted.until_ms is not None:
        found.append(col(CallRow.asked_at_ms) < wanted.until_ms)
    return found


# --- lately -----------------------------------------------------------------------------------


async def charges_since(
    session: AsyncSession, account: str, since_ms: int, limit: int
) -> Sequence[tuple[int, int]]:
    """When each call was asked for and what it cost, the last one first."""
    query = (
        select(CallRow.asked_at_ms, CallRow.charge)
        .where(col(CallRow.account) == account.lower(), col(CallRow.asked_at_ms) >= since_ms)
        .order_by(col(CallRow.asked_at_ms).desc())
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def calls_of_app_since(
    session: AsyncSession, app_id: str, since_ms: int, limit: int
) -> Sequence[tuple[str, int, int | None]]:
    """State, time of asking and of the end, the last one first; of all callers."""
    query = (
        select(CallRow.state, CallRow.asked_at_ms, CallRow.ended_at_ms)
        .where(col(CallRow.app_id) == app_id, col(CallRow.asked_at_ms) >= since_ms)
        .order_by(col(CallRow.asked_at_ms).desc())
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def unclaimed_of(session: AsyncSession, payer: str, limit: int) -> int:
    """What lies in an account's channels and is not claimed."""
    query = (
        select(ChannelRow.deposited, ChannelRow.claimed)
        .where(col(ChannelRow.payer) == payer.lower())
        .limit(limit)
    )
    return sum(deposited - claimed for deposited, claimed in await session.exec(query))


async def running_rates(session: AsyncSession, consumer: str, limit: int) -> list[int]:
    """What each running task of an account takes for a second, in the smallest unit: its GPUs at
    the rate of its terms."""
    query = (
        select(LeaseRow.gpus, TaskOrderRow.terms)
        .join(TaskOrderRow, col(TaskOrderRow.task_id) == col(LeaseRow.task_id))
        .where(col(LeaseRow.state) == "running", col(TaskOrderRow.consumer) == consumer.lower())
        .limit(limit)
    )
    return [
        gpus * int(terms["rate_per_gpu_second"])
        for gpus, terms in (await session.exec(query)).all()
    ]
