"""Both ends of a channel over a bad network, with crashes, lost journals, top-ups and closes.

Messages are lost, repeated and reordered; either process dies at any moment and reads its journal;
either journal is lost. What must hold at every step is in the invariants.

Security cases 31, 34, 43, 44, 45, 50, 51 and 95.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tallystick.protocol import messages
from tallystick.protocol.call_journal import Accepted, Record, Served, from_json, to_json
from tallystick.protocol.calls import CallAnswer, CallRun, ceiling_up
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.errors import (
    ChannelAbandoned,
    ChannelClosing,
    PausedFunds,
    ReceiptRefused,
    TooManyCalls,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel
from tallystick.protocol.paying import PayingChannel, PayingStep
from tallystick.protocol.serving import Ask, Go, Refusal, ServingChannel
from tallystick.protocol.types import Digest
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    LIMITS,
    NOW_MS,
    NOW_S,
    OPERATORS,
    request_of,
    sign_receipt,
    sign_voucher,
)

Message = Ask | Served | Refusal | SignedVoucher

CEILING = ceiling_up(request_of(), LIMITS)


def charge_of(gpu_ms: int) -> int:
    """The model's own price: 366 a GPU-second, a started unit counting, and 15 a call."""
    return 15 + -(-366 * gpu_ms // 1000)


@dataclass
class Escrow:
    """What the chain does with one channel."""

    deposited: int = 0
    claimed: int = 0
    close_at: int = 0

    @property
    def state(self) -> ChannelState:
        return ChannelState(self.deposited, self.claimed, self.close_at)

    def redeem(self, total: int) -> None:
        self.claimed += max(0, min(self.deposited, total) - self.claimed)


@dataclass
class Said:
    """Everything that ever left a process, by channel: what a court or an escrow could be shown."""

    receipts: dict[int, set[Digest]] = field(default_factory=lambda: defaultdict(set))
    vouchers: dict[Digest, set[int]] = field(default_factory=lambda: defaultdict(set))
    best: int = 0
    charges: dict[Digest, int] = field(default_factory=dict)
    """Of what was run and received, by the receipt's digest."""


class Calls(RuleBasedStateMachine):
    credit_calls = 1
    signs_each = True
    accepted: ClassVar[int] = 0
    """Over all examples, so that the machine cannot come to do nothing unnoticed."""

    @initialize(deposit=st.integers(CEILING, 8 * CEILING))
    def begin(self, deposit: int) -> None:
        self.salt = 0
        self.words = 0
        self.now_s = NOW_S
        self.ran: dict[str, CallRun] = {}
        self.running: set[int] = set()
        self.said: dict[Digest, Said] = defaultdict(Said)
        self.escrows: dict[Digest, Escrow] = {}
        self.wire: list[tuple[Channel, Message]] = []
        self.open_channel(deposit)

    # ------------------------------------------------------------ a channel and its journals

    def open_channel(self, deposit: int) -> None:
        """A new salt, for whatever reason the one before was given up."""
        self.salt += 1
        self.now_s += 1
        self.channel = replace(CHANNEL, salt=self.salt)
        self.route = messages.channel_id(self.channel)
        self.escrow = self.escrows.setdefault(self.route, Escrow(deposit))
        self.running = set()
        provider = ServingChannel.opened(
            DOMAIN,
            self.channel,
            self.escrow.state,
            funded_at_s=self.now_s,
            journal_since_s=0,
            now_s=self.now_s,
            credit_calls=self.credit_calls,
        )
        payer = PayingChannel.opened(
            DOMAIN,
            self.channel,
            self.escrow.state,
            now_s=self.now_s,
            credit_calls=self.credit_calls,
        )
        self.provider, self.payer = provider.channel, payer.channel
        self.provider_journal = [to_json(record) for record in provider.records]
        self.payer_journal = [to_json(record) for record in payer.records]

    def write_provider(self, records: tuple[Any, ...]) -> None:
        self.provider_journal += [to_json(record) for record in records]

    def write_payer(self, records: tuple[Any, ...]) -> None:
        self.payer_journal += [to_json(record) for record in records]

    # ------------------------------------------------------------ the network

    def send(self, message: Message) -> None:
        self.wire.append((self.channel, message))

    def arrives(self, channel: Channel, message: Message) -> None:
        """A message of an older channel is not even looked at: its salt says so."""
        if channel != self.channel:
            return
        match message:
            case Ask():
                self.request_arrives(message)
            case Served():
                self.answer_arrives(message)
            case Refusal():
                self.refusal_arrives(message)
            case SignedVoucher():
                self.voucher_arrives(message)

    @precondition(lambda self: self.wire)
    @rule()
    def deliver_the_oldest(self) -> None:
        self.arrives(*self.wire.pop(0))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def deliver_any_and_keep_it(self, data: st.DataObject) -> None:
        """Out of order, and once more later."""
        at = data.draw(st.integers(0, len(self.wire) - 1))
        self.arrives(*self.wire[at])

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def lose_a_message(self, data: st.DataObject) -> None:
        self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @rule(gpu_ms=st.integers(0, 2_000))
    def a_quiet_hour(self, gpu_ms: int) -> None:
        """Everything that is on its way arrives, and every call ends."""
        while self.wire or self.running:
            while self.wire:
                self.arrives(*self.wire.pop(0))
            self.countersign_what_is_new()
            for number in sorted(self.running):
                self.end_call(number, gpu_ms)

    @rule(gpu_ms=st.integers(0, 2_000))
    def a_quiet_day(self, gpu_ms: int) -> None:
        """Nothing stays stuck: both ends can go on, or both know that the channel is over."""
        self.provider_looks_at_the_chain()
        self.payer_looks_at_the_chain()
        self.countersign()
        for asked in self.payer.asked:
            self.send(self.payer.again(asked.number))
        for _ in range(self.credit_calls + 2):
            self.a_quiet_hour(gpu_ms)
            while self.payer.asked:
                self.give_up()
            before = self.payer.held
            if self.payer.state_for(CEILING) != "open":
                return
            self.ask(60)
            self.a_quiet_hour(gpu_ms)
            if self.payer.held.seq > before.seq:
                assert self.provider.paid == self.payer.held
                assert self.provider.voucher == self.payer.voucher
                return
        raise AssertionError("the channel is stuck")

    # ------------------------------------------------------------ the payer asks

    @rule(max_seconds=st.sampled_from([1, 10, 60]))
    def ask(self, max_seconds: int) -> None:
        self.words += 1
        request = request_of(self.words, max_seconds=max_seconds)
        state = self.payer.state_for(ceiling_up(request, LIMITS))
        full = len(self.payer.asked) >= self.credit_calls
        if state == "open" and not full:
            step = self.payer.ask(request, LIMITS, now_ms=NOW_MS)
            self.write_payer(step.records)
            self.payer = step.channel
            assert isinstance(step.reply, Ask)
            self.send(step.reply)
            return
        errors = {"abandoned": ChannelAbandoned, "closing": ChannelClosing}
        expected = errors.get(state, TooManyCalls if full else PausedFunds)
        with pytest.raises(expected):
            self.payer.ask(request, LIMITS, now_ms=NOW_MS)

    @precondition(lambda self: self.payer.asked)
    @rule()
    def ask_again(self) -> None:
        self.send(self.payer.again(self.payer.asked[0].number))

    @precondition(lambda self: self.payer.asked)
    @rule()
    def give_up(self) -> None:
        step = self.payer.give_up(self.payer.asked[0].number)
        self.write_payer(step.records)
        self.payer = step.channel

    # ------------------------------------------------------------ the provider serves

    def request_arrives(self, ask: Ask) -> None:
        before = self.provider
        step = self.provider.may_serve(ask, LIMITS, APP, now_ms=NOW_MS)
        self.write_provider(step.records)
        self.provider = step.channel
        if isinstance(step.reply, Go):
            assert not before.abandoned
            assert before.chain.close_at == 0
            assert ask.request.call_id not in self.ran, "a call that was served ran again"
            self.running.add(step.reply.running.number)
        elif isinstance(step.reply, Served):
            self.send_answer(step.reply)
        elif isinstance(step.reply, Refusal):
            self.send(step.reply)

    @precondition(lambda self: self.running)
    @rule(gpu_ms=st.integers(0, 2_000), data=st.data())
    def call_ends(self, gpu_ms: int, data: st.DataObject) -> None:
        self.end_call(data.draw(st.sampled_from(sorted(self.running))), gpu_ms)

    @precondition(lambda self: self.running)
    @rule(gpu_ms=st.integers(0, 2_000))
    def the_provider_dies_before_the_receipt_is_written(self, gpu_ms: int) -> None:
        number = min(self.running)
        self.provider.serve(number, self.run_of(number, gpu_ms), APP, sign_receipt)
        self.restart_provider()

    @precondition(lambda self: self.running)
    @rule()
    def call_fails(self) -> None:
        number = self.running.pop()
        self.provider = self.provider.failed(number)

    def run_of(self, number: int, gpu_ms: int) -> CallRun:
        request = next(one.request for one in self.provider.running if one.number == number)
        result = digest_of(request.call_id.encode())
        return CallRun(NOW_MS, NOW_MS + 1_000, gpu_ms, result, ("GPU-1", "GPU-2"))

    def end_call(self, number: int, gpu_ms: int) -> None:
        self.running.discard(number)
        run = self.run_of(number, gpu_ms)
        step = self.provider.serve(number, run, APP, sign_receipt)
        self.write_provider(step.records)
        self.provider = step.channel
        assert isinstance(step.reply, Served)
        self.ran[step.reply.request.call_id] = run
        self.send_answer(step.reply)

    def send_answer(self, served: Served) -> None:
        receipt = served.receipt
        said = self.said[receipt.route]
        digest = messages.digest(DOMAIN, receipt)
        said.receipts[receipt.seq].add(digest)
        said.charges[digest] = charge_of(self.ran[served.request.call_id].gpu_ms)
        self.send(served)

    # ------------------------------------------------------------ the payer pays

    def answer_arrives(self, served: Served) -> None:
        digest = messages.digest(DOMAIN, served.receipt)
        wanted = {asked.request.call_id for asked in self.payer.asked}
        follows = (served.receipt.seq, served.receipt.prev) == (
            self.payer.held.seq + 1,
            self.payer.held.digest,
        )
        if digest == self.payer.held.digest:
            step = self.take(served.answer, served)
            assert (step.reply, step.records) == (self.payer.voucher, ())
        elif self.payer.abandoned:
            with pytest.raises(ChannelAbandoned):
                self.take(served.answer, served)
            return
        elif follows and served.request.call_id in wanted:
            step = self.take(served.answer, served)
        else:
            # An honest receipt is refused for coming late or early, or for a call given up.
            with pytest.raises(ReceiptRefused, match=r"seq|request"):
                self.take(served.answer, served)
            return
        self.write_payer(step.records)
        self.payer = step.channel
        type(self).accepted += sum(isinstance(record, Accepted) for record in step.records)
        if isinstance(step.reply, SignedVoucher):
            self.send_voucher(step.reply)

    @rule()
    def countersign(self) -> None:
        step = self.payer.countersign(sign_voucher)
        self.write_payer(step.records)
        self.payer = step.channel
        if isinstance(step.reply, SignedVoucher):
            self.send_voucher(step.reply)

    def countersign_what_is_new(self) -> None:
        step = self.payer.countersign(sign_voucher)
        if step.records:
            self.countersign()

    def send_voucher(self, signed: SignedVoucher) -> None:
        said = self.said[self.route]
        said.vouchers[signed.voucher.receipt].add(signed.voucher.total)
        said.best = max(said.best, signed.voucher.total)
        self.send(signed)

    def take(self, answer: CallAnswer, served: Served) -> PayingStep:
        return self.payer.take(
            answer,
            result=digest_of(served.request.call_id.encode()),
            limits=LIMITS,
            app=APP,
            operator_keys=OPERATORS,
            now_ms=NOW_MS + 1_000,
            sign=sign_voucher if self.signs_each else None,
        )

    @precondition(lambda self: any(isinstance(message, Served) for _, message in self.wire))
    @rule(lie=st.sampled_from(["total", "gpu_ms", "result", "ended_at_ms", "seq", "prev"]))
    def a_lie_arrives_instead(self, lie: str) -> None:
        channel, served = next(one for one in self.wire if isinstance(one[1], Served))
        if channel != self.channel or self.payer.abandoned or not isinstance(served, Served):
            return
        receipt = served.receipt
        values: dict[str, Any] = {
            "total": receipt.total + 1,
            "gpu_ms": 2 * 60_000 + 1,
            "result": digest_of(b"another"),
            "ended_at_ms": receipt.started_at_ms - 1,
            "seq": receipt.seq + 1,
            "prev": digest_of(b"another"),
        }
        changed = replace(receipt, **{lie: values[lie]})
        signed = SignedReceipt(changed, sign_receipt(changed))
        with pytest.raises(ReceiptRefused):
            self.take(replace(served.answer, signed=signed), served)

    def refusal_arrives(self, refusal: Refusal) -> None:
        step = self.payer.learn(refusal)
        self.write_payer(step.records)
        self.payer = step.channel
        if isinstance(step.reply, Ask):
            self.send(step.reply)

    def voucher_arrives(self, signed: SignedVoucher) -> None:
        step = self.provider.accept_voucher(signed)
        assert step.reply is None, "a good voucher was refused"
        self.write_provider(step.records)
        self.provider = step.channel

    # ------------------------------------------------------------ processes die

    @rule()
    def restart_provider(self) -> None:
        step = ServingChannel.rebuilt(
            DOMAIN,
            self.provider.chain,
            self.read(self.provider_journal),
            credit_calls=self.credit_calls,
        )
        assert step.records == ()
        assert replace(self.provider, running=(), number=0) == replace(step.channel, number=0)
        self.provider, self.running = step.channel, set()

    @rule()
    def the_provider_forgets_its_records(self) -> None:
        """A checkpoint takes their place; what runs meanwhile goes on."""
        self.provider_journal = [to_json(self.provider.checkpoint())]

    @rule()
    def restart_payer(self) -> None:
        step = PayingChannel.rebuilt(
            DOMAIN,
            self.payer.chain,
            self.read(self.payer_journal),
            credit_calls=self.credit_calls,
        )
        assert step == type(step)(self.payer)
        self.payer = step.channel

    @rule()
    def the_payer_keeps_a_checkpoint(self) -> None:
        """Instead of everything before it."""
        self.payer_journal = [to_json(self.payer.checkpoint())]
        self.restart_payer()

    def read(self, journal: list[bytes]) -> list[Any]:
        records: list[Record] = [from_json(line) for line in journal]
        return records

    @precondition(lambda self: self.payer.held.seq >= 3)
    @rule(deposit=st.integers(CEILING, 8 * CEILING))
    def provider_loses_its_journal(self, deposit: int) -> None:
        """It knows when its journal begins, and the channel is older: nothing is signed."""
        self.now_s += 1
        with pytest.raises(ChannelAbandoned, match="new salt"):
            ServingChannel.opened(
                DOMAIN,
                self.channel,
                self.escrow.state,
                funded_at_s=self.now_s - 1,
                journal_since_s=self.now_s,
                now_s=self.now_s,
            )
        self.open_channel(deposit)

    @precondition(lambda self: self.payer.held.seq >= 3)
    @rule(data=st.data(), deposit=st.integers(CEILING, 8 * CEILING))
    def provider_reads_a_cut_journal(self, data: st.DataObject, deposit: int) -> None:
        """Unaware of it. The payer, who was paid for more, shows it at its next message."""
        keep = data.draw(st.integers(1, len(self.provider_journal)))
        cut = self.read(self.provider_journal[:keep])
        chain = replace(self.provider.chain, claimed=0)
        end = ServingChannel.rebuilt(DOMAIN, chain, cut, credit_calls=self.credit_calls).channel
        if end.last.seq >= self.payer.held.seq or end.abandoned:
            return
        word = request_of(10**6)
        ask = Ask(10**6, word, self.payer.held, self.payer.voucher)
        step = end.may_serve(ask, LIMITS, APP, now_ms=NOW_MS)
        assert isinstance(step.reply, Refusal)
        assert step.reply.code == "new_salt"
        # The money it forgot is back, and the channel is over for both.
        assert step.channel.voucher == self.payer.voucher
        self.payer = self.payer.learn(step.reply).channel
        assert self.payer.abandoned
        self.open_channel(deposit)

    @precondition(lambda self: self.payer.held.seq >= 3)
    @rule(deposit=st.integers(CEILING, 8 * CEILING))
    def payer_loses_its_journal(self, deposit: int) -> None:
        """Unaware of it. The provider runs nothing for it, and shows it what it signed."""
        if self.escrow.claimed:
            with pytest.raises(ChannelAbandoned):
                PayingChannel.opened(DOMAIN, self.channel, self.escrow.state, now_s=self.now_s)
        fresh = PayingChannel.opened(
            DOMAIN, self.channel, replace(self.escrow.state, claimed=0, close_at=0), now_s=1
        ).channel
        fresh = replace(fresh, chain=replace(fresh.chain, deposited=2**100))
        step = fresh.ask(request_of(10**6 + self.words), LIMITS, now_ms=NOW_MS)
        assert isinstance(step.reply, Ask)
        if self.provider.voucher is None:
            return  # what it signed was lost on the way: there is nothing to contradict yet
        answer = self.provider.may_serve(step.reply, LIMITS, APP, now_ms=NOW_MS).reply
        assert isinstance(answer, Refusal)
        assert step.channel.learn(answer).channel.abandoned
        self.open_channel(deposit)

    # ------------------------------------------------------------ the chain

    @rule(amount=st.integers(1, 3 * CEILING))
    def top_up(self, amount: int) -> None:
        self.escrow.deposited += amount
        self.provider_looks_at_the_chain()

    @precondition(lambda self: self.payer.held.seq >= 2)
    @rule()
    def request_close(self) -> None:
        self.escrow.close_at = NOW_S + 3 * 86_400

    @precondition(lambda self: self.escrow.close_at)
    @rule()
    def cancel_close(self) -> None:
        self.escrow.close_at = 0
        self.provider_looks_at_the_chain()
        self.payer_looks_at_the_chain()

    @rule()
    def provider_looks_at_the_chain(self) -> None:
        step = self.provider.observe(self.escrow.state)
        assert step.records == (), "an honest journal was called behind"
        self.provider = step.channel

    @rule()
    def payer_looks_at_the_chain(self) -> None:
        step = self.payer.observe(self.escrow.state)
        assert step.records == (), "an honest journal was called behind"
        self.payer = step.channel

    @precondition(lambda self: self.provider.voucher is not None)
    @rule()
    def redeem(self) -> None:
        voucher = self.provider.voucher
        assert voucher is not None
        before = self.escrow.claimed
        due = self.escrow.state.due(voucher.voucher.total)
        if self.provider.chain.close_at and self.provider.chain.due(voucher.voucher.total):
            reason = self.provider.redeem_due(
                threshold_k=10**9, redemption_cost=10**9, deposit_share_bps=10_000
            )
            assert reason == "closing"
        self.escrow.redeem(voucher.voucher.total)
        assert self.escrow.claimed == before + due

    @precondition(lambda self: self.payer.abandoned or self.provider.abandoned)
    @rule(deposit=st.integers(CEILING, 8 * CEILING))
    def take_a_new_salt(self, deposit: int) -> None:
        self.open_channel(deposit)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_signed_beyond_honest_charges(self) -> None:
        for said in self.said.values():
            assert said.best <= sum(said.charges.values())

    @invariant()
    def no_place_has_two_receipts(self) -> None:
        for said in self.said.values():
            assert all(len(digests) == 1 for digests in said.receipts.values())

    @invariant()
    def no_receipt_has_two_totals(self) -> None:
        for said in self.said.values():
            assert all(len(totals) == 1 for totals in said.vouchers.values())

    @invariant()
    def at_most_one_call_is_at_risk(self) -> None:
        if not hasattr(self, "provider"):
            return
        assert len(self.provider.unpaid) + len(self.provider.running) <= self.credit_calls
        assert self.provider.at_risk <= self.credit_calls * CEILING
        if self.provider.running:
            assert self.provider.last.total <= self.provider.chain.deposited

    @invariant()
    def the_chain_has_no_more_than_was_signed_and_paid_in(self) -> None:
        for route, escrow in getattr(self, "escrows", {}).items():
            assert escrow.claimed <= min(escrow.deposited, self.said[route].best)

    @invariant()
    def every_voucher_held_is_covered(self) -> None:
        """What the provider served before it looked is covered by the deposit it had seen."""
        voucher = getattr(self, "provider", None) and self.provider.voucher
        if voucher:
            assert voucher.voucher.total <= self.escrow.deposited


class CallsOnCredit(Calls):
    credit_calls = 3
    signs_each = False


@pytest.mark.parametrize("machine", [Calls, CallsOnCredit])
def test_nothing_is_signed_twice_and_nothing_is_lost(machine: type[Calls]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.accepted >= 30
