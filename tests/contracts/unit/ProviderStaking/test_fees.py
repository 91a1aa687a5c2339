"""addFees, setCommission, claimRewards, withdrawFees: sharing in the protocol's fees.

addFees
├── of the escrow alone, to a pool somebody is in (case 54)
├── commission first, rounded down; the rest flows evenly over seven days
├── what still flows and what comes new end at their weighted mean: dust holds nothing up
└── who joins for a day gains a day's part and no more (case 63)
setCommission
└── holds after the notice, whatever was announced before
claimRewards
├── each its part, nothing lost to rounding (law 2)
├── also for shares that left, or that a slash made void
└── an emptied pool's rest is the treasury's

What a share has earned is rounded down in the 96th binary place, so a part that should be whole
shows one unit less until the next unit has flowed.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

from tests.contracts.pools import Pools
from tests.contracts.stage import DAY_S, TALLY, UNIT, ZERO, Stage, at_time, reverts_with

WEEK_S = 7 * DAY_S


def test_flows_evenly_over_seven_days(pools: Pools) -> None:
    pools.delegate(UNIT)
    sent = pools.add_fees(700 * TALLY)
    begun = sent.timestamp
    event = sent.events["FeesAdded"]
    assert (event["amount"], event["commission"], event["remaining"]) == (
        700 * TALLY,
        0,
        700 * TALLY,
    )
    assert event["endsAt"] == begun + WEEK_S
    for day in (1, 3, 6):
        pools.stage.at(begun + day * DAY_S)
        assert pools.rewards() == earned_down(day * 100 * TALLY, UNIT, UNIT) == day * 100 * TALLY
        assert pools.stream() == (700 * TALLY - day * 100 * TALLY, begun + WEEK_S)
    for day in (7, 8, 100):
        pools.stage.at(begun + day * DAY_S)
        assert pools.rewards() == 700 * TALLY
        assert pools.stream()[0] == 0


def test_each_gets_its_part(pools: Pools, other_provider: Any) -> None:
    pools.delegate(UNIT)
    pools.delegate(3 * UNIT, by=other_provider)
    sent = pools.add_fees(4_000)
    pools.stage.at(sent.timestamp + WEEK_S)
    assert pools.rewards() == earned_down(4_000, UNIT, 4 * UNIT) == 999
    assert pools.rewards(other_provider) == earned_down(4_000, 3 * UNIT, 4 * UNIT) == 2_999
    before = pools.stage.token.balanceOf(pools.delegator)
    sent = pools.staking.claimRewards(pools.provider, pools.delegator, {"from": pools.delegator})
    event = sent.events["RewardsClaimed"]
    assert (event["provider"], event["delegator"], event["amount"]) == (
        pools.provider,
        pools.delegator,
        999,
    )
    assert pools.stage.token.balanceOf(pools.delegator) - before == 999
    with reverts_with("NothingToWithdraw", pools.delegator):
        pools.staking.claimRewards(pools.provider, pools.delegator, {"from": pools.delegator})
    assert pools.rewards(other_provider) == 2_999


def test_claims_go_to_somebody(pools: Pools, stranger: Any) -> None:
    pools.delegate(UNIT)
    sent = pools.add_fees(1_000)
    pools.stage.at(sent.timestamp + WEEK_S)
    for nowhere in (ZERO, pools.staking.address):
        with reverts_with("InvalidRecipient", nowhere):
            pools.staking.claimRewards(pools.provider, nowhere, {"from": pools.delegator})
    pools.staking.claimRewards(pools.provider, stranger, {"from": pools.delegator})
    assert pools.stage.token.balanceOf(stranger) == 999


def test_a_day_gains_a_days_part(pools: Pools, other_provider: Any) -> None:
    """Case 63: who comes just before the fees and leaves a day after has a seventh of its part, and
    its stake stays three weeks without earning."""
    pools.delegate(UNIT)
    pools.delegate(UNIT, by=other_provider)
    sent = pools.add_fees(14_000)
    with at_time(pools.stage, sent.timestamp + DAY_S):
        pools.undelegate(UNIT, by=other_provider)
    assert pools.rewards(other_provider) == 999
    pools.stage.at(sent.timestamp + WEEK_S)
    assert pools.rewards(other_provider) == 999
    assert pools.rewards() == 13_000


def test_who_comes_later_gets_nothing_of_what_flowed(pools: Pools, other_provider: Any) -> None:
    pools.delegate(UNIT)
    sent = pools.add_fees(7_000)
    pools.stage.at(sent.timestamp + WEEK_S)
    pools.delegate(1_000 * UNIT, by=other_provider)
    assert pools.rewards(other_provider) == 0
    assert pools.rewards() == 6_999


def test_dust_holds_nothing_up(pools: Pools) -> None:
    """A stranger can share out dust as often as it likes: the end moves by its weight."""
    pools.delegate(UNIT)
    sent = pools.add_fees(700 * TALLY)
    ends = sent.timestamp + WEEK_S
    pools.stage.at(sent.timestamp + 6 * DAY_S)
    for _ in range(20):
        pools.add_fees(1)
    remaining, now_ends = pools.stream()
    assert now_ends <= ends + 1
    assert 99 * TALLY < remaining < 101 * TALLY
    pools.stage.at(ends + 1)
    assert pools.rewards() in (700 * TALLY + 19, 700 * TALLY + 20)


def test_two_streams_end_at_their_weighted_mean(pools: Pools) -> None:
    pools.delegate(UNIT)
    sent = pools.add_fees(700 * TALLY)
    with at_time(pools.stage, sent.timestamp + 6 * DAY_S):
        pools.stage.token.transfer(pools.staking, 300 * TALLY, {"from": pools.stage.consumer})
    with at_time(pools.stage, sent.timestamp + 6 * DAY_S + 1):
        second = pools.staking.addFees(pools.provider, 300 * TALLY, {"from": pools.escrow})
    remaining = int(second.events["FeesAdded"]["remaining"])
    mean = (100 * (DAY_S - 1) + 300 * WEEK_S) / 400
    assert abs(remaining - 400 * TALLY) < TALLY // 100
    assert abs(second.events["FeesAdded"]["endsAt"] - second.timestamp - mean) < 20


def test_commission_comes_first(pools: Pools, stranger: Any) -> None:
    pools.delegate(UNIT)
    announced = pools.staking.setCommission(3_333, {"from": pools.provider})
    pools.stage.at(announced.timestamp + WEEK_S)
    sent = pools.add_fees(1_000)
    assert sent.events["FeesAdded"]["commission"] == 333
    assert pools.staking.feesOf(pools.provider) == 333
    pools.stage.at(sent.timestamp + WEEK_S)
    assert pools.rewards() == 666
    before = pools.stage.token.balanceOf(pools.provider)
    pools.staking.withdrawFees(pools.provider, {"from": stranger})
    assert pools.stage.token.balanceOf(pools.provider) - before == 333
    with reverts_with("NothingToWithdraw", pools.provider):
        pools.staking.withdrawFees(pools.provider, {"from": stranger})


def test_all_of_it_may_be_commission(pools: Pools) -> None:
    """Case 32: nothing, everything, and no more."""
    pools.delegate(UNIT)
    announced = pools.staking.setCommission(10_000, {"from": pools.provider})
    pools.stage.at(announced.timestamp + WEEK_S)
    pools.add_fees(1_000)
    assert pools.staking.feesOf(pools.provider) == 1_000
    assert pools.stream()[0] == 0
    with reverts_with("CommissionTooHigh", 10_000, 10_001):
        pools.staking.setCommission(10_001, {"from": pools.provider})


def test_commission_holds_after_the_notice(pools: Pools) -> None:
    """Law 9: to the second, and a later announcement replaces one that does not hold yet."""
    staking, provider = pools.staking, pools.provider
    assert commission(pools) == (0, 0, 0)
    first = staking.setCommission(1_000, {"from": provider})
    holds = first.timestamp + WEEK_S
    assert commission(pools) == (0, 1_000, holds)
    assert first.events["CommissionSet"]["effectiveAt"] == holds
    pools.stage.at(holds - 1)
    assert commission(pools)[0] == 0
    pools.stage.at(holds)
    assert commission(pools)[0] == 1_000
    second = staking.setCommission(9_000, {"from": provider})
    pools.stage.at(second.timestamp + 6 * DAY_S)
    third = staking.setCommission(500, {"from": provider})
    pools.stage.at(second.timestamp + WEEK_S)
    assert commission(pools) == (1_000, 500, third.timestamp + WEEK_S)
    pools.stage.at(third.timestamp + WEEK_S)
    assert commission(pools)[0] == 500


def test_a_key_sets_no_commission_of_its_provider(pools: Pools, operator: Any) -> None:
    pools.staking.setCommission(10_000, {"from": operator})
    pools.stage.at(pools.stage.now() + WEEK_S)
    assert commission(pools)[0] == 0


def test_fees_are_the_escrows_word_alone(pools: Pools, people: list[Any]) -> None:
    """Case 54."""
    pools.delegate(UNIT)
    for person in people:
        with reverts_with("OnlyEscrow", pools.stage.escrow, person):
            pools.staking.addFees(pools.provider, 1, {"from": person})


def test_a_pool_that_nobody_is_in_takes_no_fees(pools: Pools) -> None:
    assert not pools.staking.hasPool(pools.provider)
    with reverts_with("NoPool", pools.provider):
        pools.add_fees(1_000)


def test_the_rest_of_an_emptied_pool_is_the_treasurys(pools: Pools, treasury: Any) -> None:
    """To the unit: what was paid in is what is owed to both."""
    pools.delegate(UNIT)
    sent = pools.add_fees(7_001)
    with at_time(pools.stage, sent.timestamp + 3 * DAY_S):
        left = pools.staking.requestUndelegate(pools.provider, UNIT, 0, {"from": pools.delegator})
    rest = left.events["PoolDrained"]["amount"]
    assert pools.staking.feesOf(treasury) == rest
    assert pools.rewards() + rest == 7_001
    assert pools.rewards() == 7_001 * 3 // 7 - 1
    assert pools.stream()[0] == 0
    pools.staking.claimRewards(pools.provider, pools.delegator, {"from": pools.delegator})
    pools.staking.withdrawFees(treasury, {"from": pools.delegator})
    # Only stake is left: what unbonds, and the provider's own.
    assert pools.stage.token.balanceOf(pools.staking) == 5 * UNIT


def test_void_shares_keep_what_they_had_earned(
    pools: Pools, other_provider: Any, treasury: Any
) -> None:
    pools.delegate(UNIT)
    pools.delegate(UNIT, by=other_provider)
    sent = pools.add_fees(14_000)
    with at_time(pools.stage, sent.timestamp + DAY_S):
        pools.slash(6 * UNIT)
    assert not pools.staking.hasPool(pools.provider)
    assert (pools.rewards(), pools.rewards(other_provider)) == (999, 999)
    assert pools.staking.feesOf(treasury) == 12_000
    # One of them comes again, fees come again: its old shares earn nothing more.
    pools.delegate(UNIT)
    sent = pools.add_fees(700)
    pools.stage.at(sent.timestamp + WEEK_S)
    assert (pools.rewards(), pools.rewards(other_provider)) == (1_700, 999)
    pools.staking.claimRewards(pools.provider, pools.delegator, {"from": pools.delegator})
    pools.staking.claimRewards(pools.provider, other_provider, {"from": other_provider})


def test_claiming_often_loses_nothing(pools: Pools, other_provider: Any) -> None:
    """Law 2: parts that do not divide are carried."""
    pools.delegate(UNIT)
    pools.delegate(2 * UNIT, by=other_provider)
    sent = pools.add_fees(1_000)
    claimed = {pools.delegator.address: 0, other_provider.address: 0}
    for hour in range(0, 7 * 24 + 9, 8):
        pools.stage.at(sent.timestamp + hour * 3_600 + 60)
        for person in (pools.delegator, other_provider):
            if pools.rewards(person):
                paid = pools.staking.claimRewards(pools.provider, person, {"from": person})
                claimed[person.address] += int(paid.return_value)
    # A third does not divide; the last unit is carried until it is whole.
    assert claimed[pools.delegator.address] == 333
    assert claimed[other_provider.address] == 666


def test_fees_and_stake_of_one_token_are_kept_apart(
    pools: Pools, stage: Stage, treasury: Any
) -> None:
    """Every pocket can be emptied, and then nothing is left."""
    pools.delegate(UNIT)
    sent = pools.add_fees(7_000)
    with at_time(stage, sent.timestamp + DAY_S):
        pools.slash(UNIT, to=(treasury,))
    event = pools.undelegate(UNIT)
    asked = pools.staking.requestUnbond(3 * UNIT, {"from": pools.provider})
    stage.at(asked.timestamp + 21 * DAY_S + 60)
    assert event["withdrawableAt"] <= stage.now()
    sender = {"from": pools.delegator}
    pools.staking.burnSlashed(sender)
    pools.staking.withdrawBounty(treasury, sender)
    pools.staking.withdrawFees(treasury, sender)
    pools.staking.claimRewards(pools.provider, pools.delegator, sender)
    pools.staking.withdrawDelegation(0, pools.delegator, sender)
    pools.staking.withdrawStake(0, pools.provider, {"from": pools.provider})
    assert stage.token.balanceOf(pools.staking) == 0


def earned_down(flowed: int, held: int, shares: int) -> int:
    """What `held` of all `shares` have earned of whole units that flowed to a fresh pool, in exact
    rationals: a share's part is cut off in the 96th binary place, then the holder's to a unit."""
    per_share = floor(Fraction(flowed, shares) * 2**96)
    return floor(Fraction(per_share, 2**96) * held)


def commission(pools: Pools) -> tuple[int, int, int]:
    now, later, at = pools.staking.commissionOf(pools.provider)
    return int(now), int(later), int(at)
