"""What the chain says, as the index wrote it. The first half is for everybody; the second half is
the index's own and nobody else writes these tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import inspect, null
from sqlmodel import col, delete, func, insert, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    BlockRow,
    BooksRow,
    ChainEventEntityRow,
    ChainEventPartyRow,
    ChainEventRow,
    ChannelRow,
    CursorRow,
    DelegationRow,
    EarnedRow,
    OperatorKeyRow,
    PoolRow,
    ProviderRow,
    TaskChainRow,
    TotalsRow,
)

# --- questions for everybody ------------------------------------------------------------------


async def cursor(session: AsyncSession) -> CursorRow | None:
    """Where the index stands; None before its first block."""
    return await session.get(CursorRow, 1)


async def books(session: AsyncSession) -> BooksRow | None:
    """Whether the rows agree with the contracts; None before they were first compared."""
    return await session.get(BooksRow, 1)


async def doubt(session: AsyncSession) -> str | None:
    """Why what the rows say of the chain is not to be relied on: nobody begins anything new on it,
    and nothing more is paid in. None while all is well."""
    row = await cursor(session)
    if row is not None and row.degraded is not None:
        return f"the index stopped: {row.degraded}"
    compared = await books(session)
    if compared is None or compared.differences is None:
        return None
    first, more = compared.differences[0], len(compared.differences) - 1
    return (
        f"the rows differ from the contracts: {first['entity']} {first['what']} is "
        f"{first['here']} and should be {first['there']}" + (f", and {more} more" if more else "")
    )


async def task(session: AsyncSession, task_id: str) -> TaskChainRow | None:
    return await session.get(TaskChainRow, task_id.lower())


async def tasks(session: AsyncSession, task_ids: Iterable[str]) -> dict[str, TaskChainRow]:
    """Those of `task_ids` that the chain knows, by id."""
    wanted = [task_id.lower() for task_id in task_ids]
    found: dict[str, TaskChainRow] = {}
    for start in range(0, len(wanted), _IN_LIMIT):
        part = wanted[start : start + _IN_LIMIT]
        query = select(TaskChainRow).where(col(TaskChainRow.task_id).in_(part))
        found |= {row.task_id: row for row in await session.exec(query)}
    return found


async def tasks_in_state(
    session: AsyncSession, state: str, after: str = "", limit: int = 1000
) -> Sequence[TaskChainRow]:
    """Tasks that are `open`, `proven`, ... on chain, by id."""
    query = (
        select(TaskChainRow)
        .where(col(TaskChainRow.state) == state, col(TaskChainRow.task_id) > after)
        .order_by(col(TaskChainRow.task_id))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def reclaimable_tasks(
    session: AsyncSession, now_s: int, limit: int = 100
) -> Sequence[TaskChainRow]:
    """Open tasks whose end has passed: anyone may give the ceiling back."""
    query = (
        select(TaskChainRow)
        .where(col(TaskChainRow.state) == "open", col(TaskChainRow.end_s) < now_s)
        .order_by(col(TaskChainRow.end_s))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def account(session: AsyncSession, address: str) -> AccountRow:
    """Balances inside the escrow; zeros for an address it never saw."""
    row = await session.get(AccountRow, address.lower())
    return row or AccountRow(address=address.lower())


async def provider(session: AsyncSession, address: str) -> ProviderRow | None:
    return await session.get(ProviderRow, address.lower())


async def providers(
    session: AsyncSession, after: str = "", limit: int = 1000
) -> Sequence[ProviderRow]:
    """Everybody who ever staked or registered, by address."""
    query = (
        select(ProviderRow)
        .where(col(ProviderRow.address) > after.lower())
        .order_by(col(ProviderRow.address))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def operator_key(session: AsyncSession, key: str) -> OperatorKeyRow | None:
    """Whose key this is; None when nobody bound it."""
    return await session.get(OperatorKeyRow, key.lower())


async def operator_keys_of(session: AsyncSession, provider: str) -> Sequence[OperatorKeyRow]:
    """Keys of a provider, retired ones too."""
    query = (
        select(OperatorKeyRow)
        .where(col(OperatorKeyRow.provider) == provider.lower())
        .order_by(col(OperatorKeyRow.key))
    )
    return (await session.exec(query)).all()


async def key_signs_for(session: AsyncSession, key: str, provider: str) -> bool:
    """True for the provider itself and for a bound key that is not retired."""
    if key.lower() == provider.lower():
        return True
    row = await operator_key(session, key)
    return row is not None and row.provider == provider.lower() and row.retired_at_s is None


# --- changes, by the index alone --------------------------------------------------------------

_IN_LIMIT = 500
_INDEX_LOCK = 0x7461_6C6C_7901


async def one_index_at_a_time(session: AsyncSession) -> None:
    """Two indexes on one database take turns. SQLite's write lock does it there."""
    if session.get_bind().dialect.name == "postgresql":
        await session.exec(select(func.pg_advisory_xact_lock(_INDEX_LOCK)))


async def block(session: AsyncSession, number: int) -> BlockRow | None:
    return await session.get(BlockRow, number)


