"""Following the chain: new blocks, other branches, and when to stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlmodel import SQLModel, select

from tallystick.protocol import codec, events
from tallystick_backend.chain import ChainError
from tallystick_backend.index import follow
from tallystick_backend.index.errors import BooksDoNotBalance, ReorgTooDeep
from tallystick_backend.index.follow import Index
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.repositories import events as steps
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AccountRow,
    BlockRow,
    ChainEventRow,
    OperatorKeyRow,
    ProviderRow,
    TaskChainRow,
    TaskEventRow,
)
from tests.backend.index.conftest import IndexOf
from tests.backend.index.node import CONSUMERS, Market, Node, address, created, digest, emit

FOLDED: tuple[type[SQLModel], ...] = (TaskChainRow, AccountRow, ProviderRow, OperatorKeyRow)


async def contents(database: Database) -> dict[str, Any]:
    """What the database says of the chain, without row ids and orphans."""
    said: dict[str, Any] = {}
    async with database.read() as session:
        for table in FOLDED:
            found = [row.model_dump() for row in await session.exec(select(table))]
            said[table.__tablename__] = sorted(
                (row for row in found if row.get("state") != "orphaned"), key=repr
            )
        said["event"] = [
            {**row.model_dump(), "id": None}
            for row in await session.exec(
                select(ChainEventRow).order_by(ChainEventRow.block_number, ChainEventRow.log_index)
            )
        ]
        cursor = await rows.cursor(session)
        assert cursor is not None
        said["cursor"] = cursor.model_dump()
    return said


async def steps_of(database: Database, name: str) -> list[str]:
    async with database.read() as session:
        return [row.kind for row in await steps.after(session, digest(name), 0)]


async def check_books(database: Database, market: Market) -> None:
    """Every figure equals the plain sums of the market."""
    books = market.books
    async with database.read() as session:
        for consumer in CONSUMERS:
            account = await rows.account(session, consumer)
            assert account.available == books.available[consumer]
            assert account.locked == books.locked[consumer]
        for payee, credit in books.credit.items():
            assert (await rows.account(session, payee)).credit == credit
        for provider, stake in books.stake.items():
            row = await rows.provider(session, provider)
            assert (row.stake if row else 0) == stake
            assert (row.unbonding if row else 0) == books.unbonding[provider]
        for provider in {*books.seats, *books.jailed}:
            row = await rows.provider(session, provider)
            assert row is not None
            assert row.seats == books.seats.get(provider, 0)
            assert row.jailed_until_s == books.jailed.get(provider)
        for provider, gpus in books.gpus.items():
            row = await rows.provider(session, provider)
            assert row is not None
            assert row.gpus_registered == gpus
        for provider, settled in books.settled.items():
            row = await rows.provider(session, provider)
            assert row is not None
            assert row.tasks_settled == settled
        for key, (provider, retired) in books.keys.items():
            assert await rows.key_signs_for(session, key, provider) is not retired
        on_chain = await rows.tasks(session, books.tasks)
        for task_id, task in books.tasks.items():
            row_ = on_chain[task_id]
            assert (row_.state, row_.end_s) == (task["state"], task["end"])
            assert (row_.cancelled_at_s is not None) == task["cancelled"]


async def test_the_rows_say_what_the_contracts_would(
    index: Index, node: Node, database: Database
) -> None:
    market = Market(node, seed=1)
    for _ in range(60):
        market.mine()
    await index.catch_up()
    await check_books(database, market)


async def test_nothing_new_moves_nothing(index: Index, node: Node, database: Database) -> None:
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    before = await contents(database)
    assert not await index.step()
    assert await contents(database) == before


async def test_a_block_is_read_only_when_enough_lie_above_it(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    index = index_of(node, database, confirmations=2)
    node.mine(*created("a task", CONSUMERS[0], 5))
    node.mine()
    await index.catch_up()
    async with database.read() as session:
        assert await rows.task(session, digest("a task")) is None
    node.mine()
    await index.catch_up()
    async with database.read() as session:
        assert await rows.task(session, digest("a task")) is not None
        cursor = await rows.cursor(session)
    assert cursor is not None
    assert (cursor.block_number, cursor.head_number) == (1, 3)


# --- reorganisations (cases 72, 73, 82, 83) ---------------------------------------------------


@pytest.mark.parametrize("depth", range(1, 9))
async def test_after_a_reorganisation_the_rows_equal_a_fresh_index(
    depth: int,
    index_of: IndexOf,
    database: Database,
    sqlite_url_of_a_new_database: Callable[[], Iterator[str]],
) -> None:
    for seed in range(4):
        node = Node()
        market = Market(node, seed=100 * depth + seed)
        for _ in range(depth + 6):
            market.mine()
        async with database.transaction() as session:
            await rows.forget_everything(session)
        index = index_of(node, database)
        await index.catch_up()
        for new_blocks in (depth, depth + 2, max(1, depth - 1), depth + 1):
            market.reorganise(min(depth, node.head.number - 1), new_blocks)
            await index.catch_up()
        while node.head.number < depth + 20:
            market.mine()
        await index.catch_up()

        fresh = Database(next(sqlite_url_of_a_new_database()))
        await index_of(node, fresh).catch_up()
        assert await contents(database) == await contents(fresh)
        await check_books(database, market)
        await fresh.close()


async def test_a_reorganisation_restores_what_was_written_long_before(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    index = index_of(node, database, finality_blocks=4)
    node.mine(emit(events.Deposited, account=CONSUMERS[0], payer=CONSUMERS[0], amount=1000))
    for _ in range(20):
        node.mine()
    await index.catch_up()
    node.mine(emit(events.Withdrawn, account=CONSUMERS[0], to=CONSUMERS[0], amount=999))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="another")
    await index.catch_up()
    async with database.read() as session:
        assert (await rows.account(session, CONSUMERS[0])).available == 1000


async def test_a_creation_that_is_reorganised_away_leaves_an_orphan(
    index: Index, node: Node, database: Database
) -> None:
    node.mine()
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="without it")
    await index.catch_up()
    async with database.read() as session:
        task = await rows.task(session, digest("a task"))
        account = await session.get(AccountRow, CONSUMERS[0].lower())
    assert task is not None
    assert task.state == "orphaned"
    assert task.orphaned_at_ms is not None
    assert account is None
    assert await steps_of(database, "a task") == ["funded", "orphaned"]


async def test_an_orphan_that_comes_back_is_open_again(
    index: Index, node: Node, database: Database
) -> None:
    node.mine()
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="without it")
    await index.catch_up()
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    async with database.read() as session:
        task = await rows.task(session, digest("a task"))
    assert task is not None
    assert (task.state, task.created_block) == ("open", 3)
    assert await steps_of(database, "a task") == ["funded", "orphaned", "funded"]

    node.roll_back(1)
    node.mine(salt="gone once more")
    await index.catch_up()
    assert (await steps_of(database, "a task"))[-1] == "orphaned"


async def test_a_task_that_only_moves_to_another_block_tells_nothing(
    index: Index, node: Node, database: Database
) -> None:
    node.mine()
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="one earlier")
    node.mine(*created("a task", CONSUMERS[0], 5))
    # The new branch is read up to the old height first, so the task is gone for a moment there;
    # a branch that already has it within that height tells nothing.
    node.roll_back(1)
    node.roll_back(1)
    node.mine(*created("a task", CONSUMERS[0], 5), salt="same height, another block")
    await index.catch_up()
    async with database.read() as session:
        task = await rows.task(session, digest("a task"))
    assert task is not None
    assert task.state == "open"
    assert await steps_of(database, "a task") == ["funded"]


async def test_a_settlement_that_is_taken_back_is_told(
    index: Index, node: Node, database: Database
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    node.mine(emit(events.TaskRefunded, task_id=digest("a task"), consumer=CONSUMERS[0], amount=5))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="not refunded")
    await index.catch_up()
    async with database.read() as session:
        task = await rows.task(session, digest("a task"))
        account = await rows.account(session, CONSUMERS[0])
    assert task is not None
    assert task.state == "open"
    assert (account.available, account.locked) == (0, 5)
    assert await steps_of(database, "a task") == ["funded", "refunded", "funded"]


@pytest.mark.parametrize("depth", [5, 65, 300])
async def test_a_reorganisation_deeper_than_finality_stops_the_index(
    depth: int, index_of: IndexOf, node: Node, database: Database
) -> None:
    finality = 4 if depth == 5 else 64
    index = index_of(node, database, finality_blocks=finality)
    market = Market(node, seed=depth)
    for _ in range(depth + 10):
        market.mine()
    await index.catch_up()
    before = await contents(database)
    market.reorganise(depth, depth + 1)
    with pytest.raises(ReorgTooDeep):
        await index.step()
    assert await contents(database) == before


async def test_a_reorganisation_as_deep_as_finality_is_followed(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    index = index_of(node, database, finality_blocks=8)
    market = Market(node, seed=8)
    for _ in range(40):
        market.mine()
        await index.catch_up()
    market.reorganise(8, 9)
    await index.catch_up()
    await check_books(database, market)


async def test_a_node_that_lags_behind_takes_nothing_back(
    index: Index, node: Node, database: Database
) -> None:
    market = Market(node, seed=3)
    for _ in range(10):
        market.mine()
    await index.catch_up()
    before = await contents(database)
    blocks = list(node.blocks)
    node.roll_back(3)
    assert not await index.step()
    node.blocks = blocks
    await index.catch_up()
    assert await contents(database) == before


# --- what is ignored, refused, repeated (cases 74, 77, 79, 80) --------------------------------


async def test_a_look_alike_of_another_contract_is_ignored(
    index: Index, node: Node, database: Database
) -> None:
    imitation = [
        emit(event.kind, by=address("an imitator"), **event.values)
        for event in created("a task", CONSUMERS[0], 5)
    ]
    node.mine(*imitation)
    await index.catch_up()
    async with database.read() as session:
        assert await rows.task(session, digest("a task")) is None
        assert (await rows.account(session, CONSUMERS[0])).available == 0
        assert (await session.exec(select(ChainEventRow))).all() == []


async def test_logs_the_node_forgot_are_read_from_the_receipts(
    index: Index, node: Node, database: Database
) -> None:
    node.faults["eth_getLogs"] = lambda _answer, _params: []
    market = Market(node, seed=4)
    for _ in range(12):
        market.mine()
    await index.catch_up()
    await check_books(database, market)


async def test_an_answer_that_cannot_be_trusted_leaves_the_rows_alone(
    index: Index, node: Node, database: Database
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    before = await contents(database)
    node.mine(*created("another", CONSUMERS[1], 5))

    def of_another_branch(answer: Any, _params: Any) -> Any:
        for log in answer:
            log["blockHash"] = digest("another branch")
        return answer

    node.faults["eth_getLogs"] = of_another_branch
    with pytest.raises(ChainError):
        await index.step()
    assert await contents(database) == before


async def test_two_indexes_on_one_database_do_every_block_once(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    market = Market(node, seed=5)
    first, second = index_of(node, database), index_of(node, database)
    for _ in range(10):
        for _ in range(3):
            market.mine()
        await asyncio.gather(first.catch_up(), second.catch_up())
    await check_books(database, market)
    async with database.read() as session:
        places = [
            (row.block_hash, row.log_index) for row in await session.exec(select(ChainEventRow))
        ]
        told = [row.task_id for row in await session.exec(select(TaskEventRow))]
    assert len(places) == len(set(places)) == sum(len(block.logs) for block in node.blocks)
    assert len(told) == sum(
        log["topics"][0] in _TASK_TOPICS for block in node.blocks for log in block.logs
    )


async def test_an_event_that_takes_more_than_there_is_stops_the_index(
    index: Index, node: Node, database: Database
) -> None:
    node.mine(emit(events.Withdrawn, account=CONSUMERS[0], to=CONSUMERS[0], amount=1))
    with pytest.raises(BooksDoNotBalance, match="-1 available"):
        await index.step()
    async with database.read() as session:
        assert (await session.exec(select(BlockRow))).all() != []
        cursor = await rows.cursor(session)
    assert cursor is not None
    assert cursor.block_number == 0


# --- killed at any step (case 78) -------------------------------------------------------------


@pytest.mark.parametrize("act", ["extend", "reorganise"])
async def test_killed_at_any_statement_it_leaves_all_or_nothing(
    act: str, index_of: IndexOf, node: Node, database: Database
) -> None:
    market = Market(node, seed=6)
    for _ in range(8):
        market.mine(most_events=2)
    await index_of(node, database).catch_up()
    if act == "extend":
        market.mine()
        market.mine()
    else:
        market.reorganise(3, 4)
    before = await contents(database)

    killed_at = 0
    while True:
        killed_at += 1
        with _killed_at_statement(killed_at, database) as killed, suppress(_KilledError):
            await index_of(node, database).step()
        if not killed():
            break
        assert await contents(database) == before
    assert killed_at > 8
    await index_of(node, database).catch_up()
    await check_books(database, market)


async def test_a_backfill_restarted_at_random_points_ends_as_one_that_was_not(
    index_of: IndexOf,
    node: Node,
    database: Database,
    sqlite_url_of_a_new_database: Callable[[], Iterator[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case 91."""
    monkeypatch.setattr(follow, "_EVENTS_IN_A_TRANSACTION", 10)
    market = Market(node, seed=91)
    for _ in range(100):
        market.mine()
    chance = random.Random(91)
    done = False
    while not done:
        with _killed_at_statement(chance.randint(1, 60), database) as killed:
            with suppress(_KilledError):
                await index_of(node, database).catch_up()
            done = not killed()
    monkeypatch.undo()
    fresh = Database(next(sqlite_url_of_a_new_database()))
    await index_of(node, fresh).catch_up()
    assert await contents(database) == await contents(fresh)
    await check_books(database, market)
    await fresh.close()


class _KilledError(Exception):
    pass


class _killed_at_statement:  # noqa: N801 - reads as a with statement
    """Raises at the n-th statement of writing transactions."""

    def __init__(self, number: int, database: Database) -> None:
        self._left = number
        self._engine = database.engine.sync_engine

    def __enter__(self) -> Callable[[], bool]:
        sa_event.listen(self._engine, "before_cursor_execute", self._count)
        return lambda: self._left <= 0

    def __exit__(self, *_: object) -> None:
        sa_event.remove(self._engine, "before_cursor_execute", self._count)

    def _count(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("PRAGMA", "BEGIN", "SELECT")):
            return
        self._left -= 1
        if self._left == 0:
            raise _KilledError


_TASK_TOPICS = frozenset(
    topic
    for topic, declared in codec.events("TaskMarket").items()
    if declared.name.startswith("Task")
)
