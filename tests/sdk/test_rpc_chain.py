"""The chain through a real node: the contracts as deployed, on anvil.

connect
├── refuses a backend that names other contracts, another chain, or nothing that answers
deposit
├── with a permit in one transaction, with an approval where the token has none
create, cancel, reclaim
└── balances follow, refusals are sentences
app_at, channel_state, bound_key, close_channel, revoke_allowance
├── the registry's price of a second, from a deployment that the caller named
├── a channel's way to its end
answers_for, serves_with
└── a bound key, a retired one, a stranger's, one without stake
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from tallystick import ChainError, ConfigurationError, VerificationFailed
from tallystick.protocol.apps import app_id
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.contracts import Escrow, KeyState, Registry, Staking
from tallystick.protocol.deployments import Deployment, to_json
from tallystick.protocol.messages import Channel, TaskTerms
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId, Digest
from tallystick.protocol.wire import DeploymentBody
from tallystick.rpc_chain import RpcChain, connect_chain
from tallystick.wallet import Wallet
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    STRANGER,
    TOKEN,
    LocalChain,
    bind_key,
    digest_of_word,
    fund,
    send,
    stake,
)


@pytest.fixture
def said(deployment: Deployment) -> DeploymentBody:
    """What a backend of this deployment says of it."""
    return DeploymentBody(
        chain_id=deployment.chain_id,
        token=deployment.token,
        token_symbol="TALLY",
        token_decimals=18,
        escrow=deployment.escrow,
        market=deployment.market,
        staking=deployment.staking,
        dispatcher=DISPATCHER.address,
        dispatcher_bps=500,
        stake_unit=deployment.stake_unit,
        challenge_window_seconds=86_400,
    )


@pytest.fixture
async def rpc(
    chain: LocalChain, deployment: Deployment, said: DeploymentBody
) -> AsyncIterator[RpcChain]:
    fund(chain, deployment, CONSUMER, 100 * TOKEN)
    connected = await connect_chain(chain.url, said)
    yield connected
    await connected.close()


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(CONSUMER.key)


def terms(chain: LocalChain, **changes: Any) -> TaskTerms:
    now_s = chain.now_s()
    standard = TaskTerms(
        consumer=CONSUMER.address,
        signer=ZERO_ADDRESS,
        dispatcher=DISPATCHER.address,
        royalty_to=ZERO_ADDRESS,
        spec=Digest("0x" + "11" * 32),
        gpus=1,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=10**15,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=3 * TOKEN,
        max_seconds=3000,
        deadline=now_s + 100_000,
        challenge_window=86_400,
        verification=0,
        nonce=7,
    )
    return replace(standard, **changes)


async def test_deposit_is_one_transaction_with_a_permit(rpc: RpcChain, wallet: Wallet) -> None:
    sent = await rpc.deposit(wallet, 40 * TOKEN)
    assert sent.gas_used > 21_000
    held = await rpc.account(wallet.address)
    assert (held.wallet_units, held.available_units) == (60 * TOKEN, 40 * TOKEN)
    assert (held.locked_units, held.credit_units) == (0, 0)


async def test_deposit_approves_where_the_token_has_no_permit(
    rpc: RpcChain, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(wallet: Wallet, units: int) -> None:
        return None

    monkeypatch.setattr(rpc, "_permit", none)
    await rpc.deposit(wallet, 5 * TOKEN)
    assert (await rpc.account(wallet.address)).available_units == 5 * TOKEN


async def test_withdraw_to_another(rpc: RpcChain, wallet: Wallet) -> None:
    await rpc.deposit(wallet, 5 * TOKEN)
    await rpc.withdraw(wallet, 2 * TOKEN, STRANGER.address)
    assert (await rpc.account(wallet.address)).available_units == 3 * TOKEN
    assert (await rpc.account(STRANGER.address)).wallet_units == 2 * TOKEN


async def test_a_task_is_locked_cancelled_and_reclaimed(
    rpc: RpcChain, wallet: Wallet, chain: LocalChain
) -> None:
    await rpc.deposit(wallet, 5 * TOKEN)
    order = terms(chain)
    await rpc.create_task(wallet, order)
    assert (await rpc.account(wallet.address)).locked_units == 3 * TOKEN
    await rpc.cancel_task(wallet, order)
    with pytest.raises(ChainError, match=r"refused: the task runs until"):
        await rpc.reclaim(wallet, order)
    chain.wait(2 * 3600)
    await rpc.reclaim(wallet, order)
    assert (await rpc.account(wallet.address)).available_units == 5 * TOKEN


async def test_refusals_of_the_contracts_are_sentences(
    rpc: RpcChain, wallet: Wallet, chain: LocalChain
) -> None:
    with pytest.raises(ChainError, match="needs 3000000000000000000 available and has 0") as caught:
        await rpc.create_task(wallet, terms(chain))
    assert caught.value.values["error"] == "InsufficientAvailable"
    await rpc.deposit(wallet, 10 * TOKEN)
    await rpc.create_task(wallet, terms(chain))
    with pytest.raises(ChainError, match="has used the nonce 7"):
        await rpc.create_task(wallet, terms(chain))
    with pytest.raises(ChainError, match=r"the signature is of|only the consumer|should be signed"):
        await rpc.create_task(Wallet(STRANGER.key), terms(chain, nonce=8))


async def test_a_wallet_without_gas_is_told_so(
    rpc: RpcChain, chain: LocalChain, deployment: Deployment
) -> None:
    poor = Wallet("0x" + "42" * 32)
    with pytest.raises(ChainError) as caught:
        await rpc.deposit(poor, 1)
    assert caught.value.next_step


async def test_answers_for_and_serves_with(
    rpc: RpcChain, chain: LocalChain, deployment: Deployment
) -> None:
    """A retired key still answers for its receipts, and serves nobody any more."""

    async def said() -> tuple[bool, bool]:
        pair = OPERATOR.address, PROVIDER.address
        return await rpc.answers_for(*pair), await rpc.serves_with(*pair)

    stake(chain, deployment, PROVIDER)
    assert await said() == (False, False)
    bind_key(chain, deployment, PROVIDER, OPERATOR)
    assert await said() == (True, True)
    assert await rpc.serves_with(PROVIDER.address, PROVIDER.address)
    assert not await rpc.answers_for(OPERATOR.address, STRANGER.address)
    assert not await rpc.serves_with(OPERATOR.address, STRANGER.address)
    nobody: Any = None
    send(chain, PROVIDER, Staking(nobody, deployment.staking).retire_operator_key(OPERATOR.address))
    assert await said() == (True, False)
    chain.wait(8 * 86_400)
    assert await said() == (False, False)


async def test_who_has_no_stake_serves_with_no_key(rpc: RpcChain) -> None:
    """Anybody can make up an address and sign with its key."""
    assert not await rpc.serves_with(STRANGER.address, STRANGER.address)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain_id", 1),
        ("token", "0x" + "12" * 20),
        ("market", "0x" + "12" * 20),
        ("staking", "0x" + "12" * 20),
    ],
)
async def test_contracts_that_are_not_wired_so_are_refused(
    chain: LocalChain, said: DeploymentBody, field: str, value: object
) -> None:
    with pytest.raises((VerificationFailed, ChainError)) as caught:
        await connect_chain(chain.url, said.model_copy(update={field: value}))
    assert caught.value.next_step


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:1/rpc"])
async def test_an_endpoint_that_does_not_answer_is_named(said: DeploymentBody, url: str) -> None:
    with pytest.raises(ChainError, match="does not answer"):
        await connect_chain(url, said)


async def test_an_escrow_that_is_no_contract_is_refused(
    chain: LocalChain, said: DeploymentBody
) -> None:
    with pytest.raises((ChainError, VerificationFailed)):
        await connect_chain(chain.url, said.model_copy(update={"escrow": "0x" + "99" * 20}))


class TestAppsAndChannels:
    @pytest.fixture
    async def knowing(
        self, chain: LocalChain, deployment: Deployment, said: DeploymentBody, tmp_path: Path
    ) -> AsyncIterator[RpcChain]:
        """With the deployment's file."""
        file = tmp_path / "deployment.json"
        file.write_text(json.dumps(to_json(deployment)))
        fund(chain, deployment, CONSUMER, 100 * TOKEN)
        connected = await connect_chain(chain.url, said, str(file))
        yield connected
        await connected.close()

    async def test_an_app_has_the_registrys_price_of_a_second(
        self, chain: LocalChain, deployment: Deployment, knowing: RpcChain
    ) -> None:
        registry = Registry(AsyncMock(), deployment.registry)
        salt, manifest = digest_of_word(5), digest_of_word(6)
        price = Price(100, 10, 7)
        call = registry.publish(salt, salt, manifest, "ipfs://m", price, ZERO_ADDRESS, 0)
        send(chain, APP_OWNER, call)
        born_s = chain.now_s()
        app = app_id(deployment.chain_id, deployment.registry, APP_OWNER.address, salt)
        found = await knowing.app_at(app, 1, born_s)
        assert found.price_for(born_s * 1000, version=1) == price
        assert found.versions[0].manifest_digest == manifest
        assert found.publisher == APP_OWNER.address
        assert (await knowing.app_at(app, 1, born_s - 1)).versions == ()
        assert (await knowing.app_at(app, 2, born_s)).versions == ()
        assert (await knowing.app_at(AppId(digest_of_word(9)), 1, born_s)).versions == ()

    async def test_which_registry_it_is_the_backend_cannot_say(
        self, rpc: RpcChain, said: DeploymentBody
    ) -> None:
        with pytest.raises(ConfigurationError, match="registry is not known"):
            await rpc.app_at(AppId(digest_of_word(9)), 1, 0)

    async def test_a_channel_is_closed_and_an_allowance_revoked(
        self, chain: LocalChain, deployment: Deployment, rpc: RpcChain, wallet: Wallet
    ) -> None:
        await rpc.deposit(wallet, 5 * TOKEN)
        channel = Channel(CONSUMER.address, STRANGER.address, PROVIDER.address, 3)
        escrow = Escrow(AsyncMock(), deployment.escrow)
        send(chain, CONSUMER, escrow.fund(channel, TOKEN))
        assert await rpc.channel_state(channel) == ChannelState(TOKEN, 0, 0)
        await rpc.request_close(wallet, channel)
        close_at = (await rpc.channel_state(channel)).close_at
        assert close_at > chain.now_s()
        with pytest.raises(ChainError):
            await rpc.close_channel(wallet, channel)
        chain.wait(close_at - chain.now_s())
        await rpc.close_channel(wallet, channel)
        assert (await rpc.channel_state(channel)).unclaimed == 0
        assert (await rpc.revoke_allowance(wallet, digest_of_word(4))).gas_used > 21_000

    async def test_a_key_is_known_by_its_provider(
        self, chain: LocalChain, deployment: Deployment, rpc: RpcChain
    ) -> None:
        assert (await rpc.bound_key(OPERATOR.address)).provider == ZERO_ADDRESS
        stake(chain, deployment, PROVIDER, gpu_ids=("GPU-1",))
        bind_key(chain, deployment, PROVIDER, OPERATOR)
        assert await rpc.bound_key(OPERATOR.address) == KeyState(PROVIDER.address, 0)
