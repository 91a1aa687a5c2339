"""funding, on a real chain
├── a channel is opened and topped up out of the payer's account, with gas lent by the dispatcher
├── less is moved than wanted where the account or the allowance ends, and nothing below the least
├── revoked, expired, for another purpose, spent: each told with what to do
└── gas is lent up to the bound, once
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from web3 import AsyncWeb3

from tallystick.protocol import messages
from tallystick.protocol.contracts import Escrow
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import Channel, ChannelAllowance
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tallystick.protocol.web3 import close, connect
from tallystick_backend.access import Seals
from tallystick_backend.clock import ManualClock
from tallystick_backend.gateway.errors import NoAllowance, PausedFunds
from tallystick_backend.gateway.funding import ChainFunds
from tallystick_backend.gateway.keys import SessionKey, SessionKeys
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import ChannelAllowanceRow
from tests.support.anvil import (
    CONSUMER,
    DISPATCHER,
    PROVIDER,
    TOKEN,
    LocalChain,
    deposit,
    digest_of_word,
    fund,
    send,
)

APP = digest_of_word(7)


@dataclass
class Till:
    database: Database
    chain: LocalChain
    deployment: Deployment
    web3: AsyncWeb3[Any]
    clock: ManualClock
    key: SessionKey
    funds: ChainFunds
    channel: Channel

    async def fund(self, least: int, wanted: int) -> int:
        return await self.funds.fund(self.key, self.channel, APP, least, wanted)

    async def deposited(self) -> int:
        return (await Escrow(self.web3, self.deployment.escrow).channel(self.channel)).deposited

    async def allow(self, cap: int, **changes: Any) -> ChannelAllowance:
        fields: dict[str, Any] = {
            "payer": CONSUMER.address,
            "signer": self.key.signer,
            "cap": cap,
            "expires_at": self.chain.now_s() + 86_400,
            "purpose": ZERO_DIGEST,
            "nonce": 1,
        }
        allowance = ChannelAllowance(**(fields | changes))
        row = ChannelAllowanceRow(
            digest=messages.digest(self.deployment.domain, allowance),
            payer=allowance.payer.lower(),
            signer=allowance.signer.lower(),
            cap=allowance.cap,
            expires_at_s=allowance.expires_at,
            purpose=allowance.purpose,
            nonce=allowance.nonce,
            signature=messages.sign(self.deployment.domain, allowance, CONSUMER.key),
            created_at_ms=self.clock.now_ms(),
        )
        async with self.database.transaction() as session:
            await calls.add_allowance(session, row)
        return allowance


@pytest.fixture
async def till(
    database: Database, chain: LocalChain, deployment: Deployment
) -> AsyncIterator[Till]:
    fund(chain, deployment, CONSUMER, 100 * TOKEN)
    deposit(chain, deployment, CONSUMER, 50)
    clock = ManualClock(chain.now_s() * 1000)
    web3 = connect(chain.url)
    keys = SessionKeys(database, Seals(b"s" * 32), deployment.domain, clock)
    key = await keys.of(CONSUMER.address)
    funds = ChainFunds(database, web3, deployment, DISPATCHER.key, clock, GatewaySettings())
    channel = Channel(CONSUMER.address, key.signer, PROVIDER.address, 5)
    yield Till(database, chain, deployment, web3, clock, key, funds, channel)
    await close(web3)


async def test_a_channel_is_opened_and_topped_up(till: Till) -> None:
    await till.allow(40)
    assert await till.fund(10, 20) == 20
    assert await till.deposited() == 20
    # What is left of the allowance, then of nothing.
    assert await till.fund(10, 100) == 20
    assert await till.deposited() == 40
    (left,) = await till.funds.allowances(CONSUMER.address)
    assert (left.spent, left.left) == (40, 0)
    with pytest.raises(NoAllowance):
        await till.fund(1, 1)


async def test_the_account_s_end_is_told(till: Till) -> None:
    await till.allow(1000)
    assert await till.fund(10, 1000) == 50
    with pytest.raises(PausedFunds, match="0 available") as told:
        await till.fund(10, 1000)
    assert "Deposit 10" in told.value.next_step


async def test_the_allowance_s_end_is_told(till: Till) -> None:
    await till.allow(5)
    with pytest.raises(PausedFunds, match="5 left") as told:
        await till.fund(10, 20)
    assert "larger cap" in told.value.next_step


async def test_a_revoked_allowance_is_none(till: Till) -> None:
    allowance = await till.allow(40)
    digest = messages.digest(till.deployment.domain, allowance)
    escrow = Escrow(till.web3, till.deployment.escrow)
    send(till.chain, CONSUMER, escrow.revoke_allowance(Digest(digest)))
    with pytest.raises(NoAllowance):
        await till.fund(1, 1)


async def test_an_expired_allowance_is_none(till: Till) -> None:
    await till.allow(40, expires_at=till.chain.now_s() - 1)
    with pytest.raises(NoAllowance):
        await till.fund(1, 1)


async def test_an_allowance_for_another_app_is_none(till: Till) -> None:
    await till.allow(40, purpose=digest_of_word(8))
    with pytest.raises(NoAllowance):
        await till.fund(1, 1)
    await till.allow(40, purpose=APP, nonce=2)
    assert await till.fund(1, 1) == 1


async def test_gas_is_lent_once_and_up_to_the_bound(till: Till) -> None:
    await till.allow(40)
    await till.fund(1, 1)
    async with till.database.read() as session:
        row = await calls.session_key(session, till.key.signer)
    assert row is not None
    lent_wei = row.gas_wei
    assert 0 < lent_wei <= GatewaySettings().session_gas_wei
    await till.fund(1, 1)
    async with till.database.read() as session:
        row = await calls.session_key(session, till.key.signer)
    assert row is not None
    assert row.gas_wei == lent_wei
    till.chain.rpc("anvil_setBalance", till.key.signer, "0x0")
    till.funds._settings = replace(GatewaySettings(), session_gas_wei=lent_wei)
    with pytest.raises(PausedFunds, match="wei for gas"):
        await till.fund(1, 1)