async def blocks_down_from(
    session: AsyncSession, number: int, limit: int = 100_000
) -> Sequence[BlockRow]:
    """Stored blocks from `number` down, highest first; there may be gaps."""
    query = (
        select(BlockRow)
        .where(col(BlockRow.number) <= number)
        .order_by(col(BlockRow.number).desc())
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def add_blocks(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await session.exec(insert(BlockRow), params=rows)


async def add_events(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Appends events and answers their ids in the same order."""
    if not rows:
        return []
    statement = insert(ChainEventRow).returning(col(ChainEventRow.id), sort_by_parameter_order=True)
    return [row[0] for row in (await session.exec(statement, params=rows)).all()]


async def add_touched(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await session.exec(insert(ChainEventEntityRow), params=rows)


async def add_parties(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await session.exec(insert(ChainEventPartyRow), params=rows)


async def events_of(session: AsyncSession, entity: str) -> Sequence[ChainEventRow]:
    """Every event that changed `entity`, in chain order."""
    query = (
        select(ChainEventRow)
        .join(ChainEventEntityRow, col(ChainEventEntityRow.event_id) == col(ChainEventRow.id))
        .where(col(ChainEventEntityRow.entity) == entity)
        .order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
    )
    return (await session.exec(query)).all()


async def events_above(session: AsyncSession, number: int) -> Sequence[ChainEventRow]:
    """Events of blocks above `number`, in chain order."""
    query = (
        select(ChainEventRow)
        .where(col(ChainEventRow.block_number) > number)
        .order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
    )
    return (await session.exec(query)).all()


async def images_before(session: AsyncSession, number: int) -> dict[str, Mapping[str, Any] | None]:
    """Every entity that a block above `number` changed, as it was before the first such change."""
    query = (
        select(ChainEventEntityRow.entity, ChainEventEntityRow.before)
        .join(ChainEventRow, col(ChainEventEntityRow.event_id) == col(ChainEventRow.id))
        .where(col(ChainEventRow.block_number) > number)
        .order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
    )
    images: dict[str, Mapping[str, Any] | None] = {}
    for entity, before in await session.exec(query):
        images.setdefault(entity, before)
    return images


async def drop_above(session: AsyncSession, number: int) -> None:
    """Takes the blocks above `number`, their events and what these touched out of the record."""
    ids = select(ChainEventRow.id).where(col(ChainEventRow.block_number) > number)
    await session.exec(
        delete(ChainEventEntityRow).where(col(ChainEventEntityRow.event_id).in_(ids))
    )
    await session.exec(delete(ChainEventPartyRow).where(col(ChainEventPartyRow.event_id).in_(ids)))
    await session.exec(delete(ChainEventRow).where(col(ChainEventRow.block_number) > number))
    await session.exec(delete(BlockRow).where(col(BlockRow.number) > number))


async def forget_below(session: AsyncSession, number: int) -> None:
    """Lets go of hashes and images that no rewind can reach any more."""
    oldest = (await session.exec(select(func.min(BlockRow.number)))).one()
    if (oldest or 0) >= number:
        return
    ids = select(ChainEventRow.id).where(
        col(ChainEventRow.block_number) >= oldest, col(ChainEventRow.block_number) < number
    )
    await session.exec(
        update(ChainEventEntityRow)
        .where(col(ChainEventEntityRow.event_id).in_(ids))
        .values(before=null())
    )
    await session.exec(delete(BlockRow).where(col(BlockRow.number) < number))


async def forget_everything(session: AsyncSession) -> None:
    """Empties every table of the index, so that it reads the chain from the start again."""
    for table in (
        ChainEventPartyRow,
        ChainEventEntityRow,
        ChainEventRow,
        BlockRow,
        TaskChainRow,
        AccountRow,
        ProviderRow,
        OperatorKeyRow,
        ChannelRow,
        AppRow,
        AppVersionRow,
        AppPriceRow,
        AppDiscountRow,
        EarnedRow,
        PoolRow,
        DelegationRow,
        TotalsRow,
        BooksRow,
        CursorRow,
    ):
        await session.exec(delete(table))


async def entities(
    session: AsyncSession, table: type[EntityRow], ids: Iterable[str]
) -> dict[str, EntityRow]:
    """Those of `ids` that have a row in `table`, by id."""
    [key] = inspect(table).primary_key
    wanted = list(ids)
    found: dict[str, EntityRow] = {}
    for start in range(0, len(wanted), _IN_LIMIT):
        query = select(table).where(key.in_(wanted[start : start + _IN_LIMIT]))
        found |= {getattr(row, key.name): row for row in await session.exec(query)}
    return found


EntityRow: TypeAlias = (
    TaskChainRow
    | AccountRow
    | ProviderRow
    | OperatorKeyRow
    | ChannelRow
    | AppRow
    | AppVersionRow
    | AppPriceRow
    | AppDiscountRow
    | EarnedRow
    | PoolRow
    | DelegationRow
    | TotalsRow
)


async def note_head(session: AsyncSession, head_number: int) -> None:
    """The node told of a newer block; the cursor stands where it stood, on the chain."""
    await session.exec(update(CursorRow).values(head_number=head_number, degraded=null()))


async def mark_degraded(session: AsyncSession, why: str) -> None:
    await session.exec(update(CursorRow).values(degraded=why))
