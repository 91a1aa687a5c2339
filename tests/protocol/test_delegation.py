"""Delegation through the kernel's typed methods, on the compiled contract, fees and all."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.contracts import (
    Commission,
    Delegation,
    Escrow,
    FeeStream,
    Pool,
    Seats,
    SignedVoucher,
    Stake,
    Staking,
    Token,
    UnbondRequest,
    UndelegateRequest,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError
from tallystick.protocol.events import (
    CommissionSet,
    Delegated,
    DelegationWithdrawn,
    FeesAdded,
    FeesShared,
    FeesWithdrawn,
    PoolDrained,
    RewardsClaimed,
    UndelegateRequested,
)
from tallystick.protocol.messages import Channel
from tallystick.protocol.permits import sign_permit
from tallystick.protocol.shares import Pot
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tests.support.anvil import (
    CONSUMER,
    DAY_S,
    PROVIDER,
    STAKE_UNIT,
    STRANGER,
    TOKEN,
    TREASURY,
    LocalChain,
    emitted,
    fund,
    send,
)

WEEK_S = 7 * DAY_S


@pytest.fixture
def staking(deployment: Deployment, web3: Any) -> Staking:
    return Staking(web3, deployment.staking)


@pytest.fixture
async def delegated(
    market: LocalChain, deployment: Deployment, staking: Staking, web3: Any
) -> Delegated:
    """50 tokens of a stranger behind the provider, by permit."""
    fund(market, deployment, STRANGER, 50 * TOKEN)
    token = Token(web3, deployment.staking_token)
    deadline = market.now_s() + 600
    permit = sign_permit(
        await token.domain_separator(),
        STRANGER.address,
        deployment.staking,
        50 * TOKEN,
        0,
        deadline,
        STRANGER.key,
    )
    pool = await staking.pool_of(PROVIDER.address)
    least = Pot(pool.delegated, pool.shares, pool.generation).shares_down(50 * TOKEN)
    call = staking.delegate_with_permit(PROVIDER.address, 50 * TOKEN, least, deadline, permit)
    (event,) = emitted(market, deployment, send(market, STRANGER, call))
    assert isinstance(event, Delegated)
    return event


async def test_what_is_fixed(deployment: Deployment, staking: Staking) -> None:
    assert await staking.escrow() == deployment.escrow
    assert await staking.payment_token() == deployment.token
    assert await staking.token() == deployment.staking_token
    assert await staking.court() == deployment.court
    assert await staking.treasury() == TREASURY.address
    assert await staking.min_delegation() == STAKE_UNIT // 100
    clocks = (
        await staking.unbonding_seconds(),
        await staking.retired_key_seconds(),
        await staking.commission_notice_seconds(),
        await staking.jail_seconds(),
        await staking.stream_seconds(),
    )
    assert clocks == (21 * DAY_S, WEEK_S, WEEK_S, WEEK_S, WEEK_S)


async def test_nobody_was_ever_judged(staking: Staking) -> None:
    assert not await staking.is_jailed(PROVIDER.address)
    assert await staking.jailed_until(PROVIDER.address) == 0
    assert not await staking.is_punished(Digest("0x" + "11" * 32))
    assert await staking.seats_of(PROVIDER.address) == Seats(0, 0)
    assert await staking.unburned() == 0
    assert await staking.bounty_of(PROVIDER.address) == 0


async def test_stake_comes_and_goes(
    market: LocalChain, deployment: Deployment, staking: Staking, delegated: Delegated
) -> None:
    assert (delegated.amount, delegated.shares, delegated.delegated) == (50 * TOKEN,) * 3
    assert await staking.has_pool(PROVIDER.address)
    assert await staking.pool_of(PROVIDER.address) == Pool(50 * TOKEN, 50 * TOKEN, 0, 0)
    position = await staking.delegation_of(PROVIDER.address, STRANGER.address)
    assert position == Delegation(50 * TOKEN, 50 * TOKEN)

    with pytest.raises(ContractError, match="look at it again"):
        send(
            market,
            STRANGER,
            staking.request_undelegate(PROVIDER.address, 20 * TOKEN, 20 * TOKEN + 1),
        )
    call = staking.request_undelegate(PROVIDER.address, 20 * TOKEN, 20 * TOKEN)
    (left,) = emitted(market, deployment, send(market, STRANGER, call))
    assert isinstance(left, UndelegateRequested)
    assert (left.request_id, left.amount, left.delegated) == (0, 20 * TOKEN, 30 * TOKEN)
    assert await staking.undelegate_requests(STRANGER.address) == 1
    request = await staking.undelegate_request(STRANGER.address, 0)
    assert request == UndelegateRequest(PROVIDER.address, 20 * TOKEN, left.withdrawable_at)

    call = staking.withdraw_delegation(0, CONSUMER.address)
    with pytest.raises(ContractError, match="can be withdrawn from"):
        send(market, STRANGER, call)
    market.set_time(left.withdrawable_at + 1)
    (out,) = emitted(market, deployment, send(market, STRANGER, call))
    assert out == DelegationWithdrawn(
        PROVIDER.address, STRANGER.address, 0, CONSUMER.address, 20 * TOKEN, out.at
    )
    assert await staking.stake_of(PROVIDER.address) == Stake(2 * STAKE_UNIT, 0)
    assert await staking.unbond_request(PROVIDER.address, 0) == UnbondRequest(0, 0)


async def test_fees_reach_commission_delegators_and_treasury(
    market: LocalChain,
    deployment: Deployment,
    staking: Staking,
    web3: Any,
    delegated: Delegated,
) -> None:
    """Credit is earned on a channel, its withdrawal pays the fee, half of it is the pool's."""
    (told,) = emitted(market, deployment, send(market, PROVIDER, staking.set_commission(2_000)))
    assert isinstance(told, CommissionSet)
    commission = await staking.commission_of(PROVIDER.address)
    assert commission == Commission(0, 2_000, told.effective_at)
    market.set_time(told.effective_at + 1)

    shared = share_fees(market, deployment, Escrow(web3, deployment.escrow))
    own, to_pool = shared.to_pool // 5, shared.to_pool - shared.to_pool // 5
    assert await staking.fees_of(PROVIDER.address) == own
    assert await staking.stream_of(PROVIDER.address) == FeeStream(to_pool, market.now_s() + WEEK_S)
    market.wait(WEEK_S)
    earned = await staking.rewards_of(PROVIDER.address, STRANGER.address)
    assert to_pool - 1 <= earned <= to_pool
    call = staking.claim_rewards(PROVIDER.address, CONSUMER.address)
    (claimed,) = emitted(market, deployment, send(market, STRANGER, call))
    assert claimed == RewardsClaimed(
        PROVIDER.address, STRANGER.address, CONSUMER.address, earned, claimed.at
    )
    call = staking.withdraw_fees(PROVIDER.address)
    (paid,) = emitted(market, deployment, send(market, CONSUMER, call))
    assert paid == FeesWithdrawn(PROVIDER.address, own, paid.at)

    # Who leaves while fees flow leaves the rest to the treasury.
    share_fees(market, deployment, Escrow(web3, deployment.escrow))
    call = staking.request_undelegate(PROVIDER.address, 50 * TOKEN, 0)
    events = emitted(market, deployment, send(market, STRANGER, call))
    (drained,) = [event for event in events if isinstance(event, PoolDrained)]
    assert await staking.fees_of(TREASURY.address) == drained.amount


