"""What providers tell us: announce, heartbeat, log, finished, failed.

The bus lets a provider publish under its own address only; the subject therefore says who speaks,
and a body that names another provider is refused. Sizes and rates are limited before anything is
parsed or read, so a provider that floods us is answered cheaply and nobody else waits. No time that
a provider reports decides anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import wire
from tallystick.protocol.errors import ProtocolError, WireError
from tallystick.protocol.market_views import GpuSample
from tallystick.protocol.sealing_key import hpke_key_signer
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import (
    AcceptanceBody,
    Ack,
    Announcement,
    AnnouncementReply,
    Failed,
    Finished,
    GpuBody,
    Heartbeat,
    HeartbeatReply,
    LeaseAnswer,
    LeaseBeat,
    LogChunk,
    WireModel,
)
from tallystick_backend.clock import Clock
from tallystick_backend.dispatch import assign, candidates, lease, receipts, rules
from tallystick_backend.dispatch.assign import Signer
from tallystick_backend.dispatch.errors import MessageRefused, ReceiptRefused
from tallystick_backend.dispatch.rate import Allowance, Limiter
from tallystick_backend.dispatch.retry import transact
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.repositories.work import Accepted, Held
from tallystick_backend.store.session import Database, is_conflict
from tallystick_backend.store.tables import AnnouncementRow, LeaseRow, TaskLogRow
from tallystick_backend.tasks import LIVE_LEASES

log = structlog.get_logger(__name__)

SUBJECTS: Final = "tallystick.backend.*.*"
"""Provider and verb. Answers to the gateway have more parts, and are not for the dispatcher."""

SAMPLED: Final = set(GpuSample.model_fields)

_SUBJECT = re.compile(r"tallystick\.backend\.(0x[0-9a-f]{40})\.([a-z]+)", re.ASCII)
_ALL_STATES = LIVE_LEASES | {"finished", "done", "declined", "failed", "lost", "stopped"}

Refuse: TypeAlias = Callable[[str], WireModel]
Answer: TypeAlias = Callable[[str, bytes], Coroutine[Any, Any, WireModel]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of message: its limits, who answers it, and how a refusal looks."""

    max_bytes: int
    allowance: Allowance
    answer: Answer
    refuse: Refuse


