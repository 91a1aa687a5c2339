"""Leases, receipts, announcements and logs. The first half is for everybody; the second half is
dispatch's own and nobody else writes these tables.

A lease moves only by an update that names its task, fence and token and the states it may come
from; the answer says whether it moved. So a decision taken on what was read a moment ago changes
nothing when somebody else was first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, Result, and_, delete, func, or_, select, update
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    AcceptanceRow,
    AnnouncementRow,
    LeaseRow,
    LeaseSampleRow,
    LoginProofRow,
    OperatorKeyRow,
    ReceiptRow,
    SealedKeyRow,
    TaskChainRow,
    TaskEventRow,
    TaskLogRow,
    TaskOrderRow,
    TaskWorkRow,
)
from tallystick_backend.tasks import LIVE_LEASES

_LIVE = tuple(sorted(LIVE_LEASES))
_IN_LIMIT = 500

MOST_SAMPLES = 480
"""Readings kept of one task; when there are so many, every second one of the older half goes."""
SAMPLES_APART_MS = 1_000

# --- questions for everybody ------------------------------------------------------------------


async def work(session: AsyncSession, task_id: str) -> TaskWorkRow | None:
    """Where the work on a task stands; None before anything was tried."""
    return await session.get(TaskWorkRow, task_id)


async def works(session: AsyncSession, task_ids: Iterable[str]) -> dict[str, TaskWorkRow]:
    wanted = list(task_ids)
    found: dict[str, TaskWorkRow] = {}
    for start in range(0, len(wanted), _IN_LIMIT):
        part = wanted[start : start + _IN_LIMIT]
        query = select(TaskWorkRow).where(col(TaskWorkRow.task_id).in_(part))
        found |= {row.task_id: row for row in (await _ask(session, query)).scalars()}
    return found


async def lease(session: AsyncSession, task_id: str, fence: int) -> LeaseRow | None:
    return await session.get(LeaseRow, (task_id, fence))


async def current_lease(session: AsyncSession, task_id: str) -> LeaseRow | None:
    """The lease of the highest fence, whatever became of it."""
    query = (
        select(LeaseRow)
        .where(col(LeaseRow.task_id) == task_id)
        .order_by(col(LeaseRow.fence).desc())
        .limit(1)
    )
    return (await _ask(session, query)).scalars().first()


async def current_leases(session: AsyncSession, task_ids: Iterable[str]) -> dict[str, LeaseRow]:
    """The same for many tasks at once."""
    wanted = list(task_ids)
    found: dict[str, LeaseRow] = {}
    for start in range(0, len(wanted), _IN_LIMIT):
        part = wanted[start : start + _IN_LIMIT]
        query = (
            select(LeaseRow)
            .where(col(LeaseRow.task_id).in_(part))
            .order_by(col(LeaseRow.task_id), col(LeaseRow.fence))
        )
        found |= {row.task_id: row for row in (await _ask(session, query)).scalars()}
    return found


async def receipt(
    session: AsyncSession, task_id: str, fence: int | None = None
) -> ReceiptRow | None:
    """The receipt of a fence, or of the highest that has one."""
    if fence is not None:
        return await session.get(ReceiptRow, (task_id, fence))
    query = (
        select(ReceiptRow)
        .where(col(ReceiptRow.task_id) == task_id)
        .order_by(col(ReceiptRow.fence).desc())
        .limit(1)
    )
    return (await _ask(session, query)).scalars().first()


async def receipts(session: AsyncSession, task_ids: Iterable[str]) -> dict[str, ReceiptRow]:
    """The receipt of the highest fence that has one, for many tasks at once."""
    wanted = list(task_ids)
    found: dict[str, ReceiptRow] = {}
    for start in range(0, len(wanted), _IN_LIMIT):
        part = wanted[start : start + _IN_LIMIT]
        query = (
            select(ReceiptRow)
            .where(col(ReceiptRow.task_id).in_(part))
            .order_by(col(ReceiptRow.task_id), col(ReceiptRow.fence))
        )
        found |= {row.task_id: row for row in (await _ask(session, query)).scalars()}
    return found


async def announcement(session: AsyncSession, provider: str) -> AnnouncementRow | None:
    return await session.get(AnnouncementRow, provider.lower())


async def announcements(
    session: AsyncSession, after: str = "", limit: int = 10_000
) -> Sequence[AnnouncementRow]:
    """What each provider said last, by address; who is silent stays in the list."""
    query = (
        select(AnnouncementRow)
        .where(col(AnnouncementRow.provider) > after.lower())
        .order_by(col(AnnouncementRow.provider))
        .limit(limit)
    )
    return (await _ask(session, query)).scalars().all()


async def live_leases(session: AsyncSession) -> Sequence[LeaseRow]:
    """Leases that hold their provider's GPUs now."""
    query = (
        select(LeaseRow)
        .where(col(LeaseRow.state).in_(_LIVE))
        .order_by(col(LeaseRow.task_id), col(LeaseRow.fence))
    )
    return (await _ask(session, query)).scalars().all()


