"""One call, from its request to its answer.

    1 read      the frame, the app, the channel (its first time: from the chain)
    2 may       `ServingChannel.may_serve`: a refusal, the answer again, or go
    3 run       wait for a warm worker's place, then for its answer; a cold start is waiting
    4 sign      the receipt; written down with the result, then sent

What comes to nothing is refused with a typed code and charged with nothing: the receipt is signed
only over a whole answer of status 2xx.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from tallystick.protocol.app_manifest import HttpHandler
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_bodies import (
    STARTS_TOLD,
    WARM_MEDIA_TYPE,
    AppBody,
    AppLoadBody,
    AppReplyBody,
    CallRefusalBody,
    CancelBody,
    LoadBody,
    RefusalCode,
    StartBody,
    StartsBody,
)
from tallystick.protocol.call_codec import RequestMessage, read_request, write_answer
from tallystick.protocol.call_frames import ANSWER, PIECE, REFUSAL, REQUEST, pack, unpack
from tallystick.protocol.call_journal import Served as Answered
from tallystick.protocol.calls import CallRun, Sign, result_digest
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import ChannelAbandoned, ProtocolError, QuoteError, ReceiptRefused
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.serving import Ask, Go, Refusal
from tallystick.protocol.types import Address, AppId, Digest, to_digest
from tallystick.protocol.wire import Ack
from tallystick_provider.calls.apps import Apps, Served
from tallystick_provider.calls.channels import ChannelRefused, Channels
from tallystick_provider.calls.http import EVENT_STREAM, Reply
from tallystick_provider.calls.journal import CallJournal, KeptResult
from tallystick_provider.calls.workers import Ran
from tallystick_provider.clock import Clock
from tallystick_provider.errors import (
    AnswerTooLarge,
    AnswerTooLate,
    AppRefused,
    JournalError,
    ProviderError,
    WorkerFailure,
)
from tallystick_provider.inbox import Send

MESSAGE_MARGIN_BYTES: Final = 64 * 1024
"""Kept free in a message for its JSON."""
DETAIL: Final = 400
NOT_READ: Final = "failed"
"""The code for what is no request at all."""

log = structlog.get_logger()


class CallFailed(ProviderError):
    """A call that came to nothing: what the payer is told."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        super().__init__(detail)
        self.code: RefusalCode = code
        self.detail = detail


