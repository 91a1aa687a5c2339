"""What is read of channels and apps on a real chain
├── money counts only so many blocks deep; a close counts at once
├── the first deposit of all, also of a channel that was closed and funded again
├── changes are told once, after a reorganisation again
└── an app's history is the registry's, over many ranges of blocks
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tallystick.protocol.channels import ChannelState
from tallystick.protocol.contracts import Escrow, Registry
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import channel_id
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId
from tallystick.protocol.web3 import close, connect
from tallystick_provider.calls import follow
from tallystick_provider.calls.follow import ChainView
from tallystick_provider.errors import AppRefused, SettlementError
from tests.provider.calls.payer import NO_WEB3, open_channel, publish, write_app
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DAY_S,
    PROVIDER,
    LocalChain,
    deposit,
    digest_of_word,
    fund,
    send,
)


@pytest.fixture
async def web3(chain: LocalChain) -> AsyncIterator[Any]:
    made = connect(chain.url)
    yield made
    await close(made)


def view_of(web3: Any, deployment: Deployment, confirmations: int = 0) -> ChainView:
    return ChainView(web3, deployment, PROVIDER.address, confirmations)


async def test_a_deposit_counts_when_it_is_deep_enough(
    chain: LocalChain, deployment: Deployment, web3: Any
) -> None:
    view = view_of(web3, deployment, confirmations=3)
    await view.changes()
    channel = open_channel(chain, deployment, 100)
    assert await view.channel(channel) == ChannelState(0, 0, 0)
    assert channel_id(channel) in (await view.changes()).channels
    chain.mine(3)
    assert await view.channel(channel) == ChannelState(100, 0, 0)
    assert channel_id(channel) in (await view.changes()).channels  # it is ripe now
    assert (await view.changes()).channels == frozenset()
    send(chain, CONSUMER, Escrow(NO_WEB3, deployment.escrow).request_close(channel))
    assert (await view.channel(channel)).close_at > 0
    assert channel_id(channel) in (await view.changes()).channels


async def test_the_first_deposit_of_all(
    chain: LocalChain, deployment: Deployment, web3: Any
) -> None:
    view = view_of(web3, deployment)
    channel = open_channel(chain, deployment, 100)
    first_s = chain.now_s()
    escrow = Escrow(NO_WEB3, deployment.escrow)
    send(chain, CONSUMER, escrow.request_close(channel))
    chain.wait(deployment.close_seconds + 1)
    send(chain, CONSUMER, escrow.close(channel))
    send(chain, CONSUMER, escrow.fund(channel, 50))
    assert (await view.channel(channel)).deposited == 50
    assert await view.funded_at_s(channel) == first_s
    nobody = type(channel)(channel.payer, channel.signer, channel.provider, channel.salt + 1)
    assert await view.funded_at_s(nobody) is None


async def test_changes_are_told_once_and_after_a_reorganisation_again(
    chain: LocalChain, deployment: Deployment, web3: Any
) -> None:
    view = view_of(web3, deployment)
    await view.changes()
    channel = open_channel(chain, deployment, 100)
    assert (await view.changes()).channels == {channel_id(channel)}
    assert (await view.changes()).channels == frozenset()
    chain.reorg(1)
    assert (await view.channel(channel)).deposited == 0
    fund(chain, deployment, CONSUMER, 100)
    deposit(chain, deployment, CONSUMER, 100)
    send(chain, CONSUMER, Escrow(NO_WEB3, deployment.escrow).fund(channel, 100))
    assert (await view.changes()).channels == {channel_id(channel)}


async def test_an_app_over_many_ranges(
    chain: LocalChain,
    deployment: Deployment,
    web3: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "LOG_RANGE_BLOCKS", 2)
    view = view_of(web3, deployment)
    app = publish(chain, deployment, write_app(tmp_path), Price(0, 10, 0))
    assert await view.app(app.app_id) == app
    await view.changes()
    chain.mine(9)
    registry = Registry(NO_WEB3, deployment.registry)
    send(chain, APP_OWNER, registry.set_price(app.app_id, 1, Price(0, 20, 0)))
    assert (await view.changes()).apps == {app.app_id}
    later = await view.app(app.app_id)
    now_s = chain.now_s()
    assert later.price_at(now_s, version=1) == Price(0, 10, 0)
    assert later.price_at(now_s + DAY_S, version=1) == Price(0, 20, 0)


async def test_what_is_not_there(deployment: Deployment, web3: Any, chain: LocalChain) -> None:
    with pytest.raises(AppRefused, match="no app"):
        await view_of(web3, deployment).app(AppId(digest_of_word(3)))


async def test_a_node_that_does_not_answer(deployment: Deployment) -> None:
    web3 = connect("http://127.0.0.1:9")
    try:
        with pytest.raises(SettlementError, match="TALLYSTICK_PROVIDER_RPC_URL"):
            await view_of(web3, deployment).changes()
    finally:
        await close(web3)
