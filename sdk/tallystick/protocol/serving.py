"""The provider's end of a channel: serves while it is sure to be paid, signs each place once.

    step = end.may_serve(ask, ...)      write down step.records, then act on step.reply
      Go         run the call, then     step = end.serve(number, run, ...) or end.failed(number)
      Served     an answer again        send it: receipt and result as they were
      Refusal    nothing runs           send it
    step = end.accept_voucher(voucher)

At most `credit_calls` calls are without a voucher at a time, run or running. Pure and frozen: every
transition answers the next state and the records that must be durable before anything is sent.
`checkpoint` is all of those up to now in one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self

from tallystick.protocol import call_bodies, messages
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_bodies import RefusalCode
from tallystick.protocol.call_journal import (
    Abandoned,
    Opened,
    Served,
    ServingCheckpoint,
    ServingRecord,
    VoucherTaken,
)
from tallystick.protocol.calls import (
    CallAnswer,
    CallLimits,
    CallRequest,
    CallRun,
    Link,
    Sign,
    ceiling_up,
    next_receipt,
    require_all,
    run_checks,
)
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.errors import (
    ChannelAbandoned,
    MessageError,
    ProtocolError,
    QuoteError,
    VoucherRefused,
)
from tallystick.protocol.messages import Channel, Domain
from tallystick.protocol.pricing import BPS
from tallystick.protocol.types import Address, to_digest

__all__ = [
    "Ask",
    "Go",
    "Place",
    "RedeemReason",
    "Refusal",
    "Running",
    "ServingChannel",
    "ServingStep",
]

RedeemReason = Literal["closing", "abandoned", "threshold", "deposit_share"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it arrives: `call_bodies.CallRequestBody`."""

    number: int
    request: CallRequest
    held: Link
    """The last receipt that the payer holds; its total is not said and not needed."""
    voucher: SignedVoucher | None = None

    @classmethod
    def from_body(cls, body: call_bodies.CallRequestBody) -> Self:
        return cls(
            body.number,
            CallRequest.from_body(body.call),
            Link(body.held_seq, to_digest(body.held_receipt)),
            SignedVoucher.from_body(body.voucher) if body.voucher else None,
        )

    def to_body(self, channel: Channel) -> call_bodies.CallRequestBody:
        return call_bodies.CallRequestBody(
            number=self.number,
            call=self.request.to_body(),
            channel=channel.to_body(),
            held_seq=self.held.seq,
            held_receipt=self.held.digest,
            voucher=self.voucher.to_body() if self.voucher else None,
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A call under way, and the most that it can cost."""

    number: int
    request: CallRequest
    limits: CallLimits
    ceiling: int


@dataclass(frozen=True, slots=True)
class Place:
    """A receipt that was signed, and where it stands in the chain."""

    link: Link
    served: Served


@dataclass(frozen=True, slots=True)
class Go:
    """Run it, unless the price is another one by the time it starts: what is charged is the price
    of that second, and where that is not the request's, nothing can be."""

    running: Running


@dataclass(frozen=True, slots=True)
class Refusal:
    """With what the provider holds, for the payer to compare: the first receipt without a voucher
    (else the last one), and the last voucher."""

    code: RefusalCode
    detail: str
    number: int = 0
    receipt: SignedReceipt | None = None
    voucher: SignedVoucher | None = None

    @classmethod
    def from_body(cls, body: call_bodies.CallRefusalBody) -> Self:
        return cls(
            body.code,
            body.detail,
            body.number,
            SignedReceipt.from_body(body.receipt) if body.receipt else None,
            SignedVoucher.from_body(body.voucher) if body.voucher else None,
        )

    def to_body(self) -> call_bodies.CallRefusalBody:
        return call_bodies.CallRefusalBody(
            code=self.code,
            detail=self.detail[:500],
            number=self.number,
            receipt=self.receipt.to_body() if self.receipt else None,
            voucher=self.voucher.to_body() if self.voucher else None,
        )


@dataclass(frozen=True)
class ServingChannel:
    """`opened` and `rebuilt` make one; `observe` keeps its view of the chain."""

    # Without slots: the next state is a copy of `__dict__`, made several times in a call.

    domain: Domain
    channel: Channel
    chain: ChannelState
    """As read at a finality that the provider chose."""
    credit_calls: int = 1
    paid_place: Place | None = None
    """The last one with a voucher. Kept, because its answer may have been lost all the same; an
    older one cannot be asked for any more."""
    unpaid: tuple[Place, ...] = ()
    voucher: SignedVoucher | None = None
    """The one that is worth most."""
    running: tuple[Running, ...] = ()
    number: int = 0
    """The highest request that was begun."""
    answered: int = 0
    """The highest one with a receipt. Those that were begun and have none may come again after a
    crash."""
    abandoned: str = ""
    """Why nothing more is signed here; empty while something is."""
    opened_at_s: int = 0
    """0 for a channel that no journal knows."""

    # What follows from the above, carried along so that no call looks through all others; None
    # until somebody asks.
    _met: Mapping[CallRequest, Running | Place] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    """Requests that run, or whose answer can be asked for again."""
    _promised: int | None = field(default=None, init=False, repr=False, compare=False)
    """The most that what is running can cost."""

    @classmethod
    def opened(
        cls,
        domain: Domain,
        channel: Channel,
        chain: ChannelState,
        *,
        funded_at_s: int,
        journal_since_s: int,
        now_s: int,
        credit_calls: int = 1,
    ) -> ServingStep:
        """A channel that this journal has nothing of. `funded_at_s` is the block time of its first
        deposit: a channel older than the journal may have receipts that were lost with the journal
        before, and two receipts for one place cost a unit of stake."""
        if funded_at_s < journal_since_s:
            raise ChannelAbandoned(
                f"the channel was funded at {funded_at_s} and the journal begins at "
                f"{journal_since_s}, so that receipts may have been lost"
            )
        if chain.claimed:
            raise ChannelAbandoned(
                f"{chain.claimed} was redeemed on the channel and the journal has no voucher for it"
            )
        end = cls(domain, channel, chain, credit_calls, opened_at_s=now_s)
        return ServingStep(end, records=(Opened(channel, now_s),))

    @classmethod
    def rebuilt(
        cls,
        domain: Domain,
        chain: ChannelState,
        records: Iterable[ServingRecord],
        *,
        journal_since_s: int = 0,
        credit_calls: int = 1,
    ) -> ServingStep:
        """From one channel's records, beginning with `Opened` or a checkpoint. What ran when the
        process ended is lost; no receipt was signed for it, so it may be run again."""
        end: ServingChannel | None = None
        for record in records:
            if end is not None:
                end = end._after(record)
            elif isinstance(record, Opened):
                end = cls(domain, record.channel, chain, credit_calls, opened_at_s=record.at_s)
            elif isinstance(record, ServingCheckpoint):
                end = cls(domain, record.channel, chain, credit_calls)._at(record)
            else:
                raise MessageError(
                    "a channel's records begin with Opened or a checkpoint, not with "
                    f"{type(record).__name__}"
                )
        if end is None:
            raise MessageError("the channel has no records: begin with `opened`")
        if end.opened_at_s < journal_since_s and not end.abandoned:
            return end._abandon(
                f"the channel was opened at {end.opened_at_s} and the journal begins anew at "
                f"{journal_since_s}"
            )
        return end.observe(chain)

    @property
    def paid(self) -> Link:
        """How far vouchers reach."""
        return self.paid_place.link if self.paid_place else Link()

    @property
    def last(self) -> Link:
        """The receipt that the next one follows."""
        return self.unpaid[-1].link if self.unpaid else self.paid

    @property
    def at_risk(self) -> int:
        """What was served and has no voucher, and the most that what is running can cost."""
        return self.last.total - self.paid.total + self._promise()

    @property
    def balance(self) -> int:
        """What the deposit covers beyond that."""
        return max(0, self.chain.deposited - self.paid.total - self.at_risk)

    def observe(self, chain: ChannelState) -> ServingStep:
        """A newer view of the channel. More redeemed than the last receipt says means that the
        journal has lost receipts."""
        end = self._with(chain=chain)
        if chain.claimed > self.last.total and not self.abandoned:
            return end._abandon(
                f"{chain.claimed} was redeemed and the journal's last receipt says "
                f"{self.last.total}"
            )
        return ServingStep(end)

    def may_serve(
        self, ask: Ask, limits: CallLimits, app: AppHistory, *, now_ms: int
    ) -> ServingStep:
        """Begins nothing that might not be paid, and nothing twice."""
        if self.abandoned:
            return self._refused("new_salt", self.abandoned, ask.number)
        end: ServingChannel = self
        records: tuple[ServingRecord, ...] = ()
        if ask.voucher is not None:
            step = self.accept_voucher(ask.voucher, number=ask.number)
            if step.reply is not None:
                return step
            end, records = step.channel, step.records
        contradiction = end._contradiction(ask)
        if contradiction:
            return end._abandon(contradiction, number=ask.number, before=records)
        known = end._met_before(ask) or end._refusal_of(ask, limits, app, now_ms)
        if known is not None:
            return ServingStep(end, known, records)
        running = Running(ask.number, ask.request, limits, ceiling_up(ask.request, limits))
        begun = end._with(
            running=(*end.running, running),
            number=ask.number,
            _met={**end._known(), ask.request: running},
            _promised=end._promise() + running.ceiling,
        )
        return ServingStep(begun, Go(running), records)

    def serve(self, number: int, run: CallRun, app: AppHistory, sign: Sign) -> ServingStep:
        """The next receipt. Raises `ReceiptRefused` for a run that no payer would pay for (longer
        than its limit, begun at another price): cut what is metered, or call `failed`."""
        if self.abandoned:
            raise ChannelAbandoned(self.abandoned)
        running = self._running(number)
        receipt = next_receipt(self.channel, self.last, running.request, run)
        require_all(
            run_checks(receipt, running.request, run.gpu_ids, limits=running.limits, app=app)
        )
        signed = SignedReceipt(receipt, sign(receipt))
        answer = CallAnswer(signed, run.gpu_ids, run.samples)
        served = Served(number, running.request, answer)
        end = self._without(running)._after_served(served)
        return ServingStep(end, served, (served,))

    def failed(self, number: int) -> ServingChannel:
        """The call came to nothing, and nothing is charged for it. No record: after a crash nothing
        is running anyway."""
        gone = next((call for call in self.running if call.number == number), None)
        return self if gone is None else self._without(gone)

    def checkpoint(self) -> ServingCheckpoint:
        """What all records so far come to: `rebuilt` makes the same of it."""
        return ServingCheckpoint(
            self.channel,
            self.opened_at_s,
            self.paid_place.served if self.paid_place else None,
            tuple(place.served for place in self.unpaid),
            self.voucher,
            self.answered,
            self.abandoned,
        )

    def accept_voucher(self, signed: SignedVoucher, *, number: int = 0) -> ServingStep:
        """The same one again, or an older one, changes nothing. A good one for a receipt that the
        journal does not have is kept: it is money, and shows that the journal is behind."""
        if signed == self.voucher:
            return ServingStep(self)  # it comes with every request until there is another
        try:
            place = self._place_of(signed)
        except VoucherRefused as problem:
            return self._refused("voucher", str(problem), number)
        if place is not None:
            if place == self.paid_place:
                return ServingStep(self)
            taken = VoucherTaken(signed)
            return ServingStep(self._after(taken), records=(taken,))
        held = 0 if self.voucher is None else self.voucher.voucher.total
        if signed.voucher.total <= max(self.last.total, held):
            return ServingStep(self)
        return self._abandon(
            f"a voucher says {signed.voucher.total} and the journal's last receipt "
            f"{self.last.total}",
            number=number,
            voucher=signed,
        )

    def again(self, seq: int) -> Served | None:
        """The receipt at that place, always the same; None where it is not known any more."""
        place = self._place_at(seq)
        return None if place is None else place.served

    def redeem_due(
        self, *, threshold_k: int, redemption_cost: int, deposit_share_bps: int
    ) -> RedeemReason | None:
        """Why the voucher held should go to the chain now, if it should. Nothing waits on a channel
        that is being closed or was abandoned."""
        owed = 0 if self.voucher is None else self.chain.due(self.voucher.voucher.total)
        if owed == 0:
            return None
        if self.chain.close_at:
            return "closing"
        if self.abandoned:
            return "abandoned"
        if owed > threshold_k * redemption_cost:
            return "threshold"
        if owed * BPS > self.chain.deposited * deposit_share_bps:
            return "deposit_share"
        return None

    def _met_before(self, ask: Ask) -> Served | Refusal | None:
        """What became of this call, or of this request, if it was here before."""
        met = self._known().get(ask.request)
        if isinstance(met, Running):
            return self._refusal("in_flight", f"call {ask.request.call_id} is running", ask.number)
        if met is not None:
            return met.served
        if ask.number <= self.number:
            return self._refusal(
                "stale", f"request {ask.number} comes after request {self.number}", ask.number
            )
        # Calls on credit may be paid for while the request is on its way, and no others.
        if ask.held.seq + self.credit_calls - 1 < self.paid.seq:
            return self._refusal(
                "stale",
                f"the payer holds receipt {ask.held.seq} and paid for receipt {self.paid.seq}",
                ask.number,
            )
        return None

    def _refusal_of(
        self, ask: Ask, limits: CallLimits, app: AppHistory, now_ms: int
    ) -> Refusal | None:
        """Why a new request is not begun, if it is not."""
        number, request = ask.number, ask.request
        if self.chain.close_at:
            return self._refusal("closing", f"it closes at {self.chain.close_at}", number)
        if request.app_id != app.app_id:
            return self._refusal("unknown_app", f"served here is app {app.app_id}", number)
        if not 0 < request.max_seconds <= limits.max_seconds:
            return self._refusal(
                "too_long", f"{request.max_seconds} s of at most {limits.max_seconds}", number
            )
        try:
            price = app.price_for(now_ms, version=request.version)
        except QuoteError as problem:
            return self._refusal("unknown_app", str(problem), number)
        if price != request.price:
            return self._refusal("price_changed", f"it is {price} now", number)
        if len(self.unpaid) + len(self.running) >= self.credit_calls:
            return self._refusal(
                "unpaid" if self.unpaid else "in_flight",
                f"{len(self.unpaid)} calls without a voucher and {len(self.running)} running, of "
                f"{self.credit_calls} on credit",
                number,
            )
        ceiling = ceiling_up(request, limits)
        if ceiling > self.balance:
            return self._refusal(
                "paused_funds", f"it may cost {ceiling}; the deposit covers {self.balance}", number
            )
        return None

    def _contradiction(self, ask: Ask) -> str:
        """How the payer's own receipts show this journal to be behind; empty if they do not."""
        if ask.held.seq > self.last.seq:
            return (
                f"the payer holds receipt {ask.held.seq} and the journal's last is {self.last.seq}"
            )
        place = self._place_at(ask.held.seq)
        if place is not None and place.link.digest != ask.held.digest:
            return (
                f"receipt {ask.held.seq} is {ask.held.digest} for the payer and "
                f"{place.link.digest} in the journal"
            )
        return ""

    def _place_of(self, signed: SignedVoucher) -> Place | None:
        """The receipt that a good voucher countersigns, if the journal has it still. Raises
        `VoucherRefused`."""
        voucher = signed.voucher
        for name in ("payer", "provider", "salt"):
            expected, found = getattr(self.channel, name), getattr(voucher, name)
            if expected != found:
                raise VoucherRefused(name, expected, found)
        expected = f"one by {self.channel.signer}"
        try:
            signer = _signer_of(self.domain, signed)
        except ProtocolError as problem:
            raise VoucherRefused("signature", expected, f"none: {problem}") from problem
        if signer != self.channel.signer:
            raise VoucherRefused("signature", expected, f"one by {signer}")
        for place in self._places():
            if place.link.digest == voucher.receipt:
                if place.link.total != voucher.total:
                    raise VoucherRefused("total", place.link.total, voucher.total)
                return place
        return None

    def _places(self) -> tuple[Place, ...]:
        return self.unpaid if self.paid_place is None else (self.paid_place, *self.unpaid)

    def _place_at(self, seq: int) -> Place | None:
        """Places follow each other without a gap."""
        behind = seq - self.paid.seq
        if behind == 0:
            return self.paid_place
        return self.unpaid[behind - 1] if 0 < behind <= len(self.unpaid) else None

    def _known(self) -> Mapping[CallRequest, Running | Place]:
        if self._met is not None:
            return self._met
        met: dict[CallRequest, Running | Place] = {
            place.served.request: place for place in self._places()
        }
        for call in self.running:
            met[call.request] = call
        return met

    def _promise(self) -> int:
        if self._promised is not None:
            return self._promised
        return sum(call.ceiling for call in self.running)

    def _with(self, **changes: Any) -> ServingChannel:
        """The state with these fields instead. Who changes what runs or was served says what
        follows from that too."""
        end = object.__new__(ServingChannel)
        end.__dict__.update(self.__dict__)
        end.__dict__.update(changes)
        return end

    def _running(self, number: int) -> Running:
        for running in self.running:
            if running.number == number:
                return running
        raise MessageError(f"request {number} is not being run here: begin with `may_serve`")

    def _without(self, gone: Running) -> ServingChannel:
        """It does not run any more."""
        met = dict(self._known())
        met.pop(gone.request, None)
        return self._with(
            running=tuple(call for call in self.running if call is not gone),
            _met=met,
            _promised=self._promise() - gone.ceiling,
        )

    def _after(self, record: ServingRecord) -> ServingChannel:
        """The state with one more record: what is done now and what is read back alike."""
        match record:
            case Served():
                return self._after_served(record)
            case VoucherTaken(signed=voucher):
                return self._after_voucher(voucher)
            case Abandoned(why=why, voucher=voucher_kept):
                return self._with(
                    abandoned=why,
                    running=(),
                    voucher=_better(self.voucher, voucher_kept),
                    _met=None,
                    _promised=None,
                )
            case Opened() | ServingCheckpoint():
                raise MessageError(
                    "the channel is opened twice: each salt has a journal of its own"
                )

    def _after_served(self, served: Served) -> ServingChannel:
        receipt = served.receipt
        if (receipt.seq, receipt.prev) != (self.last.seq + 1, self.last.digest):
            raise MessageError(
                f"the journal has receipt {receipt.seq} behind receipt {self.last.seq}: it "
                "is not whole, give it a new beginning"
            )
        place = _place(self.domain, served)
        return self._with(
            unpaid=(*self.unpaid, place),
            number=max(self.number, served.number),
            answered=max(self.answered, served.number),
            _met={**self._known(), served.request: place},
        )

    def _after_voucher(self, voucher: SignedVoucher) -> ServingChannel:
        receipt = voucher.voucher.receipt
        at = next((at for at, p in enumerate(self.unpaid) if p.link.digest == receipt), None)
        if at is None:
            raise MessageError(
                f"the journal has a voucher for {receipt} and not that receipt: it is not "
                "whole, give it a new beginning"
            )
        met = dict(self._known())
        for place in (self.paid_place, *self.unpaid[:at]):
            if place is not None:
                met.pop(place.served.request, None)
        return self._with(
            paid_place=self.unpaid[at],
            unpaid=self.unpaid[at + 1 :],
            voucher=_better(self.voucher, voucher),
            _met=met,
        )

    def _at(self, checkpoint: ServingCheckpoint) -> ServingChannel:
        """A channel that nothing is known of yet, as it was then."""
        paid = checkpoint.paid
        end = self._with(
            paid_place=None if paid is None else _place(self.domain, paid),
            voucher=checkpoint.voucher,
            abandoned=checkpoint.abandoned,
            opened_at_s=checkpoint.opened_at_s,
        )
        for served in checkpoint.unpaid:
            end = end._after_served(served)
        held = None if end.voucher is None else end.voucher.voucher.receipt
        if not end.abandoned and held != (end.paid.digest if paid else None):
            raise MessageError(
                f"the checkpoint has a voucher for {held} and receipt {end.paid.digest} paid: it "
                "is not whole, give the journal a new beginning"
            )
        return end._with(number=checkpoint.answered, answered=checkpoint.answered)

    def _abandon(
        self,
        why: str,
        *,
        number: int = 0,
        voucher: SignedVoucher | None = None,
        before: tuple[ServingRecord, ...] = (),
    ) -> ServingStep:
        record = Abandoned(why, voucher)
        end = self._after(record)
        return ServingStep(end, end._refusal("new_salt", why, number), (*before, record))

    def _refused(self, code: RefusalCode, detail: str, number: int) -> ServingStep:
        return ServingStep(self, self._refusal(code, detail, number))

    def _refusal(self, code: RefusalCode, detail: str, number: int) -> Refusal:
        place = self.unpaid[0] if self.unpaid else self.paid_place
        receipt = place.served.answer.signed if place else None
        return Refusal(code, detail, number, receipt, self.voucher)


@dataclass(frozen=True, slots=True)
class ServingStep:
    """What a transition comes to."""

    channel: ServingChannel
    reply: Go | Served | Refusal | None = None
    records: tuple[ServingRecord, ...] = ()
    """To be durable before the reply is sent."""


def _place(domain: Domain, served: Served) -> Place:
    receipt = served.receipt
    return Place(Link(receipt.seq, messages.digest(domain, receipt), receipt.total), served)


@lru_cache(maxsize=1024)
def _signer_of(domain: Domain, signed: SignedVoucher) -> Address:
    """Recovering is the dearest thing in a call, and a voucher comes by itself and with requests
    that were on their way meanwhile."""
    return messages.recover(domain, signed.voucher, signed.signature)


def _better(one: SignedVoucher | None, other: SignedVoucher | None) -> SignedVoucher | None:
    """The one that is worth more."""
    if one is None or other is None:
        return other or one
    return other if other.voucher.total >= one.voucher.total else one
