"""The money model with channels in it: tasks and channels of the same people in any order.

Invariants beside those of the tasks
- L1 solvency with what is unclaimed in channels
- L3 a call paid by voucher and a task paid by proof share no money, in whatever order
- L4 claimed = what vouchers reached while money was there; within deposited; never falls
- L5 an allowance moves at most its cap, until it ends or is revoked
- L6 whoever has nothing locked gets all out: tried at the end of every run
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from tallystick.protocol.messages import Channel, ChannelAllowance, as_tuple
from tallystick.protocol.types import Address
from tests.contracts.channels import Row, Till, channel_id, fields
from tests.contracts.stage import CLOSE_S, DAY_S, TALLY, Stage, reverts_with
from tests.contracts.stateful.test_money_stateful import AMOUNT, PERSON, Money
from tests.support.effort import tries

CAP = 60 * TALLY

PLACE = strategies.integers(0, 3)
TOTAL = strategies.integers(0, 80 * TALLY)
SHOWN = strategies.lists(strategies.tuples(PLACE, TOTAL), min_size=1, max_size=4)


@dataclass
class Book:
    """What the model remembers of a channel; `reached` is the highest total that was redeemed."""

    channel: Channel
    payer: Any
    deposited: int = 0
    claimed: int = 0
    close_at: int = 0
    shown: int = 0

    @property
    def unclaimed(self) -> int:
        return self.deposited - self.claimed


class Shop(Money):
    """Two payers, two channels each with one provider, one session key."""

    till: ClassVar[Till]

    def __init__(self) -> None:
        super().__init__()
        self.books = [
            Book(self.till.channel(payer=Address(payer.address), salt=salt), payer)
            for payer in self.consumers
            for salt in (0, 2**96 - 1)
        ]
        self.allowances = [
            ChannelAllowance(
                payer=Address(payer.address),
                signer=Address(self.till.signer.address),
                cap=CAP,
                expires_at=self.stage.now() + 3 * DAY_S,
                purpose=channel_id(self.books[0].channel),
                nonce=1,
            )
            for payer in self.consumers
        ]
        self.spent = [0, 0]
        self.revoked = [False, False]

    @initialize(amount=AMOUNT)
    def a_channel_is_open(self, amount: int) -> None:
        self.fund(place=0, amount=amount)

    # ------------------------------------------------------------------ money in

    @rule(place=PLACE, amount=AMOUNT)
    def fund(self, place: int, amount: int) -> None:
        book = self.books[place]
        sender = {"from": book.payer}
        if self.available[book.payer.address] < amount:
            with reverts_with("InsufficientAvailable"):
                self.stage.escrow.fund(fields(book.channel), amount, sender)
            return
        self.stage.escrow.fund(fields(book.channel), amount, sender)
        self.available[book.payer.address] -= amount
        book.deposited += amount

    @rule(place=PLACE, person=PERSON, amount=AMOUNT)
    def deposit_to_channel(self, place: int, person: int, amount: int) -> None:
        """Also into the other's channel."""
        book = self.books[place]
        sender = {"from": self.consumers[person]}
        self.stage.escrow.depositToChannel(fields(book.channel), amount, sender)
        book.deposited += amount

    @rule(place=PLACE, amount=AMOUNT)
    def fund_with_allowance(self, place: int, amount: int) -> None:
        book, at = self.books[place], place // 2
        allowance = self.allowances[at]
        arguments = (
            as_tuple(allowance),
            self.stage.signed(allowance, book.payer),
            book.channel.provider,
            book.channel.salt,
            amount,
            {"from": self.till.signer},
        )
        error = self.why_not_allowed(at, amount)
        if error is not None:
            with reverts_with(error):
                self.stage.escrow.fundWithAllowance(*arguments)
            return
        self.stage.escrow.fundWithAllowance(*arguments)
        self.spent[at] += amount
        self.available[book.payer.address] -= amount
        book.deposited += amount

    def why_not_allowed(self, at: int, amount: int) -> str | None:
        if self.stage.now() >= self.allowances[at].expires_at:
            return "AllowanceExpired"
        if self.revoked[at]:
            return "AllowanceWasRevoked"
        if self.spent[at] + amount > CAP:
            return "AllowanceExceeded"
        if self.available[self.consumers[at].address] < amount:
            return "InsufficientAvailable"
        return None

    @rule(person=PERSON, chance=strategies.integers(0, 3))
    def revoke(self, person: int, chance: int) -> None:
        if chance:
            return
        digest = self.stage.digest(self.allowances[person])
        sender = {"from": self.consumers[person]}
        if self.revoked[person]:
            with reverts_with("AllowanceWasRevoked"):
                self.stage.escrow.revokeAllowance(digest, sender)
            return
        self.stage.escrow.revokeAllowance(digest, sender)
        self.revoked[person] = True

    # ------------------------------------------------------------------ money out

    @rule(shown=SHOWN)
    def redeem(self, shown: list[tuple[int, int]]) -> None:
        rows, amounts = self.claim(shown)
        assert self.till.redeemable(*rows) == amounts
        sent = self.till.redeem(*rows, by=self.stranger)
        assert int(sent.return_value) == sum(amounts)
        self.credit[self.stage.provider.address] += sum(amounts)

    @rule(shown=SHOWN)
    def withdraw_credit_with_rows(self, shown: list[tuple[int, int]]) -> None:
        payee = self.stage.provider.address
        sender = {"from": self.stranger}
        rows, amounts = self.claim(shown)
        credit = self.credit[payee] + sum(amounts)
        if credit == 0:
            with reverts_with("NoCredit"):
                self.stage.escrow.withdrawCredit(payee, rows, sender)
            return
        sent = self.stage.escrow.withdrawCredit(payee, rows, sender)
        assert int(sent.return_value) == credit - credit // 100
        self.fees[payee] += credit // 100
        self.credit[payee] = 0

    def claim(self, shown: list[tuple[int, int]]) -> tuple[list[Row], list[int]]:
        """Rows of these vouchers, and what the model says they pay."""
        rows, amounts = [], []
        for place, total in shown:
            book = self.books[place]
            rows.append(self.till.row(book.channel, total))
            amounts.append(max(0, min(book.deposited, total) - book.claimed))
            book.claimed += amounts[-1]
            book.shown = max(book.shown, total)
        return rows, amounts

    @rule(place=PLACE, amount=AMOUNT)
    def release(self, place: int, amount: int) -> None:
        book = self.books[place]
        sender = {"from": (self.stage.provider, self.stage.operator)[place % 2]}
        if book.unclaimed < amount:
            with reverts_with("InsufficientUnclaimed"):
                self.stage.escrow.release(fields(book.channel), amount, sender)
            return
        self.stage.escrow.release(fields(book.channel), amount, sender)
        book.deposited -= amount
        self.available[book.payer.address] += amount

    @rule(place=PLACE)
    def request_close(self, place: int) -> None:
        book = self.books[place]
        sender = {"from": book.payer}
        error = None
        if book.close_at:
            error = "CloseAlreadyRequested"
        elif not book.unclaimed:
            error = "NothingUnclaimed"
        if error is not None:
            with reverts_with(error):
                self.stage.escrow.requestClose(fields(book.channel), sender)
            return
        sent = self.stage.escrow.requestClose(fields(book.channel), sender)
        book.close_at = sent.timestamp + CLOSE_S

    @rule(place=PLACE, chance=strategies.integers(0, 2))
    def cancel_close(self, place: int, chance: int) -> None:
        book = self.books[place]
        sender = {"from": book.payer}
        if not book.close_at:
            with reverts_with("CloseNotRequested"):
                self.stage.escrow.cancelClose(fields(book.channel), sender)
        elif not chance:
            self.stage.escrow.cancelClose(fields(book.channel), sender)
            book.close_at = 0

    @rule(place=PLACE)
    def close(self, place: int) -> None:
        book = self.books[place]
        sender = {"from": self.stranger}
        error = None
        if not book.close_at:
            error = "CloseNotRequested"
        elif self.stage.now() + 1 < book.close_at:
            error = "ClosePeriodNotOver"
        if error is not None:
            with reverts_with(error):
                self.stage.escrow.close(fields(book.channel), sender)
            return
        self.stage.escrow.close(fields(book.channel), sender)
        self.available[book.payer.address] += book.unclaimed
        book.deposited, book.close_at = book.claimed, 0

    # ------------------------------------------------------------------ invariants

    @invariant()
    def the_escrow_is_solvent(self) -> None:
        owed = sum(
            sum(book.values()) for book in (self.available, self.locked, self.credit, self.fees)
        )
        owed += sum(book.unclaimed for book in self.books)
        assert int(self.stage.token.balanceOf(self.stage.escrow)) == owed + self.gifts

    @invariant()
    def channels_equal_the_model(self) -> None:
        for book in self.books:
            expected = (book.deposited, book.claimed, book.close_at)
            assert self.till.state(book.channel) == expected
            assert book.claimed <= min(book.deposited, book.shown)

    @invariant()
    def allowances_stay_within_their_caps(self) -> None:
        for at, allowance in enumerate(self.allowances):
            digest = self.stage.digest(allowance)
            spent, revoked = self.stage.escrow.allowanceOf(allowance.payer, digest)
            assert (int(spent), bool(revoked)) == (self.spent[at], self.revoked[at])
            assert self.spent[at] <= CAP

    def teardown(self) -> None:
        """Law 6: whatever happened, nobody and nothing keeps the payers' own money here."""
        for place in range(len(self.books)):
            if not self.books[place].close_at and self.books[place].unclaimed:
                self.request_close(place)
        self.stage.at(self.stage.now() + CLOSE_S + 1)
        for place, book in enumerate(self.books):
            if book.close_at:
                self.close(place)
        for person in self.consumers:
            if self.available[person.address]:
                amount = self.available[person.address]
                self.stage.escrow.withdraw(amount, person, {"from": person})
            assert self.stage.account(person)[0] == 0
        super().teardown()


def test_money_and_channels(stage: Stage, till: Till, other_provider: Any, stranger: Any) -> None:
    for person in (stage.consumer, other_provider):
        stage.token.approve(stage.escrow, 10**6 * TALLY, {"from": person})
    Shop.stage, Shop.other, Shop.stranger, Shop.till = stage, other_provider, stranger, till
    run_state_machine_as_test(
        Shop,
        settings=settings(
            max_examples=tries(8, long=40),
            phases=[Phase.generate],
            database=None,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
