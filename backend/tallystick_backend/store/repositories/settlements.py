"""Tasks as the chain settled them, for sums of what they cost and the history of prices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.prices import Paid
from tallystick_backend.store.repositories.usage import CallFilter
from tallystick_backend.store.tables import (
    ChainEventPartyRow,
    ChainEventRow,
    ReceiptRow,
    TaskChainRow,
    TaskOrderRow,
)
from tallystick_backend.summaries import Used

_BATCH = 250
"""Rows added up at a time, as for calls."""
_ENDS = ("TaskSettled", "TaskRefunded")


async def settlements(
    session: AsyncSession, wanted: CallFilter, groups: Sequence[str]
) -> AsyncIterator[list[Used]]:
    """What each task of the account adds that the chain settled or refunded in that time, in
    batches. A task is no app's, and no API key's: sums of one of these have none."""
    if wanted.app_id is not None or wanted.key_id:
        return
    for name in _ENDS:
        before: int | None = None
        while True:
            rows = await _newest(session, wanted, name, before)
            mine = [row for row in rows if _is_in(row, wanted)]
            if mine:
                yield await _used(session, mine, groups)
            if len(rows) < _BATCH or rows[-1].timestamp_s * 1000 < (wanted.from_ms or 0):
                break
            before = rows[-1].id


async def paid_since(session: AsyncSession, since_s: int, most: int) -> tuple[list[Paid], bool]:
    """What settled tasks paid, everybody's, the last first; and whether that is all of them."""
    found: list[Paid] = []
    before: int | None = None
    while len(found) < most:
        query = select(ChainEventRow).where(col(ChainEventRow.name) == "TaskSettled")
        if before is not None:
            query = query.where(col(ChainEventRow.id) < before)
        query = query.order_by(col(ChainEventRow.id).desc()).limit(_BATCH)
        rows = (await session.exec(query)).all()
        lately = [row for row in rows if row.timestamp_s >= since_s]
        classes = await _classes(session, [row.args["task_id"] for row in lately])
        receipts = await _receipts(session, [row.args["receipt"] for row in lately])
        found += [
            Paid(
                row.timestamp_s,
                classes.get(row.args["task_id"], ""),
                int(row.args["charge"]),
                int(receipts.get(row.args["receipt"], {}).get("gpu_ms", 0)),
            )
            for row in lately
        ]
        if len(lately) < _BATCH:
            return found, True
        before = rows[-1].id
    return found, False


async def _newest(
    session: AsyncSession, wanted: CallFilter, name: str, before: int | None
) -> Sequence[ChainEventRow]:
    """Last one first: a walk over the index of the account's events of this name, which ends where
    the time asked for begins."""
    place = col(ChainEventPartyRow.event_id)
    query = (
        select(ChainEventRow)
        .join(ChainEventPartyRow, place == col(ChainEventRow.id))
        .where(
            col(ChainEventPartyRow.address) == wanted.account.lower(),
            col(ChainEventPartyRow.name) == name,
        )
    )
    if before is not None:
        query = query.where(place < before)
    return (await session.exec(query.order_by(place.desc()).limit(_BATCH))).all()


def _is_in(row: ChainEventRow, wanted: CallFilter) -> bool:
    """Events name everybody who takes part; the consumer is who pays."""
    at_ms, args = row.timestamp_s * 1000, row.args
    if str(args["consumer"]).lower() != wanted.account.lower():
        return False
    if wanted.provider is not None and str(args.get("provider", "")).lower() != (
        wanted.provider.lower()
    ):
        return False
    return (wanted.from_ms or 0) <= at_ms and (wanted.until_ms is None or at_ms < wanted.until_ms)


async def _used(
    session: AsyncSession, rows: Sequence[ChainEventRow], groups: Sequence[str]
) -> list[Used]:
    ids = [row.args["task_id"] for row in rows]
    classes = await _classes(session, ids)
    digests = [row.args["receipt"] for row in rows if row.name == "TaskSettled"]
    receipts = await _receipts(session, digests)
    cancelled = set(
        await session.exec(
            select(TaskChainRow.task_id).where(
                col(TaskChainRow.task_id).in_(ids), col(TaskChainRow.cancelled_at_s).is_not(None)
            )
        )
    )
    found = []
    for row in rows:
        args = row.args
        paid = row.name == "TaskSettled"
        receipt = receipts.get(args.get("receipt", ""), {})
        named = {
            "provider": str(args.get("provider", "")).lower(),
            "gpu": classes.get(args["task_id"], ""),
        }
        found.append(
            Used(
                at_ms=row.timestamp_s * 1000,
                group=tuple(named.get(group, "") for group in groups),
                state=_state(paid, args["task_id"] in cancelled),
                charge=int(args["charge"]) if paid else 0,
                gpu_ms=int(receipt.get("gpu_ms", 0)),
                run_ms=int(receipt.get("ended_at_ms", 0)) - int(receipt.get("started_at_ms", 0)),
                kind="task",
            )
        )
    return found


async def _classes(session: AsyncSession, ids: Sequence[str]) -> dict[str, str]:
    """Of the tasks that were ordered here."""
    # More columns than the overloads of `select` know how to name.
    orders: Any = await session.exec(
        select(TaskOrderRow.task_id, TaskOrderRow.manifest).where(
            col(TaskOrderRow.task_id).in_(ids)
        )
    )
    return {task_id: manifest["resources"]["gpu_class"] for task_id, manifest in orders}


async def _receipts(session: AsyncSession, digests: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = await session.exec(select(ReceiptRow).where(col(ReceiptRow.digest).in_(digests)))
    return {row.digest: row.receipt for row in rows}


def _state(paid: bool, cancelled: bool) -> str:
    if paid:
        return "completed"
    return "canceled" if cancelled else "failed"
