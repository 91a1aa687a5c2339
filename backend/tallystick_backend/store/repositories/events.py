"""Steps of a task, in order, for those who watch it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ARRAY, BigInteger, cast, column
from sqlmodel import col, func, insert, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import TaskEventRow

TaskEventKind = Literal[
    "ordered",
    "funded",
    "leased",
    "running",
    "progress",
    "finished",
    "accepted",
    "proven",
    "disputed",
    "settled",
    "refunded",
    "cancelled",
    "lost",
    "declined",
    "failed",
    "orphaned",
    "late_result",
    "stopping",
    "needs_key",
]


async def append(
    session: AsyncSession, task_id: str, kind: TaskEventKind, data: dict[str, Any], at_ms: int
) -> int:
    """Appends one step in the caller's transaction and answers its id."""
    await _one_at_a_time(session, [task_id])
    row = TaskEventRow(task_id=task_id, kind=kind, data=data, at_ms=at_ms)
    session.add(row)
    await session.flush()
    assert row.id is not None
    return row.id


@dataclass(frozen=True, slots=True)
class Step:
    task_id: str
    kind: TaskEventKind
    data: dict[str, Any]


async def append_all(session: AsyncSession, steps: Sequence[Step], at_ms: int) -> None:
    """Appends the steps of many tasks, in this order."""
    if not steps:
        return
    await _one_at_a_time(session, {step.task_id for step in steps})
    rows = [asdict(step) | {"at_ms": at_ms} for step in steps]
    await session.exec(insert(TaskEventRow), params=rows)


async def after(
    session: AsyncSession, task_id: str, last_id: int, limit: int = 100
) -> Sequence[TaskEventRow]:
    """The steps that follow `last_id` (0: from the first), oldest first."""
    query = (
        select(TaskEventRow)
        .where(col(TaskEventRow.task_id) == task_id, col(TaskEventRow.id) > last_id)
        .order_by(col(TaskEventRow.id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def last_id(session: AsyncSession, task_id: str) -> int:
    """Id of the newest step; 0 when there is none."""
    query = select(func.max(col(TaskEventRow.id))).where(col(TaskEventRow.task_id) == task_id)
    return (await session.exec(query)).one() or 0


async def _one_at_a_time(session: AsyncSession, task_ids: Iterable[str]) -> None:
    """PostgreSQL gives ids before commit: without this lock, held to the end of the transaction, a
    watcher could see id 8, go on from there, and miss id 7 that was committed later."""
    if session.get_bind().dialect.name != "postgresql":
        return
    # In the same order for everybody, so that two who take several cannot wait for each other.
    numbers = sorted(map(_lock_number, task_ids))
    await session.exec(
        select(func.count(func.pg_advisory_xact_lock(column("number")))).select_from(
            func.unnest(cast(numbers, ARRAY(BigInteger))).alias("number")
        )
    )


def _lock_number(task_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=8).digest(), signed=True)
