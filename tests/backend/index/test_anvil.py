"""The real contracts on a real chain that reorganises: rows equal a fresh index, and what the
contracts themselves answer (cases 72, 83)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tallystick.protocol import messages
from tallystick.protocol.contracts import (
    Escrow,
    Market,
    Registry,
    Staking,
    TaskStatus,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import Channel
from tallystick.protocol.types import ZERO_ADDRESS, TaskId
from tallystick_backend.chain import Chain, HttpRpc
from tallystick_backend.clock import ManualClock
from tallystick_backend.index.errors import ReorgTooDeep
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.start import followed
from tallystick_backend.store.repositories import apps as index_apps
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tests.backend.index.test_follow import contents
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    STRANGER,
    LocalChain,
)
from tests.support.story import Story


@pytest.fixture
async def rpc(chain: LocalChain) -> AsyncIterator[HttpRpc]:
    rpc = HttpRpc(chain.url)
    yield rpc
    await rpc.close()


@pytest.fixture
def index_into(
    rpc: HttpRpc, deployment: Deployment, clock: ManualClock
) -> Callable[[Database], Index]:
    def make(database: Database, **settings: int) -> Index:
        chain = Chain(rpc, followed(deployment))
        return Index(database, chain, deployment, clock, IndexSettings(**settings))

    return make


async def check_against_the_contracts(database: Database, rpc: HttpRpc, story: Story) -> None:
    escrow = Escrow(rpc.web3, story.deployment.escrow)
    staking = Staking(rpc.web3, story.deployment.staking)
    market = Market(rpc.web3, story.deployment.market)
    registry = Registry(rpc.web3, story.deployment.registry)
    async with database.read() as session:
        for person in (CONSUMER, PROVIDER, DISPATCHER, APP_OWNER, STRANGER):
            row = await rows.account(session, person.address)
            account = await escrow.account(person.address)
            payee = await escrow.payee(person.address)
            assert (row.available, row.locked) == (account.available, account.locked)
            assert row.credit == payee.credit
        provider = await rows.provider(session, PROVIDER.address)
        assert provider is not None
        on_chain = await staking.stake_of(PROVIDER.address)
        assert (provider.stake, provider.unbonding) == (on_chain.bonded, on_chain.unbonding)
        assert provider.gpus_registered == await staking.gpus_of(PROVIDER.address)
        assert await rows.key_signs_for(session, OPERATOR.address, PROVIDER.address)
        for salt in (0, 1):
            channel = Channel(CONSUMER.address, CONSUMER.address, PROVIDER.address, salt)
            held = await escrow.channel(channel)
            found = await index_apps.channel(session, messages.channel_id(channel))
            if found is None:
                assert (held.deposited, held.claimed, held.close_at) == (0, 0, 0)
                continue
            assert (found.deposited, found.claimed) == (held.deposited, held.claimed)
            assert (found.close_at_s or 0) == held.close_at
        for app_id in story.apps:
            on_registry = await registry.app(app_id)
            app = await index_apps.app(session, app_id)
            if app is None:
                assert on_registry.publisher == ZERO_ADDRESS
                continue
            assert app.publisher == on_registry.publisher.lower()
            assert (app.versions, app.permanent) == (on_registry.versions, on_registry.permanent)
            assert (app.retired_at_s or 0) == on_registry.retired_at
        for terms in story.terms:
            task_id = TaskId(messages.task_id(story.deployment.domain, terms))
            state = await market.task(task_id)
            used = await market.nonce_used(CONSUMER.address, terms.nonce)
            task = await rows.task(session, task_id)
            said = None if task is None or task.state == "orphaned" else task.state
            match state.status:
                case TaskStatus.OPEN:
                    assert said == "open"
                    assert task is not None
                    assert (task.cancelled_at_s or 0) == state.time_s
                case TaskStatus.PROVEN:
                    assert said == "proven"
                    assert task is not None
                    assert task.unlock_s == state.time_s
                case TaskStatus.NONE:
                    assert said in (("settled", "refunded") if used else (None,))


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("seed", [1, 2])
async def test_after_a_reorganisation_the_rows_equal_a_fresh_index_and_the_contracts(
    depth: int,
    seed: int,
    chain: LocalChain,
    deployment: Deployment,
    rpc: HttpRpc,
    database: Database,
    index_into: Callable[[Database], Index],
    sqlite_url_of_a_new_database: Callable[[], Iterator[str]],
) -> None:
    story = Story(chain, deployment, 10 * depth + seed)
    story.go_on(14)
    index = index_into(database)
    await index.catch_up()
    await check_against_the_contracts(database, rpc, story)

    if seed % 2:
        # As many blocks, empty ones, on another branch.
        chain.reorg(depth)
    else:
        # Blocks are gone; the chain grows past them by other acts.
        head = chain.head()
        chain.rpc("anvil_rollback", depth)
        await index.catch_up()
        while chain.head() <= head:
            story.go_on(1)
            chain.mine()
    await index.catch_up()
    story.go_on(8)
    await index.catch_up()
    await check_against_the_contracts(database, rpc, story)

    fresh = Database(next(sqlite_url_of_a_new_database()))
    await index_into(fresh).catch_up()
    assert await contents(database) == await contents(fresh)
    await fresh.close()


async def test_deeper_than_finality_it_stops(
    chain: LocalChain,
    deployment: Deployment,
    database: Database,
    index_into: Callable[..., Index],
) -> None:
    story = Story(chain, deployment, 7)
    story.go_on(3)
    # Empty blocks are mined again as they were: what tells the two chains apart lies deep enough.
    chain.mine(10)
    story.go_on(1)
    chain.mine(67)
    await index_into(database).catch_up()
    before = await contents(database)
    chain.reorg(70)
    with pytest.raises(ReorgTooDeep):
        await index_into(database).step()
    assert await contents(database) == before
