"""slash, withdrawBounty, burnSlashed: what a verdict costs.

slash
├── takes own bonded, then own unbonding, then delegators' bonded and unbonding alike (55, 71)
├── takes what there is and never reverts for want of stake (case 57)
├── once an offence (case 69)
├── at most a fifth to those who proved it, in equal parts rounded down, the rest burned (65)
├── moves no token: neither a beneficiary nor the provider's settings can stop it (case 62)
├── voids a pot of which too little is left, and newcomers start afresh
└── is the court's alone
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tallystick.protocol.shares import Pot, bounty_each_down, slash_of
from tests.contracts.pools import EVERYTHING, Pools
from tests.contracts.stage import DAY_S, TALLY, UNIT, ZERO, digest_of, reverts_with

BURN = "0x000000000000000000000000000000000000dEaD"


def test_takes_own_bonded_first(pools: Pools) -> None:
    pools.delegate(UNIT)
    sent = pools.slash(UNIT + 1)
    assert pools.stage.stake_of(pools.provider) == (3 * UNIT - 1, 0)
    assert pools.delegation() == (UNIT, UNIT)
    assert pools.staking.unitsOf(pools.provider) == 2
    event = sent.events["Slashed"]
    told = tuple(int(event[name]) for name in ("amount", "bounty", "bonded", "unbonding"))
    assert told == (UNIT + 1, 0, 3 * UNIT - 1, 0)
    assert (event["delegated"], event["undelegating"]) == (UNIT, 0)


def test_reaches_every_unbonding_request_alike(pools: Pools) -> None:
    """Case 55: who unbonds before the verdict loses as if it had not."""
    asked = [pools.staking.requestUnbond(n * UNIT, {"from": pools.provider}) for n in (1, 2)]
    assert pools.stage.stake_of(pools.provider) == (UNIT, 3 * UNIT)
    pools.slash(2 * UNIT)
    assert pools.stage.stake_of(pools.provider) == (0, 2 * UNIT)
    worth = [pools.unbond_request(n)[0] for n in (0, 1)]
    assert worth == [UNIT * 2 // 3, UNIT * 4 // 3]
    pools.stage.at(asked[1].timestamp + 21 * DAY_S)
    before = pools.stage.token.balanceOf(pools.provider)
    for n in (0, 1):
        pools.staking.withdrawStake(n, pools.provider, {"from": pools.provider})
    assert pools.stage.token.balanceOf(pools.provider) - before == 2 * UNIT
    assert pools.stage.stake_of(pools.provider) == (0, 0)


def test_the_providers_own_delegation_is_slashed_after_its_stake(pools: Pools) -> None:
    """Cases 61 and 71: delegating to oneself backs no GPU and saves no own stake; it is kept
    apart from the own stake although one address owns both."""
    pools.delegate(5 * UNIT, by=pools.provider)
    assert pools.stage.stake_of(pools.provider) == (4 * UNIT, 0)
    assert pools.staking.unitsOf(pools.provider) == 4
    pools.slash(3 * UNIT)
    assert pools.stage.stake_of(pools.provider) == (UNIT, 0)
    assert pools.delegation(pools.provider) == (5 * UNIT, 5 * UNIT)
    pools.slash(2 * UNIT, to=(pools.provider,))
    assert pools.stage.stake_of(pools.provider) == (0, 0)
    assert pools.delegation(pools.provider)[1] == 4 * UNIT
    # What it gains for proving its own offence is a fifth of the loss.
    assert pools.staking.bountyOf(pools.provider) == 2 * UNIT // 5


def test_delegators_lose_in_proportion_bonded_and_unbonding(
    pools: Pools, other_provider: Any
) -> None:
    pools.delegate(3 * UNIT)
    pools.delegate(UNIT, by=other_provider)
    pools.undelegate(UNIT)
    pools.slash(4 * UNIT + 2 * UNIT)
    assert pools.stage.stake_of(pools.provider) == (0, 0)
    assert (pools.pool().tokens, pools.undelegating()) == (3 * UNIT // 2, UNIT // 2)
    assert pools.delegation()[1] == UNIT
    assert pools.delegation(other_provider)[1] == UNIT // 2
    assert pools.request(0)[0] == UNIT // 2


def test_takes_what_there_is(pools: Pools, stranger: Any) -> None:
    """Case 57, also of somebody who never staked."""
    pools.delegate(UNIT)
    pools.undelegate(UNIT // 2)
    pools.staking.requestUnbond(UNIT, {"from": pools.provider})
    sent = pools.slash(EVERYTHING)
    assert sent.return_value == 5 * UNIT
    assert pools.stage.stake_of(pools.provider) == (0, 0)
    assert (pools.pool(), pools.undelegating()) == (Pot(generation=1), 0)
    for amount in (0, 1, EVERYTHING):
        assert pools.slash(amount).return_value == 0
        assert pools.slash(amount, provider=stranger).return_value == 0
    assert pools.staking.isJailed(stranger)


def test_requests_slashed_to_nothing_close_and_pay_nothing(pools: Pools) -> None:
    pools.delegate(UNIT)
    left = pools.undelegate(UNIT // 2)
    asked = pools.staking.requestUnbond(4 * UNIT, {"from": pools.provider})
    pools.slash(EVERYTHING)
    assert pools.unbond_request(0) == (0, asked.events["UnbondRequested"]["withdrawableAt"])
    pools.stage.at(left["withdrawableAt"] + DAY_S)
    for withdraw, person in (
        (pools.staking.withdrawStake, pools.provider),
        (pools.staking.withdrawDelegation, pools.delegator),
    ):
        assert withdraw(0, person, {"from": person}).return_value == 0
        with reverts_with("UnknownRequest", person, 0):
            withdraw(0, person, {"from": person})


def test_once_an_offence(pools: Pools) -> None:
    """Case 69: and two offences cost twice."""
    first = digest_of("the offence")
    pools.slash(UNIT, offence=first)
    assert pools.staking.isPunished(first)
    with reverts_with("AlreadyPunished"):
        pools.slash(UNIT, offence=first)
    assert pools.stage.stake_of(pools.provider) == (3 * UNIT, 0)
    pools.slash(UNIT)
    assert pools.stage.stake_of(pools.provider) == (2 * UNIT, 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_fifth_for_those_who_proved_it_the_rest_burned(
    pools: Pools, people: list[Any], count: int
) -> None:
    """Case 65: whoever slashes a friend burns four fifths of it."""
    amount = 10**18 + 1
    beneficiaries = tuple(people[1 : 1 + count])
    pools.slash(amount, to=beneficiaries)
    each = bounty_each_down(amount, count)
    assert [pools.staking.bountyOf(person) for person in beneficiaries] == [each] * count
    assert pools.staking.unburned() == amount - count * each
    assert 5 * count * each <= amount


def test_bounties_are_pulled_and_the_rest_goes_to_the_burn_address(
    pools: Pools, stranger: Any, treasury: Any
) -> None:
    pools.slash(UNIT, to=(treasury,))
    assert pools.stage.token.balanceOf(pools.staking) == 4 * UNIT
    with reverts_with("NothingToWithdraw", stranger):
        pools.staking.withdrawBounty(stranger, {"from": stranger})
    pools.staking.withdrawBounty(treasury, {"from": stranger})
    assert pools.stage.token.balanceOf(treasury) == UNIT // 5
    pools.staking.burnSlashed({"from": stranger})
    assert pools.stage.token.balanceOf(BURN) == UNIT * 4 // 5
    for again in (
        lambda: pools.staking.withdrawBounty(treasury, {"from": stranger}),
        lambda: pools.staking.burnSlashed({"from": stranger}),
    ):
        with reverts_with("NothingToWithdraw"):
            again()
    assert pools.stage.token.balanceOf(pools.staking) == 3 * UNIT


def test_no_beneficiary_and_no_setting_of_the_provider_stops_it(
    pools: Pools, stranger: Any, treasury: Any
) -> None:
    """Case 62: nobody is called, so nobody refuses. The zero address's part is burned."""
    pools.delegate(UNIT)
    pools.add_fees(10**18)
    staking, provider = pools.staking, pools.provider
    staking.registerGpus(digest_of("gpus"), 4, {"from": provider})
    staking.setCommission(10_000, {"from": provider})
    for key in (stranger, treasury):
        staking.bindOperatorKey(key, pools.stage.consent(provider, key), {"from": provider})
    staking.retireOperatorKey(stranger, {"from": provider})
    staking.setSeats(provider, 0, {"from": pools.court})
    token = pools.stage.token.address
    beneficiaries = (ZERO, staking.address, token, provider, provider)
    sent = pools.slash(5 * UNIT, to=beneficiaries)
    assert sent.return_value == 5 * UNIT
    each = bounty_each_down(5 * UNIT, 5)
    assert staking.bountyOf(provider) == 2 * each
    assert staking.bountyOf(ZERO) == 0
    assert staking.unburned() == 5 * UNIT - 4 * each