@dataclass(slots=True)
class CallService:
    provider: Address
    channels: Channels
    apps: Apps
    journal: CallJournal
    sign: Sign
    clock: Clock
    credit_calls: int
    draining: bool = False
    wake_redeemer: Callable[[], None] = lambda: None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the journal was read."""
    _under_way: dict[tuple[Digest, int], _Call] = field(default_factory=dict)

    # --- the other messages -----------------------------------------------------------------

    async def on_app(self, body: AppBody) -> AppReplyBody:
        try:
            if self.draining:
                raise AppRefused("this provider is draining: it begins nothing new")
            app_id = AppId(to_digest(body.app_id))
            file = body.manifest.encode()
            await self.apps.accept(app_id, body.version, file, self._now_ms() // 1000)
            self.journal.keep_app(app_id, body.version, file)
        except (ProviderError, ProtocolError) as error:
            log.info("app_declined", app=body.app_id, version=body.version, why=str(error))
            return AppReplyBody(accepted=False, reason=str(error)[:200])
        return AppReplyBody(accepted=True)

    async def on_voucher(self, signed: SignedVoucher) -> Ack | CallRefusalBody:
        if not self.ready.is_set():
            await self.ready.wait()
        refusal = Refusal("new_salt", "no channel of that payer and salt is known here")
        for channel in self.channels.of_voucher(signed):
            step = self.channels.end(channel).accept_voucher(signed)
            await self.channels.apply(channel, step)
            if step.reply is None:
                self._wake_if_due(channel)
                return Ack()
            assert isinstance(step.reply, Refusal)
            refusal = step.reply
            if refusal.code != "voucher":
                break
        return (await self.sayable(refusal)).to_body()

    async def on_cancel(self, body: CancelBody) -> Ack:
        """An answer that is on its way is owed all the same."""
        call = self._under_way.get((channel_id(Channel.from_body(body.channel)), body.number))
        if call is None:
            return Ack(ok=False, reason="that call is not under way here")
        call.cancel()
        return Ack()

    def load(self) -> LoadBody:
        now_ms = self._now_ms()
        return LoadBody(
            at_ms=now_ms,
            credit_calls=self.credit_calls,
            apps=tuple(_load_of(served, now_ms) for served in self.apps.all())[:1024],
        )

    def starts(self, app_id: AppId) -> StartsBody:
        told = [
            StartBody(
                version=served.version,
                at_ms=start.at_ms,
                ready=start.ready,
                why=start.why,
                text=start.text,
            )
            for served in self.apps.all()
            if served.app_id == app_id
            for start in served.workers.starts
        ]
        told.sort(key=lambda start: start.at_ms, reverse=True)
        return StartsBody(starts=tuple(told[:STARTS_TOLD]))

    # --- a call -----------------------------------------------------------------------------

    async def on_call(self, data: bytes, send: Send, max_message: int) -> None:
        """Answers with frames: pieces if there are any, then an answer or a refusal."""
        try:
            frame = unpack(data)
            if frame.kind != REQUEST:
                raise CallFailed(NOT_READ, f"a frame of kind {frame.kind!r} is no request")
            call = _Call(self, read_request(frame.body), frame.content, send, max_message)
        except (ProtocolError, CallFailed) as error:
            refusal = Refusal(NOT_READ, f"not a well-formed request: {error}")
            await send(pack(REFUSAL, refusal.to_body()))
            return
        await call.answer()

    async def sayable(self, refusal: Refusal) -> Refusal:
        """What it shows is on the disk, or is not shown: a receipt that left before it was written
        could be signed a second time after a crash."""
        if refusal.receipt is None and refusal.voucher is None:
            return refusal
        try:
            await self.channels.settled()
        except JournalError:
            return replace(refusal, receipt=None, voucher=None)
        return refusal

    def _wake_if_due(self, channel: Digest) -> None:
        end = self.channels.end(channel)
        if end.chain.close_at or end.abandoned:
            self.wake_redeemer()

    def _now_ms(self) -> int:
        return self.clock.now_ms()


@dataclass(slots=True)
class _Call:
    """One request while it is being answered."""

    service: CallService
    message: RequestMessage
    content: bytes
    send: Send
    max_message: int
    sent_bytes: int = 0
    _task: asyncio.Task[object] | None = None
    """While it waits for a worker."""
    _unwanted: bool = False
    _pieces: _Pieces | None = None

    @property
    def ask(self) -> Ask:
        return self.message.ask

    @property
    def channel(self) -> Channel:
        return self.message.channel

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._task is not None and not self._unwanted:
            self._unwanted = True
            self._task.cancel()

    async def answer(self) -> None:
        try:
            if not self.service.ready.is_set():
                await self.service.ready.wait()
            await self._answer()
        except ChannelRefused as refused:
            await self._refuse(replace(refused.refusal, number=self.ask.number))
        except CallFailed as failed:
            await self._refuse(self._refusal(failed.code, failed.detail))
        except JournalError as error:
            await self._refuse(self._refusal("no_worker", str(error)))
        except ProviderError as error:  # the node, say
            await self._refuse(self._refusal("no_worker", str(error)))

    async def _answer(self) -> None:
        service, ask = self.service, self.ask
        if self.channel.provider != service.provider:
            raise CallFailed(NOT_READ, f"the channel names provider {self.channel.provider}")
        found = await service.channels.of(self.channel)
        served = service.apps.get(ask.request.app_id, ask.request.version)
        if served is None:
            known = self._known(found)
            if known is None:
                raise CallFailed("unknown_app", "this version was not brought here yet")
            await self._send_again(found, known)
            return
        self._require_input(served)
        running = await self._may(found, served)
        if running is None:
            return
        try:
            ran = await self._run(found, served)
            kept = self._kept(served, ran)
        except BaseException:
            service.channels.put(found, service.channels.end(found).failed(ask.number))
            raise
        answered = await self._sign(found, served, ran, kept)
        await self._send_answer(found, answered, kept)

    def _known(self, found: Digest) -> Answered | None:
        """The answer that this very request got already, also of an app that is served no more."""
        end = self.service.channels.end(found)
        if end.abandoned:
            return None
        for seq in range(end.last.seq, max(0, end.paid.seq - 1), -1):
            answered = end.again(seq)
            if answered is not None and answered.request == self.ask.request:
                return answered
        return None

    def _require_input(self, served: Served) -> None:
        if self.content and self.message.media_type == WARM_MEDIA_TYPE:
            raise CallFailed(NOT_READ, "a warm call has no input")
        if len(self.content) > served.manifest.max_request_bytes:
            raise CallFailed(
                "too_large",
                f"the input has {len(self.content)} bytes, the app takes "
                f"{served.manifest.max_request_bytes}",
            )
        if digest_of(self.content) != self.ask.request.input:
            raise CallFailed(NOT_READ, "the input is not the one whose digest the request names")

    async def _may(self, found: Digest, served: Served) -> Go | None:
        """None when a refusal or an old answer was sent instead."""
        channels, reply = self.service.channels, None
        if self.service.draining:
            raise CallFailed("no_worker", "this provider is draining: it begins nothing new")
        for again in (False, True):
            step = channels.end(found).may_serve(
                self.ask, served.limits, self._history(), now_ms=self.service.clock.now_ms()
            )
            await channels.apply(found, step)
            reply = step.reply
            if not isinstance(reply, Refusal) or reply.code != "paused_funds" or again:
                break
            await channels.look_again(found)  # a top-up may be a moment old
        if isinstance(reply, Go):
            return reply
        if isinstance(reply, Answered):
            await self._send_again(found, reply)
        elif isinstance(reply, Refusal):
            await self._refuse(reply)
        self.service._wake_if_due(found)
        return None

    async def _run(self, found: Digest, served: Served) -> Ran:
        """In this call's own task: who cancels it from outside is told apart by `_unwanted`."""
        key = (found, self.ask.number)
        task = self._task = asyncio.current_task()
        self.service._under_way[key] = self
        if self.message.stream:
            self._pieces = _Pieces(self.send, self._room)
        try:
            return await served.workers.run(
                f"{found}:{self.ask.number}",
                self.content,
                media_type=self.message.media_type,
                call_id=self.ask.request.call_id,
                within_s=self.ask.request.max_seconds,
                piece=self._pieces.add if self._pieces is not None else None,
                starting=self._require_price,
            )
        except AnswerTooLate as late:
            raise CallFailed("timed_out", str(late)) from late
        except AnswerTooLarge as large:
            raise CallFailed("too_large", str(large)) from large
        except WorkerFailure as failure:
            raise CallFailed("no_worker", str(failure)) from failure
        except asyncio.CancelledError:
            if not self._unwanted or task is None or task.uncancel():
                raise
            raise CallFailed("failed", "cancelled: nobody waits for it any more") from None
        finally:
            self._task = None
            del self.service._under_way[key]
            if self._pieces is not None:
                self.sent_bytes = await self._pieces.end()

    def _require_price(self, now_ms: int) -> None:
        """What is charged is the price of the second in which it starts."""
        request = self.ask.request
        try:
            price = self._history().price_for(now_ms, version=request.version)
        except QuoteError as problem:
            raise CallFailed("unknown_app", str(problem)) from problem
        if price != request.price:
            raise CallFailed("price_changed", f"it is {price} now")

    def _kept(self, served: Served, ran: Ran) -> KeptResult:
        """The result, if it is one that is charged for."""
        reply = ran.reply
        if not 200 <= reply.status < 300:
            raise _failure(served, reply)
        if not isinstance(served.manifest.handler, HttpHandler):
            _require_whole(reply)
        return KeptResult(reply.content, reply.media_type, ran.queued_ms, ran.cold_start_ms)

    async def _sign(self, found: Digest, served: Served, ran: Ran, kept: KeptResult) -> Answered:
        channels, number = self.service.channels, self.ask.number
        elapsed_ms = ran.ended_at_ms - ran.started_at_ms
        run = CallRun(
            started_at_ms=ran.started_at_ms,
            ended_at_ms=ran.ended_at_ms,
            gpu_ms=served.limits.gpus * elapsed_ms,
            result=result_digest(kept.content),
            gpu_ids=ran.gpu_ids if served.limits.exclusive else (),
        )
        try:
            step = channels.end(found).serve(number, run, self._history(), self.service.sign)
        except ReceiptRefused as refused:
            channels.put(found, channels.end(found).failed(number))
            code: RefusalCode = "price_changed" if refused.field == "price" else "failed"
            raise CallFailed(code, str(refused)) from refused
        except ChannelAbandoned as abandoned:
            raise CallFailed("new_salt", str(abandoned)) from abandoned
        assert isinstance(step.reply, Answered)
        await channels.apply(found, step, (step.reply.receipt.seq, kept))
        return step.reply

    def _history(self) -> AppHistory:
        history = self.service.apps.history(self.ask.request.app_id)
        if history is None:
            raise CallFailed("unknown_app", "this version was not brought here yet")
        return history

    # --- what is sent -----------------------------------------------------------------------

    async def _send_again(self, found: Digest, answered: Answered) -> None:
        await self.service.channels.settled()  # it may be on its way to the disk
        kept = self.service.channels.result(found, answered.receipt.seq)
        if kept is None:
            raise CallFailed("stale", "its result is not kept any more")
        await self._send_answer(found, answered, kept)

    async def _send_answer(self, found: Digest, answered: Answered, kept: KeptResult) -> None:
        body = write_answer(
            answered.answer,
            number=answered.number,
            call_id=answered.request.call_id,
            balance=self.service.channels.end(found).balance,
            media_type=kept.media_type,
            queued_ms=kept.queued_ms,
            cold_start_ms=kept.cold_start_ms,
        )
        rest, room = kept.content[self.sent_bytes :], self._room
        if self.sent_bytes or len(rest) > room:
            for start in range(0, len(rest), room):
                await self.send(pack(PIECE, content=rest[start : start + room]))
            rest = b""
        await self.send(pack(ANSWER, body, rest))

    @property
    def _room(self) -> int:
        """Of a result's bytes in one message."""
        return max(1, self.max_message - MESSAGE_MARGIN_BYTES)

    async def _refuse(self, refusal: Refusal) -> None:
        sayable = await self.service.sayable(refusal)
        await self.send(pack(REFUSAL, sayable.to_body()))

    def _refusal(self, code: RefusalCode, detail: str) -> Refusal:
        """With what the provider holds, if the channel is known."""
        refusal = Refusal(code, detail[:DETAIL], self.ask.number)
        try:
            end = self.service.channels.end(channel_id(self.channel))
        except KeyError:
            return refusal
        place = end.unpaid[0] if end.unpaid else end.paid_place
        receipt = place.served.answer.signed if place else None
        return replace(refusal, receipt=receipt, voucher=end.voucher)


