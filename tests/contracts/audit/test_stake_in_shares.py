"""What auditors found in systems that share stake out, tried on this one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.conftest import deploy_neighbours
from tests.contracts.pools import EVERYTHING, Pools, undone
from tests.contracts.stage import CLOCKS, DAY_S, TALLY, UNIT, Stage, at_time, reverts_with

WEEK_S = 7 * DAY_S
FLAT = 1.05


def test_the_first_delegator_cannot_make_a_share_dear(pools: Pools, other_provider: Any) -> None:
    """Case 53: it leaves all but one share, slashes nothing, gives tokens away; the victim loses
    less than a millionth, here nothing."""
    pools.delegate(TALLY)
    with reverts_with("DelegationTooSmall"):
        pools.undelegate(TALLY - 1)
    pools.stage.token.transfer(pools.staking, 10_000 * TALLY, {"from": pools.delegator})
    pools.stage.token.transfer(pools.staking, 10_000 * TALLY, {"from": pools.provider})
    pools.delegate(1_000 * TALLY, by=other_provider)
    assert pools.delegation(other_provider)[1] == 1_000 * TALLY
    assert pools.delegation()[1] == TALLY


def test_burning_shares_by_crumbs_makes_nobody_poorer(pools: Pools, other_provider: Any) -> None:
    """Case 53, after a slash: crumbs that round to nothing cannot leave."""
    pools.delegate(10 * TALLY)
    pools.slash(4 * UNIT + 8 * TALLY)
    with reverts_with("ZeroAmount"):
        pools.undelegate(3)
    pools.undelegate(11)
    pools.delegate(UNIT, by=other_provider)
    assert pools.delegation(other_provider)[1] >= UNIT - 1


def test_a_slash_of_one_wei_leaves_the_last_withdrawal_working(pools: Pools) -> None:
    """Case 59: tokens and unbonding are the same odd number; the slash takes one."""
    odd = TALLY + 1
    pools.slash(4 * UNIT - odd)
    asked = pools.staking.requestUnbond(odd, {"from": pools.provider})
    pools.delegate(odd)
    event = pools.undelegate(odd)
    for slashed in (1, 1, odd - 2 + 1):
        pools.slash(slashed)
    assert pools.stage.stake_of(pools.provider) == (0, 0)
    assert pools.undelegating() == odd - 1
    pools.stage.at(event["withdrawableAt"])
    assert asked.events["UnbondRequested"]["withdrawableAt"] <= pools.stage.now()
    assert (
        pools.staking.withdrawStake(0, pools.provider, {"from": pools.provider}).return_value == 0
    )
    paid = pools.staking.withdrawDelegation(0, pools.delegator, {"from": pools.delegator})
    assert paid.return_value == odd - 1
    pools.staking.burnSlashed({"from": pools.delegator})
    assert pools.stage.token.balanceOf(pools.staking) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_requests_withdrawn_in_any_order_empty_the_pot(
    pools: Pools, order: tuple[int, int, int]
) -> None:
    """Case 59: after each of many slashes of one wei."""
    for amount in (TALLY + 1, 7, UNIT):
        pools.staking.requestUnbond(amount, {"from": pools.provider})
    own = pools.stage.stake_of(pools.provider)[0]
    pools.slash(own)
    for _ in range(7):
        pools.slash(1)
    pools.stage.at(pools.stage.now() + 21 * DAY_S)
    there = pools.stage.stake_of(pools.provider)[1]
    assert there == UNIT + TALLY + 8 - 7
    paid = [
        int(pools.staking.withdrawStake(n, pools.provider, {"from": pools.provider}).return_value)
        for n in order
    ]
    assert sum(paid) == there
    assert pools.stage.stake_of(pools.provider) == (0, 0)


def test_leaving_before_the_verdict_saves_nothing(pools: Pools) -> None:
    """Case 58: stake is slashable from the request on for longer than any dispute takes, which the
    market's constructor checks; and a request whose clock has run is still there to be slashed."""
    assert pools.staking.unbondingSeconds() == CLOCKS[0]
    pools.delegate(UNIT)
    pools.undelegate(UNIT)
    pools.staking.requestUnbond(4 * UNIT, {"from": pools.provider})
    with at_time(pools.stage, pools.stage.now() + 20 * DAY_S):
        pools.slash(5 * UNIT)
    assert pools.stage.stake_of(pools.provider) == (0, 0)
    assert pools.undelegating() == 0


