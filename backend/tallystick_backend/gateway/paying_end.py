"""One channel in use: calls go out in order, receipts are taken in order, one voucher pays for all
that were taken since the last transaction of the journal. Where the consumer keeps the key, each
receipt waits for the voucher that it hands in.

    answer = await paying.run(asked)

Everything that decides is the kernel's `PayingChannel`; here are its messages and its waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import structlog

from tallystick.protocol import call_frames
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_bodies import (
    CallRefusalBody,
    CancelBody,
    RefusalCode,
)
from tallystick.protocol.call_codec import (
    JSON,
    AnswerMessage,
    read_answer,
    write_request,
    write_voucher,
)
from tallystick.protocol.call_journal import Abandoned, PayingRecord
from tallystick.protocol.calls import CallAnswer, CallLimits, CallRequest, Sign
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.errors import (
    ChannelAbandoned,
    ChannelClosing,
    MessageError,
    PausedFunds,
    ProtocolError,
    ReceiptRefused,
    TooManyCalls,
    WireError,
)
from tallystick.protocol.hashing import StreamDigest, digest_of
from tallystick.protocol.messages import Voucher, channel_id
from tallystick.protocol.paying import PayingChannel, PayingStep
from tallystick.protocol.serving import Ask, Refusal
from tallystick.protocol.types import Address, Digest, Signature
from tallystick.protocol.wire import Ack, parse
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.bus import CallBus
from tallystick_backend.gateway.errors import GatewayNotReady, JournalFailed
from tallystick_backend.gateway.journal import Entry, Journal, Stream
from tallystick_backend.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

HASHED_BESIDE: Final = 256 * 1024
"""Longer results are hashed in a thread: the loop has other calls."""
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.5

LONGEST_RESAY_S: Final = 60.0
"""Between two times that a voucher is said to a provider that does not answer."""


class Stopped(Exception):
    """The call came to nothing on this channel; what is to be done is in the class."""


class Elsewhere(Stopped):
    """This provider does not do it; another one may."""


class ProviderGone(Elsewhere):
    """Silent in the middle: it may have run the call."""


class Reprice(Stopped):
    """The app has another price by now."""


class ShowApp(Stopped):
    """The provider does not know the version."""


class Stale(Stopped):
    """To be asked for once more, under a new number."""


class NewChannel(Stopped):
    """Nothing is signed on this channel any more."""


class NeedsFunds(Stopped):
    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} more is needed in the channel")
        self.missing = missing


class Unsigned(Stopped):
    """The consumer has not signed for the call before."""

    def __init__(self, voucher: Voucher) -> None:
        super().__init__(f"a voucher over {voucher.total} is not signed yet")
        self.voucher = voucher


class Closing(Stopped):
    def __init__(self, close_at_s: int) -> None:
        super().__init__(f"the channel closes at {close_at_s}")
        self.close_at_s = close_at_s


class Refused(Stopped):
    """The provider's last word: the call failed, and nothing is charged."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail


class TimeOver(Stopped):
    """No answer in time."""


@dataclass(slots=True)
class Asked:
    """What is asked of a paying: one call, at one price."""

    request: CallRequest
    limits: CallLimits
    app: AppHistory
    input: bytes
    deadline_s: float
    """By the loop's clock."""
    row: Callable[[str, str], Entry]
    """Provider and channel to the part of the journal's entry that says that it runs."""
    paid: Callable[[Taken], Entry]
    """The same that says that it is completed."""
    stream: bool = False
    on_piece: Callable[[bytes], None] | None = None
    media_type: str = JSON
    """Of the input."""
    patient: bool = False
    """Wait for a provider that fell silent: the call may not be run twice."""


@dataclass(slots=True)
class Taken:
    """A checked answer, with its receipt accepted."""

    body: AnswerMessage
    text: bytes
    """The same as JSON."""
    result: bytes
    charge: int
    total: int
    paying: PayingEnd
    voucher: SignedVoucher | None = None
    due: Voucher | None = None
    """What the consumer has to sign for it."""

    @property
    def answer(self) -> CallAnswer:
        return self.body.answer

    @property
    def balance(self) -> int:
        return self.paying.end.balance


