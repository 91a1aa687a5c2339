"""Every row of the index, in a form in which two indexes of one chain must be equal."""

from __future__ import annotations

from typing import Any, Final

from sqlmodel import select

from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    BlockRow,
    ChainEventEntityRow,
    ChainEventPartyRow,
    ChainEventRow,
    ChannelRow,
    DelegationRow,
    EarnedRow,
    OperatorKeyRow,
    PoolRow,
    ProviderRow,
    Table,
    TaskChainRow,
    TotalsRow,
)

FOLDED: Final[tuple[type[Table], ...]] = (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChannelRow,
    DelegationRow,
    EarnedRow,
    OperatorKeyRow,
    PoolRow,
    ProviderRow,
    TaskChainRow,
    TotalsRow,
)


async def contents(database: Database, finality_blocks: int = 64) -> dict[str, Any]:
    """Without row ids; without tasks that are on no branch, which stay as a warning; without the
    hashes and images that no rewind can reach any more."""
    said: dict[str, Any] = {}
    async with database.read() as session:
        cursor = await rows.cursor(session)
        assert cursor is not None
        said["cursor"] = cursor.model_dump()
        final = cursor.block_number - finality_blocks
        for table in FOLDED:
            found = [row.model_dump() for row in await session.exec(select(table))]
            said[str(table.__tablename__)] = sorted(
                (row for row in found if row.get("state") != "orphaned"), key=repr
            )
        events = (
            await session.exec(
                select(ChainEventRow).order_by(
                    ChainEventRow.block_number,  # type: ignore[arg-type]
                    ChainEventRow.log_index,  # type: ignore[arg-type]
                )
            )
        ).all()
        said["event"] = [{**row.model_dump(), "id": None} for row in events]
        number = {row.id: place for place, row in enumerate(events)}
        block = {row.id: row.block_number for row in events}
        # What an event points to that is not there shows as None.
        said["touched"] = sorted(
            (
                (
                    number.get(row.event_id),
                    row.entity,
                    row.before if block.get(row.event_id, 0) > final else None,
                )
                for row in await session.exec(select(ChainEventEntityRow))
            ),
            key=repr,
        )
        said["party"] = sorted(
            (number.get(row.event_id), row.address, row.name)
            for row in await session.exec(select(ChainEventPartyRow))
        )
        said["block"] = sorted(
            (row.number, row.hash, row.parent_hash, row.timestamp_s)
            for row in await session.exec(select(BlockRow))
            if row.number > final
        )
    return said


def differences(one: dict[str, Any], other: dict[str, Any], most: int = 6) -> str:
    """The first few, for a person."""
    lines = []
    for name in one:
        mine, theirs = one[name], other[name]
        if mine == theirs:
            continue
        if isinstance(mine, dict):
            lines += [
                f"{name}.{key}: {mine[key]!r} != {theirs[key]!r}"
                for key in mine
                if mine[key] != theirs[key]
            ]
            continue
        lines.append(f"{name}: {len(mine)} rows, a fresh index has {len(theirs)}")
        lines += [f"  only here: {row!r}" for row in mine if row not in theirs][:most]
        lines += [f"  only fresh: {row!r}" for row in theirs if row not in mine][:most]
    return "\n".join(lines)