async def leases_of(session: AsyncSession, provider: str, limit: int) -> Sequence[LeaseRow]:
    """The provider's, the newest first."""
    query = (
        select(LeaseRow)
        .where(col(LeaseRow.provider) == provider.lower())
        .order_by(col(LeaseRow.lease_from_s).desc(), col(LeaseRow.task_id))
        .limit(limit)
    )
    return (await _ask(session, query)).scalars().all()


async def busy_gpus(session: AsyncSession) -> dict[tuple[str, str], int]:
    """GPUs held by live leases, by provider and class."""
    query = (
        select(col(LeaseRow.provider), col(LeaseRow.gpu_class), func.sum(col(LeaseRow.gpus)))
        .where(col(LeaseRow.state).in_(_LIVE))
        .group_by(col(LeaseRow.provider), col(LeaseRow.gpu_class))
    )
    return {(p, c): int(n or 0) for p, c, n in (await _ask(session, query)).all()}


async def logs(
    session: AsyncSession, task_id: str, after_id: int = 0, limit: int = 100
) -> Sequence[TaskLogRow]:
    """Log chunks that follow `after_id`, oldest first."""
    query = (
        select(TaskLogRow)
        .where(col(TaskLogRow.task_id) == task_id, col(TaskLogRow.id) > after_id)
        .order_by(col(TaskLogRow.id))
        .limit(limit)
    )
    return (await _ask(session, query)).scalars().all()


async def samples(
    session: AsyncSession, task_id: str, after_id: int = 0
) -> Sequence[LeaseSampleRow]:
    """Readings of a task's cards that follow `after_id`, oldest first; never more than
    `MOST_SAMPLES`."""
    query = (
        select(LeaseSampleRow)
        .where(col(LeaseSampleRow.task_id) == task_id, col(LeaseSampleRow.id) > after_id)
        .order_by(col(LeaseSampleRow.id))
        .limit(MOST_SAMPLES)
    )
    return (await _ask(session, query)).scalars().all()


# --- questions of the dispatcher --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """A task that may want a lease, with all that is known of it."""

    order: TaskOrderRow
    work: TaskWorkRow | None
    chain: TaskChainRow | None


async def ready_tasks(session: AsyncSession, *, now_ms: int, limit: int) -> Sequence[Ready]:
    """Tasks without a lease that somebody wants, in turns.

    A consumer's tasks are numbered by age, on from the leases it already has, and lowest numbers
    come first: ten thousand tasks of one consumer do not keep a second consumer's first task
    waiting.
    """
    running = (
        select(col(TaskOrderRow.consumer).label("consumer"), func.count().label("leases"))
        .join(LeaseRow, col(LeaseRow.task_id) == col(TaskOrderRow.task_id))
        .where(col(LeaseRow.state).in_(_LIVE))
        .group_by(col(TaskOrderRow.consumer))
        .subquery()
    )
    place = func.row_number().over(
        partition_by=col(TaskOrderRow.consumer),
        order_by=(col(TaskOrderRow.created_at_ms), col(TaskOrderRow.task_id)),
    )
    query = (
        select(TaskOrderRow, TaskWorkRow, TaskChainRow)
        .outerjoin(TaskWorkRow, col(TaskWorkRow.task_id) == col(TaskOrderRow.task_id))
        .outerjoin(TaskChainRow, col(TaskChainRow.task_id) == col(TaskOrderRow.task_id))
        .outerjoin(running, running.c.consumer == col(TaskOrderRow.consumer))
        .where(
            col(TaskOrderRow.withdrawn_at_ms).is_(None),
            or_(
                col(TaskWorkRow.task_id).is_(None),
                and_(
                    col(TaskWorkRow.state) == "waiting",
                    col(TaskWorkRow.not_before_ms) <= now_ms,
                ),
            ),
            or_(
                and_(
                    col(TaskChainRow.state) == "open",
                    col(TaskChainRow.cancelled_at_s).is_(None),
                    col(TaskChainRow.end_s) > now_ms // 1000,
                ),
                and_(
                    col(TaskOrderRow.secured).is_(False),
                    or_(
                        col(TaskChainRow.task_id).is_(None),
                        col(TaskChainRow.state) == "orphaned",
                    ),
                ),
            ),
        )
        .order_by(
            place + func.coalesce(running.c.leases, 0),
            col(TaskOrderRow.created_at_ms),
            col(TaskOrderRow.task_id),
        )
        .limit(limit)
    )
    return [Ready(order, work, chain) for order, work, chain in (await _ask(session, query)).all()]


