"""A unit too much in one row, somewhere: what the reconciler has to find (case 89)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlmodel import select

from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AccountRow,
    AppRow,
    ChannelRow,
    DelegationRow,
    EarnedRow,
    PoolRow,
    ProviderRow,
    Table,
    TaskChainRow,
    TotalsRow,
)

COLUMNS: Final[tuple[tuple[type[Table], str], ...]] = tuple(
    (table, column)
    for table, columns in (
        (AccountRow, ("available", "locked", "credit")),
        (ChannelRow, ("deposited", "claimed")),
        (ProviderRow, ("stake", "unbonding", "gpus_registered", "seats", "tasks_settled")),
        (PoolRow, ("delegated", "undelegating", "generation", "commission_bps")),
        (DelegationRow, ("shares",)),
        (AppRow, ("versions", "royalty_bps")),
        (TaskChainRow, ("max_charge", "charge", "unlock_s")),
        (
            EarnedRow,
            ("tasks", "tasks_settled", "calls", "redemptions", "dispatch", "royalties", "fees"),
        ),
        (
            TotalsRow,
            (
                *("escrowed", "staked", "delegated", "slashed", "tasks_settled", "task_charges"),
                *("redemptions", "call_charges", "fees"),
            ),
        ),
    )
    for column in columns
)


def _counts(row: Any, column: str) -> bool:
    """Whether the column says anything in this row."""
    if isinstance(row, TaskChainRow):
        states = {"max_charge": ("open",), "unlock_s": ("proven",), "charge": ("proven",)}
        return row.state in states[column]
    return True


async def off_by_one(
    database: Database,
    table: type[Table],
    column: str,
    by: int,
    chance: random.Random | None = None,
) -> Callable[[], Awaitable[None]] | None:
    """Changes one row; answers what takes it back. None where no row can be so changed."""
    async with database.transaction() as session:
        rows = [
            row
            for row in (await session.exec(select(table))).all()
            if _counts(row, column) and (getattr(row, column) or 0) + by >= 0
        ]
        if not rows:
            return None
        row = rows[0] if chance is None else chance.choice(rows)
        before = getattr(row, column)
        setattr(row, column, (before or 0) + by)
        session.add(row)

    async def undo() -> None:
        async with database.transaction() as session:
            await session.refresh(session_row := await session.merge(row))
            setattr(session_row, column, before)
            session.add(session_row)

    return undo
