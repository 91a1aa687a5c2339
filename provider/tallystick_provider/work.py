"""The life of one accepted task, as numbered steps:

    1 fetch    the sealed input, by digest, opened with this provider's key
    2 start    a container with what was ordered and nothing more
    3 watch    log, progress, energy, limits, and whether the lease still stands
    4 sign     pack and seal the result, meter, receipt into the journal
    5 upload   the sealed result
    6 report   the receipt to the backend

Settling is next, in `settle.py`. Each step first looks whether the journal has it done already:
after a restart a lease walks in at the step it had reached. A lease that was lost, or that ended
while the backend was out of reach, stops its container at once: somebody else may be at work on
that task.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Literal

import httpx
import structlog

from tallystick.protocol import wire
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Domain, digest, sign
from tallystick.protocol.sealing import SealingKey, seal_result
from tallystick.protocol.signatures import PrivateKey
from tallystick.protocol.types import Address, Digest
from tallystick_provider import bundle, receipt
from tallystick_provider.backend import Backend, Offline
from tallystick_provider.cards import Cards
from tallystick_provider.clock import Clock
from tallystick_provider.errors import (
    BundleError,
    ImageRefused,
    JournalUnavailable,
    ProviderError,
    RuntimeFailure,
)
from tallystick_provider.gpus import GpuSource
from tallystick_provider.journal import Journal, Lease, Signed
from tallystick_provider.log_brake import LogBrake
from tallystick_provider.meter import Usage, measure, running_gpu_ms, samples_of
from tallystick_provider.runtime import (
    LogCursor,
    LogPiece,
    RunRef,
    RunSpec,
    RunState,
    Runtime,
    TaskDirectory,
    volume,
)

MIB = 1024 * 1024
TASKS = "tasks"
RESULTS = "results"
SAMPLE_MS = 5_000
OUTPUT_LOOK_MS = 500
QUIET_MS = 10_000
"""So long without an answer from the container engine, and the heartbeat says so."""
SILENCE_MS = 180_000
"""So long, and the task is given up: a lease must not be renewed for ever on a guess."""
LOG_LIMIT_BYTES = 16 * MIB
LOG_CHUNK = 48_000
SEAL_OVERHEAD_BYTES = 4096
LOG_ROUNDS = 4
"""Reads of the log between two looks at a running task: a flood of lines holds up no limit."""
LOG_LOOK_MS = 500
"""And no further one after so long."""
LOG_REST: Final = 16
"""Times as long as the last look at the log took until the next one: an engine reads all that it
keeps of a log to find what is new."""
LOG_REST_MOST_MS: Final = 30_000
UPLOAD_TRIES: Final = 5
PASSING_STATUS: Final = frozenset({408, 425, 429})
"""Answers below 500 that pass by themselves."""
TOO_LARGE: Final = 413
REPORT_TRIES: Final = 8
PAID_REPORT_TRIES: Final = 100
"""A receipt that was paid for is taken once the backend has the payment from the chain."""
TELL_PAID_MS: Final = 24 * 3600 * 1000
"""So long the result of such a task is kept for a backend that does not answer."""
PROOF_SECONDS: Final = 60
"""Kept free before the deadline, or a tenth of the longest run if that is less: a proof that
arrives later is worth nothing."""
BeatStage = Literal["fetching", "starting", "running", "uploading", "finished", "settling"]
STOPPED: Final = 143
TIMED_OUT: Final = 124
PROGRESS = re.compile(
    r"^::progress\s+(?P<percent>[0-9]{1,3})(?:\.[0-9]+)?%?(?:\s+(?P<message>.*))?$"
)

log = structlog.get_logger()


class LeaseLost(ProviderError):
    """The task is somebody else's, or nobody can say whose: this provider lets go."""


class TaskFault(ProviderError):
    """The task cannot be done as ordered; no provider is to blame."""