@dataclass(frozen=True, slots=True)
class Held:
    """A lease with its task."""

    lease: LeaseRow
    order: TaskOrderRow
    work: TaskWorkRow
    chain: TaskChainRow | None


async def held(
    session: AsyncSession,
    *,
    states: Collection[str] = _LIVE,
    task_ids: Collection[str] | None = None,
    until_before_s: int | None = None,
    limit: int = 10_000,
) -> Sequence[Held]:
    """Leases in `states` with their tasks; `until_before_s` keeps those that end before it."""
    query = (
        select(LeaseRow, TaskOrderRow, TaskWorkRow, TaskChainRow)
        .join(TaskOrderRow, col(TaskOrderRow.task_id) == col(LeaseRow.task_id))
        .join(TaskWorkRow, col(TaskWorkRow.task_id) == col(LeaseRow.task_id))
        .outerjoin(TaskChainRow, col(TaskChainRow.task_id) == col(LeaseRow.task_id))
        .where(col(LeaseRow.state).in_(sorted(states)))
        .order_by(col(LeaseRow.lease_until_s), col(LeaseRow.task_id), col(LeaseRow.fence))
        .limit(limit)
    )
    if task_ids is not None:
        query = query.where(col(LeaseRow.task_id).in_(sorted(task_ids)))
    if until_before_s is not None:
        query = query.where(col(LeaseRow.lease_until_s) < until_before_s)
    return [Held(*row) for row in (await _ask(session, query)).all()]


