"""The dispatcher's round: load, process, apply, again and again.

Every step reads rows, decides, and writes guarded changes; what goes over the bus is derived from
rows and goes again when nobody is known to have answered. So a process that dies at any line leaves
nothing half-done, and the next one goes on from the rows. No step waits for the network inside a
transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import wire
from tallystick.protocol.errors import WireError
from tallystick.protocol.wire import AcceptanceNotice, Ack, OfferReply, Stop
from tallystick_backend.clock import Clock
from tallystick_backend.dispatch import assign, bus, candidates, inbox, lease, rules
from tallystick_backend.dispatch.assign import BlobUrls, Signer
from tallystick_backend.dispatch.bus import Bus
from tallystick_backend.dispatch.errors import BusError, NoListener
from tallystick_backend.dispatch.inbox import Inbox
from tallystick_backend.dispatch.lease import Grant
from tallystick_backend.dispatch.match import Candidate, Match, Request, match
from tallystick_backend.dispatch.retry import transact
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.repositories.work import Accepted, Held, Ready
from tallystick_backend.store.session import Database
from tallystick_backend.tasks import LIVE_LEASES

log = structlog.get_logger(__name__)

REPEAT_MS = 2_000
"""Pause before a message that was not answered is sent again."""

CROWDED_PAUSE_MS = 1_000
"""Pause for a task nobody can take while more tasks wait than one pass looks at."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the matcher decided for one ready task."""

    ready: Ready
    request: Request
    result: Match


