"""The books as one snapshot of the rows: sums that must agree with each other, and the rows that
are held against the contracts.

    totals.escrowed   = available + locked + credit + what channels hold + fees not yet shared
    totals.staked     = the stake of all providers        totals.delegated = that of all pools
    totals.slashed    = what `Slashed` told               totals.fees      = those of all accounts
    totals.*_charges, tasks_settled, redemptions          = what accounts earned by them
    account.locked    = what the open, proven and disputed tasks of the account hold, and bonds

A unit too much in one row breaks one of these at once, however many rows there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import inspect
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.tables import (
    AccountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChainEventEntityRow,
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

_PAGE: Final = 5_000
_MOST_CHANGED: Final = 2_000

HELD_AGAINST: Final[Mapping[str, type[rows.EntityRow]]] = {
    "account": AccountRow,
    "provider": ProviderRow,
    "pool": PoolRow,
    "delegation": DelegationRow,
    "channel": ChannelRow,
    "key": OperatorKeyRow,
    "task": TaskChainRow,
    "app": AppRow,
    "version": AppVersionRow,
    "price": AppPriceRow,
}
"""Kinds of rows that a contract can be asked about, by the kind in an entity's key."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`here` is what the rows say, `there` what they are held against."""

    entity: str
    """`account:0x..`; `totals:market` for a sum."""
    what: str
    here: str
    there: str

    def __str__(self) -> str:
        return f"{self.entity} {self.what} is {self.here} and should be {self.there}"


@dataclass(frozen=True, slots=True)
class Books:
    cursor: CursorRow
    totals: TotalsRow
    differences: tuple[Difference, ...]
    """Sums that do not agree with each other."""
    unbonding: int
    undelegating: int
    entities: Mapping[str, rows.EntityRow]
    """By key: the rows to hold against the contracts."""
    pools: Mapping[str, PoolRow]
    """Of the delegations among them."""


@dataclass(slots=True)
class Round:
    """Goes through all rows of each kind, a few in each look, and begins anew at the end."""

    size: int
    """Rows of each kind in one look."""
    _after: dict[str, str] = field(default_factory=dict)

    async def next(self, session: AsyncSession) -> dict[str, rows.EntityRow]:
        found: dict[str, rows.EntityRow] = {}
        for kind, table in HELD_AGAINST.items():
            [key] = inspect(table).primary_key
            query = select(table).where(key > self._after.get(kind, "")).order_by(key)
            part: Sequence[Any] = (await session.exec(query.limit(self.size))).all()
            for row in part:
                found[f"{kind}:{getattr(row, key.name)}"] = row
            self._after[kind] = getattr(part[-1], key.name) if len(part) == self.size else ""
        return found


async def read(
    session: AsyncSession, turn: Round, *, changed_since: int, suspects: Iterable[str]
) -> Books | None:
    """None before anything is indexed. `suspects` differed before."""
    cursor = await rows.cursor(session)
    if cursor is None:
        return None
    totals = await session.get(TotalsRow, "market") or TotalsRow(name="market")
    differences, unbonding, undelegating = await _sums(session, totals)
    entities = await turn.next(session)
    entities |= await _of(session, await _changed(session, changed_since))
    entities |= await _of(session, suspects)
    delegations = [row for row in entities.values() if isinstance(row, DelegationRow)]
    pools = await rows.entities(session, PoolRow, {row.provider for row in delegations})
    return Books(
        cursor,
        totals,
        tuple(differences),
        unbonding,
        undelegating,
        entities,
        {name: row for name, row in pools.items() if isinstance(row, PoolRow)},
    )


async def _changed(session: AsyncSession, since: int) -> Sequence[str]:
    query = (
        select(ChainEventEntityRow.entity)
        .join(ChainEventRow, col(ChainEventEntityRow.event_id) == col(ChainEventRow.id))
        .where(col(ChainEventRow.block_number) > since)
        .distinct()
        .limit(_MOST_CHANGED)
    )
    return (await session.exec(query)).all()


async def _of(session: AsyncSession, keys: Iterable[str]) -> dict[str, rows.EntityRow]:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        kind, _, entity_id = key.partition(":")
        if kind in HELD_AGAINST:
            by_kind[kind].append(entity_id)
    found: dict[str, rows.EntityRow] = {}
    for kind, ids in by_kind.items():
        there = await rows.entities(session, HELD_AGAINST[kind], ids)
        found |= {f"{kind}:{entity_id}": row for entity_id, row in there.items()}
    return found


