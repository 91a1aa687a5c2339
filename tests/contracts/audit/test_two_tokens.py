"""The whole way of the money, in a token of 18 decimals and in one of 6 that is like USDC (case 6).

Paid in by approve, by permit and by an EIP-3009 authorization, to an account and to a channel; a
task is paid, vouchers are redeemed, credit is withdrawn, fees are shared and claimed, and what is
left goes home. Every figure is worked out here once more, in fractions of whole tokens.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.channels import Till, channel_id, fields
from tests.contracts.stage import (
    BOND_FLOOR,
    CLOCKS,
    CLOSE_S,
    DAY_S,
    POOL_SHARE_BPS,
    UNIT,
    Stage,
)
from tests.contracts.unit.ComputeEscrow.test_deposit import FAR, SALT, authorization, permit

WEEK_S = 7 * DAY_S
FEE = Fraction(1, 100)
DISPATCHER = Fraction(500, 10_000)
ROYALTY = Fraction(250, 10_000)
SUPPLY = 1_000_000


class Market:
    """A deployment that is paid in one token and staked in the network's own."""

    def __init__(self, paid_in: Any, stage: Stage, deployer: Any, treasury: Any) -> None:
        from brownie import ComputeEscrow, DisputeCourt, ProviderStaking, TaskMarket

        staking, market, court = (
            deployer.get_deployment_address(deployer.nonce + n) for n in (1, 2, 3)
        )
        fees = (100, POOL_SHARE_BPS)
        escrow = deployer.deploy(ComputeEscrow, paid_in, market, staking, treasury, *fees, CLOSE_S)
        staking = deployer.deploy(ProviderStaking, stage.token, escrow, court, UNIT, CLOCKS)
        windows = (3_600, DAY_S, 7 * DAY_S, 6 * DAY_S)
        market = deployer.deploy(TaskMarket, escrow, staking, court, windows, BOND_FLOOR)
        deployer.deploy(DisputeCourt, market, staking, escrow, (DAY_S, DAY_S, DAY_S))
        people = (stage.consumer, stage.provider, stage.operator, stage.dispatcher)
        self.stage = Stage(paid_in, escrow, staking, market, *people)
        stage.token.approve(staking, 4 * UNIT, {"from": stage.provider})
        staking.stake(4 * UNIT, {"from": stage.provider})
        consent = self.stage.consent(stage.provider, stage.operator)
        staking.bindOperatorKey(stage.operator, consent, {"from": stage.provider})


@pytest.fixture(params=["18 decimals", "6 decimals, as USDC"])
def paid_in(request: pytest.FixtureRequest, deployer: Any, consumer: Any) -> Any:
    from brownie import MockUSDC, TallyToken

    if request.param.startswith("18"):
        return deployer.deploy(TallyToken, consumer, SUPPLY * 10**18)
    return deployer.deploy(MockUSDC, consumer, SUPPLY * 10**6)


@pytest.fixture
def shop(paid_in: Any, stage: Stage, deployer: Any, treasury: Any) -> Stage:
    return Market(paid_in, stage, deployer, treasury).stage


