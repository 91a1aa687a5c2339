"""The wrong chain is refused before a row is written (case 90)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.types import ZERO_ADDRESS
from tallystick_backend.chain import Chain, ChainError, RpcInconsistent, RpcUnavailable
from tallystick_backend.clock import ManualClock
from tallystick_backend.index.errors import WrongChain
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.project import FOLD
from tallystick_backend.index.start import followed
from tallystick_backend.store.repositories import apps
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tests.backend.index.conftest import IndexOf
from tests.backend.index.node import CONSUMERS, DEPLOYMENT, Market, Node, created, digest, published

Fault = Callable[[Any, Any], Any]


def _no_code_at(address: str) -> Fault:
    return lambda code, params: "0x" if params[0] == address else code


def _every_view_answers(value: str) -> Fault:
    return lambda _answer, _params: value


@pytest.mark.parametrize(
    ("method", "fault", "match"),
    [
        pytest.param("eth_chainId", lambda _a, _p: "0x1", "on chain 1", id="another chain id"),
        pytest.param(
            "eth_getCode", _no_code_at(DEPLOYMENT.escrow), "where escrow should be", id="no escrow"
        ),
        pytest.param(
            "eth_getCode", _no_code_at(DEPLOYMENT.market), "where market should be", id="no market"
        ),
        pytest.param(
            "eth_getCode",
            _no_code_at(DEPLOYMENT.staking),
            "where staking should be",
            id="no staking",
        ),
        pytest.param(
            "eth_call", _every_view_answers("0x"), "it answers None", id="another contract"
        ),
        pytest.param(
            "eth_call",
            _every_view_answers("0x" + "00" * 12 + "11" * 20),
            "should answer",
            id="another neighbour",
        ),
        pytest.param(
            "eth_call",
            lambda answer, params: "0x" if params[0]["to"] == DEPLOYMENT.registry else answer,
            r"noticeSeconds\(\) should answer 5, it answers None",
            id="no registry",
        ),
    ],
)
async def test_the_wrong_chain_is_refused(
    index: Index, node: Node, database: Database, method: str, fault: Fault, match: str
) -> None:
    node.faults[method] = fault
    with pytest.raises(WrongChain, match=match):
        await index.run(asyncio.Event())
    async with database.read() as session:
        assert await rows.cursor(session) is None


@pytest.mark.parametrize("false", [1, 2])
async def test_a_block_to_begin_on_that_is_told_in_two_ways_is_not_believed(
    node: Node, database: Database, clock: ManualClock, false: int
) -> None:
    """Case 77: one false header. Everything that follows would rest on it for good."""
    for _ in range(4):
        node.mine()
    later = replace(DEPLOYMENT, block=3)
    index = Index(database, Chain(node, followed(later)), later, clock)
    asked = 0

    def once(answer: Any, params: Any) -> Any:
        nonlocal asked
        asked += params[0] == "0x2"
        lies = params[0] == "0x2" and asked == false
        return answer | {"hash": "0x" + "ab" * 32} if lies else answer

    node.faults["eth_getBlockByNumber"] = once
    with pytest.raises(RpcInconsistent, match="tells of block 2 in two ways"):
        await index.check()
    async with database.read() as session:
        assert await rows.cursor(session) is None
    await index.check()
    async with database.read() as session:
        cursor = await rows.cursor(session)
    assert cursor is not None
    assert cursor.block_hash == node.blocks[2].hash


async def test_a_database_of_another_chain_is_refused(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))
    await index_of(node, database).catch_up()
    other = Node()
    other.blocks.clear()
    other.mine(salt="another genesis")
    other.mine()
    with pytest.raises(WrongChain, match="first block"):
        await index_of(other, database).check()


async def test_a_database_of_another_deployment_is_refused(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))
    await index_of(node, database).catch_up()
    async with database.transaction() as session:
        cursor = await rows.cursor(session)
        assert cursor is not None
        cursor.escrow = "0x" + "11" * 20
    with pytest.raises(WrongChain, match="filled from escrow"):
        await index_of(node, database).check()


async def test_a_database_from_before_apps_were_followed_asks_to_be_read_again(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))
    await index_of(node, database).catch_up()
    async with database.transaction() as session:
        cursor = await rows.cursor(session)
        assert cursor is not None
        cursor.app_registry = None
    with pytest.raises(WrongChain, match="before apps") as refused:
        await index_of(node, database).check()
    assert "tallystick-backend reindex" in refused.value.next_step


@pytest.mark.parametrize("fold", [None, FOLD - 1])
async def test_a_database_of_an_earlier_fold_has_to_read_the_chain_again(
    index_of: IndexOf, node: Node, database: Database, fold: int | None
) -> None:
    await index_of(node, database).catch_up()
    async with database.transaction() as session:
        cursor = await rows.cursor(session)
        assert cursor is not None
        cursor.fold = fold
    with pytest.raises(WrongChain, match="before all was followed") as refused:
        await index_of(node, database).check()
    assert "tallystick-backend reindex" in refused.value.next_step


async def test_a_deployment_without_a_registry_is_followed_without_it(
    node: Node, database: Database, clock: ManualClock
) -> None:
    before_apps = replace(DEPLOYMENT, registry=ZERO_ADDRESS, notice_seconds=0)
    kept = (DEPLOYMENT.escrow, DEPLOYMENT.market, DEPLOYMENT.staking, DEPLOYMENT.court)
    assert followed(before_apps) == kept
    assert followed(replace(before_apps, court=ZERO_ADDRESS)) == kept[:3]
    index = Index(database, Chain(node, followed(before_apps)), before_apps, clock)
    node.mine(*published("an app", "https://an.app"), *created("a task", CONSUMERS[0], 1))
    await index.catch_up()
    async with database.read() as session:
        assert await apps.app(session, digest("an app")) is None
        assert await rows.task(session, digest("a task")) is not None


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - the row is written by other code
            await asyncio.sleep(0.005)


async def test_it_waits_for_a_node_that_is_away_and_then_follows(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    def away(_answer: Any, _params: Any) -> Any:
        if node.asked["eth_chainId"] < 3:
            raise RpcUnavailable("away")
        return _answer

    node.faults["eth_chainId"] = away
    node.mine(*created("a task", CONSUMERS[0], 1))
    stop = asyncio.Event()
    running = asyncio.create_task(index_of(node, database, poll_ms=1).run(stop))

    async def indexed() -> bool:
        async with database.read() as session:
            cursor = await rows.cursor(session)
        return cursor is not None and cursor.block_number == 1

    await until(indexed)
    stop.set()
    await running


async def test_stopped_by_a_deep_reorganisation_it_says_so_and_a_restart_looks_again(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    market = Market(node, seed=1)
    for _ in range(20):
        market.mine()
    await index_of(node, database, finality_blocks=4).catch_up()
    right_branch = list(node.blocks)
    node.roll_back(10)
    for _ in range(12):
        node.mine(salt="a wrong branch")

    async def degraded() -> bool:
        async with database.read() as session:
            cursor = await rows.cursor(session)
        return cursor is not None and cursor.degraded is not None

    stop = asyncio.Event()
    running = asyncio.create_task(index_of(node, database, finality_blocks=4, poll_ms=1).run(stop))
    await until(degraded)
    stop.set()
    await running

    node.blocks = right_branch
    node.mine()
    await index_of(node, database, finality_blocks=4).catch_up()
    assert not await degraded()


async def test_a_nudge_ends_the_pause_and_whoever_waits_for_rows_is_told(
    node: Node, database: Database, clock: ManualClock
) -> None:
    nudge, moved, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    chain = Chain(node, followed(DEPLOYMENT))
    an_hour = IndexSettings(poll_ms=3_600_000)
    index = Index(database, chain, DEPLOYMENT, clock, an_hour, nudge, moved)
    node.mine()
    running = asyncio.create_task(index.run(stop))
    async with asyncio.timeout(20):
        await moved.wait()
        moved.clear()
        node.mine(*created("a task", CONSUMERS[0], 1))
        nudge.set()
        await moved.wait()
        stop.set()
        await running
    async with database.read() as session:
        assert await rows.task(session, digest("a task")) is not None


async def test_a_chain_that_is_not_ours_marks_the_rows(
    index_of: IndexOf, node: Node, database: Database
) -> None:
    """Case 90: what was read before is of another chain than what the node tells now."""
    node.mine(*created("a task", CONSUMERS[0], 1))
    await index_of(node, database).catch_up()
    node.faults["eth_chainId"] = lambda _answer, _params: "0x1"
    with pytest.raises(WrongChain):
        await index_of(node, database).run(asyncio.Event())
    async with database.read() as session:
        assert "the node is on chain 1" in (await rows.doubt(session) or "")


async def test_a_node_that_stays_away_is_told(
    index_of: IndexOf, node: Node, database: Database, clock: ManualClock
) -> None:
    """Case 84."""
    index, stop = index_of(node, database, poll_ms=1), asyncio.Event()
    await index.catch_up()

    def away(_answer: Any, _params: Any) -> Any:
        raise RpcUnavailable("away")

    for method in ("eth_chainId", "eth_getBlockByNumber"):
        node.faults[method] = away
    running = asyncio.create_task(index.run(stop))

    async def asked() -> bool:
        return node.asked["eth_chainId"] > 1

    await until(asked)
    assert index.condition == "ok"
    clock.advance(seconds=30)
    assert index.condition == "no answer of the chain's node could be used for 30 s"
    node.faults.clear()

    async def is_back() -> bool:
        return index.condition == "ok"

    await until(is_back)
    stop.set()
    await running


async def test_one_false_answer_about_the_first_block_is_not_built_on(
    index: Index, node: Node, database: Database
) -> None:
    """Case 77, found by the campaign of chain: all that followed looked like a reorganisation."""
    node.mine()
    told: list[str] = []

    def false_once(answer: Any, params: Any) -> Any:
        if int(params[0], 16) == 0 and not told:
            told.append(answer["hash"])
            return answer | {"hash": "0x" + "ab" * 32}
        return answer

    node.faults["eth_getBlockByNumber"] = false_once
    with pytest.raises(ChainError):
        await index.check()
    assert told
    await index.check()
    async with database.read() as session:
        cursor = await rows.cursor(session)
    assert cursor is not None
    assert cursor.block_hash == told[0]
