"""The life of a call, from its arrival until its answer is paid for and may be told.

    live = await calls.place(order)     checked; known by its key, or new
    ended = await live.wait()           completed | failed | canceled

A call that a provider lost is repeated elsewhere if its version says that it may be; whatever
happens it is charged once, by the one receipt that was accepted, or not at all. What was under way
when the process ended is asked for again (`restore`): the provider answers a request that it knows
with the same receipt.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from typing import Any, Final

import structlog

from tallystick.protocol.call_bodies import WARM_SECONDS, is_warm
from tallystick.protocol.call_codec import write_voucher
from tallystick.protocol.calls import CallId, CallLimits, CallRequest, ceiling_up
from tallystick.protocol.errors import AmountError, QuoteError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import Address, Digest
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.channels import Channels
from tallystick_backend.gateway.errors import (
    CallCanceled,
    CallStopped,
    CallTimedOut,
    ChannelsClosing,
    GatewayError,
    GatewayNotReady,
    HandlerFailed,
    IdempotencyConflict,
    JournalFailed,
    MaxChargeTooLow,
    NoFunds,
    NoPrice,
    NoProvider,
    ProviderLost,
    ResultTooLarge,
    TooManyCallsOpen,
)
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.journal import Entry, Journal, Values
from tallystick_backend.gateway.paying_end import (
    Asked,
    Closing,
    Elsewhere,
    NeedsFunds,
    NewChannel,
    PayingEnd,
    ProviderGone,
    Refused,
    Reprice,
    ShowApp,
    Stale,
    Stopped,
    Taken,
    TimeOver,
)
from tallystick_backend.gateway.routing import best
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Shelf, Target
from tallystick_backend.gateway.spending import Reservation, Spending
from tallystick_backend.store.repositories import calls as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 16
REPRICED: Final = 4
HASHED_BESIDE: Final = 256 * 1024
KEPT_ANYWAY: Final = 64 * 1024
"""Inputs up to this size are written down with every call: with it a provider says its answer
again after a restart, and so is paid for it."""
USES_KEPT: Final = 10_000

TERMINAL: Final = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants called."""

    account: Address
    key_id: str
    target: Target
    input: bytes
    media_type: str = "application/json"
    idempotency_key: str | None = None
    max_charge: int | None = None
    webhook_url: str = ""
    queued: bool = False
    """It is asked for later: kept until then, and through a restart."""
    keep: bool = False
    """Keep the result, too, although somebody waits for it."""
    stream: bool = False
    warm_id: str | None = None
    """Of the `keep_warm` that wants it."""

    @property
    def is_warm(self) -> bool:
        return is_warm(self.media_type, self.input)

    def hash(self, input_digest: Digest) -> str:
        """What makes two requests under one key the same."""
        parts = (
            self.target.app_id,
            self.target.version,
            self.media_type,
            input_digest,
            self.max_charge,
            self.webhook_url,
        )
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as it is told."""

    call_id: str
    state: str
    charge: int = 0
    total: int = 0
    balance: int | None = None
    """None where it is told again, later."""
    media_type: str = ""
    result: bytes | None = None
    queued_ms: int = 0
    cold_start_ms: int = 0
    run_ms: int = 0
    failure: BackendError | None = None
    problem: dict[str, Any] | None = None
    """Of a failure that is told again, later."""
    replayed: bool = False


@dataclass(slots=True)
class Live:
    """A call under way."""

    call_id: str
    order: Order
    input_digest: Digest
    request_hash: str
    asked_at_ms: int
    target: Target
    ended: asyncio.Future[Ended] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    pieces: asyncio.Queue[bytes] | None = None
    recorded: bool = False
    """A row is there, or on its way."""
    keep: bool = False
    state: str = "queued"
    attempts: int = 0
    canceled: bool = False
    streaming: bool = False
    paying: PayingEnd | None = None
    reservation: Reservation | None = None
    request: CallRequest | None = None

    async def wait(self) -> Ended:
        return await asyncio.shield(self.ended)

    def piece(self, content: bytes) -> None:
        """Passed on, and so never taken back."""
        if self.pieces is not None:
            self.streaming = True
            self.pieces.put_nowait(content)


class Calls:
    def __init__(
        self,
        database: Database,
        journal: Journal,
        shelf: Shelf,
        fleet: Fleet,
        channels: Channels,
        spending: Spending,
        clock: Clock,
        settings: GatewaySettings,
        tell: Callable[[BackendError], dict[str, Any]],
        ended: Callable[[str, str, float, int], None] = lambda *_: None,
    ) -> None:
        self._database = database
        self._journal = journal
        self._shelf = shelf
        self._fleet = fleet
        self._channels = channels
        self._spending = spending
        self._clock = clock
        self._settings = settings
        self._tell = tell
        """A failure as a problem document."""
        self._count = ended
        """Told of each call: state, code of the failure, seconds, charge."""
        self._live: dict[str, Live] = {}
        self._by_key: dict[tuple[str, str], Live] = {}
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._used: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self.ready = False
        self.webhook_due = asyncio.Event()

    @property
    def under_way(self) -> int:
        return len(self._live)

    # --- from outside -------------------------------------------------------------------------

    async def place(self, order: Order) -> Live | Ended:
        """The call, begun; the same one again for a key that is known. Raises what its caller has
        to be told before anything ran."""
        self._require_ready()
        if len(order.input) > HASHED_BESIDE:
            digest = await asyncio.to_thread(digest_of, order.input)
        else:
            digest = digest_of(order.input)
        request_hash = order.hash(digest)
        if order.idempotency_key is not None:
            known = await self._known(order, order.idempotency_key, request_hash)
            if known is not None:
                return known
        account = order.account.lower()
        if len(self._live) >= self._settings.max_calls:
            raise TooManyCallsOpen("all callers together", self._settings.max_calls)
        if self._open[account] >= self._settings.max_calls_per_account:
            raise TooManyCallsOpen("you", self._settings.max_calls_per_account)
        live = Live(
            call_id=secrets.token_hex(16),
            order=order,
            input_digest=digest,
            request_hash=request_hash,
            asked_at_ms=self._clock.now_ms(),
            target=order.target,
            pieces=asyncio.Queue() if order.stream else None,
            keep=order.keep or order.queued or order.idempotency_key is not None,
        )
        self._enter(live)
        if order.queued:
            try:
                # Who could not pay for it hears so now.
                self._price(live, order.target)
                live.recorded = True
                await self._journal.write(Entry(insert=self._row(live, None, "", "")))
            except BaseException:
                self._leave(live)
                raise
        self._start(live, self._drive(live))
        return live

    def find(self, call_id: str) -> Live | None:
        return self._live.get(call_id)

    def cancel(self, live: Live) -> None:
        """Its provider is told; what ran all the same is still paid for."""
        live.canceled = True
        if live.paying is not None:
            live.paying.cancel(live.call_id)

    def used_at_ms(self, account: str, target: Target) -> int:
        """When this account's last call of the version was answered that was no warm one; 0 where
        none was lately."""
        return self._used.get((account.lower(), target.app_id, target.version), 0)

    async def restore(self) -> None:
        """Takes up what the process before this one left."""
        async with self._database.read() as session:
            left = await rows.calls_under_way(session)
        await self._channels.restore({row.channel_id for row in left if row.channel_id})
        for row in left:
            await self._take_up(row)
        self.ready = True

    async def drain(self, timeout_s: float) -> None:
        """Takes no more; waits for what is under way."""
        self.ready = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one call -----------------------------------------------------------------------------

    async def _drive(self, live: Live) -> None:
        began_s = asyncio.get_running_loop().time()
        try:
            taken = await self._attempts(live)
            ended = _completed(live, taken)
            self._note_use(live)
        except asyncio.CancelledError:
            # The process ends: the row stays as it is, and the next one takes it up.
            self._finish(live, Ended(live.call_id, "failed", failure=GatewayNotReady("it stops")))
            raise
        except BackendError as failure:
            ended = await self._failed(live, failure)
        except Exception as fault:
            log.error("call_failed", call=live.call_id, exc_info=fault)
            ended = await self._failed(live, GatewayNotReady("the gateway failed"))
        code = "" if ended.failure is None else type(ended.failure).__name__
        seconds = asyncio.get_running_loop().time() - began_s
        self._count(ended.state, code, seconds, ended.charge)
        if live.recorded and live.order.webhook_url:
            await self._journal.projected()
            self.webhook_due.set()
        self._finish(live, ended)

    def _note_use(self, live: Live) -> None:
        if live.order.is_warm:
            return
        place = (live.order.account.lower(), live.target.app_id, live.target.version)
        self._used[place] = self._clock.now_ms()
        self._used.move_to_end(place)
        if len(self._used) > USES_KEPT:
            self._used.popitem(last=False)

    async def _attempts(self, live: Live) -> Taken:
        order, settings = live.order, self._settings
        manifest = live.target.manifest
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + manifest.timeout_s + manifest.ready_timeout_s + settings.queue_s
        excluded: set[str] = set()
        shown: set[str] = set()
        repriced = 0
        last: BackendError | None = None
        only_funded = False
        for _ in range(ATTEMPTS):
            if live.canceled:
                raise CallCanceled()
            if loop.time() >= deadline_s:
                raise last or CallTimedOut("no provider answered in time")
            target = live.target
            request = self._price(live, target)
            ceiling = ceiling_up(request, target.limits)
            await self._reserve(live, ceiling)
            if order.is_warm:
                # The channel is for the calls that it waits for.
                ceiling = ceiling_up(
                    changed(request, max_seconds=target.limits.max_seconds), target.limits
                )
            funded = self._channels.funded(order.account, ceiling)
            provider = await self._choose(target, excluded, funded, only_funded=only_funded)
            if provider is None:
                raise last or NoProvider(target.app_id, target.version, await self._why(target))
            try:
                paying = await self._channels.paying(
                    order.account, provider, target.app_id, ceiling
                )
            except NoFunds as failure:
                # Money that is in a channel already can still be spent.
                last, only_funded = failure, True
                excluded.add(provider)
                continue
            live.paying = paying
            live.request = request
            asked = Asked(
                request,
                target.limits,
                target.history,
                order.input,
                deadline_s,
                row=partial(self._runs, live, request),
                paid=partial(self._paid, live),
                stream=order.stream,
                on_piece=None if live.pieces is None else live.piece,
                media_type=order.media_type,
                patient=not manifest.safe_to_repeat,
            )
            run_ms: int | None = None
            self._fleet.began(provider, target)
            try:
                taken = await paying.run(asked)
                receipt = taken.answer.signed.receipt
                if not order.is_warm:
                    run_ms = receipt.ended_at_ms - receipt.started_at_ms
                return taken
            except NeedsFunds as need:
                try:
                    await self._channels.top_up(paying, target.app_id, ceiling, need.missing)
                except NoFunds as failure:
                    last, only_funded = failure, True
                    excluded.add(provider)
            except Reprice as why:
                repriced += 1
                if repriced > REPRICED:
                    raise NoPrice(f"the provider {provider} has another price: {why}") from why
                live.target = await self._shelf.get(target.app_id, target.version, fresh=True)
            except NewChannel as why:
                log.warning("channel_dropped", channel=paying.channel_id, why=str(why))
                self._channels.drop(paying)
            except Stale:
                continue
            except ShowApp as why:
                last = NoProvider(target.app_id, target.version, str(why))
                if provider in shown or not await self._fleet.show_again(provider, target):
                    excluded.add(provider)
                shown.add(provider)
            except Closing as closing:
                last, only_funded = ChannelsClosing(closing.close_at_s), True
                excluded.add(provider)
            except ProviderGone as why:
                last = ProviderLost(provider)
                log.warning("provider_lost", provider=provider, call=live.call_id, why=str(why))
                excluded.add(provider)
                self._require_whole_stream(live, last)
            except Elsewhere as why:
                last = NoProvider(target.app_id, target.version, f"{provider} said {why}")
                excluded.add(provider)
                self._require_whole_stream(live, last)
            except Refused as refused:
                raise _outcome(refused) from refused
            except TimeOver as why:
                raise CallTimedOut(str(why)) from why
            except JournalFailed:
                self._channels.drop(paying)
                self._spending.forget(order.account)
                raise
            finally:
                self._fleet.ended(provider, target, run_ms)
                live.paying = None
        raise last or NoProvider(live.target.app_id, live.target.version, "too many attempts")

    async def _choose(
        self,
        target: Target,
        excluded: set[str],
        funded: Callable[[str], bool],
        *,
        only_funded: bool,
    ) -> str | None:
        seats = self._fleet.seats(target, excluded, funded)
        if not seats and not only_funded:
            await self._fleet.show(target, excluded)
            seats = self._fleet.seats(target, excluded, funded)
        if only_funded:
            seats = [seat for seat in seats if seat.funded]
        chosen = best(seats)
        return None if chosen is None else chosen.provider

    async def _why(self, target: Target) -> str:
        return await self._fleet.show(target)

    def _price(self, live: Live, target: Target) -> CallRequest:
        try:
            price = target.history.price_for(self._clock.now_ms(), version=target.version)
        except QuoteError as failure:
            raise NoPrice(str(failure)) from failure
        try:
            seconds = _seconds_down(price, target.limits, live.order.max_charge)
            if live.order.is_warm:
                seconds = min(seconds, WARM_SECONDS)
        except AmountError as failure:
            raise NoPrice(str(failure)) from failure
        return CallRequest(
            CallId(live.call_id), target.app_id, target.version, price, seconds, live.input_digest
        )

    async def _reserve(self, live: Live, ceiling: int) -> None:
        held = live.reservation
        if held is not None and held.ceiling == ceiling:
            return
        if held is not None:
            held.release()
            live.reservation = None
        live.reservation = await self._spending.reserve(
            live.order.account, live.order.key_id, live.target.app_id, ceiling
        )

    def _require_whole_stream(self, live: Live, failure: CallStopped) -> None:
        """Pieces that were passed on cannot be taken back, so such a call is not repeated."""
        if live.streaming:
            raise failure

    # --- what is written down -----------------------------------------------------------------

    def _runs(self, live: Live, request: CallRequest, provider: str, channel: str) -> Entry:
        live.attempts += 1
        live.state = "running"
        if live.recorded:
            return Entry(update=lambda: self._running_values(live, request, provider, channel))
        live.recorded = True
        return Entry(insert=self._row(live, request, provider, channel))

    def _running_values(
        self, live: Live, request: CallRequest, provider: str, channel: str
    ) -> Values:
        return {
            "call_id": live.call_id,
            "state": "running",
            "provider": provider,
            "channel_id": channel,
            "attempts": live.attempts,
            **_priced(request),
        }

    def _row(self, live: Live, request: CallRequest | None, provider: str, channel: str) -> Values:
        order = live.order
        return {
            "call_id": live.call_id,
            "account": order.account.lower(),
            "key_id": order.key_id,
            "idempotency_key": order.idempotency_key,
            "request_hash": live.request_hash,
            "app_id": live.target.app_id,
            "version": live.target.version,
            "provider": provider,
            "gpu_class": live.target.gpu_class,
            "gpus": live.target.limits.gpus,
            "channel_id": channel,
            "state": "queued" if request is None else "running",
            "attempts": live.attempts,
            "asked_at_ms": live.asked_at_ms,
            **({} if request is None else _priced(request)),
            "input": order.input if live.keep or len(order.input) <= KEPT_ANYWAY else None,
            "media_type": order.media_type,
            "forget_at_ms": self._forget_at(live, live.asked_at_ms),
            "webhook_url": order.webhook_url,
            "warm_id": order.warm_id,
        }

    def _paid(self, live: Live, taken: Taken) -> Entry:
        now_ms = self._clock.now_ms()
        receipt, body = taken.answer.signed.receipt, taken.body
        reservation, live.reservation = live.reservation, None

        def values() -> Values:
            voucher = taken.paying.end.voucher
            return {
                "call_id": live.call_id,
                "state": "completed",
                "ended_at_ms": now_ms,
                "queued_ms": body.queued_ms,
                "cold_start_ms": body.cold_start_ms,
                "run_ms": receipt.ended_at_ms - receipt.started_at_ms,
                "gpu_ms": receipt.gpu_ms,
                "charge": taken.charge,
                "seq": receipt.seq,
                "total": taken.total,
                "input": None,
                "answer": taken.text.decode(),
                "voucher": None if voucher is None else write_voucher(voucher).decode(),
                "media_type": body.media_type,
                "result_bytes": len(taken.result),
                "result": taken.result if live.keep else None,
                "forget_at_ms": self._forget_at(live, now_ms),
                **_webhook(live, now_ms),
            }

        entry = Entry(update=values)
        if reservation is not None:
            row = reservation.settle(taken.charge, now_ms)
            entry.spend = lambda: row
        return entry

    async def _failed(self, live: Live, failure: BackendError) -> Ended:
        canceled = live.canceled
        if canceled and not isinstance(failure, JournalFailed):
            failure = CallCanceled()
        state = "canceled" if canceled else "failed"
        problem = self._tell(failure)
        if live.recorded:
            now_ms = self._clock.now_ms()
            told = {
                "call_id": live.call_id,
                "state": state,
                "ended_at_ms": now_ms,
                "problem": problem,
                "input": None,
                # What failed is not remembered: the key may be used again.
                "idempotency_key": None,
                **_webhook(live, now_ms),
            }
            try:
                await self._journal.write(Entry(update=lambda: told))
            except GatewayError:
                log.error("failure_not_written", call=live.call_id)
        return Ended(live.call_id, state, failure=failure, problem=problem)

    def _forget_at(self, live: Live, now_ms: int) -> int | None:
        return now_ms + self._settings.result_hours * 3_600_000 if live.keep else None

    # --- who is under way ---------------------------------------------------------------------

    def _enter(self, live: Live) -> None:
        self._live[live.call_id] = live
        self._open[live.order.account.lower()] += 1
        if live.order.idempotency_key is not None:
            self._by_key[(live.order.account.lower(), live.order.idempotency_key)] = live

    def _leave(self, live: Live) -> None:
        if self._live.pop(live.call_id, None) is None:
            return
        account = live.order.account.lower()
        self._open[account] -= 1
        if not self._open[account]:
            del self._open[account]
        if live.order.idempotency_key is not None:
            self._by_key.pop((account, live.order.idempotency_key), None)

    def _finish(self, live: Live, ended: Ended) -> None:
        if live.reservation is not None:
            live.reservation.release()
            live.reservation = None
        self._leave(live)
        if not live.ended.done():
            live.ended.set_result(ended)

    def _start(self, live: Live, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"call {live.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _known(self, order: Order, key: str, request_hash: str) -> Live | Ended | None:
        """What this key was used for before; somebody else's call under way is waited for."""
        account = order.account.lower()
        live = self._by_key.get((account, key))
        if live is None:
            if self._journal.knows_key(account, key):
                await self._journal.projected()
            async with self._database.read() as session:
                row = await rows.call_by_key(session, account, key)
            live = self._by_key.get((account, key))
            if live is None:
                if row is None:
                    return None
                if row.request_hash != request_hash:
                    raise IdempotencyConflict(key)
                if row.state not in TERMINAL:
                    raise GatewayNotReady("the call under this key is being written down")
                return ended_of(row)
        if live.request_hash != request_hash:
            raise IdempotencyConflict(key)
        return live

    def _require_ready(self) -> None:
        if not self.ready:
            raise GatewayNotReady("the gateway is starting, or another one signs")

    # --- after a restart ----------------------------------------------------------------------

    async def _take_up(self, row: CallRow) -> None:
        try:
            target = await self._shelf.get(row.app_id, row.version)
        except Exception as failure:
            log.warning("call_not_taken_up", call=row.call_id, why=repr(failure))
            await self._interrupted(row)
            return
        order = Order(
            account=Address(row.account),
            key_id=row.key_id,
            target=target,
            input=row.input or b"",
            media_type=row.media_type,
            idempotency_key=row.idempotency_key,
            webhook_url=row.webhook_url,
            queued=True,
        )
        live = Live(
            call_id=row.call_id,
            order=order,
            input_digest=Digest(row.request.get("input", "")) or digest_of(order.input),
            request_hash=row.request_hash,
            asked_at_ms=row.asked_at_ms,
            target=target,
            recorded=True,
            keep=row.forget_at_ms is not None,
            state=row.state,
            attempts=row.attempts,
        )
        self._enter(live)
        self._start(live, self._drive_again(live, row))

    async def _drive_again(self, live: Live, row: CallRow) -> None:
        """First the answer that the provider may hold; then, if it may, the call once more."""
        paying = self._channels.ends.get(row.channel_id)
        number = _number(paying, live.call_id)
        try:
            if paying is not None and number is not None:
                taken = await self._resume(live, paying, number)
                if taken is not None:
                    self._finish(live, _completed(live, taken))
                    return
            may_run = row.state == "queued" or live.target.manifest.safe_to_repeat
            # Nobody could ask for the answer of a call that was not to be kept.
            if row.input is not None and live.keep and may_run:
                await self._drive(live)
                return
        except GatewayError as failure:
            log.warning("call_not_resumed", call=live.call_id, why=str(failure))
        self._finish(live, await self._failed(live, ProviderLost(row.provider)))

    async def _resume(self, live: Live, paying: PayingEnd, number: int) -> Taken | None:
        open_ = paying.end.open[number]
        manifest = live.target.manifest
        wait_s = manifest.timeout_s + manifest.ready_timeout_s + self._settings.queue_s
        live.paying = paying
        live.reservation = await self._unlimited(live, open_.ceiling)
        asked = Asked(
            open_.request,
            live.target.limits,
            live.target.history,
            live.order.input,
            asyncio.get_running_loop().time() + wait_s,
            row=lambda _provider, _channel: Entry(),
            media_type=live.order.media_type,
            paid=lambda taken: self._paid(live, taken),
            patient=not manifest.safe_to_repeat,
        )
        try:
            return await paying.resume(number, asked)
        except Stopped as why:
            log.info("call_not_resumed", call=live.call_id, why=str(why))
            return None
        finally:
            live.paying = None

    async def _unlimited(self, live: Live, ceiling: int) -> Reservation:
        """Was within its limits when it began."""
        return await self._spending.hold(
            live.order.account, live.order.key_id, live.target.app_id, ceiling
        )

    async def _interrupted(self, row: CallRow) -> None:
        told = {
            "call_id": row.call_id,
            "state": "failed",
            "ended_at_ms": self._clock.now_ms(),
            "problem": self._tell(GatewayNotReady("the gateway ended in the middle of the call")),
            "idempotency_key": None,
            "input": None,
        }
        await self._journal.write(Entry(update=lambda: told))