class _Pieces:
    """A stream on its way to its caller. What comes while a piece is being sent goes together with
    the next."""

    def __init__(self, send: Send, room: int) -> None:
        self._send = send
        self._room = room
        self._fresh = bytearray()
        self._more = asyncio.Event()
        self._over = False
        self._sent_bytes = 0
        self._sending = asyncio.create_task(self._send_all())

    def add(self, piece: bytes) -> None:
        self._fresh += piece
        self._more.set()

    async def end(self) -> int:
        """How many bytes were sent. Never cut off: a piece would be lost, and the result is all of
        them."""
        self._over = True
        self._more.set()
        await asyncio.gather(self._sending, return_exceptions=True)
        return self._sent_bytes

    async def _send_all(self) -> None:
        while not self._over or self._fresh:
            await self._more.wait()
            if not self._over:
                self._more.clear()
            while self._fresh:
                piece = bytes(self._fresh[: self._room])
                del self._fresh[: len(piece)]
                self._sent_bytes += len(piece)
                await self._send(pack(PIECE, content=piece))


def _load_of(served: Served, now_ms: int) -> AppLoadBody:
    pool = served.workers.pool
    return AppLoadBody(
        app_id=served.app_id,
        version=served.version,
        state=served.workers.state,
        workers=pool.workers_ready,
        max_workers=served.workers.max_workers_now(),
        places=pool.workers_ready * served.manifest.concurrency,
        running=pool.running,
        queued=pool.queued,
        delay_ms=pool.delay_ms(now_ms),
        cold_start_ms=pool.cold_start_ms,
        problem=served.workers.problem[:200],
    )


