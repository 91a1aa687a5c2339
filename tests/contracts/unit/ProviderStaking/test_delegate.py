"""delegate, requestUndelegate, withdrawDelegation: standing behind another's work.

delegate
├── shares by an internal index: nobody moves it by sending tokens (53, 64)
├── at least the minimum, at least the shares asked for; from a permit, too
└── newcomers to a slashed pool pay its price
requestUndelegate
├── a clock of its own for each request, of the delegator's own count (10, 60)
├── leaves nothing, or at least the minimum
└── reverts for shares that are not there, or for less than asked for
withdrawDelegation
└── pays once, to the second, what slashes left (30, 55)
"""

from __future__ import annotations

from typing import Any

from tallystick.protocol.permits import sign_permit
from tallystick.protocol.types import Address, Digest
from tests.contracts.pools import EVERYTHING, Pools
from tests.contracts.stage import DAY_S, TALLY, UNIT, ZERO, at_time, reverts_with


def test_a_share_is_a_token_while_nothing_was_slashed(pools: Pools, other_provider: Any) -> None:
    sent = pools.delegate(3 * UNIT)
    event = sent.events["Delegated"]
    assert (event["provider"], event["delegator"]) == (pools.provider, pools.delegator)
    assert (event["amount"], event["shares"], event["delegated"]) == (3 * UNIT,) * 3
    pools.delegate(TALLY + 1, by=other_provider)
    assert pools.delegation() == (3 * UNIT, 3 * UNIT)
    assert pools.delegation(other_provider) == (TALLY + 1, TALLY + 1)
    assert pools.pool().tokens == pools.pool().shares == 3 * UNIT + TALLY + 1
    assert pools.staking.hasPool(pools.provider)
    # It backs no GPU.
    assert pools.staking.unitsOf(pools.provider) == 4


def test_takes_a_permit_also_one_used_up_before(pools: Pools, stranger: Any) -> None:
    """Case 20."""
    token, person = pools.stage.token, pools.delegator
    deadline = pools.stage.now() + 600
    separator = Digest("0x" + bytes(token.DOMAIN_SEPARATOR()).hex())
    permit = sign_permit(
        separator,
        Address(person.address),
        Address(pools.staking.address),
        UNIT,
        0,
        deadline,
        person.private_key,
    )
    raw = bytes.fromhex(permit[2:])
    v, r, s = raw[64], raw[:32], raw[32:64]
    token.permit(person, pools.staking, UNIT, deadline, v, r, s, {"from": stranger})
    pools.staking.delegateWithPermit(
        pools.provider, UNIT, UNIT, deadline, v, r, s, {"from": person}
    )
    assert pools.delegation() == (UNIT, UNIT)


def test_reverts_below_the_minimum(pools: Pools) -> None:
    minimum = UNIT // 100
    assert pools.staking.minDelegation() == minimum
    for amount in (0, 1, minimum - 1):
        with reverts_with("DelegationTooSmall", minimum, amount):
            pools.delegate(amount)
    pools.delegate(minimum)


def test_reverts_for_nobody(pools: Pools) -> None:
    with reverts_with("ZeroAddress"):
        pools.delegate(UNIT, provider=ZERO)


def test_reverts_for_fewer_shares_than_asked_for(pools: Pools) -> None:
    pools.stage.token.approve(pools.staking, UNIT, {"from": pools.delegator})
    with reverts_with("SharesBelowMinimum", UNIT + 1, UNIT):
        pools.staking.delegate(pools.provider, UNIT, UNIT + 1, {"from": pools.delegator})


def test_newcomers_to_a_slashed_pool_pay_its_price(pools: Pools, other_provider: Any) -> None:
    pools.delegate(4 * UNIT)
    pools.slash(5 * UNIT)
    assert pools.delegation() == (4 * UNIT, 3 * UNIT)
    pools.delegate(3 * UNIT, by=other_provider)
    shares, worth = pools.delegation(other_provider)
    assert abs(shares - 4 * UNIT) <= 2
    assert 3 * UNIT - 1 <= worth <= 3 * UNIT
    assert pools.delegation()[1] in (3 * UNIT, 3 * UNIT - 1)


def test_a_gift_moves_no_price(pools: Pools, other_provider: Any) -> None:
    """Case 53: the first delegator gives tokens away and the next loses nothing by it. Case 64:
    nobody can delegate for another."""
    pools.delegate(TALLY)
    pools.undelegate(TALLY)
    pools.delegate(TALLY)
    pools.stage.token.transfer(pools.staking, 500 * UNIT, {"from": pools.delegator})
    pools.delegate(UNIT, by=other_provider)
    assert pools.delegation(other_provider) == (UNIT, UNIT)


def test_each_undelegation_has_its_own_clock(pools: Pools) -> None:
    """Case 10."""
    pools.delegate(3 * UNIT)
    first = pools.undelegate(UNIT)
    assert (first["requestId"], first["shares"], first["amount"]) == (0, UNIT, UNIT)
    assert first["delegated"] == 2 * UNIT
    asked = pools.stage.now()
    assert first["withdrawableAt"] == asked + 21 * DAY_S
    pools.stage.at(asked + DAY_S)
    second = pools.undelegate(UNIT)
    pools.delegate(UNIT)
    assert second["withdrawableAt"] >= asked + 22 * DAY_S
    staking, person = pools.staking, pools.delegator
    ready = first["withdrawableAt"]
    with at_time(pools.stage, ready - 1), reverts_with("UnbondingNotOver", ready, ready - 1):
        staking.withdrawDelegation(0, person, {"from": person})
    before = pools.stage.token.balanceOf(person)
    with at_time(pools.stage, ready):
        sent = staking.withdrawDelegation(0, person, {"from": person})
    event = sent.events["DelegationWithdrawn"]
    assert (event["provider"], event["amount"], event["requestId"]) == (pools.provider, UNIT, 0)
    assert pools.stage.token.balanceOf(person) - before == UNIT
    with reverts_with("UnbondingNotOver", second["withdrawableAt"]):
        staking.withdrawDelegation(1, person, {"from": person})
    with reverts_with("UnknownRequest", person, 0):
        staking.withdrawDelegation(0, person, {"from": person})
    assert pools.request(0) == (0, 0)
    assert staking.undelegateRequestsOf(person) == 2