def share_fees(market: LocalChain, deployment: Deployment, escrow: Escrow) -> FeesShared:
    """One more token on the consumer's channel, withdrawn with its voucher."""
    channel = Channel(CONSUMER.address, CONSUMER.address, PROVIDER.address, market.head())
    send(market, CONSUMER, escrow.fund(channel, TOKEN))
    voucher = channel.voucher(TOKEN, ZERO_DIGEST)
    signature = messages.sign(deployment.domain, voucher, CONSUMER.key)
    row = SignedVoucher(voucher, signature)
    send(market, CONSUMER, escrow.withdraw_credit(PROVIDER.address, [row]))
    events = emitted(
        market, deployment, send(market, CONSUMER, escrow.share_fees(PROVIDER.address))
    )
    assert any(isinstance(event, FeesAdded) for event in events)
    (shared,) = [event for event in events if isinstance(event, FeesShared)]
    return shared


async def test_there_is_nothing_to_withdraw(market: LocalChain, staking: Staking) -> None:
    for call in (
        staking.withdraw_fees(PROVIDER.address),
        staking.withdraw_bounty(PROVIDER.address),
        staking.burn_slashed(),
        staking.claim_rewards(PROVIDER.address, PROVIDER.address),
    ):
        with pytest.raises(ContractError, match="nothing for"):
            send(market, PROVIDER, call)
    with pytest.raises(ContractError, match="is not jailed"):
        send(market, PROVIDER, staking.unjail())
    with pytest.raises(ContractError, match="at least, and this leaves"):
        send(market, CONSUMER, staking.delegate(PROVIDER.address, 1, 0))