async def abandoned_waits(
    session: AsyncSession, *, now_ms: int, limit: int = 1000
) -> Sequence[tuple[TaskWorkRow, TaskOrderRow, TaskChainRow | None]]:
    """Work that waits for a lease although the order was withdrawn or the chain is done with it."""
    query = (
        select(TaskWorkRow, TaskOrderRow, TaskChainRow)
        .join(TaskOrderRow, col(TaskOrderRow.task_id) == col(TaskWorkRow.task_id))
        .outerjoin(TaskChainRow, col(TaskChainRow.task_id) == col(TaskWorkRow.task_id))
        .where(
            col(TaskWorkRow.state) == "waiting",
            or_(
                col(TaskOrderRow.withdrawn_at_ms).is_not(None),
                col(TaskChainRow.cancelled_at_s).is_not(None),
                col(TaskChainRow.state).in_(("settled", "refunded")),
            ),
        )
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in (await _ask(session, query)).all()]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finished lease whose receipt the consumer accepted."""

    lease: LeaseRow
    acceptance: AcceptanceRow


async def accepted_leases(
    session: AsyncSession, task_ids: Collection[str] | None = None, limit: int = 1000
) -> Sequence[Accepted]:
    query = (
        select(LeaseRow, AcceptanceRow)
        .join(
            ReceiptRow,
            and_(
                col(ReceiptRow.task_id) == col(LeaseRow.task_id),
                col(ReceiptRow.fence) == col(LeaseRow.fence),
            ),
        )
        .join(
            AcceptanceRow,
            and_(
                col(AcceptanceRow.task_id) == col(LeaseRow.task_id),
                col(AcceptanceRow.receipt_digest) == col(ReceiptRow.digest),
            ),
        )
        .where(col(LeaseRow.state) == "finished")
        .order_by(col(AcceptanceRow.at_ms))
        .limit(limit)
    )
    if task_ids is not None:
        query = query.where(col(LeaseRow.task_id).in_(sorted(task_ids)))
    return [Accepted(*row) for row in (await _ask(session, query)).all()]


async def settled_leases(session: AsyncSession, limit: int = 1000) -> Sequence[LeaseRow]:
    """Finished leases of tasks that the chain is done with."""
    query = (
        select(LeaseRow)
        .join(TaskChainRow, col(TaskChainRow.task_id) == col(LeaseRow.task_id))
        .where(
            col(LeaseRow.state) == "finished",
            col(TaskChainRow.state).in_(("settled", "refunded")),
        )
        .limit(limit)
    )
    return (await _ask(session, query)).scalars().all()


async def orders(session: AsyncSession, task_ids: Collection[str]) -> dict[str, TaskOrderRow]:
    query = select(TaskOrderRow).where(col(TaskOrderRow.task_id).in_(sorted(task_ids)))
    return {row.task_id: row for row in (await _ask(session, query)).scalars()}


async def unsecured_in_hand(session: AsyncSession, consumer: str) -> Sequence[TaskOrderRow]:
    """Signed orders of a consumer that are worked on, or wait for their pay, off the chain."""
    query = (
        select(TaskOrderRow)
        .join(TaskWorkRow, col(TaskWorkRow.task_id) == col(TaskOrderRow.task_id))
        .outerjoin(TaskChainRow, col(TaskChainRow.task_id) == col(TaskOrderRow.task_id))
        .where(
            col(TaskOrderRow.consumer) == consumer,
            col(TaskOrderRow.secured).is_(False),
            col(TaskWorkRow.state).in_(("leased", "running", "finished")),
            or_(col(TaskChainRow.task_id).is_(None), col(TaskChainRow.state) == "orphaned"),
        )
    )
    return (await _ask(session, query)).scalars().all()


async def sealed_providers(session: AsyncSession, task_id: str, fence: int) -> frozenset[str]:
    """Providers that hold the input's key for this fence."""
    query = select(col(SealedKeyRow.provider)).where(
        col(SealedKeyRow.task_id) == task_id, col(SealedKeyRow.fence) == fence
    )
    return frozenset((await _ask(session, query)).scalars())


async def sealed_key(session: AsyncSession, task_id: str, provider: str, fence: int) -> str | None:
    row = await session.get(SealedKeyRow, (task_id, provider, fence))
    return None if row is None else row.sealed


async def recent_losses(session: AsyncSession, since_ms: int) -> dict[str, int]:
    """Leases that a provider let down since: declined, lost, or failed by its own fault."""
    query = (
        select(col(LeaseRow.provider), func.count())
        .where(
            or_(
                col(LeaseRow.state).in_(("declined", "lost")),
                and_(col(LeaseRow.state) == "failed", col(LeaseRow.stage) == PROVIDER_FAILED),
            ),
            col(LeaseRow.updated_at_ms) >= since_ms,
        )
        .group_by(col(LeaseRow.provider))
    )
    return {provider: int(count) for provider, count in (await _ask(session, query)).all()}


PROVIDER_FAILED = "provider_failed"
"""The last stage of a lease that failed by the provider's fault; the state does not tell."""


async def announced_with_good_keys(session: AsyncSession) -> frozenset[str]:
    """Providers whose announced operator key signs for them now."""
    query = (
        select(col(AnnouncementRow.provider))
        .outerjoin(OperatorKeyRow, col(OperatorKeyRow.key) == col(AnnouncementRow.operator_key))
        .where(
            or_(
                col(AnnouncementRow.operator_key) == col(AnnouncementRow.provider),
                and_(
                    col(OperatorKeyRow.provider) == col(AnnouncementRow.provider),
                    col(OperatorKeyRow.retired_at_s).is_(None),
                ),
            )
        )
    )
    return frozenset((await _ask(session, query)).scalars())


async def gpus_held_by(session: AsyncSession, provider: str) -> int:
    query = select(func.sum(col(LeaseRow.gpus))).where(
        col(LeaseRow.provider) == provider, col(LeaseRow.state).in_(_LIVE)
    )
    return int((await _ask(session, query)).scalar() or 0)


