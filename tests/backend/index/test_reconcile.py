"""The rows against the contracts (case 89): a unit too much is seen, told, and stops what pays
├── agreement: after all kinds of acts, after a reorganisation, on both databases
├── a unit too much or too little in every column that is compared
├── a row of which its contract knows nothing, and what it does not know by right
├── what is no difference: a node that lags, another branch, one false answer
└── what follows: /readyz, the metrics, the dispatcher, the gateway; and the way back
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import structlog

from tallystick.protocol import apps
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.pricing import Price
from tallystick_backend.chain import Chain, HttpRpc, Rpc, RpcInconsistent, RpcRefused
from tallystick_backend.clock import ManualClock
from tallystick_backend.gateway.errors import ChainInDoubt
from tallystick_backend.index.books import Difference
from tallystick_backend.index.follow import Index
from tallystick_backend.index.reconcile import Reconciler, ReconcileSettings
from tallystick_backend.index.start import followed
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import AppPriceRow, AppRow, AppVersionRow
from tests.faults.chain.acts import Acts
from tests.faults.chain.books import COLUMNS, off_by_one
from tests.support.anvil import APP_OWNER, LocalChain, digest_of_word

AT_ONCE = ReconcileSettings(again_s=0)


@pytest.fixture
async def rpc(chain: LocalChain) -> AsyncIterator[HttpRpc]:
    rpc = HttpRpc(chain.url)
    yield rpc
    await rpc.close()


@pytest.fixture
def story(chain: LocalChain, deployment: Deployment) -> Acts:
    acts = Acts(chain, deployment, "reconcile")
    acts.go_on(60)
    return acts


class Bench:
    def __init__(self, database: Database, rpc: Rpc, story: Acts, clock: ManualClock) -> None:
        self.database, self.clock, self.story = database, clock, story
        self.chain = Chain(rpc, followed(story.deployment))
        self.index = Index(database, self.chain, story.deployment, clock)

    def reconciler(self, rpc: Rpc | None = None, **settings: Any) -> Reconciler:
        chain = self.chain if rpc is None else Chain(rpc, followed(self.story.deployment))
        return Reconciler(
            self.database,
            chain,
            self.story.deployment,
            self.clock,
            ReconcileSettings(**{"again_s": 0, **settings}),
        )

    async def doubt(self) -> str | None:
        async with self.database.read() as session:
            return await rows.doubt(session)


@pytest.fixture
async def bench(database: Database, rpc: HttpRpc, story: Acts, clock: ManualClock) -> Bench:
    bench = Bench(database, rpc, story, clock)
    await bench.index.catch_up()
    return bench


async def test_rows_that_follow_the_chain_agree_with_it(bench: Bench) -> None:
    assert await bench.reconciler().look() == ()
    bench.story.reorganise(9)
    bench.story.go_on(10)
    await bench.index.catch_up()
    assert await bench.reconciler().look() == ()
    assert await bench.doubt() is None


async def test_a_unit_in_any_column_is_found(bench: Bench) -> None:
    """Case 89."""
    reconciler = bench.reconciler()
    for table, column in COLUMNS:
        for by in (1, -1):
            undo = await off_by_one(bench.database, table, column, by)
            if undo is None:
                continue
            found = await reconciler.look()
            assert found, f"{by} in {table.__tablename__}.{column} was not found"
            await undo()
            assert await reconciler.look() == (), f"{table.__tablename__}.{column}"


async def test_it_is_told_with_both_values_and_the_next_step(bench: Bench) -> None:
    undo = await off_by_one(bench.database, *COLUMNS[0], 1)
    assert undo is not None
    with structlog.testing.capture_logs() as logs:
        found = await bench.reconciler().look()
    assert found
    [told] = [line for line in logs if line["event"] == "books_differ"]
    assert told["log_level"] == "error"
    assert "reindex" in told["next_step"]
    assert any(
        one.here in line and one.there in line for one in found for line in told["differences"]
    )
    doubt = await bench.doubt()
    assert doubt is not None
    assert "should be" in doubt
    await undo()
    with structlog.testing.capture_logs() as logs:
        assert await bench.reconciler().look() == ()
    assert [line["event"] for line in logs] == ["books_agree_again"]
    assert await bench.doubt() is None


NOBODYS = "0x" + "a9" * 32


def version_row(app_id: str) -> AppVersionRow:
    return AppVersionRow(
        place=f"{app_id}/{1:010d}",
        app_id=app_id,
        version=1,
        image_digest="0x" + "1a" * 32,
        manifest_digest="0x" + "1b" * 32,
        manifest_uri="urn:any",
        published_at_s=1,
    )


def price_row(app_id: str, from_s: int) -> AppPriceRow:
    return AppPriceRow(
        place=f"{app_id}/{1:010d}/{from_s:020d}",
        app_id=app_id,
        version=1,
        from_s=from_s,
        flat=1,
        fee_per_call=1,
        rate_per_gpu_second=1,
    )


@pytest.mark.parametrize("kind", ["version", "price"])
async def test_a_row_that_its_contract_does_not_know_is_found_beside_others(
    bench: Bench, kind: str
) -> None:
    """The contract reverts when it is asked; that is an answer, not a node in trouble."""
    async with bench.database.transaction() as session:
        session.add(version_row(NOBODYS) if kind == "version" else price_row(NOBODYS, 1))
    undo = await off_by_one(bench.database, *COLUMNS[0], 1)
    assert undo is not None
    found = await bench.reconciler().look()
    assert found is not None
    [unknown] = [one for one in found if NOBODYS in one.entity]
    assert (unknown.what, unknown.here) == ("row", "present")
    assert len(found) > 1, "the unit too much beside it was not seen"


async def test_a_price_after_the_retirement_of_its_app_is_no_difference(bench: Bench) -> None:
    story = bench.story
    salt = digest_of_word(77)
    app_id = apps.app_id(story.chain.chain_id, story.registry.address, APP_OWNER.address, salt)
    digests = digest_of_word(1), digest_of_word(2)
    for call in (
        story.registry.publish(salt, *digests, "urn:any", Price(7)),
        story.registry.retire(app_id),
    ):
        story._send(APP_OWNER, call)
    story.seal()
    await bench.index.catch_up()
    async with bench.database.transaction() as session:
        app = await session.get(AppRow, app_id)
        assert app is not None
        assert app.retired_at_s
        session.add(price_row(app_id, app.retired_at_s))
    assert await bench.reconciler().look() == ()
    async with bench.database.transaction() as session:
        session.add(price_row(app_id, app.retired_at_s - 1))
    assert await bench.reconciler().look() != ()


async def test_a_node_that_refuses_to_answer_decides_nothing(bench: Bench, rpc: HttpRpc) -> None:
    class Refuses:
        async def request(self, method: str, params: Sequence[Any]) -> Any:
            if method == "eth_call":
                raise RpcRefused(method, -32601, "no such method")
            return await rpc.request(method, params)

        async def close(self) -> None:
            pass

    with pytest.raises(RpcRefused, match="no such method"):
        await bench.reconciler(Refuses()).look()
    assert await bench.doubt() is None


async def test_the_alarm_stays_while_the_row_is_wrong_whichever_rows_have_their_turn(
    bench: Bench,
) -> None:
    """A row that no sum tells of is looked at each time, once it differed."""
    [provider] = [t for t, c in COLUMNS if c == "gpus_registered"]
    undo = await off_by_one(bench.database, provider, "gpus_registered", 1)
    assert undo is not None
    one_row = bench.reconciler(rows_of_a_kind=1)
    for _ in range(4):
        if await one_row.look():
            break
    for _ in range(4):
        assert await one_row.look()
    await undo()
    assert await one_row.look() == ()


async def test_within_a_minute(bench: Bench) -> None:
    """While the chain moves; and after so many blocks at once."""
    reconciler = bench.reconciler(every_blocks=5, every_s=30)
    assert await reconciler.is_due()
    await reconciler.look()
    assert not await reconciler.is_due()
    bench.clock.advance(seconds=31)
    assert not await reconciler.is_due()  # nothing moved
    bench.story.chain.mine()
    await bench.index.catch_up()
    assert await reconciler.is_due()
    await reconciler.look()
    bench.story.chain.mine(5)
    await bench.index.catch_up()
    assert await reconciler.is_due()


async def test_a_node_behind_or_on_another_branch_decides_nothing(bench: Bench) -> None:
    undo = await off_by_one(bench.database, *COLUMNS[0], 1)
    assert undo is not None
    await undo()
    bench.story.reorganise(3)
    with pytest.raises(RpcInconsistent, match="as it was indexed"):
        await bench.reconciler().look()
    assert await bench.doubt() is None


async def test_one_false_answer_is_no_alarm(bench: Bench, rpc: HttpRpc) -> None:
    class LiesOnce:
        lied = False

        async def request(self, method: str, params: Sequence[Any]) -> Any:
            answer = await rpc.request(method, params)
            if method == "eth_call" and not self.lied:
                self.lied = True
                return "0x" + "00" * ((len(answer) - 2) // 2)
            return answer

        async def close(self) -> None:
            pass

    liar = LiesOnce()
    assert await bench.reconciler(liar).look() == ()
    assert liar.lied


async def test_it_runs_until_it_is_stopped(bench: Bench) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(bench.reconciler(poll_s=0.01).run(stop))
    async with asyncio.timeout(20):
        while True:
            async with bench.database.read() as session:
                if await rows.books(session) is not None:
                    break
            await asyncio.sleep(0.02)
    stop.set()
    await running


def test_a_difference_is_a_sentence() -> None:
    assert str(Difference("account:0x1", "credit", "5", "4")) == (
        "account:0x1 credit is 5 and should be 4"
    )


def test_in_doubt_is_told_to_the_caller() -> None:
    error = ChainInDoubt("the rows differ from the contracts: account:0x1 credit is 5")
    assert "no call is taken" in str(error)
    assert "/readyz" in error.next_step