@dataclass(slots=True)
class _Open:
    """A request on its way."""

    number: int
    asked: Asked
    reply: str
    frames: deque[bytes | None] = field(default_factory=deque)
    news: asyncio.Future[None] | None = None
    """Somebody waits for a frame."""
    taken: asyncio.Future[Taken] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    digest: StreamDigest | None = None
    pieces: list[bytes] = field(default_factory=list)
    accepted: bool = False
    """Its receipt is taken, and being written down."""
    canceled: bool = False
    voucher: SignedVoucher | None = None
    """What went with it."""

    @property
    def is_taken(self) -> bool:
        return self.accepted or self.taken.done()

    def hear(self, data: bytes | None) -> None:
        self.frames.append(data)
        self.wake()

    def wake(self) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_result(None)


class PayingEnd:
    def __init__(
        self,
        end: PayingChannel,
        sign: Sign | None,
        bus: CallBus,
        journal: Journal,
        clock: Clock,
        settings: GatewaySettings,
        operator_keys: Callable[[], frozenset[Address]],
    ) -> None:
        self.end = end
        self.channel = end.channel
        self.channel_id: Digest = channel_id(end.channel)
        self.provider = end.channel.provider.lower()
        self.stream = Stream(self.channel_id, self._seal, self._committed, lambda: self.end)
        self._sign = sign
        """None: the consumer keeps the key, and hands its vouchers in."""
        self.unsigned_call = ""
        """Whose receipt waits for the consumer's voucher, as far as this process took it."""
        self._handing_in: asyncio.Future[None] | None = None
        self._signed: asyncio.Future[None] | None = None
        """Somebody waits for the consumer's voucher."""
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._operator_keys = operator_keys
        self._open: dict[int, _Open] = {}
        self._arrived: dict[int, tuple[_Open, AnswerMessage, bytes, bytes, Digest]] = {}
        self._turns: deque[asyncio.Future[None]] = deque()
        self._dirty = False
        self._voucher_reply = bus.listen(self.provider, self._on_voucher_reply)
        self._durable: SignedVoucher | None = end.voucher
        """The newest one that is written down: what is sent is no other."""
        self._told: SignedVoucher | None = None
        """The newest voucher that the provider is known to have, or was sent."""
        self._telling: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        """Messages on their way out; the loop itself would not hold on to them."""
        self._unanswered = 0
        """Messages that the provider said nothing to yet; a voucher among them may be lost."""
        self._resaid = 0
        self._checking: asyncio.TimerHandle | None = None
        self._closed = False
        self.closing_told = False
        """The provider has seen a close that the index has not."""
        self.refusals: dict[str, int] = {}

    # --- state --------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        return not self.stream.broken and not self.end.abandoned

    @property
    def in_use(self) -> bool:
        return bool(self._open or self._turns)

    @property
    def is_lent(self) -> bool:
        """The gateway has the key that signs here."""
        return self._sign is not None

    @property
    def unsigned(self) -> Voucher | None:
        """What the consumer has to sign before the next call."""
        return None if self.is_lent else self.end.unsigned

    def set_credit(self, credit_calls: int) -> None:
        """As many as the provider says now; one where the consumer signs: each is signed for before
        the next begins, so that one is all that anybody can lose."""
        credit_calls = credit_calls if self.is_lent else 1
        if credit_calls != self.end.credit_calls:
            self.end = replace(self.end, credit_calls=credit_calls)
            self._wake()

    def observe(self, chain: ChannelState) -> None:
        """What the index has of the channel now."""
        if chain == self.end.chain:
            return
        if chain.close_at == 0 and self.end.chain.close_at:
            self.closing_told = False
        self._step(self.end.observe(chain))
        self._wake()

    def provider_lost(self) -> None:
        for one in list(self._open.values()):
            if not one.asked.patient:
                one.hear(None)

    # --- one call -----------------------------------------------------------------------------

    async def run(self, asked: Asked) -> Taken:
        """Raises one of `Stopped`, or `JournalFailed`."""
        ask = await self._begin(asked)
        one = self._open[ask.number]
        try:
            return await self._exchange(one, ask)
        except ReceiptRefused as refusal:
            log.warning(
                "receipt_refused",
                provider=self.provider,
                call=asked.request.call_id,
                why=str(refusal),
            )
            raise Elsewhere(f"its receipt was refused: {refusal}") from refusal
        except ChannelAbandoned as why:
            raise NewChannel(str(why)) from why
        except asyncio.CancelledError:
            self._forget(one)
            raise
        finally:
            self._end(one)

    async def resume(self, number: int, asked: Asked) -> Taken:
        """A request that the journal has and whose answer it lacks: asked once more."""
        one = _Open(number, asked, "")
        one.reply = self._bus.listen(self.provider, one.hear)
        self._open[number] = one
        try:
            return await self._exchange(one, self.end.again(number), repeated=True)
        except (ReceiptRefused, ChannelAbandoned) as failure:
            raise Elsewhere(str(failure)) from failure
        except asyncio.CancelledError:
            self._forget(one)
            raise
        finally:
            self._end(one)

    def cancel(self, call_id: str) -> None:
        """Nobody waits for it any more; what ran all the same is paid."""
        for one in self._open.values():
            if one.asked.request.call_id == call_id and not one.canceled:
                one.canceled = True
                body = CancelBody(channel=self.channel.to_body(), number=one.number)
                payload = body.model_dump_json().encode()
                self._unanswered += 1
                self._later(self._bus.send(self.provider, "cancel", payload, self._voucher_reply))

    async def _begin(self, asked: Asked) -> Ask:
        """The request, written down and counted; waits for its turn where the provider gives no
        more credit."""
        while True:
            self._require_whole()
            if not self.is_lent:
                await self._signed_for(asked.deadline_s)
                self._require_whole()
            try:
                step = self.end.ask(asked.request, asked.limits, now_ms=self._clock.now_ms())
                break
            except TooManyCalls:
                await self._turn(asked.deadline_s)
            except PausedFunds as paused:
                raise NeedsFunds(paused.missing) from paused
            except ChannelClosing as closing:
                raise Closing(self.end.chain.close_at) from closing
            except ChannelAbandoned as why:
                raise NewChannel(str(why)) from why
        if self.closing_told:
            raise Closing(0)
        self.end = step.channel
        ask = step.reply
        assert isinstance(ask, Ask)
        one = _Open(ask.number, asked, "")
        one.reply = self._bus.listen(self.provider, one.hear)
        self._open[ask.number] = one
        entry = asked.row(self.provider, self.channel_id)
        entry.stream, entry.records = self.stream, step.records
        try:
            await self._journal.write(entry)
        except asyncio.CancelledError:
            self._forget(one)
            raise
        except BaseException:
            self._end(one)
            raise
        return ask

    async def _exchange(self, one: _Open, ask: Ask, *, repeated: bool = False) -> Taken:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        funds_until_s = loop.time() + self._settings.provider_funds_wait_s
        await self._send(one, ask)
        while True:
            frame = await self._frame(one, repeated)
            if one.is_taken:
                return await one.taken
            if frame is None:  # nothing came for a while: ask again, it runs once all the same
                self._require_no_gap(one)
                if not one.pieces:
                    await self._send(one, self.end.again(one.number))
                    repeated = True
                continue
            if frame.kind == call_frames.PIECE:
                self._piece(one, frame.content)
                continue
            if frame.kind == call_frames.ANSWER:
                if await self._arrive(one, frame):
                    return await one.taken
                repeated = True
                continue
            refusal = self._learn(frame.body)
            code = refusal.code
            self.refusals[code] = self.refusals.get(code, 0) + 1
            if code == "in_flight" and repeated:
                continue  # it runs; the answer comes by itself or is asked for again
            if code in ("in_flight", "unpaid") or (
                code == "paused_funds" and loop.time() < funds_until_s
            ):
                # A voucher or a block is still on its way there; with it goes the same request.
                await self._pause(one, pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                self._require_whole()
                await self._send(one, self.end.again(one.number))
                continue
            raise self._outcome(refusal)

    def _outcome(self, refusal: Refusal) -> Stopped:
        match refusal.code:
            case "price_changed":
                return Reprice(refusal.detail)
            case "unknown_app":
                return ShowApp(refusal.detail)
            case "new_salt":
                return NewChannel(refusal.detail)
            case "stale":
                # Its place was taken by a later request; the next one has a number of its own.
                return NewChannel("") if self.end.abandoned else Stale(refusal.detail)
            case "closing":
                self.closing_told = True
                return Closing(self.end.chain.close_at)
            case "failed" | "timed_out" | "too_large":
                return Refused(refusal.code, refusal.detail)
            case _:
                return Elsewhere(f"{refusal.code}: {refusal.detail}")

    async def _frame(self, one: _Open, repeated: bool) -> call_frames.Frame | None:
        """The next one; None after a while without. Raises `TimeOver` and `ProviderGone`."""
        loop = asyncio.get_running_loop()
        if one.is_taken:
            return None
        left_s = one.asked.deadline_s - loop.time()
        if left_s <= 0:
            raise TimeOver(f"no answer from {self.provider} in time")
        wait_s = min(left_s, self._settings.repeat_s)
        if not one.frames:
            one.news = loop.create_future()
            late = loop.call_later(wait_s, one.wake)
            try:
                await one.news
            finally:
                late.cancel()
                one.news = None
            if not one.frames:
                return None
        data = one.frames.popleft()
        if data is None:
            if one.asked.patient:
                await asyncio.sleep(LONGEST_PAUSE_S)
                return None
            raise ProviderGone(f"{self.provider} fell silent")
        try:
            return call_frames.unpack(data)
        except WireError as failure:
            raise Elsewhere(f"it sent no frame: {failure}") from failure

    def _piece(self, one: _Open, content: bytes) -> None:
        if one.digest is None:
            one.digest = StreamDigest()
        one.digest.update(content)
        one.pieces.append(content)
        if one.asked.on_piece is not None:
            one.asked.on_piece(content)

    async def _arrive(self, one: _Open, frame: call_frames.Frame) -> bool:
        """Whether its receipt could be taken now."""
        try:
            body = read_answer(frame.body)
        except (WireError, ProtocolError) as failure:
            raise Elsewhere(f"its answer is malformed: {failure}") from failure
        content = frame.content
        if one.digest is not None:
            digest = one.digest.digest()
            content = b"".join(one.pieces)
        elif len(content) > HASHED_BESIDE:
            digest = await asyncio.to_thread(digest_of, content)
        else:
            digest = digest_of(content)
        seq = body.answer.signed.receipt.seq
        if self.end.held.seq < seq <= self.end.held.seq + self.end.credit_calls:
            self._arrived[seq] = (one, body, frame.body, content, digest)
            self._take_in_order()
            return one.is_taken
        raise ReceiptRefused("seq", self.end.held.seq + 1, seq)

    def _take_in_order(self) -> None:
        """A receipt that came before its predecessor waits for it."""
        while (waiting := self._arrived.pop(self.end.held.seq + 1, None)) is not None:
            one, body, text, content, digest = waiting
            answer = body.answer
            if one.number not in self._open or one.is_taken:
                continue
            before = self.end.held.total
            asked = one.asked
            try:
                self._require_whole()
                step = self.end.take(
                    answer,
                    result=digest,
                    limits=asked.limits,
                    app=asked.app,
                    operator_keys=self._operator_keys(),
                    now_ms=self._clock.now_ms(),
                    sign=None,
                )
            except Exception as failure:
                one.taken.set_exception(failure)
                one.wake()
                continue
            self.end = step.channel
            self._dirty = one.accepted = True
            self._has(one.voucher)
            self.unsigned_call = "" if self.is_lent else asked.request.call_id
            one.wake()
            total = answer.signed.receipt.total
            taken = Taken(body, text, content, total - before, total, self, due=self.unsigned)
            entry = asked.paid(taken)
            entry.stream, entry.records = self.stream, step.records
            written = self._journal.post(entry)
            written.add_done_callback(partial(_when_written, one, taken))
            self._wake()

    def _require_no_gap(self, one: _Open) -> None:
        """Raises when its receipt waits for one that nobody asks for any more."""
        parked = {other.number for other, *_rest in self._arrived.values()}
        if one.number in parked and parked >= set(self._open):
            raise Elsewhere(f"the receipt before its receipt, {self.end.held.seq + 1}, is missing")

    # --- vouchers -----------------------------------------------------------------------------

    def _seal(self) -> Sequence[PayingRecord]:
        if not self._dirty or self._sign is None:
            return ()
        step = self.end.countersign(self._sign)
        self.end = step.channel
        self._dirty = False
        return step.records

    async def hand_in(self, signed: SignedVoucher, entries: Sequence[Entry]) -> None:
        """The consumer's own signature under `unsigned`, checked by whoever calls: written down
        with `entries`, then sent. The same voucher again waits until the first is durable."""
        if self.end.unsigned is None:
            if self._handing_in is not None:
                await asyncio.shield(self._handing_in)
            return
        if self.stream.broken:
            raise JournalFailed()
        step = self.end.countersign(lambda _: Signature(signed.signature))
        self.end = step.channel
        self.unsigned_call = ""
        # No await between these: one row has all of them, and the next request comes behind it.
        self._handing_in = self._journal.post(Entry(self.stream, step.records))
        for entry in entries:
            entry.stream = self.stream
            self._journal.post(entry)
        if self._signed is not None and not self._signed.done():
            self._signed.set_result(None)
        await asyncio.shield(self._handing_in)

    async def _signed_for(self, deadline_s: float) -> None:
        """A moment for the consumer's voucher for the call before. Raises `Unsigned`."""
        loop = asyncio.get_running_loop()
        until_s = min(deadline_s, loop.time() + self._settings.own_voucher_wait_s)
        while (voucher := self.unsigned) is not None:
            if self._signed is None or self._signed.done():
                self._signed = loop.create_future()
            try:
                async with asyncio.timeout_at(until_s):
                    await asyncio.shield(self._signed)
            except TimeoutError:
                if self.unsigned is not None:
                    raise Unsigned(voucher) from None

    def _committed(self, durable: PayingChannel) -> None:
        self._durable = durable.voucher
        self.tell_soon()

    def tell_soon(self) -> None:
        """The next request brings the voucher; where none does in time, a message of its own."""
        if self._telling is None and self._durable != self._told:
            self._tell_in(self._settings.voucher_within_s)

    def _tell_in(self, seconds: float) -> None:
        if self._closed:
            return
        self._telling = asyncio.get_running_loop().call_later(seconds, self._begin_telling)

    def _begin_telling(self) -> None:
        self._telling = None
        self._later(self._tell())

    async def _tell(self) -> None:
        try:
            await self.tell_voucher()
        except GatewayNotReady:
            if self._telling is None:
                self._tell_in(self._settings.repeat_s)

    def close(self) -> set[asyncio.Task[None]]:
        """Tells nothing more by itself; answers what is still ending."""
        self._closed = True
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        for message in self._leaving:
            message.cancel()
        return set(self._leaving)

    async def tell_voucher(self) -> None:
        """The last one, unless the provider has it. Raises `GatewayNotReady`."""
        voucher = self._durable
        if voucher is not None and voucher != self._told:
            payload = write_voucher(voucher)
            await self._bus.send(self.provider, "voucher", payload, self._voucher_reply)
            self._has(voucher)
            self._unanswered += 1
            self._check_later()

    def _check_later(self) -> None:
        """A provider that is away hears nothing, and no next call may come to bring the voucher:
        it is said until it is answered, less and less often."""
        if self._checking is None and not self._closed:
            pause_s = min(self._settings.repeat_s * 2**self._resaid, LONGEST_RESAY_S)
            self._checking = asyncio.get_running_loop().call_later(pause_s, self._check)

    def _check(self) -> None:
        self._checking = None
        if self._unanswered:
            self._unanswered, self._told = 0, None
            self._resaid += 1
            self.tell_soon()

    def _answered(self) -> None:
        self._unanswered = max(0, self._unanswered - 1)
        if not self._unanswered:
            self._resaid = 0

    def _has(self, voucher: SignedVoucher | None) -> None:
        """Sent to the provider, or in a request that it answered."""
        if voucher is None:
            return
        if self._told is None or voucher.voucher.total >= self._told.voucher.total:
            self._told = voucher

    def _on_voucher_reply(self, data: bytes | None) -> None:
        """`Ack`, or a refusal with what the provider holds. A voucher that was lost goes again with
        the next request, or by itself."""
        if data is None:
            return
        self._answered()
        try:
            parse(Ack, data)
            return
        except WireError:
            pass
        try:
            self._learn(data)
        except Stopped as problem:
            log.warning("voucher_reply_malformed", provider=self.provider, why=str(problem))

    def _learn(self, data: bytes) -> Refusal:
        try:
            refusal = Refusal.from_body(parse(CallRefusalBody, data))
        except (WireError, ProtocolError) as failure:
            raise Elsewhere(f"its refusal is malformed: {failure}") from failure
        step = self.end.learn(refusal)
        self._step(step)
        if isinstance(step.reply, Ask):
            waiting = self._open.get(step.reply.number)
            if waiting is not None:
                self._later(self._send(waiting, step.reply))
        return refusal

    # --- parts --------------------------------------------------------------------------------

    def _step(self, step: PayingStep) -> None:
        self.end = step.channel
        for record in step.records:
            if isinstance(record, Abandoned):
                log.error("channel_abandoned", channel=self.channel_id, why=record.why)
        if step.records:
            self._journal.post(Entry(self.stream, step.records))

    def _forget(self, one: _Open) -> None:
        """The process ends: the request stays in the journal, for the next one to ask again."""
        self._bus.forget(one.reply)
        self._open.pop(one.number, None)
        for seq in [seq for seq, (other, *_rest) in self._arrived.items() if other is one]:
            del self._arrived[seq]

    def _end(self, one: _Open) -> None:
        """Given up unless its receipt was taken."""
        if one.number not in self._open:
            return
        self._forget(one)
        if one.number in self.end.open and self.usable:
            try:
                self._step(self.end.give_up(one.number))
            except MessageError:
                log.exception("give_up_failed", channel=self.channel_id)
        self._wake()

    async def _send(self, one: _Open, ask: Ask) -> None:
        one.voucher = self._durable
        ask = replace(ask, voucher=self._durable)
        body = write_request(
            ask, self.channel, stream=one.asked.stream, media_type=one.asked.media_type
        )
        payload = call_frames.pack(call_frames.REQUEST, body, one.asked.input)
        await self._bus.send(self.provider, "call", payload, one.reply)

    async def _pause(self, one: _Open, seconds: float) -> None:
        left_s = one.asked.deadline_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise TimeOver(f"no place at {self.provider} in time")
        await asyncio.sleep(min(seconds, left_s))

    async def _turn(self, deadline_s: float) -> None:
        """Until a call on this channel ends."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except TimeoutError:
            raise TimeOver(f"no place on the channel with {self.provider} in time") from None
        finally:
            if turn in self._turns:
                self._turns.remove(turn)

    def _wake(self) -> None:
        free = self.end.credit_calls - len(self.end.open)
        if not self.usable or self.end.chain.close_at:
            free = len(self._turns)
        while self._turns and free > 0:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def _require_whole(self) -> None:
        if self.stream.broken:
            raise JournalFailed()
        if self.end.abandoned:
            raise NewChannel(self.end.abandoned)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        task.add_done_callback(_quiet)


def _when_written(one: _Open, taken: Taken, written: asyncio.Future[None]) -> None:
    if one.taken.done():
        return
    if written.cancelled() or written.exception() is not None:
        one.taken.set_exception(JournalFailed())
        one.taken.exception()
    else:
        taken.voucher = taken.paying.end.voucher
        one.taken.set_result(taken)
    one.wake()


def _quiet(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("message_not_sent", why=repr(task.exception()))