class ResultRefused(ProviderError):
    """The result store will never take this result; another try changes nothing."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Tools:
    """What a task's work needs, wired in `__main__.py`."""

    provider: Address
    key: PrivateKey
    domain: Domain
    sealing: SealingKey
    journal: Journal
    runtime: Runtime
    gpus: GpuSource
    cards: Cards
    backend: Backend
    http: httpx.AsyncClient
    clock: Clock
    data_dir: Path
    poll_s: float
    stop_grace_s: int


@dataclass(slots=True)
class Progress:
    """What the task says of itself; shown, never billed."""

    percent: int | None = None
    message: str = ""
    first_percent: int | None = None
    first_at_ms: int = 0

    def tell(self, percent: int, message: str, now_ms: int) -> None:
        if self.first_percent is None or percent < self.first_percent:
            self.first_percent, self.first_at_ms = percent, now_ms
        self.percent, self.message = percent, message

    def eta_seconds(self, now_ms: int) -> int | None:
        """Straight on at the pace since the first word of progress."""
        if self.percent is None or self.first_percent is None or self.percent <= self.first_percent:
            return None
        pace = (now_ms - self.first_at_ms) / (self.percent - self.first_percent)
        return max(0, round((100 - self.percent) * pace / 1000))


@dataclass(slots=True)
class Work:
    """One lease on its way round."""

    tools: Tools
    lease: Lease
    progress: Progress = field(default_factory=Progress)
    brake: LogBrake = field(init=False)
    _sampled_at_ms: int = 0
    _looked_at_ms: int = 0
    _log_due_ms: int = 0
    _log_look: asyncio.Task[None] | None = field(default=None, repr=False)
    _seen_at_ms: int = 0
    """When the runtime last said how it stands with the container, while that runs."""

    def __post_init__(self) -> None:
        self.brake = LogBrake(self.tools.runtime)

    async def run(self) -> None:
        """Never raises: whatever happens ends in the journal, or waits for it to be usable again:
        the agent begins anew with what has stopped short."""
        try:
            await self._walk()
        except JournalUnavailable as error:
            log.warning("work_waits", task=self.lease.task_id, why=str(error))

    async def _walk(self) -> None:
        try:
            await self.fetch()
            ref = await self.start()
            if not self.lease.reached("ended"):
                await self.watch(ref)
            await self.sign(ref)
            await self.upload()
            await self.report()
        except JournalUnavailable:
            raise  # nobody failed, and nothing could be written down about it
        except ResultRefused as error:
            await self._give_up(error)
        except LeaseLost as error:
            await self._let_go(f"lease lost: {error}")
        except (BundleError, ImageRefused, TaskFault) as error:
            await self._fail(str(error), "task")
        except ProtocolError as error:
            await self._fail(f"the order cannot be carried out: {error}", "task")
        except (ProviderError, httpx.HTTPError, OSError) as error:
            await self._fail(str(error) or type(error).__name__, "provider")
        except Exception as error:  # the edge: nothing above would hear of it
            log.exception("work_broke", task=self.lease.task_id)
            await self._fail(f"internal error: {type(error).__name__}", "provider")

    # --- 1 fetch --------------------------------------------------------------------------------

    async def fetch(self) -> None:
        if self.lease.reached("fetched"):
            return
        self._require_lease()
        offer, place = self.lease.offer, self.directory
        await asyncio.to_thread(_fresh, place)
        wanted = offer.manifest.input_digest
        if wanted is not None and offer.input_url is not None:
            limit = offer.manifest.resources.disk_mib * MIB
            sealed = await self._fetch_sealed(offer.input_url, Digest(wanted), limit)
            opened = bundle.open_input(
                sealed, self.tools.sealing, self.lease.task_id, self.lease.fence, offer.sealed_key
            )
            await asyncio.to_thread(bundle.extract, opened, place.input, limit)
        elif wanted is not None:
            raise BundleError("the offer names an input but no place to fetch it from")
        await self.tools.runtime.prepare(offer.manifest.image)
        self.lease = self.tools.journal.fetched(self.lease)

    async def _fetch_sealed(self, url: str, wanted: Digest, limit: int) -> bytes:
        tries = 0
        while True:
            try:
                return await bundle.fetch(self.tools.http, url, wanted, limit + SEAL_OVERHEAD_BYTES)
            except httpx.HTTPError:
                tries += 1
                if tries == UPLOAD_TRIES:
                    raise
                await self._pause(tries)

    # --- 2 start --------------------------------------------------------------------------------

    async def start(self) -> RunRef:
        if self.lease.reached("started"):
            return self._ref()
        self._require_lease()
        if self.lease.stop_reason is not None:
            raise TaskFault(f"stopped before it began: {self.lease.stop_reason}")
        await self._take_cards()
        self._sample()
        ref = await self.tools.runtime.start(self.spec)
        self.lease = self.tools.journal.started(self.lease, ref.handle)
        log.info("task_started", task=self.lease.task_id, fence=self.lease.fence)
        return ref

    async def _take_cards(self) -> None:
        """A container that is there although nobody noted it was made on cards taken before."""
        lease = self.lease
        if not lease.gpu_ids:
            return
        runs = await self.tools.runtime.own()
        if (lease.task_id, lease.fence) in {(run.task_id, run.fence) for run in runs}:
            self.tools.cards.hold(lease.gpu_ids, lease.name)
        else:
            await self.tools.cards.take(lease.gpu_ids, lease.name)

    # --- 3 watch --------------------------------------------------------------------------------

    async def watch(self, ref: RunRef) -> None:
        """Until the container has ended, by itself or by us."""
        try:
            await self._watch(ref)
            if self._log_look is not None:
                await self._log_look
        finally:
            if self._log_look is not None:
                self._log_look.cancel()
                await asyncio.gather(self._log_look, return_exceptions=True)
                self._log_look = None

    async def _watch(self, ref: RunRef) -> None:
        forced: int | None = None
        self._seen_at_ms = self._now()
        while True:
            self.refresh()
            state = await self._state(ref)
            if state is not None:
                self._seen_at_ms = self._now()
                if state.status == "gone":
                    raise RuntimeFailure("the container disappeared; was it removed by hand?")
                if state.started_ms is not None and self.lease.started_ms is None:
                    self.lease = self.tools.journal.running(self.lease, state.started_ms)
                if forced is None and state.status != "exited":
                    forced = self._why_end()
                if forced is None:
                    await self._observe(ref, state)
                if state.status == "exited":
                    if state.interrupted and forced is None and self._why_end() is None:
                        raise RuntimeFailure(
                            f"the container was stopped from outside (exit code {state.exit_code})"
                            ": the container engine was restarted, or somebody stopped it by hand"
                        )
                    self._end(state, forced)
                    return
            elif self._silent_ms() > SILENCE_MS:
                raise RuntimeFailure(
                    f"the container engine has not answered for {self._silent_ms() // 1000} s; "
                    "nobody can say whether the task still runs"
                )
            self._require_lease()
            if state is not None:
                if forced is None:
                    forced = self._why_end()
                if forced is not None:
                    # Again until it has ended: an engine that hangs may not have heard.
                    await self._stop(ref)
            await asyncio.sleep(self.tools.poll_s)

    async def _state(self, ref: RunRef) -> RunState | None:
        """None while the engine does not answer, which is borne for SILENCE_MS."""
        try:
            return await self.tools.runtime.state(ref)
        except RuntimeFailure as error:
            log.warning("runtime_silent", task=self.lease.task_id, error=str(error))
            return None

    async def _observe(self, ref: RunRef, state: RunState) -> None:
        now = self._now()
        if now - self._sampled_at_ms >= SAMPLE_MS:
            self._sample()
        if now - self._looked_at_ms >= OUTPUT_LOOK_MS:
            self._looked_at_ms = now
            size = await asyncio.to_thread(bundle.output_size, self.directory.output)
            limit = self.lease.offer.manifest.max_output_mib
            if size.over(limit):
                await self._stop(ref)
                raise TaskFault(size.why_over(limit))
        if state.status == "running":
            try:
                await self.brake.pace(ref, now, state)
            except RuntimeFailure as error:
                log.warning("log_not_held_back", task=self.lease.task_id, why=str(error))
        if self._log_look is not None and self._log_look.done():
            look, self._log_look = self._log_look, None
            look.result()
        if self._log_look is None and now >= self._log_due_ms:
            # Aside: an engine under a flood takes seconds to read a log, and limits do not wait.
            self._log_look = asyncio.create_task(self._look_at_log(ref))

    async def _look_at_log(self, ref: RunRef) -> None:
        began_ms = self._now()
        try:
            await self.pump_logs(ref, LOG_ROUNDS)
        except (Offline, RuntimeFailure) as error:
            log.debug("log_waits", task=self.lease.task_id, why=str(error))
        else:
            took_ms = self._now() - began_ms
            self._log_due_ms = self._now() + min(LOG_REST * took_ms, LOG_REST_MOST_MS)

    def _why_end(self) -> int | None:
        """Exit code of an end that we bring about, None to let it run."""
        if self.lease.stop_reason is not None:
            return STOPPED
        started = self.lease.started_ms
        if started is not None:
            begun = max(started, self.lease.assignment.lease_from * 1000)
            if self._now() - begun >= self.lease.terms.max_seconds * 1000:
                return TIMED_OUT
        spare_s = min(PROOF_SECONDS, self.lease.terms.max_seconds // 10)
        if self._now() // 1000 >= self.lease.terms.deadline - spare_s:
            return TIMED_OUT
        return None

    async def _stop(self, ref: RunRef) -> None:
        try:
            await self.tools.runtime.stop(ref, self.tools.stop_grace_s)
        except RuntimeFailure as error:
            log.warning("stop_failed", task=self.lease.task_id, error=str(error))

    def _end(self, state: RunState, forced: int | None) -> None:
        self._sample()
        started = state.started_ms or self._now()
        ended = state.ended_ms or self._now()
        code = state.exit_code if state.exit_code is not None else 255
        self.lease = self.tools.journal.ended(
            self.lease, started, ended, code if forced is None else forced
        )
        log.info("task_ended", task=self.lease.task_id, exit_code=self.lease.exit_code)

    async def pump_logs(self, ref: RunRef, rounds: int | None = None) -> None:
        """Log and progress on to the backend; the cursor moves only when they arrived. Without
        `rounds` until the end of the log, which a task that still runs may never reach."""
        began_ms = self._now()
        for done in count():
            if rounds is not None and done and self._now() - began_ms > LOG_LOOK_MS:
                return
            if done == rounds:
                return
            cursor = LogCursor(self.lease.log_position)
            read = await self.tools.runtime.logs(ref, cursor)
            if not read.pieces:
                return
            seq, size = self.lease.log_seq, self.lease.log_bytes
            for chunk in self._chunks(read.pieces, seq, size):
                await self.tools.backend.log(chunk)
                cut = chunk.stream == "system"
                seq, size = seq + 1, LOG_LIMIT_BYTES if cut else size + len(chunk.text)
            self.lease = self.tools.journal.logged(self.lease, seq, size, read.cursor.position)

    def _chunks(self, pieces: Sequence[LogPiece], seq: int, size: int) -> list[wire.LogChunk]:
        chunks: list[wire.LogChunk] = []
        if size >= LOG_LIMIT_BYTES:
            self._take_progress(pieces)
            return chunks
        for piece in _joined(self._take_progress(pieces)):
            for start in range(0, len(piece.text), LOG_CHUNK):
                text = piece.text[start : start + LOG_CHUNK]
                size += len(text)
                stream: Literal["stdout", "stderr", "system"] = piece.stream
                if size >= LOG_LIMIT_BYTES:
                    stream, text = "system", f"log cut: over {LOG_LIMIT_BYTES // MIB} MiB\n"
                chunks.append(
                    wire.LogChunk(
                        task_id=self.lease.task_id,
                        fence=self.lease.fence,
                        seq=seq + len(chunks),
                        stream=stream,
                        at_ms=piece.at_ms,
                        text=text,
                    )
                )
                if stream == "system":
                    return chunks
        return chunks

    def _take_progress(self, pieces: Sequence[LogPiece]) -> list[LogPiece]:
        """Lines `::progress <percent> <message>` are progress and no log."""
        kept: list[LogPiece] = []
        for piece in pieces:
            lines = []
            for line in piece.text.splitlines(keepends=True):
                match = PROGRESS.match(line.strip()) if piece.stream == "stdout" else None
                if match is None:
                    lines.append(line)
                    continue
                percent = min(100, int(match["percent"]))
                self.progress.tell(percent, (match["message"] or "")[:200], piece.at_ms)
            if lines:
                kept.append(LogPiece(piece.stream, piece.at_ms, "".join(lines)))
        return kept

    # --- 4 sign ---------------------------------------------------------------------------------

    async def sign(self, ref: RunRef) -> None:
        if self.lease.reached("signed"):
            return
        try:
            await self.pump_logs(ref)
        except (Offline, RuntimeFailure) as error:
            log.debug("log_waits", task=self.lease.task_id, why=str(error))
        usage = self._usage()
        await asyncio.to_thread(volume.reattach, self.directory)
        sealed = await asyncio.to_thread(self._sealed_result, usage)
        result = digest_of(sealed)
        await asyncio.to_thread(bundle.keep, self.result_path(result), sealed)
        self.refresh()
        if self.lease.lease_lost:
            raise LeaseLost("before the receipt was signed")
        samples = self.tools.journal.samples(self.lease)
        bill = receipt.build(
            self.tools.provider,
            self.lease.task_id,
            self.lease.fence,
            self.lease.terms,
            usage,
            self.lease.gpu_ids,
            samples,
            result,
        )
        self.tools.journal.sign_once(
            self.lease,
            bill,
            digest(self.tools.domain, bill),
            lambda: sign(self.tools.domain, bill, self.tools.key),
            result_bytes=len(sealed),
            energy_mj=usage.energy_mj,
            peak_gpu_memory_mib=usage.peak_gpu_memory_mib,
        )
        self.refresh()
        log.info("receipt_signed", task=self.lease.task_id, charge=bill.total)
        await self._clear(ref)

    def _usage(self) -> Usage:
        return measure(
            self.lease.gpu_ids,
            self.lease.started_ms or 0,
            self.lease.ended_ms or 0,
            lease_from_ms=self.lease.assignment.lease_from * 1000,
            max_seconds=self.lease.terms.max_seconds,
            samples=self.tools.journal.samples(self.lease),
        )

    def _sealed_result(self, usage: Usage) -> bytes:
        manifest = self.lease.offer.manifest
        facts = {
            "exit_code": self.lease.exit_code,
            "started_ms": usage.started_at_ms,
            "ended_ms": usage.ended_at_ms,
            "gpu_ms": usage.gpu_ms,
            "energy_mj": usage.energy_mj,
            "simulated": self._simulated,
            "runtime": self.tools.runtime.kind,
        }
        packed = bundle.pack_result(self.directory.output, facts, manifest.max_output_mib * MIB)
        return seal_result(manifest.result_key, self.lease.task_id, self.lease.fence, packed)

    # --- 5 upload -------------------------------------------------------------------------------

    async def upload(self, *, awaited: bool = False) -> None:
        """Until it is taken; the receipt is signed and stays good meanwhile. Of a lost lease only a
        few times, unless it is `awaited`. Raises ResultRefused when it never will be taken."""
        tries = refusals = 0
        while not self.lease.reached("uploaded"):
            signed = self._signed()
            url = self.lease.offer.result_url.replace("{digest}", signed.receipt.result)
            path = self.result_path(signed.receipt.result)
            if self.lease.untold and not path.exists():
                return  # its receipt is worth telling
            content = await asyncio.to_thread(path.read_bytes)
            why = ""
            try:
                answer = await self.tools.http.put(url, content=content)
                if answer.is_success:
                    self.lease = self.tools.journal.uploaded(self.lease)
                    return
                why = f"the result store answered {answer.status_code}"
                refused = 400 <= answer.status_code < 500
                refusals += refused
                # Of what is paid for, the store hears from the chain: it may be behind.
                if refused and answer.status_code not in PASSING_STATUS and not self.lease.untold:
                    raise ResultRefused(
                        answer.status_code,
                        f"{why} to a sealed result of {len(content)} bytes (ordered: "
                        f"max_output_mib {self.lease.offer.manifest.max_output_mib})",
                    )
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            tries += 1
            self.refresh()
            log.warning("upload_failed", task=self.lease.task_id, why=why, tries=tries)
            lost = self.lease.lease_lost and self.lease.outcome is None and not awaited
            if self._is_over() or (lost and tries >= UPLOAD_TRIES):
                return
            if self.lease.untold and refusals >= PAID_REPORT_TRIES:
                return
            await self._pause(tries)

    # --- 6 report -------------------------------------------------------------------------------

    async def report(self) -> None:
        """Also of what the chain has paid for meanwhile: its consumer waits for the result."""
        tries = refusals = 0
        while not self.lease.reached("reported") and not self._is_over():
            signed = self._signed()
            try:
                ack = await self.tools.backend.finished(self._finished(signed))
            except Offline:
                tries += 1
                await self._pause(tries)
                self.refresh()
                continue
            refusals += not ack.ok
            if not ack.ok and refusals < (PAID_REPORT_TRIES if self.lease.untold else REPORT_TRIES):
                # A busy database refuses as a wrong receipt does; only the one passes.
                log.info("report_refused", task=self.lease.task_id, reason=ack.reason)
                await self._pause(refusals)
                self.refresh()
                continue
            if ack.ok and not self.lease.reached("uploaded"):
                await self._bring_result(signed)
            self._told("" if ack.ok else ack.reason)
            log.info("task_reported", task=self.lease.task_id, taken=ack.ok, reason=ack.reason)
        if self.lease.untold:
            log.warning("task_never_told", task=self.lease.task_id)
            self._told("the backend was away for too long")

    async def _bring_result(self, signed: Signed) -> None:
        """The lease was lost and its upload given up, but the backend took the receipt, as with a
        proof that is on chain: the consumer pays, and waits for the result."""
        if not self.result_path(signed.receipt.result).exists():
            return
        try:
            await self.upload(awaited=True)
        except ResultRefused as error:
            log.warning("result_not_taken", task=self.lease.task_id, why=str(error))

    def _is_over(self) -> bool:
        """Nothing more is to be said of it."""
        if not self.lease.untold:
            return self.lease.outcome is not None
        return self._now() - (self.lease.closed_at_ms or 0) > TELL_PAID_MS

    def _told(self, note: str) -> None:
        """The payment's own note stays."""
        self.refresh()
        paid = self.lease.untold
        self.lease = self.tools.journal.reported(self.lease, self.lease.reason if paid else note)
        if paid:
            drop_result(self.tools.data_dir, self.lease)

    def _finished(self, signed: Signed) -> wire.Finished:
        return wire.Finished(
            task_id=self.lease.task_id,
            fence=self.lease.fence,
            exit_code=self.lease.exit_code if self.lease.exit_code is not None else 255,
            receipt=signed.receipt.to_body(),
            receipt_signature=signed.signature,
            result_digest=signed.receipt.result,
            result_bytes=self.lease.result_bytes or 0,
            energy_mj=self.lease.energy_mj,
            peak_gpu_memory_mib=self.lease.peak_gpu_memory_mib,
            simulated=self._simulated,
            runtime=self.tools.runtime.kind,
        )

    # --- endings --------------------------------------------------------------------------------

    async def _let_go(self, reason: str) -> None:
        log.warning("task_let_go", task=self.lease.task_id, fence=self.lease.fence, reason=reason)
        await self._clear(None)
        self.tools.journal.close_lease(self.lease, "lost", reason)

    async def _give_up(self, refused: ResultRefused) -> None:
        """The receipt stays in the journal; without its result nobody would accept it."""
        self.refresh()
        if self.lease.outcome is not None:
            return
        too_large = refused.status == TOO_LARGE
        reason = str(refused) if too_large else f"lease lost: {refused}"
        log.warning("result_refused", task=self.lease.task_id, reason=reason)
        if too_large:
            failed = wire.Failed(
                task_id=self.lease.task_id,
                fence=self.lease.fence,
                reason=reason[:200],
                blame="task",
            )
            self.lease = self.tools.journal.report(self.lease, failed)
        else:
            self.lease = self.tools.journal.lose(self.lease)
        if self.tools.journal.intents(self.lease.task_id):
            # A proof is on its way to the chain already: what it pays is the settler's to see.
            self.lease = self.tools.journal.reported(self.lease, reason)
        else:
            outcome: Literal["failed", "lost"] = "failed" if too_large else "lost"
            self.lease = self.tools.journal.close_lease(self.lease, outcome, reason)
        await tell_failures(self.tools)

    async def _fail(self, reason: str, blame: Literal["task", "provider"]) -> None:
        log.warning("task_failed", task=self.lease.task_id, blame=blame, reason=reason)
        self.refresh()
        if self.lease.reached("signed"):
            return  # the receipt stands; the next start goes on from here
        await self._clear(None)
        failed = wire.Failed(
            task_id=self.lease.task_id, fence=self.lease.fence, reason=reason[:200], blame=blame
        )
        self.lease = self.tools.journal.report(self.lease, failed)
        self.lease = self.tools.journal.close_lease(self.lease, "failed", reason)
        await tell_failures(self.tools)

    async def _clear(self, ref: RunRef | None) -> None:
        """Container, directory and what is in the cards' memory go; the sealed result stays until
        the task is over."""
        try:
            if ref is None and self.lease.handle is not None:
                ref = self._ref()
            if ref is not None:
                await self.tools.runtime.stop(ref, 1)
                await self.tools.runtime.remove(ref)
        except RuntimeFailure as error:
            log.warning("container_left", task=self.lease.task_id, error=str(error))
        await self.tools.cards.give_back(self.lease.gpu_ids, self.lease.name)
        await asyncio.to_thread(volume.remove, self.directory.root)

    # --- small helpers --------------------------------------------------------------------------

    @property
    def directory(self) -> TaskDirectory:
        return TaskDirectory(self.tools.data_dir / TASKS / self.lease.name)

    def result_path(self, result: Digest) -> Path:
        return self.tools.data_dir / RESULTS / result

    @property
    def spec(self) -> RunSpec:
        manifest = self.lease.offer.manifest
        return RunSpec(
            provider=self.tools.provider,
            task_id=self.lease.task_id,
            fence=self.lease.fence,
            image=manifest.image,
            command=manifest.command,
            env=manifest.env,
            directory=self.directory,
            gpu_ids=self.lease.gpu_ids,
            gpus_simulated=self._simulated,
            cpu_milli=manifest.resources.cpu_milli,
            memory_mib=manifest.resources.memory_mib,
            disk_mib=manifest.resources.disk_mib,
            max_output_mib=manifest.max_output_mib,
        )

    def beat(self) -> wire.LeaseBeat:
        """Where it stands, for the heartbeat."""
        self.refresh()
        now = self._now()
        stage = _beat_stage(self.lease)
        started = self.lease.started_ms
        message, ran_until = self.progress.message, now
        if stage == "running" and self._silent_ms() > QUIET_MS:
            # Nobody knows how long it ran on, so nobody is told that it did.
            message, ran_until = "the container engine does not answer", self._seen_at_ms
        return wire.LeaseBeat(
            task_id=self.lease.task_id,
            fence=self.lease.fence,
            stage=stage,
            percent=self.progress.percent,
            eta_seconds=self.progress.eta_seconds(now) if stage == "running" else None,
            message=message,
            gpu_ms=0
            if started is None
            else running_gpu_ms(len(self.lease.gpu_ids), started, self.lease.ended_ms or ran_until),
            energy_mj=self.lease.energy_mj,
            gpu_ids=self.lease.gpu_ids,
        )

    def refresh(self) -> None:
        """The journal's word: heartbeats and notices write there."""
        self.lease = self.tools.journal.lease(self.lease.task_id, self.lease.fence) or self.lease

    def _require_lease(self) -> None:
        self.refresh()
        if self.lease.lease_lost:
            raise LeaseLost("the dispatcher gave it to another provider or ended it")
        if self._now() // 1000 > self.lease.assignment.lease_until:
            raise LeaseLost(
                f"it ended at {self.lease.assignment.lease_until} and could not be renewed"
            )

    def _sample(self) -> None:
        self._sampled_at_ms = self._now()
        try:
            readings = self.tools.gpus.read() if self.lease.gpu_ids else ()
        except ProviderError as error:
            log.warning("gpus_silent", error=str(error))
            return
        self.tools.journal.add_samples(
            self.lease, samples_of(readings, self.lease.gpu_ids, self._sampled_at_ms)
        )

    def _silent_ms(self) -> int:
        """Since the engine last answered for the running container; 0 before it is watched."""
        return self._now() - self._seen_at_ms if self._seen_at_ms else 0

    def _signed(self) -> Signed:
        signed = self.tools.journal.signed(self.lease.task_id, self.lease.fence)
        if signed is None:
            raise RuntimeFailure(f"no receipt in the journal for {self.lease.name}")
        return signed

    def _ref(self) -> RunRef:
        return RunRef(self.lease.task_id, self.lease.fence, self.lease.handle or "")

    @property
    def _simulated(self) -> bool:
        return bool(self.lease.gpu_ids) and self.tools.gpus.simulated

    async def _pause(self, tries: int) -> None:
        await asyncio.sleep(min(self.tools.poll_s * 2 ** min(tries, 6), 10))

    def _now(self) -> int:
        return self.tools.clock.now_ms()


def drop_result(data_dir: Path, lease: Lease) -> None:
    """The sealed result is needed until the task is over, and its consumer can have it."""
    if lease.result_digest is not None and not lease.untold:
        (data_dir / RESULTS / lease.result_digest).unlink(missing_ok=True)


async def tell_failures(tools: Tools) -> None:
    """Failures the backend has not heard of yet; kept until it has."""
    for lease in tools.journal.unsent_reports():
        if lease.report_to_send is None:
            continue
        try:
            await tools.backend.failed(wire.Failed.model_validate_json(lease.report_to_send))
        except Offline:
            return
        tools.journal.report_sent(lease)


def _beat_stage(
    lease: Lease,
) -> BeatStage:
    if lease.stage == "accepted":
        return "fetching"
    if lease.stage == "fetched" or lease.started_ms is None:
        return "starting"
    if lease.stage == "started":
        return "running"
    if lease.stage in ("ended", "signed"):
        return "uploading"
    return "finished" if lease.acceptance is None else "settling"


def _joined(pieces: Sequence[LogPiece]) -> list[LogPiece]:
    """Neighbouring lines of one stream as one piece: fewer messages."""
    joined: list[LogPiece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last is not None and last.stream == piece.stream and len(last.text) < LOG_CHUNK:
            joined[-1] = LogPiece(last.stream, last.at_ms, last.text + piece.text)
        else:
            joined.append(piece)
    return joined


def task_directories(data_dir: Path) -> tuple[Path, ...]:
    """Those that are there, named like the leases they belong to."""
    try:
        return tuple((data_dir / TASKS).iterdir())
    except FileNotFoundError:
        return ()


def _fresh(place: TaskDirectory) -> None:
    volume.remove(place.root)
    for directory in (place.input, place.output, place.work):
        directory.mkdir(parents=True)
        directory.chmod(0o755)