class Inbox:
    def __init__(
        self, database: Database, signer: Signer, settings: DispatchSettings, clock: Clock
    ) -> None:
        self._database = database
        self._signer = signer
        self._settings = settings
        self._clock = clock
        self._limiter = Limiter(clock)
        self._log_chars: dict[str, int] = {}
        self._kinds: Mapping[str, _Kind] = {
            "announce": _Kind(2**19, Allowance(1, 10), self._announce, self._no_work),
            "heartbeat": _Kind(2**19, Allowance(5, 20), self._heartbeat, _refused),
            "log": _Kind(2**19, Allowance(50, 200), self._log, _refused),
            "finished": _Kind(2**14, Allowance(20, 100), self._finished, _refused),
            "failed": _Kind(2**14, Allowance(20, 100), self._failed, _refused),
        }

    async def handle(self, subject: str, payload: bytes) -> bytes | None:
        """The reply; None for a subject that is none of ours."""
        found = _SUBJECT.fullmatch(subject)
        kind = self._kinds.get(found[2]) if found else None
        if found is None or kind is None:
            log.warning("message_unknown", subject=subject[:200])
            return None
        provider = found[1]
        try:
            self._check_limits(provider, found[2], kind, payload)
            reply = await kind.answer(provider, payload)
        except (MessageRefused, WireError) as refusal:
            self._tell_refusal(provider, found[2], str(refusal)[:300])
            reply = kind.refuse(str(refusal)[:300])
        except Exception as failure:
            # The provider repeats what was not answered well; the bus must not stop for it.
            log.exception("message_failed", provider=provider, kind=found[2])
            busy = is_conflict(failure)
            reply = kind.refuse("the database is busy: send it again" if busy else "internal error")
        return reply.model_dump_json().encode()

    def _tell_refusal(self, provider: str, kind: str, reason: str) -> None:
        # A flood of messages must not become a flood of log lines.
        if self._limiter.allows(provider, "refusal", Allowance(1, 5)):
            log.info("message_refused", provider=provider, kind=kind, reason=reason)

    def _check_limits(self, provider: str, name: str, kind: _Kind, payload: bytes) -> None:
        if not self._limiter.allows(provider, name, kind.allowance):
            raise MessageRefused(
                f"more than {kind.allowance.per_second:g} {name} messages a second: send fewer"
            )
        if len(payload) > kind.max_bytes:
            raise MessageRefused(f"{len(payload)} bytes of {name}, {kind.max_bytes} are allowed")

    # --- announce -----------------------------------------------------------------------------

    async def _announce(self, provider: str, payload: bytes) -> WireModel:
        said = wire.parse(Announcement, payload)
        _speaks_for_itself(provider, said.provider)
        self._check_sealing_key(said)

        async def keep(session: AsyncSession) -> str | None:
            if not await chain.key_signs_for(session, said.operator_key, provider):
                return (
                    f"the key {said.operator_key} is not bound to {provider} on chain, or was "
                    "retired: bind it with bindOperatorKey"
                )
            await session.merge(
                AnnouncementRow(
                    provider=provider,
                    operator_key=said.operator_key.lower(),
                    hpke_key=said.hpke_key.lower(),
                    runtime=said.runtime,
                    agent_version=lease.printable(said.agent_version),
                    body=said.model_dump(mode="json"),
                    draining=said.draining,
                    last_seen_ms=self._clock.now_ms(),
                )
            )
            return await self._problem(session, provider, said)

        return self._no_work(await transact(self._database, keep))

    def _check_sealing_key(self, said: Announcement) -> None:
        """Signed by the provider or the key it announces, which is then looked up: when that key
        is retired, nobody is matched with what it signed."""
        provider, operator = to_address(said.provider.lower()), said.operator_key.lower()
        try:
            signer = hpke_key_signer(
                self._signer.domain, provider, said.hpke_key, said.hpke_signature
            )
        except ProtocolError as failure:
            raise MessageRefused(f"hpke_key is refused: {failure}") from failure
        if signer.lower() not in (provider.lower(), operator):
            raise MessageRefused(
                f"hpke_key is signed by {signer}, neither by {provider} nor by its key "
                f"{operator}: sign it for this chain and escrow with one of them"
            )

    async def _problem(
        self, session: AsyncSession, provider: str, said: Announcement
    ) -> str | None:
        row = await chain.provider(session, provider)
        unit = self._settings.stake_unit
        stake = 0 if row is None else candidates.at_work(row, unit)
        registered = 0 if row is None else row.gpus_registered
        if row is not None and row.jailed_until_s is not None:
            return (
                "a verdict jailed this provider: it gets no new work until it sends `unjail`, from "
                f"unix time {row.jailed_until_s} on"
            )
        if stake < unit:
            return f"the stake is {stake}, one unit of {unit} is needed: stake {unit - stake} more"
        if registered < len(said.gpus):
            return (
                f"{len(said.gpus)} GPUs are announced and {registered} registered on chain: no "
                f"more than {registered} will be leased until registerGpus raises it"
            )
        return None

    def _no_work(self, problem: str | None) -> WireModel:
        return AnnouncementReply(
            lease_seconds=self._settings.lease_seconds,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            problem=problem,
        )

    # --- heartbeat ----------------------------------------------------------------------------

    async def _heartbeat(self, provider: str, payload: bytes) -> WireModel:
        said = wire.parse(Heartbeat, payload)

        async def renew(session: AsyncSession) -> tuple[LeaseAnswer, ...]:
            now_ms = self._clock.now_ms()
            await self._seen(session, provider, said, now_ms)
            ids = {beat.task_id for beat in said.leases}
            held = {
                (row.lease.task_id, row.lease.fence): row
                for row in await work.held(session, states=_ALL_STATES, task_ids=ids)
                if row.lease.provider == provider
            }
            accepted = {
                row.lease.task_id: row for row in await work.accepted_leases(session, task_ids=ids)
            }
            return tuple(
                [
                    await self._answer(
                        session, beat, held, accepted.get(beat.task_id), said.gpus, now_ms
                    )
                    for beat in {(beat.task_id, beat.fence): beat for beat in said.leases}.values()
                ]
            )

        return HeartbeatReply(leases=await transact(self._database, renew))

    async def _seen(
        self, session: AsyncSession, provider: str, said: Heartbeat, now_ms: int
    ) -> None:
        row = await work.announcement(session, provider)
        if row is None:
            return
        row.last_seen_ms = now_ms
        fresh = {gpu.gpu_id: gpu.model_dump(mode="json") for gpu in said.gpus}
        if fresh:
            # Readings change between announcements; which cards there are does not.
            known = row.body.get("gpus", [])
            row.body = {**row.body, "gpus": [_reading(gpu, fresh) for gpu in known]}
        session.add(row)

    async def _answer(
        self,
        session: AsyncSession,
        said: LeaseBeat,
        held: Mapping[tuple[str, int], Held],
        accepted: Accepted | None,
        gpus: Sequence[GpuBody],
        now_ms: int,
    ) -> LeaseAnswer:
        lost = LeaseAnswer(task_id=said.task_id, fence=said.fence, verdict="lost")
        row = held.get((said.task_id, said.fence))
        if row is None:
            return lost
        renewed = await lease.beat(
            session, row, said, now_ms=now_ms, signer=self._signer, settings=self._settings
        )
        if renewed is None:
            return lost
        running = renewed.state in LIVE_LEASES
        if running and said.stage == "running":
            await _keep_readings(session, said, gpus, now_ms)
        stands = lease.standing(row.order, row.chain)
        if running and rules.must_stop(stands, now_ms, self._settings) is not None:
            return LeaseAnswer(task_id=said.task_id, fence=said.fence, verdict="stop")
        has_acceptance = accepted is not None and accepted.lease.fence == said.fence
        return LeaseAnswer(
            task_id=said.task_id,
            fence=said.fence,
            verdict="renewed",
            assignment=assign.assignment_of(renewed),
            assignment_signature=renewed.assignment_signature,
            acceptance=acceptance_of(accepted) if accepted and has_acceptance else None,
            acceptance_signature=accepted.acceptance.signature
            if accepted and has_acceptance
            else None,
        )

    # --- log ----------------------------------------------------------------------------------

    async def _log(self, provider: str, payload: bytes) -> WireModel:
        said = wire.parse(LogChunk, payload)
        if not 0 <= said.seq <= lease.MAX_INT32:
            raise MessageRefused(f"seq is {said.seq}: chunks are counted from 0")

        async def keep(session: AsyncSession) -> int:
            row = await _own_lease(session, provider, said.task_id, said.fence)
            if row.state not in rules.RENEWABLE:
                raise MessageRefused(f"the lease is {row.state}: its log is closed")
            before = self._log_chars.get(said.task_id)
            if before is None:
                before = await work.log_chars(session, said.task_id)
            if await work.has_log(session, said.task_id, said.fence, said.seq):
                return before
            if before + len(said.text) > self._settings.max_log_bytes:
                raise MessageRefused(
                    f"the task's log is full ({self._settings.max_log_bytes} characters): write "
                    "long output to a file among the results"
                )
            now_ms = self._clock.now_ms()
            session.add(
                TaskLogRow(
                    task_id=said.task_id,
                    fence=said.fence,
                    seq=said.seq,
                    stream=said.stream,
                    # The provider's clock orders lines within the lease and reaches no further.
                    at_ms=max(row.lease_from_s * 1000, min(said.at_ms, now_ms)),
                    text=lease.printable(said.text),
                )
            )
            await session.flush()
            return before + len(said.text)

        total = await transact(self._database, keep)
        self._log_chars.pop(said.task_id, None)
        self._log_chars[said.task_id] = total
        if len(self._log_chars) > 4096:
            del self._log_chars[next(iter(self._log_chars))]
        return Ack()

    # --- finished and failed ------------------------------------------------------------------

    async def _finished(self, provider: str, payload: bytes) -> WireModel:
        said = wire.parse(Finished, payload)
        _fits_columns(said)

        async def keep(session: AsyncSession) -> str | None:
            row = await _own_lease(session, provider, said.task_id, said.fence)
            return await self._keep_receipt(session, row, said)

        refusal = await transact(self._database, keep)
        if refusal is not None:
            raise MessageRefused(refusal)
        return Ack()

    async def _keep_receipt(
        self, session: AsyncSession, row: LeaseRow, said: Finished
    ) -> str | None:
        """None when the receipt lies here; else why it does not. Refusals that are told to the
        consumer are written in the same transaction, so they are answered and not raised."""
        now_ms = self._clock.now_ms()
        present = await work.held(session, states=(row.state,), task_ids=(row.task_id,))
        held = next((one for one in present if one.lease.fence == row.fence), None)
        if held is None:
            return "the order of this task is not here"
        try:
            checked = receipts.check(
                receipts.received(said), await self._context(session, held, now_ms)
            )
        except ReceiptRefused as refusal:
            return f"receipt refused: {refusal}"
        first = await work.receipt(session, row.task_id, row.fence)
        if first is not None:
            if first.digest == checked.digest:
                return None
            return f"another receipt of this lease lies here: {first.digest}; the first one stays"
        if row.state not in LIVE_LEASES or held.work.fence != row.fence:
            reason = (
                f"fence {row.fence} is {row.state}, the current fence is {held.work.fence}: the "
                "result came too late and is not paid"
            )
            await lease.note_late_result(session, row, reason, now_ms)
            return reason
        if not await lease.finish(session, row, checked, said, now_ms):
            return "the lease changed meanwhile: send it again"
        return None

    async def _context(
        self, session: AsyncSession, held: Held, now_ms: int
    ) -> receipts.ReceiptContext:
        provider = held.lease.provider
        bound = await chain.operator_keys_of(session, provider)
        return receipts.ReceiptContext(
            domain=self._signer.domain,
            terms=assign.terms_of(held.order),
            task_id=held.lease.task_id,
            provider=provider,
            fence=held.lease.fence,
            lease_from_s=held.lease.lease_from_s,
            keys={provider, *(key.key for key in bound if key.retired_at_s is None)},
            now_ms=now_ms,
            clock_margin_ms=self._settings.lease_margin_seconds * 1000,
        )

    async def _failed(self, provider: str, payload: bytes) -> WireModel:
        said = wire.parse(Failed, payload)

        async def give_back(session: AsyncSession) -> str | None:
            row = await _own_lease(session, provider, said.task_id, said.fence)
            if row.state not in LIVE_LEASES:
                # A repeat of what ended it, or said of a lease that is over: nothing changes.
                return None if row.state in ("failed", "stopped") else f"the lease is {row.state}"
            present = await work.held(session, task_ids=(row.task_id,))
            held = next((one for one in present if one.lease.fence == row.fence), None)
            if held is None:
                return "the order of this task is not here"
            await lease.end(
                session,
                held,
                "failed_task" if said.blame == "task" else "failed_provider",
                reason=lease.printable(said.reason),
                now_ms=self._clock.now_ms(),
                settings=self._settings,
            )
            return None

        refusal = await transact(self._database, give_back)
        return Ack() if refusal is None else Ack(ok=False, reason=refusal)