def test_from_deposit_to_wallet(
    shop: Stage,
    stage: Stage,
    session_key: Any,
    app_owner: Any,
    treasury: Any,
    delegator: Any,
    stranger: Any,
) -> None:
    token, escrow, staking = shop.token, shop.escrow, shop.staking
    one = 10 ** int(token.decimals())
    consumer, provider = shop.consumer, shop.provider
    till = Till(shop, session_key)
    channel = till.channel()
    paying = {"from": consumer}

    def held(person: Any) -> int:
        return int(token.balanceOf(person))

    # Three ways in, to the account and to a channel.
    token.approve(escrow, 310 * one, paying)
    escrow.deposit(consumer, 300 * one, paying)
    escrow.depositToChannel(fields(channel), 10 * one, paying)
    v, r, s = permit(shop, consumer, 200 * one)
    escrow.depositWithPermit(consumer, 200 * one, FAR, v, r, s, paying)
    v, r, s = permit(shop, consumer, 20 * one)
    escrow.depositToChannelWithPermit(fields(channel), 20 * one, FAR, v, r, s, paying)
    v, r, s = authorization(shop, consumer, escrow.authorizationNonce(consumer, SALT), 100 * one)
    escrow.depositWithAuthorization(
        consumer, consumer, 100 * one, 0, FAR, SALT, v, r, s, {"from": stranger}
    )
    nonce = escrow.channelAuthorizationNonce(channel_id(channel), SALT)
    v, r, s = authorization(shop, consumer, nonce, 30 * one)
    escrow.depositToChannelWithAuthorization(
        consumer, fields(channel), 30 * one, 0, FAR, SALT, v, r, s, {"from": stranger}
    )
    assert shop.account(consumer) == (600 * one, 0)
    assert till.state(channel) == (60 * one, 0, 0)
    assert held(consumer) == (SUPPLY - 660) * one
    assert held(escrow) == 660 * one

    # A pool, so that fees are shared.
    stage.token.approve(staking, UNIT, {"from": delegator})
    staking.delegate(provider, UNIT, 0, {"from": delegator})

    # A task: half a token, a tenth a call, and seven units a GPU-second: a started one counts.
    usage = shop.usage(calls=3, gpu_ms=1_199_999)
    terms = shop.terms(
        flat=one // 2,
        fee_per_call=one // 10,
        rate_per_gpu_second=7,
        max_charge=50 * one,
        dispatcher_bps=500,
        royalty_bps=250,
        royalty_to=app_owner.address,
    )
    shop.create(terms)
    assert shop.account(consumer) == (550 * one, 50 * one)
    shop.market.prove(shop.accepted(terms, usage), {"from": stranger})
    charge = ceil(Fraction(one, 2) + 3 * Fraction(one, 10) + Fraction(7 * 1_199_999, 1000))
    to_dispatcher, to_app = floor(charge * DISPATCHER), floor(charge * ROYALTY)
    to_provider = charge - to_dispatcher - to_app
    assert shop.account(consumer) == (600 * one - charge, 0)
    assert shop.payee(provider) == (to_provider, 0)
    assert shop.payee(shop.dispatcher) == (to_dispatcher, 0)
    assert shop.payee(app_owner) == (to_app, 0)

    # Vouchers: one short of 42 tokens, an older one beside it.
    till.redeem(till.row(channel, 7 * one), till.row(channel, 42 * one - 1), by=stranger)
    assert till.state(channel) == (60 * one, 42 * one - 1, 0)
    earned = to_provider + 42 * one - 1
    assert shop.payee(provider) == (earned, 0)

    # Out to the payees, less the fee.
    fees = {}
    for payee, credit in (
        (provider, earned),
        (shop.dispatcher, to_dispatcher),
        (app_owner, to_app),
    ):
        before = held(payee)
        escrow.withdrawCredit(payee, [], {"from": stranger})
        fees[payee.address] = floor(credit * FEE)
        assert held(payee) - before == credit - fees[payee.address]
        assert shop.payee(payee) == (0, fees[payee.address])

    # Fees: half of the provider's to its pool, all others' to the treasury.
    before = held(treasury)
    for payee in (provider, shop.dispatcher, app_owner):
        sent = escrow.shareFees(payee, {"from": stranger})
        if payee == provider:
            shared_at = sent.timestamp
    to_pool = floor(fees[provider.address] * Fraction(POOL_SHARE_BPS, 10_000))
    assert held(staking) == to_pool
    assert held(treasury) - before == sum(fees.values()) - to_pool
    shop.at(shared_at + WEEK_S)
    # The only holder of the pool's shares; a share's part is cut off at 2^-96.
    per_share = floor(Fraction(to_pool << 96, UNIT))
    rewards = floor(Fraction(UNIT * per_share, 2**96))
    assert to_pool - 1 <= rewards <= to_pool
    before = held(delegator)
    staking.claimRewards(provider, delegator, {"from": delegator})
    assert held(delegator) - before == rewards

    # What is left goes home, and nothing stays.
    escrow.requestClose(fields(channel), paying)
    shop.at(shop.now() + CLOSE_S)
    escrow.close(fields(channel), {"from": stranger})
    rest = 600 * one - charge + 18 * one + 1
    assert shop.account(consumer) == (rest, 0)
    escrow.withdraw(rest, consumer, paying)
    assert held(consumer) == (SUPPLY - 660) * one + rest
    assert held(escrow) == 0
    assert held(staking) == to_pool - rewards


@pytest.mark.usefixtures("stage")
def test_a_ceiling_in_small_units_is_kept_to_the_unit(shop: Stage, stranger: Any) -> None:
    """A charge that passes its ceiling by one unit of either token is the ceiling."""
    one = 10 ** int(shop.token.decimals())
    shop.deposit(shop.consumer, 2 * one)
    usage = shop.usage(calls=1, gpu_ms=1)
    terms = shop.terms(
        flat=one - 1, fee_per_call=1, rate_per_gpu_second=1, max_charge=one, dispatcher_bps=0
    )
    shop.create(terms)
    sent = shop.market.prove(shop.accepted(terms, usage), {"from": stranger})
    assert sent.events["TaskSettled"]["charge"] == one
    assert shop.account(shop.consumer) == (one, 0)
    assert as_tuple(terms)[11] == one