def test_requests_are_counted_by_whoever_asks(pools: Pools, other_provider: Any) -> None:
    """Case 60: nobody adds to another's requests; one's own go over all providers."""
    pools.delegate(UNIT)
    pools.delegate(UNIT, provider=other_provider)
    pools.delegate(UNIT, by=pools.provider)
    assert pools.undelegate(UNIT)["requestId"] == 0
    assert pools.undelegate(UNIT, provider=other_provider)["requestId"] == 1
    assert pools.undelegate(UNIT, by=pools.provider)["requestId"] == 0
    assert pools.staking.unbondRequestsOf(pools.provider) == 0
    with reverts_with("UnknownRequest", pools.provider, 1):
        pools.staking.withdrawDelegation(1, pools.provider, {"from": pools.provider})


def test_leaves_nothing_or_the_minimum(pools: Pools) -> None:
    pools.delegate(2 * TALLY)
    with reverts_with("DelegationTooSmall", TALLY, TALLY - 1):
        pools.undelegate(TALLY + 1)
    pools.undelegate(TALLY)
    pools.undelegate(TALLY)
    assert pools.delegation() == (0, 0)


def test_dust_that_a_slash_left_can_leave(pools: Pools) -> None:
    pools.delegate(TALLY)
    pools.slash(4 * UNIT + TALLY - 10**12)
    assert pools.delegation() == (TALLY, 10**12)
    pools.undelegate(TALLY)
    assert pools.request(0)[0] == 10**12


def test_reverts_for_shares_that_are_not_there(pools: Pools, stranger: Any) -> None:
    pools.delegate(UNIT)
    with reverts_with("InsufficientShares", UNIT + 1, UNIT):
        pools.undelegate(UNIT + 1)
    with reverts_with("InsufficientShares", 1, 0):
        pools.undelegate(1, by=stranger)
    with reverts_with("ZeroAmount"):
        pools.undelegate(0)


def test_reverts_for_less_than_asked_for(pools: Pools) -> None:
    pools.delegate(2 * UNIT)
    pools.slash(5 * UNIT)
    with reverts_with("AmountBelowMinimum", UNIT, UNIT // 2):
        pools.staking.requestUndelegate(pools.provider, UNIT, UNIT, {"from": pools.delegator})
    pools.staking.requestUndelegate(pools.provider, UNIT, UNIT // 2, {"from": pools.delegator})


def test_pays_what_slashes_left(pools: Pools, stranger: Any) -> None:
    """Case 55: until it is withdrawn, also after its clock has run."""
    pools.delegate(UNIT)
    event = pools.undelegate(UNIT)
    pools.stage.at(event["withdrawableAt"] + DAY_S)
    pools.slash(4 * UNIT + UNIT // 4)
    pools.staking.withdrawDelegation(0, stranger, {"from": pools.delegator})
    assert pools.stage.token.balanceOf(stranger) == UNIT * 3 // 4
    assert pools.undelegating() == 0


def test_withdraw_reverts_to_nowhere(pools: Pools) -> None:
    pools.delegate(UNIT)
    pools.undelegate(UNIT)
    for nowhere in (ZERO, pools.staking.address):
        with reverts_with("InvalidRecipient", nowhere):
            pools.staking.withdrawDelegation(0, nowhere, {"from": pools.delegator})


def test_everybody_leaves_with_all_of_it(pools: Pools, people: list[Any]) -> None:
    """Law 6, and law 8: in and out again is no profit, whoever joins and leaves in between."""
    delegators = [people[1], people[2], people[9], people[10]]
    for n, person in enumerate(delegators):
        pools.delegate(UNIT + n, by=person)
    pools.slash(4 * UNIT + 7)
    before = {person.address: pools.stage.token.balanceOf(person) for person in delegators}
    for person in delegators:
        event = pools.undelegate(pools.delegation(person)[0], by=person)
    pools.stage.at(event["withdrawableAt"])
    paid = 0
    for n, person in enumerate(delegators):
        sent = pools.staking.withdrawDelegation(0, person, {"from": person})
        got = pools.stage.token.balanceOf(person) - before[person.address]
        assert sent.return_value == got
        assert UNIT + n - 4 <= got <= UNIT + n
        paid += got
    assert paid == 4 * UNIT + 6 - 7
    assert pools.stage.token.balanceOf(pools.staking) == pools.staking.unburned() == 4 * UNIT + 7


def test_a_slash_takes_no_more_than_everything_of_the_largest(pools: Pools) -> None:
    """Casts: amounts at the edge of their type revert for want of tokens, and change nothing."""
    for amount in (EVERYTHING, 2**127):
        with reverts_with("ERC20InsufficientBalance"):
            pools.delegate(amount)
    with reverts_with("InsufficientShares"):
        pools.undelegate(2**160 - 1)
