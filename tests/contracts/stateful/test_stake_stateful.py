"""Stake, delegation, fees and verdicts against a model: whatever people do in whatever order.

Invariants (laws of the protocol)
- L1 solvency: the contract holds what it owes, to the wei, and what was sent without a verb
- L2 conservation: what was added in fees is what was claimed, can be claimed, is commission, is the
  treasury's, or has not flowed; less than a unit for each position is carried
- L7 a slash takes min(asked, there), never reverts, and everybody alike
- L8 a share's price moves by slashes alone, and by less than a unit with each entry or exit
- every pot equals the kernel's, share for share
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tallystick.protocol.shares import Pot, bounty_each_down, commission_down, slash_of
from tests.contracts.pools import Pools
from tests.contracts.stage import TALLY, UNIT, reverts_with
from tests.support.effort import tries

PERSON = strategies.integers(0, 2)
AMOUNT = strategies.one_of(strategies.integers(TALLY, 3 * UNIT), strategies.just(TALLY + 1))
PART = strategies.integers(1, 4)
HOURS = strategies.integers(1, 12 * 24)
SLASH = strategies.one_of(
    strategies.just(1), strategies.integers(0, UNIT), strategies.integers(UNIT, 20 * UNIT)
)


@dataclass
class Request:
    owner: Any
    request_id: int
    shares: int
    generation: int
    at: int


@dataclass
class Model:
    """One provider, as the kernel has it."""

    bonded: int = 4 * UNIT
    unbonding: Pot = field(default_factory=Pot)
    delegated: Pot = field(default_factory=Pot)
    undelegating: Pot = field(default_factory=Pot)
    shares: dict[str, int] = field(default_factory=dict)
    unbond_requests: list[Request] = field(default_factory=list)
    undelegate_requests: list[Request] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    bounties: int = 0
    unburned: int = 0
    fees_added: int = 0
    fees_paid: int = 0


class Stakes(RuleBasedStateMachine):
    pools: ClassVar[Pools]
    people: ClassVar[list[Any]]
    treasury: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.pools.stage.chain.snapshot()
        self.staking, self.provider = self.pools.staking, self.pools.provider
        self.model = Model()
        self.gifts = 0

    def teardown(self) -> None:
        self.pools.stage.chain.revert()

    # ------------------------------------------------------------------ acts

    @rule(amount=AMOUNT)
    def stake(self, amount: int) -> None:
        self.pools.stage.token.approve(self.staking, amount, {"from": self.provider})
        self.staking.stake(amount, {"from": self.provider})
        self.model.bonded += amount

    @rule(part=PART)
    def request_unbond(self, part: int) -> None:
        amount = self.model.bonded // part
        if amount == 0:
            with reverts_with("ZeroAmount"):
                self.staking.requestUnbond(amount, {"from": self.provider})
            return
        sent = self.staking.requestUnbond(amount, {"from": self.provider})
        event = sent.events["UnbondRequested"]
        self.model.bonded -= amount
        self.model.unbonding, held = self.model.unbonding.add(amount)
        self.model.unbond_requests.append(
            Request(
                self.provider,
                int(event["requestId"]),
                held,
                self.model.unbonding.generation,
                int(event["withdrawableAt"]),
            )
        )

    @rule(person=PERSON, amount=AMOUNT)
    def delegate(self, person: int, amount: int) -> None:
        who = self.people[person]
        event = self.pools.delegate(amount, by=who).events["Delegated"]
        self.model.delegated, held = self.model.delegated.add(amount)
        assert event["shares"] == held
        self.model.shares[who.address] = self.model.shares.get(who.address, 0) + held

    @rule(person=PERSON, part=PART)
    def request_undelegate(self, person: int, part: int) -> None:
        who = self.people[person]
        has = self.model.shares.get(who.address, 0)
        held = has // part
        pool, amount = self.model.delegated.remove(held)
        if held == 0 or amount == 0:
            with reverts_with("ZeroAmount"):
                self.pools.undelegate(held, by=who)
            return
        if held != has and pool.tokens_down(has - held) < UNIT // 100:
            with reverts_with("DelegationTooSmall"):
                self.pools.undelegate(held, by=who)
            return
        event = self.pools.undelegate(held, by=who)
        assert event["amount"] == amount
        self.model.delegated = pool
        self.model.shares[who.address] = has - held
        self.model.undelegating, leaving = self.model.undelegating.add(amount)
        self.model.undelegate_requests.append(
            Request(
                who,
                int(event["requestId"]),
                leaving,
                self.model.undelegating.generation,
                int(event["withdrawableAt"]),
            )
        )

    @rule()
    def withdraw_everything_ripe(self) -> None:
        """Whoever waited long enough is paid; a slash to nothing pays nothing and closes."""
        now = self.pools.stage.now()
        for request in [one for one in self.model.unbond_requests if one.at <= now]:
            self.model.unbonding, amount = self.value_of(self.model.unbonding, request)
            sent = self.staking.withdrawStake(
                request.request_id, self.provider, {"from": self.provider}
            )
            assert sent.return_value == amount
            self.model.unbond_requests.remove(request)
        for request in [one for one in self.model.undelegate_requests if one.at <= now]:
            self.model.undelegating, amount = self.value_of(self.model.undelegating, request)
            sent = self.staking.withdrawDelegation(
                request.request_id, request.owner, {"from": request.owner}
            )
            assert sent.return_value == amount
            self.model.undelegate_requests.remove(request)

    @rule()
    def nothing_ripens_early(self) -> None:
        now = self.pools.stage.now()
        for request in self.model.undelegate_requests[-1:]:
            if request.at > now + 1:
                with reverts_with("UnbondingNotOver"):
                    self.staking.withdrawDelegation(
                        request.request_id, request.owner, {"from": request.owner}
                    )

    @rule(amount=SLASH, beneficiaries=strategies.integers(0, 3))
    def slash(self, amount: int, beneficiaries: int) -> None:
        model = self.model
        lost = slash_of(
            amount,
            bonded=model.bonded,
            unbonding=model.unbonding.tokens,
            delegated=model.delegated.tokens,
            undelegating=model.undelegating.tokens,
        )
        sent = self.pools.slash(amount, to=tuple(self.people[:beneficiaries]))
        assert sent.return_value == lost.total
        model.bonded -= lost.bonded
        rests = 0
        for name in ("unbonding", "delegated", "undelegating"):
            taken = getattr(lost, name)
            if taken:
                pot, rest = getattr(model, name).slash(taken)
                if name == "delegated" and pot.generation != model.delegated.generation:
                    model.shares = {}
                setattr(model, name, pot)
                rests += rest
        bounty = bounty_each_down(lost.total, beneficiaries) * beneficiaries
        model.bounties += bounty + rests
        model.unburned += lost.total - bounty

    @rule(amount=strategies.integers(1, UNIT))
    def add_fees(self, amount: int) -> None:
        if self.model.delegated.shares == 0:
            with reverts_with("NoPool"):
                self.staking.addFees(self.provider, amount, {"from": self.pools.escrow})
            return
        bps = int(self.staking.commissionOf(self.provider)[0])
        event = self.pools.add_fees(amount).events["FeesAdded"]
        assert event["commission"] == commission_down(amount, bps)
        self.model.fees_added += amount

    @rule(bps=strategies.integers(0, 10_000))
    def set_commission(self, bps: int) -> None:
        self.staking.setCommission(bps, {"from": self.provider})

    @rule(person=PERSON)
    def claim(self, person: int) -> None:
        who = self.people[person]
        there = self.pools.rewards(who)
        if there == 0 and self.pools.stream()[0] == 0:
            with reverts_with("NothingToWithdraw"):
                self.staking.claimRewards(self.provider, who, {"from": who})
        elif there:
            paid = int(self.staking.claimRewards(self.provider, who, {"from": who}).return_value)
            assert paid >= there
            self.model.fees_paid += paid

    @rule()
    def burn(self) -> None:
        if self.model.unburned:
            self.staking.burnSlashed({"from": self.provider})
            self.model.unburned = 0

    @rule(amount=AMOUNT)
    def a_gift_is_nobodys(self, amount: int) -> None:
        """Case 18."""
        self.pools.stage.token.transfer(self.staking, amount, {"from": self.pools.stage.consumer})
        self.gifts += amount

    @rule(hours=HOURS)
    def wait(self, hours: int) -> None:
        self.pools.stage.at(self.pools.stage.now() + hours * 3_600)

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def pots_equal_the_kernel(self) -> None:
        model = self.model
        assert self.pools.stage.stake_of(self.provider) == (model.bonded, model.unbonding.tokens)
        assert self.pools.pool() == model.delegated
        assert self.pools.undelegating() == model.undelegating.tokens
        assert self.staking.unitsOf(self.provider) == model.bonded // UNIT
        for who in self.people:
            assert self.pools.delegation(who)[0] == model.shares.get(who.address, 0)
        assert sum(model.shares.values()) == model.delegated.shares

    @invariant()
    def fees_are_all_somebodys(self) -> None:
        owed = sum(self.pools.rewards(who) for who in self.people)
        owed += int(self.staking.feesOf(self.provider)) + int(self.staking.feesOf(self.treasury))
        owed += self.pools.stream()[0]
        carried = self.model.fees_added - self.model.fees_paid - owed
        assert 0 <= carried <= 2 * len(self.people)

    @invariant()
    def the_contract_holds_what_it_owes(self) -> None:
        model = self.model
        owed = model.bonded + model.unbonding.tokens
        owed += model.delegated.tokens + model.undelegating.tokens
        owed += model.bounties + model.unburned
        owed += model.fees_added - model.fees_paid
        assert self.pools.stage.token.balanceOf(self.staking) == owed + self.gifts
        bounties = [*self.people, self.treasury]
        assert sum(int(self.staking.bountyOf(who)) for who in bounties) == model.bounties

    @staticmethod
    def value_of(pot: Pot, request: Request) -> tuple[Pot, int]:
        return pot.remove(request.shares) if request.generation == pot.generation else (pot, 0)


def test_stake_is_conserved(pools: Pools, people: list[Any], treasury: Any) -> None:
    """Cases 55, 57, 59, 61 and 66, in orders that nobody thought of."""
    Stakes.pools = pools
    # The provider delegates to itself, too (61, 71).
    Stakes.people = [pools.delegator, people[9], pools.provider]
    Stakes.treasury = treasury
    run_state_machine_as_test(
        Stakes,
        settings=settings(
            max_examples=tries(4, long=8),
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
