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
import contextlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog

from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import Address, Digest
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.attempts import Attempts
from tallystick_backend.gateway.call_entries import CallEntries
from tallystick_backend.gateway.channels import Channels
from tallystick_backend.gateway.errors import (
    CallCanceled,
    GatewayError,
    GatewayNotReady,
    IdempotencyConflict,
    JournalFailed,
    ProviderLost,
    TooManyCallsOpen,
)
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.journal import Entry, Journal
from tallystick_backend.gateway.orders import TERMINAL, Ended, Live, Order, completed, ended_of
from tallystick_backend.gateway.own_channels import OwnChannels
from tallystick_backend.gateway.paying_end import Asked, PayingEnd, Stopped, Taken
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Shelf, Target
from tallystick_backend.gateway.spending import Reservation, Spending
from tallystick_backend.store.repositories import calls as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow

log = structlog.get_logger(__name__)

HASHED_BESIDE: Final = 256 * 1024
USES_KEPT: Final = 10_000


class Calls:
    def __init__(
        self,
        database: Database,
        journal: Journal,
        shelf: Shelf,
        fleet: Fleet,
        channels: Channels,
        own: OwnChannels,
        spending: Spending,
        clock: Clock,
        settings: GatewaySettings,
        tell: Callable[[BackendError], dict[str, Any]],
        ended: Callable[[str, str, float, int], None] = lambda *_: None,
    ) -> None:
        self._database = database
        self._journal = journal
        self._shelf = shelf
        self._channels = channels
        self._spending = spending
        self._clock = clock
        self._settings = settings
        self._tell = tell
        """A failure as a problem document."""
        self._count = ended
        """Told of each call: state, code of the failure, seconds, charge."""
        self._entries = CallEntries(clock, settings)
        self._attempts = Attempts(
            shelf, fleet, channels, own, spending, self._entries, clock, settings
        )
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
        self._channels.require_trust()
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
                self._attempts.price(live, order.target)
                await self._journal.write(self._entries.queued(live))
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
            taken = await self._attempts.run(live)
            ended = completed(live, taken)
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
        self._finish(live, ended)
        if live.recorded and live.order.webhook_url:
            with contextlib.suppress(GatewayError):
                await self._journal.projected()
            self.webhook_due.set()

    def _note_use(self, live: Live) -> None:
        if live.order.is_warm:
            return
        place = (live.order.account.lower(), live.target.app_id, live.target.version)
        self._used[place] = self._clock.now_ms()
        self._used.move_to_end(place)
        if len(self._used) > USES_KEPT:
            self._used.popitem(last=False)

    async def _failed(self, live: Live, failure: BackendError) -> Ended:
        canceled = live.canceled
        if canceled and not isinstance(failure, JournalFailed):
            failure = CallCanceled()
        state = "canceled" if canceled else "failed"
        problem = self._tell(failure)
        if live.recorded:
            try:
                await self._journal.write(self._entries.failed(live, state, problem))
            except GatewayError:
                log.error("failure_not_written", call=live.call_id)
        return Ended(live.call_id, state, failure=failure, problem=problem)

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
            signer=row.signer,
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
                    self._finish(live, completed(live, taken))
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
            paid=lambda taken: self._entries.paid(live, taken),
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
        problem = self._tell(GatewayNotReady("the gateway ended in the middle of the call"))
        await self._journal.write(self._entries.interrupted(row.call_id, problem))


def _number(paying: PayingEnd | None, call_id: str) -> int | None:
    if paying is None or not paying.usable:
        return None
    for asked in paying.end.open.values():
        if asked.request.call_id == call_id:
            return asked.number
    return None
