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
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import codec, events
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.errors import QuoteError
from tallystick.protocol.pricing import Price
from tallystick_backend.chain import ChainError, RpcInconsistent
from tallystick_backend.explorer import KINDS, explorer_event
from tallystick_backend.index import follow
from tallystick_backend.index.errors import BooksDoNotBalance, ReorgTooDeep
from tallystick_backend.index.follow import Index
from tallystick_backend.store.repositories import apps, explorer
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.repositories import events as steps
from tallystick_backend.store.repositories.explorer import EventFilter
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    BlockRow,
    ChainEventRow,
    ChannelRow,
    OperatorKeyRow,
    ProviderRow,
    TaskChainRow,
    TaskEventRow,
)
from tests.backend.index.conftest import IndexOf
from tests.backend.index.node import (
    CONSUMERS,
    PROVIDERS,
    SIGNER,
    Emitted,
    Market,
    Node,
    address,
    created,
    digest,
    emit,
    published,
)

FOLDED: tuple[type[SQLModel], ...] = (
    TaskChainRow,
    AccountRow,
    ProviderRow,
    OperatorKeyRow,
    ChannelRow,
    AppRow,
    AppVersionRow,
    AppPriceRow,
    AppDiscountRow,
)


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
        await check_channels(session, market)
        await check_apps(session, market)


async def check_channels(session: AsyncSession, market: Market) -> None:
    there = {row.channel_id: row for row in await session.exec(select(ChannelRow))}
    books = {
        channel_id: book for channel_id, book in market.books.channels.items() if book.deposited
    }
    assert there.keys() >= books.keys()
    for channel_id, row in there.items():
        book = market.books.channels[channel_id]
        assert (row.payer, row.signer) == (book.payer.lower(), SIGNER.lower())
        assert (row.provider, row.salt) == (book.provider.lower(), book.salt)
        assert (row.deposited, row.claimed) == (book.deposited, book.claimed)
        assert (row.close_at_s or 0) == book.close_at
        last = digest(f"receipt at {book.claimed}") if book.claimed else None
        assert row.receipt_digest == last


async def check_apps(session: AsyncSession, market: Market) -> None:
    """The rows as a history, and the price of a moment as it is looked up, tell the prices of the
    registry's own books."""
    there = {row.app_id: row for row in await session.exec(select(AppRow))}
    assert there.keys() == market.books.apps.keys()
    for app_id, book in market.books.apps.items():
        row = there[app_id]
        assert (row.publisher, row.versions) == (book.publisher.lower(), len(book.prices))
        assert (row.retired_at_s or 0, row.permanent) == (book.retired_at, book.permanent)
        history = await _history(session, row)
        for version in range(1, len(book.prices) + 1):
            moments = sorted(book.moments())
            for time_s in moments:
                told = _price_or_none(history, version, time_s)
                assert told == book.price_at(version, time_s)
            for time_s in market.random.sample(moments, min(3, len(moments))):
                told = book.price_at(version, time_s)
                moments_ = await apps.moments(session, [row], {app_id: version}, time_s)
                moment = moments_.get(app_id)
                found = None if moment is None else _price_or_none(moment.history, 1, time_s)
                assert found == told


async def _history(session: AsyncSession, row: AppRow) -> AppHistory:
    """Everything there is of an app."""
    prices = await apps.prices(session, row.app_id, limit=1000)
    versions = [
        apps.version_history(known, [p for p in prices if p.version == known.version])
        for known in await apps.versions(session, row.app_id, limit=1000)
    ]
    return apps.app_history(row, versions, await apps.discounts(session, row.app_id, limit=1000))


def _price_or_none(history: AppHistory, version: int, time_s: int) -> Price | None:
    try:
        return history.price_at(time_s, version=version)
    except QuoteError:
        return None


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


async def test_the_courts_own_events_are_told_with_whom_they_are_about(
    index: Index, node: Node, database: Database
) -> None:
    node.mine(
        emit(
            events.DisputeConcluded,
            task_id=digest("a task"),
            provider=PROVIDERS[0],
            verdict=2,
            checkers=(CONSUMERS[0], CONSUMERS[1]),
            slashed=100,
        ),
        emit(events.SeatTaken, provider=PROVIDERS[1], listable_at=9),
    )
    await index.catch_up()
    async with database.read() as session:
        told = await explorer.newest_events(session, EventFilter(names=KINDS["dispute"]), 10)
        of_provider = await explorer.newest_events(session, EventFilter(address=PROVIDERS[0]), 10)
    assert [row.name for row in told] == ["SeatTaken", "DisputeConcluded"]
    shown = explorer_event(told[1])
    assert (shown.kind, shown.amount, shown.token) == ("dispute", 100, "stake")
    assert shown.task_id == digest("a task")
    assert shown.contract == "DisputeCourt"
    assert [row.name for row in of_provider] == ["DisputeConcluded"]


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


# --- apps and channels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        pytest.param(b"\xff\xfe half \xc3", "\ufffd\ufffd half \ufffd", id="no UTF-8"),
        pytest.param(b"a\x00b", "a\ufffdb", id="NUL"),
        pytest.param(b"\xed\xa0\x80", "\ufffd" * 3, id="a lone surrogate"),
        pytest.param("\u202e\U0001f9fe".encode(), "\u202e\U0001f9fe", id="any other text"),
        pytest.param(b"x" * 512, "x" * 512, id="the longest"),
    ],
)
async def test_no_text_of_a_publisher_stops_the_index(
    told: bytes, kept: str, index: Index, node: Node, database: Database
) -> None:
    block = node.mine(*published("an app", "@" * len(told)))
    version = block.logs[1]
    assert version["data"].count((b"@" * len(told)).hex()) == 1
    version["data"] = version["data"].replace((b"@" * len(told)).hex(), told.hex())
    node.mine(*created("a task", CONSUMERS[0], 5))
    await index.catch_up()
    async with database.read() as session:
        app = await apps.app(session, digest("an app"))
        [only] = await apps.versions(session, digest("an app"), limit=2)
        assert await rows.task(session, digest("a task")) is not None
    assert app is not None
    assert app.manifest_uri == only.manifest_uri == kept
    # Taken back and read again: the image before it is text of the same stranger's.
    node.mine(emit(events.AppRetired, app_id=digest("an app"), retired_at=2**64 - 1))
    await index.catch_up()
    node.roll_back(1)
    node.mine(salt="not retired")
    await index.catch_up()
    async with database.read() as session:
        again = await apps.app(session, digest("an app"))
    assert again is not None
    assert (again.manifest_uri, again.retired_at_s) == (kept, None)


