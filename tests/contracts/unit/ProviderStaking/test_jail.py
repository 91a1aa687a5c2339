"""isJailed, unjail, setSeats.

slash jails
└── until the provider lifts it, seven days later at the earliest, with a unit bonded (case 70)
setSeats
├── units set aside back no GPU and cannot unbond, and a slash reaches them
└── more need stake and no jail; fewer is always possible
"""

from __future__ import annotations

from typing import Any

from tests.contracts.pools import Pools
from tests.contracts.stage import DAY_S, UNIT, at_time, digest_of, reverts_with


def test_lifted_after_seven_days(pools: Pools, operator: Any) -> None:
    staking, provider = pools.staking, pools.provider
    with reverts_with("NotJailed", provider):
        staking.unjail({"from": provider})
    sent = pools.slash(UNIT)
    until = sent.timestamp + 7 * DAY_S
    assert staking.jailedUntil(provider) == until == sent.events["Jailed"]["until"]
    assert staking.isJailed(provider)
    with at_time(pools.stage, until - 1), reverts_with("JailNotOver", until, until - 1):
        staking.unjail({"from": provider})
    pools.stage.at(until + DAY_S)
    assert staking.isJailed(provider)  # not by itself
    with reverts_with("NotJailed", operator):
        staking.unjail({"from": operator})
    assert staking.unjail({"from": provider}).events["Unjailed"]["provider"] == provider
    assert not staking.isJailed(provider)
    assert staking.jailedUntil(provider) == 0


def test_needs_a_unit_bonded(pools: Pools) -> None:
    staking, provider = pools.staking, pools.provider
    sent = pools.slash(3 * UNIT + 1)
    pools.delegate(UNIT)
    pools.stage.at(sent.timestamp + 7 * DAY_S)
    with reverts_with("StakeTooLow", UNIT, UNIT - 1):
        staking.unjail({"from": provider})
    pools.stage.token.approve(staking, 1, {"from": provider})
    staking.stake(1, {"from": provider})
    staking.unjail({"from": provider})


def test_a_second_verdict_starts_the_time_anew(pools: Pools) -> None:
    first = pools.slash(UNIT)
    pools.stage.at(first.timestamp + 6 * DAY_S)
    second = pools.slash(0)
    assert pools.staking.jailedUntil(pools.provider) == second.timestamp + 7 * DAY_S


def test_exits_and_work_in_hand_stay_open(pools: Pools) -> None:
    """Case 70: units still count for what is proven, and stake leaves on its clocks; a fresh key
    or fresh stake changes nothing."""
    pools.delegate(UNIT)
    pools.slash(UNIT)
    staking, provider = pools.staking, pools.provider
    assert staking.unitsOf(provider) == 3
    assert staking.signsFor(pools.stage.operator, provider)
    asked = staking.requestUnbond(UNIT, {"from": provider})
    pools.undelegate(UNIT)
    pools.stage.at(asked.timestamp + 21 * DAY_S + 60)
    staking.withdrawStake(0, provider, {"from": provider})
    staking.withdrawDelegation(0, pools.delegator, {"from": pools.delegator})
    pools.stage.token.approve(staking, UNIT, {"from": provider})
    staking.stake(UNIT, {"from": provider})
    assert staking.isJailed(provider)


def test_seats_are_set_aside(pools: Pools) -> None:
    staking, provider = pools.staking, pools.provider
    sent = staking.setSeats(provider, 1, {"from": pools.court})
    assert (sent.events["SeatsSet"]["provider"], sent.events["SeatsSet"]["seats"]) == (provider, 1)
    assert seats(pools) == (1, 1)
    assert staking.unitsOf(provider) == 3
    with reverts_with("StakeTooLow", 5 * UNIT, 4 * UNIT):
        staking.registerGpus(digest_of("gpus"), 4, {"from": provider})
    staking.registerGpus(digest_of("gpus"), 3, {"from": provider})
    with reverts_with("StakeBacksGpus", 4 * UNIT, 4 * UNIT - 1):
        staking.requestUnbond(1, {"from": provider})
    with reverts_with("StakeTooLow", 5 * UNIT, 4 * UNIT):
        staking.setSeats(provider, 2, {"from": pools.court})
    staking.registerGpus("0x" + "00" * 32, 0, {"from": provider})
    staking.setSeats(provider, 4, {"from": pools.court})
    assert staking.unitsOf(provider) == 0
    staking.setSeats(provider, 0, {"from": pools.court})
    staking.requestUnbond(4 * UNIT, {"from": provider})


def test_a_slash_reaches_seats(pools: Pools) -> None:
    staking, provider = pools.staking, pools.provider
    staking.setSeats(provider, 3, {"from": pools.court})
    pools.slash(2 * UNIT + 1)
    assert seats(pools) == (3, 1)
    assert staking.unitsOf(provider) == 0
    with reverts_with("ProviderJailed", provider):
        staking.setSeats(provider, 4, {"from": pools.court})
    staking.setSeats(provider, 2, {"from": pools.court})
    staking.registerGpus("0x" + "00" * 32, 0, {"from": provider})
    with reverts_with("StakeBacksGpus"):
        staking.requestUnbond(1, {"from": provider})
    staking.setSeats(provider, 0, {"from": pools.court})
    staking.requestUnbond(2 * UNIT - 1, {"from": provider})


def test_seats_are_the_courts_alone(pools: Pools, people: list[Any]) -> None:
    for person in people[:11]:
        with reverts_with("OnlyCourt", pools.court, person):
            pools.staking.setSeats(pools.provider, 1, {"from": person})


def seats(pools: Pools) -> tuple[int, int]:
    held, covered = pools.staking.seatsOf(pools.provider)
    return int(held), int(covered)