# --- sums -------------------------------------------------------------------------------------


async def _sums(session: AsyncSession, totals: TotalsRow) -> tuple[list[Difference], int, int]:
    accounts = await _sum(session, AccountRow, "available", "locked", "credit")
    channels = await _sum(session, ChannelRow, "deposited", "claimed")
    staked = await _sum(session, ProviderRow, "stake", "unbonding", "tasks_settled")
    pools = await _sum(session, PoolRow, "delegated", "undelegating")
    earned = await _sum(
        session,
        EarnedRow,
        *("tasks", "tasks_settled", "calls", "redemptions", "dispatch", "royalties", "fees"),
    )
    shared = await _told(session, "FeesShared", "to_pool", "to_treasury")
    slashed = await _told(session, "Slashed", "amount")
    in_escrow = (
        sum(accounts.values())
        + channels["deposited"]
        - channels["claimed"]
        + earned["fees"]
        - shared
    )
    expected = {
        "escrowed": in_escrow,
        "staked": staked["stake"],
        "delegated": pools["delegated"],
        "slashed": slashed,
        "tasks_settled": earned["tasks_settled"],
        "task_charges": earned["tasks"] + earned["dispatch"] + earned["royalties"],
        "redemptions": earned["redemptions"],
        "call_charges": earned["calls"],
        "fees": earned["fees"],
    }
    found = [
        Difference("totals:market", name, str(getattr(totals, name)), f"{figure}, by its parts")
        for name, figure in expected.items()
        if getattr(totals, name) != figure
    ]
    if staked["tasks_settled"] != earned["tasks_settled"]:
        found.append(
            Difference(
                "totals:market",
                "tasks_settled of providers",
                str(staked["tasks_settled"]),
                f"{earned['tasks_settled']}, as earned",
            )
        )
    found += await _locks(session)
    return found, staked["unbonding"], pools["undelegating"]


async def _locks(session: AsyncSession) -> list[Difference]:
    """What tasks hold of each account; a disputed one holds a bond, too, which no row tells."""
    held: dict[str, int] = defaultdict(int)
    bonds: set[str] = set()
    for state in ("open", "proven", "disputed"):
        after = ""
        while page := await rows.tasks_in_state(session, state, after, _PAGE):
            for task in page:
                held[task.consumer] += task.max_charge if state == "open" else task.charge
                if state == "disputed":
                    bonds.add(task.consumer)
            after = page[-1].task_id
    found = []
    async for address, locked in _columns(session, AccountRow, "address", "locked"):
        tasks = held.pop(address, 0)
        if locked < tasks if address in bonds else locked != tasks:
            found.append(
                Difference(f"account:{address}", "locked", str(locked), f"{tasks}, by its tasks")
            )
    found += [
        Difference(f"account:{address}", "locked", "nothing", f"{tasks}, by its tasks")
        for address, tasks in held.items()
        if tasks
    ]
    return found


async def _sum(session: AsyncSession, table: type[Any], *names: str) -> dict[str, int]:
    sums = dict.fromkeys(names, 0)
    [key] = inspect(table).primary_key
    async for values in _columns(session, table, key.name, *names):
        for name, value in zip(names, values[1:], strict=True):
            sums[name] += value
    return sums


async def _columns(session: AsyncSession, table: type[Any], key: str, *names: str) -> Any:
    """Amounts are text, so no database adds them up; page by page, others have their turn."""
    after = ""
    columns = [getattr(table, name) for name in (key, *names)]
    while True:
        query = select(*columns).where(columns[0] > after).order_by(columns[0]).limit(_PAGE)
        page = (await session.exec(query)).all()
        for values in page:
            yield values
        if len(page) < _PAGE:
            return
        after = page[-1][0]


async def _told(session: AsyncSession, event: str, *names: str) -> int:
    """The sum over all events of a name; there are few of those that are asked for."""
    query = select(ChainEventRow.args).where(col(ChainEventRow.name) == event)
    return sum(int(args[name]) for args in await session.exec(query) for name in names)