def _failure(served: Served, reply: Reply) -> CallFailed:
    """A worker's problem, by its own code; of a stranger's server the status."""
    if isinstance(served.manifest.handler, HttpHandler):
        said = _plain(reply.content[:DETAIL].decode(errors="replace"))
        return CallFailed("failed", f"http_{reply.status}: {said}")
    try:
        problem = json.loads(reply.content)
        code, detail = str(problem["code"])[:64], _plain(str(problem["detail"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return CallFailed("failed", f"http_{reply.status}: no problem document")
    as_ours: dict[str, RefusalCode] = {
        "timed_out": "timed_out",
        "request_too_large": "too_large",
        "response_too_large": "too_large",
        "server_failed": "no_worker",
    }
    return CallFailed(as_ours.get(code, "failed"), f"{_plain(code)}: {detail}")


def _require_whole(reply: Reply) -> None:
    """A stream says how it ended in its last event."""
    if reply.media_type != EVENT_STREAM:
        return
    last = reply.content.rstrip(b"\n").rpartition(b"\n\n")[2]
    if last.startswith(b"event: completed\n"):
        return
    if last.startswith(b"event: error\ndata: "):
        told = last.partition(b"data: ")[2]
        try:
            problem = json.loads(told)
            code, detail = _plain(str(problem["code"])), _plain(str(problem["detail"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            code, detail = "handler_failed", "the stream ended with an error"
        ours: RefusalCode = "timed_out" if code == "timed_out" else "failed"
        ours = "too_large" if code == "response_too_large" else ours
        raise CallFailed(ours, f"{code}: {detail}")
    raise CallFailed("failed", "the stream was cut off")


def _plain(text: str) -> str:
    """A stranger's words, to be shown: no control characters, not too many of them."""
    return "".join(c if c.isprintable() else " " for c in text[:DETAIL])
