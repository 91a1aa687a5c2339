"""The provider's agent: takes offers, keeps its leases alive, looks after the work.

The life of a task, in order, and where it is written:

    1 accept   `Agent.on_offer`: checked (`offers.py`), placed on free cards, journalled, answered
    2 fetch, start, watch, sign, upload, report: `work.py`
    3 settle   `settle.py`, from the journal alone

Beside that the agent beats: each heartbeat names every lease in hand, each answer renews it, ends
it or asks to stop. On start it compares journal and runtime: a container whose lease still stands
goes on under a new `Work`, every other container of ours is removed, then and now and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from tallystick.protocol import wire
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Acceptance, Assignment, recover
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import ZERO_ADDRESS, Signature, TaskId, to_digest
from tallystick_provider import __version__
from tallystick_provider.backend import Offline
from tallystick_provider.errors import JournalError, OfferRefused, ProviderError, RuntimeFailure
from tallystick_provider.journal import Lease
from tallystick_provider.ledger import Ledger
from tallystick_provider.offers import CheckedOffer, Reserved, check, place, require_secured
from tallystick_provider.runtime import Finding, volume
from tallystick_provider.settings import Settings
from tallystick_provider.work import Tools, Work, task_directories, tell_failures

DRAINING = "draining"
FIRST_BEAT_S = 1.0
"""Until the backend has said how often it wants to hear of us."""
NO_EVENTS = 2**63
"""A first block that never comes: the events of a task do not matter before it is taken."""
LEASES_IN_A_BEAT = 256
"""What one heartbeat may name; a provider whose proofs wait for their window holds more."""
REAP_MS = 10_000
CLEAR_MS = 10_000
CLEAR_FIRST_S = 10.0
IMAGES_MS = 60_000
IMAGES_TIMEOUT_S = 3.0
REAP_TIMEOUT_S = 3.0
DOCTOR_MS = 60_000
DOCTOR_WRONG_MS = 10_000
"""While something is wrong: somebody may be mending it, and waits to see that it is right."""
DOCTOR_TIMEOUT_S = 30.0

log = structlog.get_logger()


class WorkersRoom(Protocol):
    """What the workers of apps have of this machine, as far as tasks have to do with it."""

    def reserved(self) -> Reserved: ...

    async def make_room(
        self, task: str, place: Callable[[Reserved, frozenset[str]], Reserved]
    ) -> bool:
        """Stops idle workers for a task that has no place; whether it has one now."""
        ...

    def room_taken(self, task: str) -> None: ...


class NoWorkers:
    """Of an agent that serves no apps."""

    def reserved(self) -> Reserved:
        return Reserved()

    async def make_room(
        self, task: str, place: Callable[[Reserved, frozenset[str]], Reserved]
    ) -> bool:
        return False

    def room_taken(self, task: str) -> None:
        return


@dataclass(slots=True)
class Agent:
    settings: Settings
    tools: Tools
    ledger: Ledger
    wake_settler: Callable[[], None] = lambda: None
    workers: WorkersRoom = field(default_factory=NoWorkers)
    doctor: Callable[[], Awaitable[tuple[Finding, ...]]] | None = None
    """Looks at everything the agent needs; what it finds is told to the provider's own pages."""
    _works: dict[tuple[TaskId, int], tuple[Work, asyncio.Task[None]]] = field(default_factory=dict)
    _accepting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _beat_s: float = FIRST_BEAT_S
    _announced: wire.Announcement | None = None
    _known_images: tuple[str, ...] = ()
    _images_at_ms: int = 0
    _reaped_at_ms: int = 0
    _cleared_at_ms: int = 0
    _clearing: asyncio.Task[None] | None = None
    _report: wire.DoctorReport | None = None
    _examined_at_ms: int = 0
    _examining: asyncio.Task[None] | None = None
    problem: str = ""
    """Why the backend gives no work, in its words."""

    # --- start and stop -------------------------------------------------------------------------

    async def resume(self) -> None:
        """After a start: go on with what still stands, remove the rest."""
        now_s = self._now_s()
        standing = {}
        for lease in self.tools.journal.open_leases():
            over = lease.lease_lost or lease.assignment.lease_until < now_s
            if over and not lease.reached("signed"):
                self.tools.journal.close_lease(lease, "lost", "the lease ended while we were away")
            else:
                standing[lease.task_id, lease.fence] = lease
        await self._reap()
        await self._clear_cards(standing.values())
        for lease in standing.values():
            log.info("lease_resumed", task=lease.task_id, fence=lease.fence, stage=lease.stage)
            self._begin(lease)

    async def _clear_cards(self, standing: Collection[Lease]) -> None:
        """Those of no lease: what ran there while we were away is unknown."""
        running = [lease for lease in standing if not lease.reached("signed")]
        for lease in running:
            if lease.reached("started"):
                self.tools.cards.hold(lease.gpu_ids, lease.name)
        busy = {card for lease in running for card in lease.gpu_ids}
        self._clearing = asyncio.create_task(self.tools.cards.clear_idle(busy), name="clear cards")
        # Usually done by then; a driver that hangs costs the running tasks no heartbeat.
        await asyncio.wait({self._clearing}, timeout=CLEAR_FIRST_S)

    async def _reap(self) -> None:
        """Containers and directories that no lease needs: an engine that did not answer when a
        lease ended, or a crash, leaves them behind."""
        self._reaped_at_ms = self.tools.clock.now_ms()
        runs = await self.tools.runtime.own()
        directories = await asyncio.to_thread(task_directories, self.tools.data_dir)
        # Read after the runs: whatever begins meanwhile has its lease in the journal already.
        needed = {
            (lease.task_id, lease.fence): lease.name
            for lease in self.tools.journal.open_leases()
            if not lease.reached("signed")
        }
        # A work that is just ending tidies up by itself.
        busy = {work.lease.name for work, task in self._works.values() if not task.done()}
        for ref in runs:
            if (ref.task_id, ref.fence) not in needed and f"{ref.task_id}-{ref.fence}" not in busy:
                log.warning("container_reaped", task=ref.task_id, fence=ref.fence)
                await self.tools.runtime.stop(ref, 1)
                await self.tools.runtime.remove(ref)
        for directory in directories:
            if directory.name not in needed.values() and directory.name not in busy:
                await asyncio.to_thread(volume.remove, directory)

    async def _reap_now_and_then(self) -> None:
        if self.tools.clock.now_ms() - self._reaped_at_ms < REAP_MS:
            return
        try:
            async with asyncio.timeout(REAP_TIMEOUT_S):
                await self._reap()
        except (RuntimeFailure, TimeoutError) as error:
            log.warning("runtime_silent", error=str(error) or "no answer in time")

    async def _try_cards_again(self) -> None:
        """Beside everything else: clearing a card may take longer than a lease lasts."""
        now_ms = self.tools.clock.now_ms()
        idle = self._clearing is None or self._clearing.done()
        if idle and self.tools.cards.problem and now_ms - self._cleared_at_ms >= CLEAR_MS:
            self._cleared_at_ms = now_ms
            self._clearing = asyncio.create_task(self.tools.cards.try_again(), name="clear cards")

    async def _examine_now_and_then(self) -> None:
        """Beside everything else: a node or an engine may take its time to answer."""
        now_ms = self.tools.clock.now_ms()
        idle = self._examining is None or self._examining.done()
        is_right = self._report is not None and all(one.ok for one in self._report.findings)
        wait_ms = DOCTOR_MS if is_right else DOCTOR_WRONG_MS
        due = self._report is None or now_ms - self._examined_at_ms >= wait_ms
        if self.doctor is not None and idle and due:
            self._examined_at_ms = now_ms
            self._examining = asyncio.create_task(self._examine(), name="doctor")

    async def _examine(self) -> None:
        assert self.doctor is not None
        try:
            async with asyncio.timeout(DOCTOR_TIMEOUT_S):
                findings = await self.doctor()
        except (ProviderError, ProtocolError, TimeoutError) as error:
            log.warning("doctor_silent", error=str(error) or "no answer in time")
            return
        self._report = wire.DoctorReport(
            at_ms=self.tools.clock.now_ms(),
            findings=tuple(
                wire.FindingBody(
                    name=one.name[:200], ok=one.ok, found=one.found[:500], fix=one.fix[:500]
                )
                for one in findings
            ),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Beats until told to stop. Containers go on without us; the next start finds them."""
        while not stop.is_set():
            try:
                self._restart_idle()
            except JournalError as error:
                log.warning("work_waits", why=str(error))
            # The heartbeat first: what else there is to say never costs a lease.
            for say in (
                self.beat,
                self.announce_if_changed,
                self._tell_failures,
                self._reap_now_and_then,
                self._try_cards_again,
                self._examine_now_and_then,
            ):
                try:
                    await say()
                except Offline as error:
                    log.debug("not_heard", what=say.__name__, why=str(error))
                except (ProviderError, ProtocolError) as error:
                    log.warning("not_said", what=say.__name__, why=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):
                    await stop.wait()

    async def close(self) -> None:
        tasks = [task for _, task in self._works.values()]
        tasks += [task for task in (self._clearing, self._examining) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what the backend asks ------------------------------------------------------------------

    async def on_connected(self) -> None:
        self._announced = None
        await self.announce_if_changed()

    async def on_offer(self, offer: wire.Offer) -> wire.OfferReply:
        """One at a time, so that two offers never get the same card."""
        async with self._accepting:
            try:
                await self._accept(offer)
            except (ProviderError, ProtocolError) as error:
                log.info("offer_declined", reason=str(error))
                return wire.OfferReply(accepted=False, reason=str(error)[:200])
        return wire.OfferReply(accepted=True)

    async def _accept(self, offer: wire.Offer) -> None:
        checked = check(offer, self.tools.domain, self.settings, self._now_s())
        known = self.tools.journal.lease(checked.task_id, checked.assignment.fence)
        if known is not None:
            if known.outcome is not None:
                raise OfferRefused(f"this lease is over here: {known.outcome}, {known.reason}")
            return
        if self.draining:
            raise OfferRefused("this provider is draining: it finishes what it has")
        self._require_newest(checked)
        chain = await self.ledger.task(checked.task_id, checked.terms, NO_EVENTS)
        require_secured(checked, chain)
        gpu_ids = await self._placed(checked)
        lease = self.tools.journal.accept(offer, gpu_ids, chain.block)
        self.workers.room_taken(checked.task_id)
        log.info("offer_accepted", task=lease.task_id, fence=lease.fence, gpus=len(gpu_ids))
        self._begin(lease)

    async def _placed(self, checked: CheckedOffer) -> tuple[str, ...]:
        try:
            return self._place(checked, self.workers.reserved())
        except OfferRefused:
            wanted = checked.offer.manifest

            def would_take(reserved: Reserved, freed: frozenset[str]) -> Reserved:
                gpu_ids = self._place(checked, reserved, freed)
                needs = wanted.resources
                return Reserved(needs.cpu_milli, needs.memory_mib, wanted.disk_needed_mib, gpu_ids)

            if not await self.workers.make_room(checked.task_id, would_take):
                raise
        return self._place(checked, self.workers.reserved())

    def _place(
        self, checked: CheckedOffer, reserved: Reserved, freed: Collection[str] = ()
    ) -> tuple[str, ...]:
        held = [lease for lease in self.tools.journal.open_leases() if lease.holds_capacity]
        cards = self.tools.cards.free()
        if freed:
            cards = (*cards, *(c for c in self.tools.cards.offered() if c.gpu_id in freed))
        return place(checked, cards, held, self.settings, reserved)

    def _require_newest(self, checked: CheckedOffer) -> None:
        """A lease of an older fence than one we hold for the task is a leftover."""
        for lease in self.tools.journal.open_leases():
            if lease.task_id == checked.task_id and lease.fence > checked.assignment.fence:
                raise OfferRefused(f"fence {lease.fence} of this task is in hand already")

    async def on_stop(self, stop: wire.Stop) -> wire.Ack:
        try:
            self.tools.journal.stop_wanted(TaskId(to_digest(stop.task_id)), stop.fence, stop.reason)
        except (JournalError, ProtocolError) as error:
            return wire.Ack(ok=False, reason=str(error))
        log.info("stop_asked", task=stop.task_id, reason=stop.reason)
        return wire.Ack()

    async def on_acceptance(self, notice: wire.AcceptanceNotice) -> wire.Ack:
        return self.take_acceptance(notice.acceptance, notice.signature)

    def take_acceptance(self, body: wire.AcceptanceBody, signature: str) -> wire.Ack:
        """Kept if the consumer or its signer signed it over a receipt of ours."""
        try:
            acceptance = Acceptance.from_body(body)
            lease = self._lease_of(acceptance)
            if lease is None:
                return wire.Ack(ok=False, reason="no receipt of ours has that digest")
            signer = recover(self.tools.domain, acceptance, signature)
        except ProtocolError as error:
            return wire.Ack(ok=False, reason=f"the acceptance is malformed: {error}")
        allowed = {lease.terms.consumer, lease.terms.signer} - {ZERO_ADDRESS}
        if signer not in allowed:
            return wire.Ack(ok=False, reason=f"{signer} may not accept for this consumer")
        signed = self.tools.journal.signed(lease.task_id, lease.fence)
        held = lease.acceptance
        if held is not None and signed is not None and held.total == signed.receipt.total:
            return wire.Ack()  # pays all of it; a later one over another sum must not displace it
        if held != acceptance:
            self.tools.journal.keep_acceptance(acceptance, Signature(signature), lease.fence)
            log.info("accepted_by_consumer", task=lease.task_id)
        self.wake_settler()
        return wire.Ack()

    def _lease_of(self, acceptance: Acceptance) -> Lease | None:
        for lease in self.tools.journal.open_leases():
            if lease.task_id != acceptance.task_id:
                continue
            signed = self.tools.journal.signed(lease.task_id, lease.fence)
            if signed is not None and signed.digest == acceptance.receipt:
                return lease
        return None

    # --- what we tell the backend ---------------------------------------------------------------

    async def announce_if_changed(self) -> None:
        offered = await self._announcement()
        if offered == self._announced:
            return
        reply = await self.tools.backend.announce(offered)
        # As long as the backend objects it is told again: what was wrong may be put right on chain.
        self._announced = None if reply.problem else offered
        self._beat_s = reply.heartbeat_seconds
        if reply.problem != self.problem and reply.problem:
            log.warning("no_work_will_come", problem=reply.problem)
        self.problem = reply.problem or ""

    async def _announcement(self) -> wire.Announcement:
        return wire.Announcement(
            provider=self.tools.provider,
            operator_key=address_of(self.tools.key),
            hpke_key=self.tools.sealing.public,
            # So that a consumer seals to us and not to whatever key a backend shows as ours.
            hpke_signature=sign_hpke_key(
                self.tools.domain,
                self.tools.provider,
                self.tools.sealing.public,
                self.tools.key,
            ),
            runtime=self.tools.runtime.kind,
            agent_version=__version__,
            # What a card is; what it does now goes with the heartbeat.
            gpus=tuple(
                wire.GpuBody(
                    gpu_id=gpu.gpu_id,
                    model=gpu.model,
                    gpu_class=gpu.gpu_class,
                    memory_mib=gpu.memory_mib,
                    driver=gpu.driver,
                    simulated=gpu.simulated,
                )
                for gpu in self.tools.cards.offered()
            ),
            rate_per_gpu_second=self.settings.rate,
            cpu_milli=self.settings.cpu_milli,
            memory_mib=self.settings.memory_mib,
            disk_mib=self.settings.disk_mib,
            draining=self.draining,
            images=await self._images(),
            doctor=self._report,
        )

    async def _images(self) -> tuple[str, ...]:
        """Looked up now and then; an engine that hangs holds up no heartbeat."""
        now_ms = self.tools.clock.now_ms()
        if now_ms - self._images_at_ms >= IMAGES_MS:
            self._images_at_ms = now_ms
            try:
                async with asyncio.timeout(IMAGES_TIMEOUT_S):
                    self._known_images = await self.tools.runtime.images()
            except (RuntimeFailure, TimeoutError) as error:
                log.warning("runtime_silent", error=str(error) or "no answer in time")
        return self._known_images

    async def _tell_failures(self) -> None:
        await tell_failures(self.tools)

    async def beat(self) -> None:
        leases = [lease for lease in self.tools.journal.open_leases() if not lease.lease_lost]
        for first in range(0, max(len(leases), 1), LEASES_IN_A_BEAT):
            await self._beat_for(leases[first : first + LEASES_IN_A_BEAT])

    async def _beat_for(self, leases: Sequence[Lease]) -> None:
        reply = await self.tools.backend.heartbeat(
            wire.Heartbeat(
                leases=tuple(self._work(lease).beat() for lease in leases),
                gpus=tuple(gpu.to_body() for gpu in self.tools.gpus.read()),
            )
        )
        held = {(lease.task_id, lease.fence): lease for lease in leases}
        for answer in reply.leases:
            lease = held.get((TaskId(to_digest(answer.task_id)), answer.fence))
            if lease is not None:
                self._obey(lease, answer)

    def _obey(self, lease: Lease, answer: wire.LeaseAnswer) -> None:
        if answer.acceptance is not None and answer.acceptance_signature is not None:
            self.take_acceptance(answer.acceptance, answer.acceptance_signature)
        if answer.verdict == "lost":
            log.warning("lease_lost", task=lease.task_id, fence=lease.fence)
            self.tools.journal.lose(lease)
        elif answer.verdict == "stop":
            self.tools.journal.stop_wanted(lease.task_id, lease.fence, "the consumer cancelled")
        if answer.assignment is not None and answer.assignment_signature is not None:
            self._renew(lease, answer.assignment, Signature(answer.assignment_signature))

    def _renew(self, lease: Lease, body: wire.AssignmentBody, signature: Signature) -> None:
        """A renewal counts only when it is the dispatcher's and changes nothing but the end."""
        try:
            renewed = Assignment.from_body(body)
            signer = recover(self.tools.domain, renewed, signature)
        except ProtocolError as error:
            log.warning("renewal_refused", task=lease.task_id, why=str(error))
            return
        held = lease.assignment
        same = (renewed.task_id, renewed.provider, renewed.fence, renewed.lease_from) == (
            held.task_id,
            held.provider,
            held.fence,
            held.lease_from,
        )
        if signer != lease.terms.dispatcher or not same:
            log.warning("renewal_refused", task=lease.task_id, why=f"signed by {signer}")
            return
        self.tools.journal.renew(renewed, signature)

    # --- works ----------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        return self.tools.journal.meta(DRAINING) == "1"

    @property
    def busy(self) -> int:
        return sum(1 for _, task in self._works.values() if not task.done())

    def _begin(self, lease: Lease) -> None:
        work = Work(self.tools, lease)
        task = asyncio.create_task(self._run(work), name=f"work {lease.name}")
        self._works[lease.task_id, lease.fence] = (work, task)

    async def _run(self, work: Work) -> None:
        await work.run()
        self.wake_settler()

    def _work(self, lease: Lease) -> Work:
        known = self._works.get((lease.task_id, lease.fence))
        return known[0] if known is not None else Work(self.tools, lease)

    def _restart_idle(self) -> None:
        """Work that stopped short of the report (a full disk, say) is tried again."""
        journal = self.tools.journal
        for lease in (*journal.open_leases(), *journal.untold_leases()):
            known = self._works.get((lease.task_id, lease.fence))
            if (known is None or known[1].done()) and not lease.reached("reported"):
                self._begin(lease)
        for name, (work, task) in list(self._works.items()):
            work.refresh()
            if task.done() and work.lease.outcome is not None:
                del self._works[name]

    def _now_s(self) -> int:
        return self.tools.clock.now_ms() // 1000