class Dispatcher:
    """Hears providers and drives their leases; one process or several on one database."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        signer: Signer,
        blob_urls: BlobUrls,
        settings: DispatchSettings,
        clock: Clock,
        nudge: asyncio.Event | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._signer = signer
        self._blob_urls = blob_urls
        self._settings = settings
        self._clock = clock
        self._nudge = nudge or asyncio.Event()
        self.inbox = Inbox(database, signer, settings, clock)
        self._sending: dict[tuple[str, str, int], asyncio.Task[None]] = {}
        self._not_before_ms: dict[tuple[str, str, int], int] = {}
        self._never_sent: set[tuple[str, int]] = set()
        self._bus_slots = asyncio.Semaphore(settings.offers_at_once)

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. A pass that fails is logged and tried again."""
        await self._bus.connect(stop)
        try:
            if not stop.is_set():
                await self._bus.serve(inbox.SUBJECTS, "backend", self._hear)
            while not stop.is_set():
                self._nudge.clear()
                try:
                    await self.one_pass()
                except Exception:
                    log.exception("dispatch_pass_failed")
                await self._rest(stop)
        finally:
            for task in tuple(self._sending.values()):
                task.cancel()
            await self.sent()
            await self._bus.close()

    async def one_pass(self) -> None:
        await self.give_up_the_silent()
        await self.stop_the_unwanted()
        await self.close_the_settled()
        await self.lease_the_ready()
        await self.send_offers()
        await self.send_acceptances()

    async def sent(self) -> None:
        """Waits until every message on its way was answered or given up."""
        while self._sending:
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _hear(self, subject: str, payload: bytes) -> bytes | None:
        reply = await self.inbox.handle(subject, payload)
        if not subject.endswith((".heartbeat", ".log")):
            self._nudge.set()
        return reply

    async def _rest(self, stop: asyncio.Event) -> None:
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(self._nudge.wait())]
        await asyncio.wait(
            waits, timeout=self._settings.poll_ms / 1000, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    # --- silence ------------------------------------------------------------------------------

    async def give_up_the_silent(self) -> None:
        """Leases past their end and the margin are lost, and their tasks wait again; not those that
        the chain knows to be proven, whose result is on its way."""
        now_ms = self._clock.now_ms()
        latest_s = now_ms // 1000 - self._settings.lease_margin_seconds
        async with self._database.read() as session:
            silent = await work.held(session, until_before_s=latest_s)
        for held in silent:
            if not rules.is_expired(held.lease.lease_until_s, now_ms, self._settings):
                continue
            if held.chain is not None and held.chain.receipt_digest is not None:
                continue
            reason = f"nothing was heard of {held.lease.provider} until its lease ended"
            await self._end(held, "lost", reason)

    async def _end(self, held: Held, ending: rules.Ending, reason: str) -> None:
        async def apply(session: AsyncSession) -> bool:
            fresh = await _again(session, held)
            return fresh is not None and await lease.end(
                session,
                fresh,
                ending,
                reason=reason,
                now_ms=self._clock.now_ms(),
                settings=self._settings,
            )

        if await transact(self._database, apply):
            _log_lease("lease_ended", held, ending=ending, reason=reason)

    # --- stop ---------------------------------------------------------------------------------

    async def stop_the_unwanted(self) -> None:
        """Tells providers to stop what was withdrawn, cancelled or orphaned. The lease goes on for
        a moment: the provider hands in what it used."""
        async with self._database.read() as session:
            live = await work.held(session)
            waiting = await work.abandoned_waits(session, now_ms=self._clock.now_ms())
        for row, _order, _chain in waiting:
            await transact(self._database, partial(lease.stop_waiting, row=row))
        for held in live:
            stands = lease.standing(held.order, held.chain)
            reason = rules.must_stop(stands, self._clock.now_ms(), self._settings)
            if reason is not None:
                self._send("stop", held.lease.task_id, held.lease.fence, self._stop(held, reason))

    async def _stop(self, held: Held, reason: str) -> None:
        await transact(
            self._database,
            lambda session: lease.note_stopping(session, held.lease, reason, self._clock.now_ms()),
        )
        said = Stop(task_id=held.lease.task_id, fence=held.lease.fence, reason=reason)
        await self._ask(bus.stop_subject(held.lease.provider), said, Ack)

    # --- the chain is done --------------------------------------------------------------------

    async def close_the_settled(self) -> None:
        async with self._database.read() as session:
            settled = await work.settled_leases(session)
        for row in settled:
            await transact(
                self._database,
                partial(lease.close, lease=row, now_ms=self._clock.now_ms()),
            )

    # --- lease --------------------------------------------------------------------------------

    async def lease_the_ready(self) -> None:
        now_ms = self._clock.now_ms()
        for plan in await self._plans(now_ms):
            if plan.result.choice is not None:
                await self._grant(plan, plan.result.choice, now_ms)
            elif plan.result.needs_key is not None:
                await self._ask_for_key(plan, plan.result.needs_key)

    async def _plans(self, now_ms: int) -> list[_Plan]:
        """Matches ready tasks one after the other, each against what the ones before left."""
        plans: list[_Plan] = []
        crowded: list[Ready] = []
        forgotten: list[Ready] = []
        async with self._database.read() as session:
            if await chain.doubt(session) is not None:
                # What the rows say of the chain may be taken back: nobody starts work on it.
                return []
            waiting = await work.ready_tasks(session, now_ms=now_ms, limit=self._settings.batch)
            if not waiting:
                return []
            found = await candidates.load(session, now_ms=now_ms, settings=self._settings)
            spare: dict[str, int] = {}
            for ready in waiting:
                if rules.is_forgotten(lease.standing(ready.order, ready.chain), now_ms // 1000):
                    forgotten.append(ready)
                    continue
                if not await self._is_covered(session, ready, spare, now_ms):
                    crowded.append(ready)
                    continue
                plan = await self._plan(session, ready, found, now_ms)
                if plan.result.choice is not None:
                    chosen = plan.result.choice.provider
                    found = candidates.after_grant(found, chosen, plan.request)
                    if not ready.order.secured:
                        spare[ready.order.consumer] -= int(ready.order.terms["max_charge"])
                elif plan.result.needs_key is None:
                    crowded.append(ready)
                plans.append(plan)
        if len(waiting) == self._settings.batch:
            await self._let_others_pass(crowded, now_ms)
        for ready in forgotten:
            await transact(self._database, partial(_forget, task_id=ready.order.task_id))
        return plans

    async def _is_covered(
        self, session: AsyncSession, ready: Ready, spare: dict[str, int], now_ms: int
    ) -> bool:
        order, stands = ready.order, lease.standing(ready.order, ready.chain)
        if not order.secured and order.consumer not in spare:
            account = await chain.account(session, order.consumer)
            counted_on = await work.unsecured_in_hand(session, order.consumer)
            spare[order.consumer] = account.available - sum(
                int(other.terms["max_charge"]) for other in counted_on
            )
        return rules.may_be_leased(
            stands,
            now_ms // 1000,
            spare=spare.get(order.consumer, 0),
            max_charge=int(order.terms["max_charge"]),
        )

    async def _plan(
        self,
        session: AsyncSession,
        ready: Ready,
        found: tuple[Candidate, ...],
        now_ms: int,
    ) -> _Plan:
        request = candidates.request_of(
            ready.order, ready.work, now_ms=now_ms, settings=self._settings
        )
        result = match(request, found)
        if result.choice is not None and candidates.has_input(ready.order):
            # Keys are looked up only for tasks that somebody could take.
            fence = candidates.next_fence(ready.work)
            sealed = await work.sealed_providers(session, ready.order.task_id, fence)
            request = replace(request, sealed_for=sealed)
            result = match(request, found)
        return _Plan(ready, request, result)

    async def _grant(self, plan: _Plan, choice: Candidate, now_ms: int) -> None:
        grant = Grant(
            task_id=plan.ready.order.task_id,
            provider=choice.provider,
            fence=candidates.next_fence(plan.ready.work),
            gpus=plan.request.gpus,
            gpu_class=plan.request.gpu_class,
        )
        given = await transact(
            self._database, lambda session: self._give(session, grant, choice, now_ms)
        )
        if given:
            self._never_sent.add((grant.task_id, grant.fence))
            log.info("task_leased", task=grant.task_id, provider=grant.provider, fence=grant.fence)

    async def _give(
        self, session: AsyncSession, grant: Grant, choice: Candidate, now_ms: int
    ) -> bool:
        """Only if the task is still wanted and the GPUs still free: minutes may lie between."""
        order = (await work.orders(session, (grant.task_id,))).get(grant.task_id)
        if order is None:
            return False
        stands = lease.standing(order, await chain.task(session, grant.task_id))
        if await chain.doubt(session) is not None:
            return False
        held = await work.gpus_held_by(session, grant.provider)
        if rules.unwanted(stands) is not None or held + grant.gpus > choice.gpus_registered:
            return False
        given = await lease.give(
            session,
            grant,
            stands=stands,
            now_ms=now_ms,
            signer=self._signer,
            settings=self._settings,
        )
        return given is not None

    async def _ask_for_key(self, plan: _Plan, who: Candidate) -> None:
        row = plan.ready.work
        if row is not None and row.needs_key_provider == who.provider:
            return
        await transact(
            self._database,
            lambda session: lease.ask_for_key(
                session,
                plan.ready.order.task_id,
                candidates.next_fence(row),
                who.provider,
                self._clock.now_ms(),
            ),
        )

    async def _let_others_pass(self, crowded: list[Ready], now_ms: int) -> None:
        """Tasks nobody can take stand back for a moment, so that those behind them are seen."""

        async def stand_back(session: AsyncSession) -> None:
            for ready in crowded:
                task_id = ready.order.task_id
                await work.begin_work(session, task_id)
                await work.move_work(
                    session,
                    task_id,
                    candidates.next_fence(ready.work) - 1,
                    before=("waiting",),
                    not_before_ms=now_ms + CROWDED_PAUSE_MS,
                )

        if crowded:
            await transact(self._database, stand_back)

    # --- offer --------------------------------------------------------------------------------

    async def send_offers(self) -> None:
        """Every lease that waits for its provider's answer is offered, again after a restart."""
        now_s = self._clock.now_ms() // 1000
        async with self._database.read() as session:
            offered = await work.held(session, states=("offered",))
        open_offers = {(held.lease.task_id, held.lease.fence) for held in offered}
        self._never_sent &= open_offers
        for held in offered:
            wanted = rules.unwanted(lease.standing(held.order, held.chain)) is None
            if wanted and held.lease.lease_until_s >= now_s:
                self._send("offer", held.lease.task_id, held.lease.fence, self._offer(held))

    async def _offer(self, held: Held) -> None:
        row = held.lease
        async with self._database.read() as session:
            sealed = await work.sealed_key(session, row.task_id, row.provider, row.fence)
        first = (row.task_id, row.fence) in self._never_sent
        self._never_sent.discard((row.task_id, row.fence))
        offer = assign.offer(row, held.order, sealed, self._blob_urls)
        try:
            reply = await self._ask(bus.offer_subject(row.provider), offer, OfferReply)
        except NoListener:
            # Certain only if no earlier process sent it: then the assignment never left us.
            if first:
                await self._end(held, "undelivered", f"{row.provider} is not on the bus")
            return
        if reply is None:
            return
        if reply.accepted:
            now_ms = self._clock.now_ms()
            await transact(self._database, lambda session: lease.accept(session, row, now_ms))
            _log_lease("lease_accepted", held)
        else:
            reason = lease.printable(reply.reason) or "no reason given"
            await self._end(held, "declined", f"{row.provider} declined: {reason}")

    # --- acceptance ---------------------------------------------------------------------------

    async def send_acceptances(self) -> None:
        """Tells the provider at once; its heartbeats say it again until the task is settled."""
        async with self._database.read() as session:
            accepted = await work.accepted_leases(session)
        for one in accepted:
            self._send("acceptance", one.lease.task_id, one.lease.fence, self._tell_accepted(one))

    async def _tell_accepted(self, accepted: Accepted) -> None:
        row = accepted.lease
        said = AcceptanceNotice(
            acceptance=inbox.acceptance_of(accepted), signature=accepted.acceptance.signature
        )
        reply = await self._ask(bus.acceptance_subject(row.provider), said, Ack)
        if reply is not None and reply.ok:
            # Said and heard: again only after a long while, should the provider have lost it.
            self._hold_back("acceptance", row.task_id, row.fence, 60_000)

    # --- the bus ------------------------------------------------------------------------------

    def _send(
        self, kind: str, task_id: str, fence: int, sending: Coroutine[Any, Any, None]
    ) -> None:
        """Starts sending unless the same is on its way or was sent a moment ago."""
        key = (kind, task_id, fence)
        now_ms = self._clock.now_ms()
        if key in self._sending or now_ms < self._not_before_ms.get(key, 0):
            sending.close()
            return
        self._hold_back(kind, task_id, fence, REPEAT_MS)
        task = asyncio.create_task(self._carefully(key, sending))
        self._sending[key] = task
        task.add_done_callback(lambda _: self._sending.pop(key, None))

    async def _carefully(
        self, key: tuple[str, str, int], sending: Coroutine[Any, Any, None]
    ) -> None:
        try:
            async with self._bus_slots:
                await sending
        except BusError as failure:
            log.info("message_unanswered", kind=key[0], task=key[1], why=str(failure))
        except Exception:
            log.exception("sending_failed", kind=key[0], task=key[1], fence=key[2])
        finally:
            sending.close()

    def _hold_back(self, kind: str, task_id: str, fence: int, pause_ms: int) -> None:
        self._not_before_ms.pop((kind, task_id, fence), None)
        self._not_before_ms[(kind, task_id, fence)] = self._clock.now_ms() + pause_ms
        if len(self._not_before_ms) > 100_000:
            del self._not_before_ms[next(iter(self._not_before_ms))]

    async def _ask(
        self, subject: str, said: wire.WireModel, kind: type[wire.Body]
    ) -> wire.Body | None:
        """The provider's answer; None when it makes no sense, which changes nothing."""
        payload = said.model_dump_json().encode()
        reply = await self._bus.request(subject, payload, self._settings.offer_timeout_seconds)
        try:
            return wire.parse(kind, reply)
        except WireError as failure:
            log.warning("answer_malformed", subject=subject, why=str(failure)[:300])
            return None


async def _forget(session: AsyncSession, task_id: str) -> None:
    await work.begin_work(session, task_id)
    row = await work.work(session, task_id)
    if row is not None:
        await lease.stop_waiting(session, row)


async def _again(session: AsyncSession, held: Held) -> Held | None:
    """The same lease as it stands now; None when it is not live or was given anew."""
    rows = await work.held(session, states=LIVE_LEASES, task_ids=(held.lease.task_id,))
    for row in rows:
        same = (row.lease.fence, row.lease.token) == (held.lease.fence, held.lease.token)
        if same and row.lease.lease_until_s == held.lease.lease_until_s:
            return row
    return None


def _log_lease(event: str, held: Held, **values: object) -> None:
    log.info(
        event,
        task=held.lease.task_id,
        provider=held.lease.provider,
        fence=held.lease.fence,
        **values,
    )