async def has_event(session: AsyncSession, task_id: str, kind: str, fence: int) -> bool:
    """Whether this step of this fence was told already."""
    query = select(TaskEventRow).where(
        col(TaskEventRow.task_id) == task_id, col(TaskEventRow.kind) == kind
    )
    rows = (await _ask(session, query)).scalars()
    return any(row.data.get("fence") == fence for row in rows)


async def log_chars(session: AsyncSession, task_id: str) -> int:
    query = select(func.sum(func.length(col(TaskLogRow.text)))).where(
        col(TaskLogRow.task_id) == task_id
    )
    return int((await _ask(session, query)).scalar() or 0)


async def has_log(session: AsyncSession, task_id: str, fence: int, seq: int) -> bool:
    query = select(col(TaskLogRow.id)).where(
        col(TaskLogRow.task_id) == task_id,
        col(TaskLogRow.fence) == fence,
        col(TaskLogRow.seq) == seq,
    )
    return (await _ask(session, query)).first() is not None


# --- changes, by dispatch alone ---------------------------------------------------------------


async def move_lease(
    session: AsyncSession,
    task_id: str,
    fence: int,
    token: str,
    *,
    before: Collection[str],
    until_s: int | None = None,
    **values: Any,
) -> bool:
    """Changes a lease if it is still the one that was read; `until_s` guards its end as well."""
    change = update(LeaseRow).where(
        col(LeaseRow.task_id) == task_id,
        col(LeaseRow.fence) == fence,
        col(LeaseRow.token) == token,
        col(LeaseRow.state).in_(sorted(before)),
    )
    if until_s is not None:
        change = change.where(col(LeaseRow.lease_until_s) == until_s)
    return await _changed_one(session, change.values(**values))


async def move_work(
    session: AsyncSession, task_id: str, current: int, *, before: Collection[str], **values: Any
) -> bool:
    """Changes the work if `current` is still its highest fence."""
    change = update(TaskWorkRow).where(
        col(TaskWorkRow.task_id) == task_id,
        col(TaskWorkRow.fence) == current,
        col(TaskWorkRow.state).in_(sorted(before)),
    )
    return await _changed_one(session, change.values(**values))


async def begin_work(session: AsyncSession, task_id: str) -> None:
    """The row that a task's first lease, or its first wish for a key, needs."""
    if await session.get(TaskWorkRow, task_id) is None:
        session.add(TaskWorkRow(task_id=task_id, state="waiting", excluded=[], not_before_ms=0))
        await session.flush()


async def forget_login_proofs(session: AsyncSession, before_ms: int) -> None:
    """Nonces of proofs too old to be used again."""
    await session.exec(delete(LoginProofRow).where(col(LoginProofRow.at_ms) < before_ms))


async def login_proof_used(session: AsyncSession, nonce: str) -> bool:
    return await session.get(LoginProofRow, nonce) is not None


async def _changed_one(session: AsyncSession, change: Any) -> bool:
    result = await session.exec(change.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


async def _ask(session: AsyncSession, query: Any) -> Result[*tuple[Any, ...]]:
    """SQLModel types its own `select` only; this is SQLAlchemy's."""
    answer: Result[*tuple[Any, ...]] = await session.exec(query)
    return answer


async def add_sample(
    session: AsyncSession, task_id: str, fence: int, gpus: list[dict[str, Any]], now_ms: int
) -> None:
    """Appends one reading, unless the last one is of this second; thins the older ones out when
    there are too many."""
    mine = col(LeaseSampleRow.task_id) == task_id
    known = select(func.count(), func.max(col(LeaseSampleRow.at_ms))).where(mine)
    count, last_ms = (await _ask(session, known)).one()
    if last_ms is not None and now_ms - last_ms < SAMPLES_APART_MS:
        return
    if count >= MOST_SAMPLES:
        oldest = select(col(LeaseSampleRow.id)).where(mine).order_by(col(LeaseSampleRow.id))
        ids = (await _ask(session, oldest.limit(MOST_SAMPLES // 2))).scalars().all()
        await _ask(session, delete(LeaseSampleRow).where(col(LeaseSampleRow.id).in_(ids[1::2])))
    session.add(LeaseSampleRow(task_id=task_id, fence=fence, at_ms=now_ms, gpus=gpus))
    await session.flush()