def test_the_longest_periods_do_not_wrap(
    deployer: Any, token: Any, treasury: Any, court: Any, provider: Any, delegator: Any
) -> None:
    """Case 56: with every clock at its largest nothing leaves at once."""
    from brownie import ComputeEscrow, ProviderStaking, chain

    longest = 2**32 - 1
    staking = deployer.get_deployment_address(deployer.nonce + 1)
    market = deployer.get_deployment_address(deployer.nonce + 2)
    escrow = deployer.deploy(ComputeEscrow, token, market, staking, treasury, 0, 0, DAY_S)
    staking = deployer.deploy(ProviderStaking, token, escrow, court, UNIT, (longest,) * 5)
    for person in (provider, delegator):
        token.approve(staking, UNIT, {"from": person})
    staking.stake(UNIT, {"from": provider})
    staking.delegate(provider, UNIT, 0, {"from": delegator})
    asked = staking.requestUnbond(UNIT, {"from": provider})
    left = staking.requestUndelegate(provider, UNIT, 0, {"from": delegator})
    assert asked.events["UnbondRequested"]["withdrawableAt"] == asked.timestamp + longest
    assert left.events["UndelegateRequested"]["withdrawableAt"] == left.timestamp + longest
    with reverts_with("UnbondingNotOver"):
        staking.withdrawStake(0, provider, {"from": provider})
    with reverts_with("UnbondingNotOver"):
        staking.withdrawDelegation(0, delegator, {"from": delegator})
    jailed = staking.slash(provider, 1, "0x" + "01" * 32, [], {"from": court})
    assert staking.jailedUntil(provider) == jailed.timestamp + longest
    told = staking.setCommission(1, {"from": provider})
    assert told.events["CommissionSet"]["effectiveAt"] == told.timestamp + longest
    assert chain[-1].timestamp < longest


def test_strangers_fill_nobodys_queue(pools: Pools, other_provider: Any) -> None:
    """Cases 9 and 60: a hundred requests of another behind the same provider cost nobody."""
    pools.delegate(UNIT)
    pools.delegate(200 * TALLY, by=other_provider)
    pools.undelegate(TALLY, by=other_provider)
    pools.undelegate(TALLY)
    exit_gas = gas_of_exit(pools)
    for _ in range(100):
        pools.undelegate(TALLY, by=other_provider)
    assert pools.staking.undelegateRequestsOf(pools.delegator) == 1
    assert gas_of_exit(pools) <= exit_gas * FLAT


def test_gas_is_flat_in_the_number_of_delegators(
    pools: Pools, people: list[Any], other_provider: Any
) -> None:
    """Cases 8 and 68: no verb loops over delegators or requests; a hundred change nothing."""
    from brownie import accounts, web3

    pools.delegate(UNIT)
    pools.delegate(UNIT, by=other_provider)
    pools.undelegate(TALLY, by=other_provider)
    few = gas_of_verbs(pools)
    for n in range(100):
        person = accounts.at("0x" + f"{0xD00D0000 + n:040x}", force=True)
        pools.stage.token.transfer(person, 2 * TALLY, {"from": pools.stage.consumer})
        web3.provider.make_request("anvil_setBalance", [person.address, hex(10**20)])
        pools.delegate(2 * TALLY, by=person)
        if n % 2:
            pools.undelegate(TALLY, by=person)
    many = gas_of_verbs(pools)
    for verb, gas in few.items():
        assert many[verb] <= gas * FLAT, (verb, gas, many[verb])


def gas_of_exit(pools: Pools) -> int:
    with undone():
        pools.stage.at(pools.stage.now() + 22 * DAY_S)
        sent = pools.staking.withdrawDelegation(0, pools.delegator, {"from": pools.delegator})
        return int(sent.gas_used)


def gas_of_verbs(pools: Pools) -> dict[str, int]:
    """Each verb on the same chain, then everything is as it was."""
    person = {"from": pools.delegator}
    with undone():
        used = {"addFees": pools.add_fees(TALLY)}
        pools.stage.at(pools.stage.now() + DAY_S)
        used["claimRewards"] = pools.staking.claimRewards(pools.provider, pools.delegator, person)
        used["delegate"] = pools.delegate(TALLY)
        used["requestUndelegate"] = pools.staking.requestUndelegate(
            pools.provider, TALLY, 0, person
        )
        used["slash"] = pools.slash(4 * UNIT + TALLY, to=(pools.delegator,))
        pools.stage.at(pools.stage.now() + 22 * DAY_S)
        used["withdrawDelegation"] = pools.staking.withdrawDelegation(0, pools.delegator, person)
        return {verb: int(sent.gas_used) for verb, sent in used.items()}


def test_adding_stake_to_break_a_bound_is_no_use(pools: Pools, stranger: Any) -> None:
    """Case 67: tokens sent, fees of dust and delegations of strangers lower nobody's bound."""
    pools.delegate(UNIT)
    pools.staking.setSeats(pools.provider, 1, {"from": pools.court})
    pools.stage.token.transfer(stranger, 10 * UNIT, {"from": pools.provider})
    pools.stage.token.transfer(pools.staking, UNIT, {"from": stranger})
    pools.delegate(UNIT, by=stranger)
    assert pools.staking.unitsOf(pools.provider) == 3
    with reverts_with("StakeBacksGpus", UNIT, UNIT - 1):
        pools.staking.requestUnbond(3 * UNIT + 1, {"from": pools.provider})
    assert pools.delegation() == (UNIT, UNIT)