def test_gpus_stay_registered_and_units_fall(pools: Pools) -> None:
    """What may be given to a provider is min(units, GPUs). It can stake again, or register fewer;
    until then it can unbond nothing."""
    staking, provider = pools.staking, pools.provider
    staking.registerGpus(digest_of("gpus"), 4, {"from": provider})
    pools.slash(UNIT + UNIT // 2)
    assert (staking.gpusOf(provider), staking.unitsOf(provider)) == (4, 2)
    with reverts_with("StakeBacksGpus", 4 * UNIT, 5 * UNIT // 2 - 1):
        staking.requestUnbond(1, {"from": provider})
    with reverts_with("StakeTooLow", 3 * UNIT, 5 * UNIT // 2):
        staking.registerGpus(digest_of("gpus"), 3, {"from": provider})
    staking.registerGpus(digest_of("gpus"), 2, {"from": provider})
    staking.requestUnbond(UNIT // 2, {"from": provider})
    staking.registerGpus("0x" + "00" * 32, 0, {"from": provider})
    staking.requestUnbond(2 * UNIT, {"from": provider})


def test_a_pot_of_which_dust_is_left_starts_afresh(pools: Pools, treasury: Any) -> None:
    """Old shares are void, what is left is the treasury's, newcomers pay the first price."""
    pools.delegate(10 * UNIT)
    dust = 10 * UNIT >> 32
    sent = pools.slash(14 * UNIT - dust)
    event = sent.events["PotVoided"]
    assert (event["pot"], event["generation"], event["rest"]) == (1, 0, dust)
    assert pools.pool() == Pot(generation=1)
    assert pools.delegation() == (0, 0)
    assert pools.staking.bountyOf(treasury) == dust
    assert not pools.staking.hasPool(pools.provider)
    with reverts_with("InsufficientShares", 1, 0):
        pools.undelegate(1)
    pools.delegate(UNIT)
    assert pools.delegation() == (UNIT, UNIT)


def test_a_pot_slashed_again_and_again_keeps_its_holders_exits_open(
    pools: Pools, other_provider: Any
) -> None:
    """Newcomers' shares grow in number; past the limit nobody joins, and everybody leaves."""
    pools.delegate(10 * UNIT)
    pools.slash(4 * UNIT)
    pools.slash(10 * UNIT - (10 * UNIT >> 20))
    sent = pools.delegate(10 * UNIT, by=other_provider)
    shares = sent.events["Delegated"]["shares"]
    assert shares > 10 * UNIT << 19
    there = pools.pool().tokens
    pools.slash(there - (there >> 20))
    assert pools.pool().is_spent()
    with reverts_with("PotSpent"):
        pools.delegate(10 * UNIT)
    assert pools.delegation(other_provider)[1] >= (10 * UNIT >> 20) - 2
    pools.undelegate(shares, by=other_provider)
    pools.undelegate(pools.delegation()[0])
    assert pools.pool() == Pot()
    # Those who leave are behind the provider still.
    pools.delegate(10 * UNIT)
    assert pools.delegation() == (10 * UNIT, 10 * UNIT)


def test_who_loses_what_equals_the_kernel(pools: Pools) -> None:
    """`slash_of`, on random amounts, from random pots."""
    pools.delegate(20 * UNIT)
    chance = random.Random(66)
    staking, provider = pools.staking, pools.provider
    for _ in range(12):
        pools.stage.token.approve(staking, UNIT, {"from": provider})
        staking.stake(chance.randint(1, UNIT), {"from": provider})
        staking.requestUnbond(
            chance.randint(1, pools.stage.stake_of(provider)[0]), {"from": provider}
        )
        pools.undelegate(chance.randint(TALLY, UNIT))
        bonded, unbonding = pools.stage.stake_of(provider)
        delegated, undelegating = pools.pool().tokens, pools.undelegating()
        amount = chance.randint(1, bonded + unbonding + UNIT)
        lost = slash_of(
            amount,
            bonded=bonded,
            unbonding=unbonding,
            delegated=delegated,
            undelegating=undelegating,
        )
        assert pools.slash(amount).return_value == lost.total
        assert pools.stage.stake_of(provider) == (bonded - lost.bonded, unbonding - lost.unbonding)
        assert pools.pool().tokens == delegated - lost.delegated
        assert pools.undelegating() == undelegating - lost.undelegating


def test_is_the_courts_alone(pools: Pools, people: list[Any]) -> None:
    for person in people[:11]:
        with reverts_with("OnlyCourt", pools.court, person):
            pools.staking.slash(pools.provider, 1, digest_of("x"), [], {"from": person})