async def test_an_app_that_is_reorganised_away_is_gone_with_all_it_announced(
    index: Index, node: Node, database: Database
) -> None:
    node.mine()
    before = await _apps_in(index, database)
    node.mine(*published("an app", "https://an.app"))
    app_id = digest("an app")
    node.mine(
        emit(
            events.PriceAnnounced,
            app_id=app_id,
            version=1,
            price=Price(9, 9, 9),
            takes_effect_at=2**64 - 1,
        ),
        emit(events.DiscountAnnounced, app_id=app_id, bps=100, start=2**63, end=2**64 - 1),
    )
    assert await _apps_in(index, database) == [1, 1, 2, 1]
    node.roll_back(2)
    node.mine(salt="without it")
    node.mine(salt="nor here")
    assert await _apps_in(index, database) == before == [0, 0, 0, 0]


async def _apps_in(index: Index, database: Database) -> list[int]:
    await index.catch_up()
    async with database.read() as session:
        return [
            len((await session.exec(select(table))).all())
            for table in (AppRow, AppVersionRow, AppPriceRow, AppDiscountRow)
        ]


async def test_a_look_alike_of_the_registry_is_ignored(
    index: Index, node: Node, database: Database
) -> None:
    imitator = address("an imitator")
    node.mine(
        *(emit(e.kind, by=imitator, **e.values) for e in published("an app", "https://an.app"))
    )
    assert await _apps_in(index, database) == [0, 0, 0, 0]


async def test_a_channel_keeps_its_last_receipt_when_a_redemption_is_taken_back(
    index: Index, node: Node, database: Database
) -> None:
    names = {"channel_id": digest("a channel"), "payer": CONSUMERS[0], "provider": PROVIDERS[0]}
    node.mine(
        emit(
            events.ChannelDeposited,
            **names,
            signer=SIGNER,
            salt=2**96 - 1,
            source=CONSUMERS[1],
            amount=2**128 - 1,
            deposited=2**128 - 1,
        )
    )
    node.mine(_redeemed(names, 10, "first"), emit(events.CloseRequested, **names, close_at=7))
    await index.catch_up()
    node.mine(_redeemed(names, 30, "second"), emit(events.CloseCancelled, **names))
    assert await _channel_of(index, database) == (30, digest("second"), None)
    node.roll_back(1)
    node.mine(salt="not redeemed")
    assert await _channel_of(index, database) == (10, digest("first"), 7)


def _redeemed(names: dict[str, Any], claimed: int, receipt: str) -> Emitted:
    return emit(events.VoucherRedeemed, **names, amount=1, claimed=claimed, receipt=digest(receipt))


async def _channel_of(index: Index, database: Database) -> tuple[int, str | None, int | None]:
    await index.catch_up()
    async with database.read() as session:
        row = await apps.channel(session, digest("a channel"))
    assert row is not None
    assert (row.salt, row.deposited) == (2**96 - 1, 2**128 - 1)
    return row.claimed, row.receipt_digest, row.close_at_s


_TASK_TOPICS = frozenset(
    topic
    for topic, declared in codec.events("TaskMarket").items()
    if declared.name.startswith("Task")
)


async def test_a_node_far_behind_stops_nothing(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    """Case 84: below the blocks that are kept nothing tells a lagging node from another branch; it
    is waited for."""
    index = index_of(node, database, finality_blocks=8)
    market = Market(node, seed=5)
    for _ in range(30):
        market.mine()
    await index.catch_up()
    before = await contents(database)
    blocks = list(node.blocks)
    node.roll_back(25)
    with pytest.raises(RpcInconsistent, match="told of 30 before"):
        await index.step()
    assert await contents(database) == before
    node.blocks = blocks
    market.mine()
    await index.catch_up()
    await check_books(database, market)


async def test_a_block_that_the_node_does_not_know_is_no_reorganisation(
    index: Index, node: Node, database: Database
) -> None:
    """Case 77: null for every block but the newest, as a node says that is still reading."""
    market = Market(node, seed=6)
    for _ in range(10):
        market.mine()
    await index.catch_up()
    before = await contents(database)
    market.mine()
    node.faults["eth_getBlockByNumber"] = lambda a, p: a if p[0] == "latest" else None
    with pytest.raises(RpcInconsistent, match="is gone although the head is above"):
        await index.step()
    del node.faults["eth_getBlockByNumber"]
    assert await contents(database) == before
    await index.catch_up()
    await check_books(database, market)


async def test_one_question_more_for_a_branch_twice_as_long(
    index: Index, node: Node, database: Database
) -> None:
    """Case 72: the block where the branches part is looked for by halves."""
    market = Market(node, seed=7)
    for _ in range(70):
        market.mine()
    await index.catch_up()
    market.reorganise(60, 1)
    node.asked.clear()
    await index.step()
    assert node.asked["eth_getBlockByNumber"] < 20
    await index.catch_up()
    await check_books(database, market)