def test_joining_for_a_day_earns_less_than_staying(pools: Pools, other_provider: Any) -> None:
    """Case 63: ten times the stake for one day of every week, three weeks locked each time."""
    pools.delegate(UNIT)
    sent = pools.add_fees(77 * TALLY)
    pools.delegate(10 * UNIT, by=other_provider)
    with at_time(pools.stage, sent.timestamp + DAY_S):
        pools.undelegate(10 * UNIT, by=other_provider)
    pools.stage.at(sent.timestamp + WEEK_S)
    assert 9 * TALLY < pools.rewards(other_provider) <= 10 * TALLY
    # A week's fees for the rest of its three weeks of waiting: nothing.
    assert 66 * TALLY < pools.rewards() <= 67 * TALLY + TALLY // 100


def test_fees_come_from_the_escrow_with_their_tokens(
    stage: Stage, pools: Pools, treasury: Any, stranger: Any
) -> None:
    """Case 54 and law 2, end to end: a task is paid, credit withdrawn, fees shared, rewards
    claimed; every unit of the protocol fee is somebody's."""
    announced = pools.staking.setCommission(1_000, {"from": pools.provider})
    stage.at(announced.timestamp + WEEK_S)
    pools.delegate(UNIT)
    terms = stage.terms(dispatcher_bps=0)
    stage.create(terms)
    stage.market.prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    stage.escrow.withdrawCredit(stage.provider, [], {"from": stranger})
    fees = stage.payee(stage.provider)[1]
    assert fees > 0
    sent = stage.escrow.shareFees(stage.provider, {"from": stranger})
    shared = int(sent.events["FeesShared"]["toPool"])
    assert shared == fees // 2
    commission = shared // 10
    assert pools.staking.feesOf(pools.provider) == commission
    assert pools.stream()[0] == shared - commission
    assert stage.token.balanceOf(pools.staking) == 5 * UNIT + shared
    stage.at(sent.timestamp + WEEK_S)
    assert shared - commission - 1 <= pools.rewards() <= shared - commission
    pools.undelegate(UNIT)
    assert pools.rewards() + int(pools.staking.feesOf(treasury)) == shared - commission


def test_a_slash_of_everything_never_reverts_whatever_was_set(
    pools: Pools, operator: Any, other_provider: Any
) -> None:
    """Case 62, in the order a provider would try it."""
    staking, provider = pools.staking, pools.provider
    pools.delegate(UNIT)
    pools.delegate(UNIT, by=provider)
    pools.undelegate(TALLY)
    staking.requestUnbond(UNIT, {"from": provider})
    staking.setCommission(10_000, {"from": provider})
    staking.setSeats(provider, 2, {"from": pools.court})
    staking.retireOperatorKey(operator, {"from": provider})
    pools.add_fees(TALLY)
    for amount in (1, UNIT, EVERYTHING, EVERYTHING):
        pools.slash(amount, to=(provider, other_provider))
    assert pools.stage.stake_of(provider) == (0, 0)
    assert (pools.pool().tokens, pools.undelegating()) == (0, 0)


@pytest.mark.parametrize("verb", ["withdrawStake", "withdrawDelegation", "claimRewards", "stake"])
def test_a_token_that_calls_back_is_turned_away(
    deployer: Any, consumer: Any, treasury: Any, court: Any, verb: str
) -> None:
    """Case 1: whichever verb moves tokens, no other moves any meanwhile."""
    from brownie import ReentrantToken, accounts, web3

    token = deployer.deploy(ReentrantToken, consumer, 1_000 * UNIT)
    escrow, staking, _ = deploy_neighbours(deployer, token, treasury, court)
    sender = {"from": consumer}
    token.approve(staking, 1_000 * UNIT, sender)
    staking.stake(2 * UNIT, sender)
    staking.delegate(consumer, 2 * UNIT, 0, sender)
    web3.provider.make_request("anvil_setBalance", [escrow.address, hex(10**20)])
    token.transfer(staking, UNIT, sender)
    staking.addFees(consumer, UNIT, {"from": accounts.at(escrow.address, force=True)})
    staking.requestUnbond(UNIT, sender)
    asked = staking.requestUndelegate(consumer, UNIT, 0, sender)
    web3.provider.make_request("evm_setNextBlockTimestamp", [asked.timestamp + 22 * DAY_S])
    web3.provider.make_request("evm_mine", [])
    calls = {
        "withdrawStake": (staking.withdrawStake, (0, consumer)),
        "withdrawDelegation": (staking.withdrawDelegation, (0, consumer)),
        "claimRewards": (staking.claimRewards, (consumer, consumer)),
        "stake": (staking.stake, (1,)),
    }
    for inner, (function, arguments) in calls.items():
        with undone():
            token.arm(staking, function.encode_input(*arguments), sender)
            outer, given = calls[verb]
            outer(*given, sender)
            assert token.called(), inner
            assert not token.succeeded(), inner