def ended_of(row: CallRow) -> Ended:
    """What is told of a call again, later."""
    return Ended(
        row.call_id,
        row.state,
        charge=row.charge,
        total=row.total,
        media_type=row.media_type,
        result=row.result,
        queued_ms=row.queued_ms,
        cold_start_ms=row.cold_start_ms,
        run_ms=row.run_ms,
        problem=row.problem,
        replayed=True,
    )


def _priced(request: CallRequest) -> Values:
    price = request.price
    return {
        "flat": price.flat,
        "fee_per_call": price.fee_per_call,
        "rate_per_gpu_second": price.rate_per_gpu_second,
        "request": request.to_json().decode(),
    }


def _webhook(live: Live, now_ms: int) -> Values:
    if not live.order.webhook_url:
        return {}
    return {"webhook_state": "due", "webhook_at_ms": now_ms}


def _completed(live: Live, taken: Taken) -> Ended:
    receipt = taken.answer.signed.receipt
    return Ended(
        live.call_id,
        "completed",
        charge=taken.charge,
        total=taken.total,
        balance=taken.balance,
        media_type=taken.body.media_type,
        result=taken.result,
        queued_ms=taken.body.queued_ms,
        cold_start_ms=taken.body.cold_start_ms,
        run_ms=receipt.ended_at_ms - receipt.started_at_ms,
    )


def _outcome(refused: Refused) -> CallStopped:
    match refused.code:
        case "timed_out":
            return CallTimedOut(refused.detail or "the call ran longer than its version allows")
        case "too_large":
            return ResultTooLarge(refused.detail or "the result is larger than allowed")
        case _:
            return HandlerFailed(refused.detail or "the app's handler failed")


def _number(paying: PayingEnd | None, call_id: str) -> int | None:
    if paying is None or not paying.usable:
        return None
    for asked in paying.end.open.values():
        if asked.request.call_id == call_id:
            return asked.number
    return None


def _seconds_down(price: Price, limits: CallLimits, max_charge: int | None) -> int:
    """The longest that a call may run within `max_charge`."""
    if max_charge is None or max_charge_up(price, limits.gpus, limits.max_seconds) <= max_charge:
        return limits.max_seconds
    least = max_charge_up(price, limits.gpus, 1)
    if least > max_charge:
        raise MaxChargeTooLow(max_charge, least)
    low, high = 1, limits.max_seconds
    while high - low > 1:
        middle = (low + high) // 2
        if max_charge_up(price, limits.gpus, middle) <= max_charge:
            low = middle
        else:
            high = middle
    return low