def acceptance_of(accepted: Accepted) -> AcceptanceBody:
    row = accepted.acceptance
    return AcceptanceBody(task_id=row.task_id, total=row.total, receipt=row.receipt_digest)


def _refused(reason: str) -> WireModel:
    return Ack(ok=False, reason=reason)


def _speaks_for_itself(provider: str, named: str) -> None:
    if named.lower() != provider:
        raise MessageRefused(f"{provider} cannot speak for {named}")


async def _own_lease(session: AsyncSession, provider: str, task_id: str, fence: int) -> LeaseRow:
    """One answer for a lease that is not there and for somebody else's: ids are not guessable."""
    row = None
    if 0 < fence <= lease.MAX_INT32:
        row = await work.lease(session, task_id, fence)
    if row is None or row.provider != provider:
        raise MessageRefused(f"{provider} holds no lease of task {task_id} with fence {fence}")
    return row


async def _keep_readings(
    session: AsyncSession, said: LeaseBeat, gpus: Sequence[GpuBody], now_ms: int
) -> None:
    """What the lease's own cards show now; of simulated ones too, which say so elsewhere."""
    mine = set(said.gpu_ids)
    shown = [gpu.model_dump(mode="json", include=SAMPLED) for gpu in gpus if gpu.gpu_id in mine]
    if shown:
        await work.add_sample(session, said.task_id, said.fence, shown, now_ms)


def _fits_columns(said: Finished) -> None:
    small = {"exit_code": said.exit_code, "peak_gpu_memory_mib": said.peak_gpu_memory_mib}
    large = {"result_bytes": said.result_bytes, "energy_mj": said.energy_mj}
    for name, value in small.items():
        if value is not None and not -lease.MAX_INT32 <= value <= lease.MAX_INT32:
            raise MessageRefused(f"{name} is {value}, which no machine has")
    for name, value in large.items():
        if value is not None and not 0 <= value <= lease.MAX_INT63:
            raise MessageRefused(f"{name} is {value}, which no machine has")


def _reading(known: dict[str, Any], fresh: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    reading = fresh.get(str(known.get("gpu_id")))
    if reading is None:
        return known
    fixed = ("gpu_id", "model", "gpu_class", "memory_mib", "simulated")
    return {**reading, **{name: known[name] for name in fixed if name in known}}
