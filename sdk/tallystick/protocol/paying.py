"""The payer's end of a channel: a gateway with a session key, or the consumer's own SDK.

    step = end.ask(request, ...)        write down step.records, send step.reply
    step = end.take(answer, ...)        the receipt is checked; step.reply is the voucher to send
    step = end.countersign(sign)        the same later, for all receipts taken without a key
    step = end.learn(refusal)           step.reply, if any, is a request to be sent again

A lost answer is repaired by the same request again, a lost voucher by the next request, which
carries the last one. Each place in the chain of receipts is signed for once: a voucher's total is
its receipt's, and another receipt for that place is refused. Pure and frozen, like `serving`.
Limits on spending are the caller's, and come before `ask`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from tallystick.protocol import messages
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_journal import (
    Abandoned,
    Accepted,
    Asked,
    GivenUp,
    Opened,
    PayingCheckpoint,
    PayingRecord,
    VoucherSigned,
)
from tallystick.protocol.calls import (
    CallAnswer,
    CallLimits,
    CallRequest,
    Link,
    Sign,
    Waited,
    ceiling_up,
    check_receipt,
    request_digest,
)
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.errors import (
    ChannelAbandoned,
    ChannelClosing,
    MessageError,
    PausedFunds,
    ProtocolError,
    ReceiptRefused,
    TooManyCalls,
)
from tallystick.protocol.messages import Channel, Domain, Voucher
from tallystick.protocol.serving import Ask, Refusal
from tallystick.protocol.types import Address, Digest

__all__ = ["PayingChannel", "PayingState", "PayingStep"]

NOTHING_HELD: Final = Link()

PayingState = Literal["open", "paused_funds", "closing", "abandoned"]


@dataclass(frozen=True, slots=True)
class PayingChannel:
    """`opened` and `rebuilt` make one; `observe` keeps its view of the chain."""

    domain: Domain
    channel: Channel
    chain: ChannelState
    credit_calls: int = 1
    """How many calls the provider lets be open at a time."""
    held: Link = NOTHING_HELD
    receipt: SignedReceipt | None = None
    """The last one accepted. It is evidence, should another one for its place turn up
    (`evidence.fault_of`)."""
    voucher: SignedVoucher | None = None
    """The last one signed; `countersign` brings it up to the last receipt."""
    open: Mapping[int, Asked] = field(default_factory=dict)
    """Requests without an answer yet, by their number, in order."""
    reserved: int = 0
    """The most that those can cost."""
    number: int = 0
    """Of the last request."""
    abandoned: str = ""
    opened_at_s: int = 0
    _numbers: Mapping[Digest, int] = field(default_factory=dict, repr=False)
    """Of open requests, by the digest that their receipts commit to."""

    @classmethod
    def opened(
        cls,
        domain: Domain,
        channel: Channel,
        chain: ChannelState,
        *,
        now_s: int,
        credit_calls: int = 1,
    ) -> PayingStep:
        if chain.claimed:
            raise ChannelAbandoned(
                f"{chain.claimed} was redeemed on the channel and the journal has no voucher for it"
            )
        end = cls(domain, channel, chain, credit_calls, opened_at_s=now_s)
        return PayingStep(end, records=(Opened(channel, now_s),))

    @classmethod
    def rebuilt(
        cls,
        domain: Domain,
        chain: ChannelState,
        records: Iterable[PayingRecord],
        *,
        journal_since_s: int = 0,
        credit_calls: int = 1,
    ) -> PayingStep:
        """From one channel's records, beginning with `Opened` or with a checkpoint."""
        end: PayingChannel | None = None
        for record in records:
            if end is not None:
                end = end._after(record)
            elif isinstance(record, Opened):
                end = cls(domain, record.channel, chain, credit_calls, opened_at_s=record.at_s)
            elif isinstance(record, PayingCheckpoint):
                end = cls(domain, record.channel, chain, credit_calls)._from(record)
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

    def checkpoint(self) -> PayingCheckpoint:
        """Everything that the records so far come to: they may be forgotten once it is durable."""
        return PayingCheckpoint(
            self.channel,
            self.opened_at_s,
            self.held,
            self.receipt,
            self.voucher,
            self.asked,
            self.number,
            self.abandoned,
        )

    @property
    def asked(self) -> tuple[Asked, ...]:
        return tuple(self.open.values())

    @property
    def balance(self) -> int:
        """What the deposit covers beyond receipts held and calls asked for."""
        return max(0, self.chain.deposited - self.held.total - self.reserved)

    def state_for(self, ceiling: int) -> PayingState:
        """Whether a call that may cost so much could be asked for."""
        if self.abandoned:
            return "abandoned"
        if self.chain.close_at:
            return "closing"
        return "paused_funds" if ceiling > self.balance else "open"

    def observe(self, chain: ChannelState) -> PayingStep:
        """A newer view of the channel: a top-up resumes it. More redeemed than was signed for, as
        far as the journal knows, means that the journal has lost vouchers."""
        end = replace(self, chain=chain)
        if chain.claimed > self.held.total and not self.abandoned:
            return end._abandon(
                f"{chain.claimed} was redeemed and the journal's last voucher says "
                f"{self.held.total}"
            )
        return PayingStep(end)

    def ask(self, request: CallRequest, limits: CallLimits, *, now_ms: int) -> PayingStep:
        """Raises `ChannelAbandoned`, `ChannelClosing`, `TooManyCalls` or `PausedFunds`."""
        if request_digest(request) in self._numbers:
            raise MessageError(f"call {request.call_id} is open on this channel: use `again`")
        ceiling = ceiling_up(request, limits)
        state = self.state_for(ceiling)
        if state == "abandoned":
            raise ChannelAbandoned(self.abandoned)
        if state == "closing":
            raise ChannelClosing(
                f"the channel closes at {self.chain.close_at}: take another, or cancel the close"
            )
        if len(self.open) >= self.credit_calls:
            raise TooManyCalls(
                f"{len(self.open)} calls are open on this channel and the provider gives credit "
                f"for {self.credit_calls}: wait for one, or take another channel"
            )
        if state == "paused_funds":
            raise PausedFunds(ceiling, self.balance)
        asked = Asked(self.number + 1, request, ceiling, now_ms)
        end = self._after(asked)
        return PayingStep(end, end.again(asked.number), (asked,))

    def again(self, number: int) -> Ask:
        """The same request once more, for an answer that was lost."""
        return Ask(number, self._asked(number).request, self.held, self.voucher)

    def take(
        self,
        answer: CallAnswer,
        *,
        result: Digest,
        limits: CallLimits,
        app: AppHistory,
        operator_keys: Collection[Address],
        now_ms: int,
        sign: Sign | None,
    ) -> PayingStep:
        """The voucher for a checked receipt; for one that is held already, the last voucher again.
        Raises `ReceiptRefused`, and then nothing was signed. `result` is the digest of the bytes
        that came; `operator_keys` are the provider's. Without `sign` the receipt is accepted, and
        `countersign` pays for it with the others of the moment."""
        receipt = answer.signed.receipt
        if self._is_held(answer.signed):
            return PayingStep(self, self.voucher)
        if self.abandoned:
            raise ChannelAbandoned(self.abandoned)
        if receipt.seq != self.held.seq + 1:
            raise ReceiptRefused("seq", self.held.seq + 1, receipt.seq)
        asked = self._asked_for(receipt.request)
        if asked is None:
            raise ReceiptRefused("request", "the digest of one that is open", receipt.request)
        checked = check_receipt(
            self.domain,
            self.channel,
            self.held,
            asked.request,
            answer,
            result=result,
            limits=limits,
            app=app,
            operator_keys=operator_keys,
            waited=Waited(asked.at_ms, now_ms),
        )
        record = Accepted(asked.number, answer.signed, checked.digest)
        end = self._after(record)
        if sign is None:
            return PayingStep(end, records=(record,))
        step = end.countersign(sign)
        return replace(step, records=(record, *step.records))

    def countersign(self, sign: Sign) -> PayingStep:
        """The voucher for the last receipt accepted, which pays for all before it; the same one
        again if there is one. Also what is owed after a crash or on an abandoned channel."""
        voucher = self.unsigned
        if voucher is None:
            return PayingStep(self, self.voucher)
        record = VoucherSigned(SignedVoucher(voucher, sign(voucher)))
        return PayingStep(self._after(record), record.signed, (record,))

    def give_up(self, number: int) -> PayingStep:
        """The answer is not wanted any more: the call failed, or goes elsewhere. A provider that
        ran it all the same is not paid for it here."""
        self._asked(number)
        record = GivenUp(number)
        return PayingStep(self._after(record), records=(record,))

    def learn(self, refusal: Refusal) -> PayingStep:
        """What a provider's refusal says about the two journals. The reply is a request to send
        again, for a receipt that waits for its voucher."""
        if self.abandoned:
            return PayingStep(self)
        if self._is_signed_here(refusal.voucher):
            return self._abandon(
                "the provider holds a voucher by this channel's signer that the journal lacks"
            )
        if refusal.code == "new_salt":
            return self._abandon(f"the provider asks for a new salt ({refusal.detail})")
        if refusal.receipt is None or refusal.receipt.receipt.seq <= self.held.seq:
            return PayingStep(self)
        waiting = refusal.receipt.receipt
        asked = self._asked_for(waiting.request)
        if asked is not None:
            return PayingStep(self, self.again(asked.number))
        return self._abandon(
            f"the provider waits for a voucher for receipt {waiting.seq}, whose call was given up "
            "or is not in the journal"
        )

    @property
    def unsigned(self) -> Voucher | None:
        """What `countersign` would sign: the last receipt accepted has no voucher yet."""
        if self.receipt is None or self._is_countersigned:
            return None
        return self.channel.voucher(self.held.total, self.held.digest)

    @property
    def _is_countersigned(self) -> bool:
        return self.voucher is not None and self.voucher.voucher.receipt == self.held.digest

    def _is_held(self, signed: SignedReceipt) -> bool:
        return (
            self.receipt is not None
            and signed.receipt.seq == self.held.seq
            and messages.digest(self.domain, signed.receipt) == self.held.digest
        )

    def _is_signed_here(self, signed: SignedVoucher | None) -> bool:
        """A voucher beyond the last one, by this channel's own signer."""
        if signed is None or signed.voucher.total <= self.held.total:
            return False
        try:
            return messages.channel_of(self.domain, signed.voucher, signed.signature) == (
                self.channel
            )
        except ProtocolError:
            return False

    def _asked_for(self, request: Digest) -> Asked | None:
        """Which open request a receipt is for."""
        number = self._numbers.get(request)
        return None if number is None else self.open[number]

    def _asked(self, number: int) -> Asked:
        asked = self.open.get(number)
        if asked is None:
            raise MessageError(f"request {number} is not open on this channel")
        return asked

    def _after(self, record: PayingRecord) -> PayingChannel:
        """The state with one more record: what is done now and what is read back alike."""
        match record:
            case Asked():
                return self._with(record)
            case Accepted(number=number, receipt=receipt, digest=digest):
                if receipt.receipt.prev != self.held.digest:
                    raise MessageError(
                        f"the journal has receipt {receipt.receipt.seq} behind receipt "
                        f"{self.held.seq}: it is not whole, give it a new beginning"
                    )
                held = Link(receipt.receipt.seq, digest, receipt.receipt.total)
                return self._without(number, held=held, receipt=receipt)
            case VoucherSigned(signed=signed):
                if signed.voucher.receipt != self.held.digest:
                    raise MessageError(
                        f"the journal has a voucher for {signed.voucher.receipt} behind receipt "
                        f"{self.held.digest}: it is not whole, give it a new beginning"
                    )
                return replace(self, voucher=signed)
            case GivenUp(number=number):
                return self._without(number)
            case Abandoned(why=why):
                return replace(self, abandoned=why)
            case Opened() | PayingCheckpoint():
                raise MessageError(
                    "the channel is opened twice: each salt has a journal of its own"
                )

    def _from(self, record: PayingCheckpoint) -> PayingChannel:
        end = replace(
            self,
            held=record.held,
            receipt=record.receipt,
            voucher=record.voucher,
            abandoned=record.abandoned,
            opened_at_s=record.opened_at_s,
        )
        for asked in record.asked:
            end = end._with(asked)
        return replace(end, number=record.number)

    def _with(self, asked: Asked) -> PayingChannel:
        return replace(
            self,
            open={**self.open, asked.number: asked},
            reserved=self.reserved + asked.ceiling,
            number=asked.number,
            _numbers={**self._numbers, request_digest(asked.request): asked.number},
        )

    def _without(self, number: int, **changes: Any) -> PayingChannel:
        gone = self.open.get(number)
        if gone is None:
            return replace(self, **changes)
        left, numbers = dict(self.open), dict(self._numbers)
        del left[number], numbers[request_digest(gone.request)]
        return replace(
            self, open=left, reserved=self.reserved - gone.ceiling, _numbers=numbers, **changes
        )

    def _abandon(self, why: str) -> PayingStep:
        record = Abandoned(why)
        return PayingStep(self._after(record), records=(record,))


@dataclass(frozen=True, slots=True)
class PayingStep:
    """What a transition comes to."""

    channel: PayingChannel
    reply: Ask | SignedVoucher | None = None
    records: tuple[PayingRecord, ...] = ()
    """To be durable before the reply is sent."""
