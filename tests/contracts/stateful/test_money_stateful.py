"""Escrow and market against a model: whatever people do in whatever order.

Invariants (laws of the protocol)
- L1 solvency: the escrow holds what it owes, to the wei, plus what was sent without a deposit
- L2 conservation: every act moves between people exactly what the model says
- L3 one payment: a nonce pays once, over both routes
- case 31: a task goes only where the state machine allows; every other move reverts and changes
  nothing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from brownie import web3
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tallystick.protocol.messages import TaskTerms, as_tuple
from tallystick.protocol.pricing import charge_up
from tests.contracts.stage import DAY_S, TALLY, Stage, Usage, reverts_with
from tests.support.effort import tries

CANCEL_S = 3_600


@dataclass
class Task:
    """What the model remembers: `state` is order, open, proven or closed."""

    terms: TaskTerms
    consumer: Any
    state: str = "order"
    cancelled_at: int = 0
    charge: int = 0
    usage: Usage | None = None
    window_ends_at: int = 0

    @property
    def end(self) -> int:
        if self.cancelled_at == 0:
            return self.terms.deadline
        return min(self.terms.deadline, self.cancelled_at + CANCEL_S)


DAYS = strategies.integers(1, 3)
PERSON = strategies.integers(0, 1)
TASK = strategies.integers(0, 20)
MINUTES = strategies.integers(0, 60)
AMOUNT = strategies.integers(1, 50 * TALLY)
CEILING = strategies.integers(0, 100 * TALLY)


class Money(RuleBasedStateMachine):
    """Rules are acts of people; a rule that may not happen must revert. (Hypothesis directly:
    Brownie's `state_machine` does not run in its compiled form.)"""

    stage: ClassVar[Stage]
    other: ClassVar[Any]
    stranger: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.stage.chain.snapshot()
        self.consumers = [self.stage.consumer, self.other]
        self.available = {self.stage.consumer.address: 1_000 * TALLY, self.other.address: 0}
        self.locked = {person.address: 0 for person in self.consumers}
        payees = (self.stage.provider, self.stage.dispatcher)
        self.credit = {person.address: 0 for person in payees}
        self.fees = {person.address: 0 for person in payees}
        self.gifts = 0
        self.tasks: list[Task] = []

    @initialize(ceiling=CEILING)
    def two_tasks_are_open(self, ceiling: int) -> None:
        for _ in range(2):
            self.order(person=0, ceiling=ceiling, days=2, secured=True)

    def teardown(self) -> None:
        self.stage.chain.revert()

    # ------------------------------------------------------------------ acts

    @rule(person=PERSON, amount=AMOUNT)
    def deposit(self, person: int, amount: int) -> None:
        person = self.consumers[person]
        self.stage.escrow.deposit(person, amount, {"from": person})
        self.available[person.address] += amount

    @rule(person=PERSON, amount=AMOUNT)
    def withdraw(self, person: int, amount: int) -> None:
        person = self.consumers[person]
        if self.available[person.address] < amount:
            with reverts_with("InsufficientAvailable"):
                self.stage.escrow.withdraw(amount, person, {"from": person})
            return
        self.stage.escrow.withdraw(amount, person, {"from": person})
        self.available[person.address] -= amount

    @rule(
        person=PERSON,
        ceiling=CEILING,
        days=DAYS,
        secured=strategies.booleans(),
    )
    def order(self, person: int, ceiling: int, days: int, secured: bool) -> None:
        """A new order, signed; secured by locking its ceiling, or not yet on chain."""
        person = self.consumers[person]
        terms = self.stage.terms(
            consumer=person.address,
            max_charge=ceiling,
            deadline=self.stage.now() + days * DAY_S,
            nonce=len(self.tasks),
        )
        self.tasks.append(Task(terms, person))
        if secured:
            self.create_now(self.tasks[-1])

    @rule(task=TASK)
    def create(self, task: int) -> None:
        task = self.pick(task)
        if task is None:
            return
        self.create_now(task)

    def create_now(self, task: Task) -> None:
        terms = as_tuple(task.terms)
        signature = self.stage.signed(task.terms, task.consumer)
        error = self.why_not_created(task)
        if error is not None:
            with reverts_with(error):
                self.stage.market.createTask(terms, signature, {"from": self.stranger})
            return
        self.stage.market.createTask(terms, signature, {"from": self.stranger})
        self.available[task.consumer.address] -= task.terms.max_charge
        self.locked[task.consumer.address] += task.terms.max_charge
        task.state = "open"

    @rule(task=TASK, minutes=MINUTES, expect=strategies.booleans())
    def prove(self, task: int, minutes: int, expect: bool) -> None:
        task = self.pick(task)
        if task is None:
            return
        usage = self.usage(minutes)
        proof = self.stage.accepted(task.terms, usage, by=task.consumer)
        market = self.stage.market
        prove = market.prove if expect else market.proveOrder
        charge = charge_up(task.terms, usage.calls, usage.gpu_ms)
        error = self.why_not_proven(task, charge)
        if error is not None:
            with reverts_with(error):
                prove(proof, {"from": self.stranger})
            return
        prove(proof, {"from": self.stranger})
        self.pay(task, charge)

    @rule(minutes=MINUTES)
    def prove_many(self, minutes: int) -> None:
        """Every task at once; what cannot be paid is left as it was."""
        usage = self.usage(minutes)
        proofs = [self.stage.accepted(task.terms, usage, by=task.consumer) for task in self.tasks]
        sent = self.stage.market.proveMany(proofs, {"from": self.stranger})
        skipped = (
            {int(event["row"]) for event in sent.events["ProofSkipped"]}
            if ("ProofSkipped" in sent.events)
            else set()
        )
        for row, task in enumerate(self.tasks):
            charge = charge_up(task.terms, usage.calls, usage.gpu_ms)
            refused = self.why_not_proven(task, charge) is not None
            assert refused == (row in skipped)
            if not refused:
                self.pay(task, charge)

    @rule(task=TASK, minutes=MINUTES)
    def prove_alone(self, task: int, minutes: int) -> None:
        task = self.pick(task)
        if task is None:
            return
        usage = self.usage(minutes)
        proof = self.stage.leased(task.terms, usage)
        error = self.why_not_proven_alone(task, usage)
        if error is not None:
            with reverts_with(error):
                self.stage.market.proveAlone(proof, {"from": self.stranger})
            return
        sent = self.stage.market.proveAlone(proof, {"from": self.stranger})
        task.state, task.usage = "proven", usage
        task.charge = self.charge_until_cancel(task, usage)
        assert sent.events["TaskProven"]["charge"] == task.charge
        task.window_ends_at = sent.timestamp + DAY_S
        rest = task.terms.max_charge - task.charge
        self.locked[task.consumer.address] -= rest
        self.available[task.consumer.address] += rest

    @rule(task=TASK)
    def finalize(self, task: int) -> None:
        task = self.pick(task)
        if task is None:
            return
        terms = as_tuple(task.terms)
        usage = task.usage or self.usage(1)
        work = self.stage.proven(task.terms, usage, task.charge)
        error = None
        if task.state != "proven":
            error = "WrongStatus"
        elif self.stage.now() < task.window_ends_at:
            error = "ChallengeWindowOpen"
        if error is not None:
            with reverts_with(error):
                self.stage.market.finalize(terms, work, b"", {"from": self.stranger})
            return
        self.stage.market.finalize(terms, work, b"", {"from": self.stranger})
        self.locked[task.consumer.address] -= task.charge
        self.earn(task)

    @rule(task=TASK)
    def cancel(self, task: int) -> None:
        task = self.pick(task)
        if task is None:
            return
        error = None
        if task.state != "open":
            error = "WrongStatus"
        elif task.cancelled_at:
            error = "AlreadyCancelled"
        elif self.stage.now() >= task.terms.deadline:
            error = "DeadlinePassed"
        if error is not None:
            with reverts_with(error):
                self.stage.market.cancel(as_tuple(task.terms), {"from": task.consumer})
            return
        sent = self.stage.market.cancel(as_tuple(task.terms), {"from": task.consumer})
        task.cancelled_at = sent.timestamp

    @rule(task=TASK)
    def reclaim(self, task: int) -> None:
        task = self.pick(task)
        if task is None:
            return
        error = None
        if task.state != "open":
            error = "WrongStatus"
        elif self.stage.now() < task.end:
            error = "NotEndedYet"
        if error is not None:
            with reverts_with(error):
                self.stage.market.reclaim(as_tuple(task.terms), {"from": self.stranger})
            return
        self.stage.market.reclaim(as_tuple(task.terms), {"from": self.stranger})
        self.locked[task.consumer.address] -= task.terms.max_charge
        self.available[task.consumer.address] += task.terms.max_charge
        task.state = "closed"

    @rule(payee=PERSON)
    def withdraw_credit(self, payee: int) -> None:
        payee = (self.stage.provider, self.stage.dispatcher)[payee].address
        credit = self.credit[payee]
        if credit == 0:
            with reverts_with("NoCredit"):
                self.stage.escrow.withdrawCredit(payee, [], {"from": self.stranger})
            return
        self.stage.escrow.withdrawCredit(payee, [], {"from": self.stranger})
        self.fees[payee] += credit // 100
        self.credit[payee] = 0

    @rule(payee=PERSON)
    def share_fees(self, payee: int) -> None:
        payee = (self.stage.provider, self.stage.dispatcher)[payee].address
        if self.fees[payee] == 0:
            with reverts_with("NoFees"):
                self.stage.escrow.shareFees(payee, {"from": self.stranger})
            return
        self.stage.escrow.shareFees(payee, {"from": self.stranger})
        self.fees[payee] = 0

    @rule(amount=AMOUNT)
    def gift(self, amount: int) -> None:
        """Case 18: tokens sent without a deposit."""
        self.stage.token.transfer(self.stage.escrow, amount, {"from": self.stage.consumer})
        self.gifts += amount

    @rule(hours=strategies.sampled_from([1, 2, 25]))
    def time_passes(self, hours: int) -> None:
        self.stage.at(self.stage.now() + hours * 3_600)

    # ------------------------------------------------------------------ invariants

    @invariant()
    def accounts_equal_the_model(self) -> None:
        for person in self.consumers:
            expected = (self.available[person.address], self.locked[person.address])
            assert self.stage.account(person) == expected
        for payee, credit in self.credit.items():
            assert self.stage.payee(payee) == (credit, self.fees[payee])

    @invariant()
    def the_escrow_is_solvent(self) -> None:
        owed = sum(
            sum(book.values()) for book in (self.available, self.locked, self.credit, self.fees)
        )
        assert int(self.stage.token.balanceOf(self.stage.escrow)) == owed + self.gifts

    @invariant()
    def locked_is_what_open_and_proven_tasks_hold(self) -> None:
        for person in self.consumers:
            held = 0
            for task in self.tasks:
                if task.consumer == person:
                    held += {"open": task.terms.max_charge, "proven": task.charge}.get(
                        task.state, 0
                    )
            assert self.locked[person.address] == held

    @invariant()
    def tasks_are_where_the_model_has_them(self) -> None:
        for task in self.tasks[-3:]:
            status = {"open": 1, "proven": 2}.get(task.state, 0)
            assert self.stage.task(task.terms)[0] == status

    @invariant()
    def the_next_block_comes_a_second_later(self) -> None:
        """No invariant but the model's clock: how long the machine takes must not matter."""
        web3.provider.make_request("evm_setNextBlockTimestamp", [self.stage.now() + 1])

    # ------------------------------------------------------------------ the model's own rules

    def pick(self, at: int) -> Task | None:
        """Mostly one that is still alive; a closed one must refuse everything."""
        alive = [task for task in self.tasks if task.state != "closed"]
        found = alive if alive and at % 5 else self.tasks
        return found[at % len(found)] if found else None

    def usage(self, minutes: int) -> Usage:
        ended_at_ms = (self.stage.now() - 1) * 1000
        duration_ms = minutes * 60_000
        return self.stage.usage(
            started_at_ms=ended_at_ms - duration_ms,
            ended_at_ms=ended_at_ms,
            gpu_ms=2 * duration_ms,
        )

    def why_not_created(self, task: Task) -> str | None:
        if self.stage.now() >= task.terms.deadline:
            return "DeadlinePassed"
        if task.state != "order":
            return "NonceAlreadyUsed"
        if self.available[task.consumer.address] < task.terms.max_charge:
            return "InsufficientAvailable"
        return None

    def why_not_proven(self, task: Task, charge: int) -> str | None:
        if task.state == "closed":
            return "NonceAlreadyUsed"
        if task.state == "proven":
            return "WrongStatus"
        if self.stage.now() >= task.end:
            return "DeadlinePassed"
        if task.state == "order" and self.available[task.consumer.address] < charge:
            return "InsufficientAvailable"
        return None

    def why_not_proven_alone(self, task: Task, usage: Usage) -> str | None:
        if task.state != "open":
            return "WrongStatus"
        if self.stage.now() >= task.end:
            return "DeadlinePassed"
        if task.cancelled_at and usage.started_at_ms // 1000 > task.cancelled_at:
            return "LeaseAfterCancel"
        return None

    def charge_until_cancel(self, task: Task, usage: Usage) -> int:
        calls, gpu_ms = usage.calls, usage.gpu_ms
        if task.cancelled_at:
            before_ms = task.cancelled_at * 1000 - usage.started_at_ms
            calls, gpu_ms = (0, 0) if before_ms <= 0 else (calls, min(gpu_ms, 2 * before_ms))
        return charge_up(task.terms, calls, gpu_ms)

    def pay(self, task: Task, charge: int) -> None:
        consumer = task.consumer.address
        if task.state == "open":
            self.locked[consumer] -= task.terms.max_charge
            self.available[consumer] += task.terms.max_charge
        self.available[consumer] -= charge
        task.charge = charge
        self.earn(task)

    def earn(self, task: Task) -> None:
        share = task.charge * 500 // 10_000
        self.credit[self.stage.dispatcher.address] += share
        self.credit[self.stage.provider.address] += task.charge - share
        task.state = "closed"


def test_money(stage: Stage, other_provider: Any, stranger: Any) -> None:
    for person in (stage.consumer, other_provider):
        stage.token.approve(stage.escrow, 10**6 * TALLY, {"from": person})
    Money.stage, Money.other, Money.stranger = stage, other_provider, stranger
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=tries(8, long=40),
            phases=[Phase.generate],
            database=None,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    for person in (stage.consumer, other_provider):
        stage.token.approve(stage.escrow, 0, {"from": person})
