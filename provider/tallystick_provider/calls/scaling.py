"""When to start a worker, when to stop one, and who is answered next. Pure: it is told the time.

    pool.place("c1", now)               a place, if one is free
    pool.ask("c1", now)                 else: somebody waits
    pool.begin(now)                     who has a place now, and where
    pool.wanted(now, room=2)            start so many, stop these, refuse those
    pool.started/ready/failed/gone      what became of it
    pool.end("c1", now, ran_ms)         a place is free again

A call is answered by the oldest worker with a free place, so that the youngest fall idle first.
"""

from __future__ import annotations

import heapq
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Self

from tallystick.protocol.app_manifest import AppManifest

KEPT_COLD_STARTS: Final = 15
RUN_WEIGHT: Final = 0.2
"""Of the newest run, in the mean of those seen."""
FIRST_BACKOFF_MS: Final = 1_000
LONGEST_BACKOFF_MS: Final = 60_000
MAX_WAITING: Final = 1_024
"""Beyond that a version's queue is no queue any more: another provider is faster."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a version asks for, as far as this provider goes along."""

    concurrency: int
    min_workers: int
    max_workers: int
    target_delay_ms: int
    cooldown_ms: int
    patience_ms: int
    """A call that waited so long for a place is refused."""

    @classmethod
    def of(cls, manifest: AppManifest, *, warm_most: int, idle_most_s: int) -> Self:
        scaling = manifest.scaling
        return cls(
            concurrency=manifest.concurrency,
            min_workers=min(scaling.min_workers, warm_most),
            max_workers=scaling.max_workers,
            target_delay_ms=scaling.target_queue_delay_ms,
            cooldown_ms=min(scaling.cooldown_s, idle_most_s) * 1000,
            patience_ms=(manifest.ready_timeout_s + manifest.timeout_s) * 1000,
        )


@dataclass(slots=True)
class Worker:
    name: str
    started_ms: int
    ready_ms: int | None = None
    leaving: bool = False
    """It gets no more calls: it is being stopped, or is not to be trusted any more."""
    calls: dict[str, int] = field(default_factory=dict)
    """Those it answers, and since when."""
    idle_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A call has a place, and waited so long for it."""

    call: str
    worker: str
    queued_ms: int
    cold_start_ms: int
    """Of that, while its worker was being started."""


@dataclass(frozen=True, slots=True)
class Wanted:
    start: int = 0
    stop: tuple[str, ...] = ()
    refuse: tuple[tuple[str, str], ...] = ()
    """Calls that nobody will answer here, and why."""


class Pool:
    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.problem = ""
        """Why the last worker did not come up; empty once one has."""
        self._workers: dict[str, Worker] = {}
        self._waiting: dict[str, int] = {}
        self._where: dict[str, str] = {}
        self._cold_starts: deque[int] = deque(maxlen=KEPT_COLD_STARTS)
        self._mean_run_ms: float | None = None
        self._failures = 0
        self._retry_at_ms = 0

    # --- what happens -----------------------------------------------------------------------

    def ask(self, call: str, now_ms: int) -> bool:
        """Whether it may wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting[call] = now_ms
        return True

    def place(self, call: str, now_ms: int) -> Placed | None:
        """A place at once, where one is free and nobody waits for it; else `ask`."""
        worker = None if self._waiting else self._next_free()
        if worker is None:
            return None
        worker.calls[call] = now_ms
        self._where[call] = worker.name
        return Placed(call, worker.name, 0, 0)

    def leave(self, call: str) -> bool:
        """Nobody waits for it any more; False if it has a place already."""
        return self._waiting.pop(call, None) is not None

    def begin(self, now_ms: int) -> tuple[Placed, ...]:
        """Those that have a place now, in the order of their arrival."""
        placed = []
        while self._waiting and (worker := self._next_free()) is not None:
            call = next(iter(self._waiting))
            arrived_ms = self._waiting.pop(call)
            worker.calls[call] = now_ms
            self._where[call] = worker.name
            queued_ms = max(0, now_ms - arrived_ms)
            cold_ms = (worker.ready_ms or 0) - max(arrived_ms, worker.started_ms)
            placed.append(Placed(call, worker.name, queued_ms, min(max(0, cold_ms), queued_ms)))
        return tuple(placed)

    def end(self, call: str, now_ms: int, ran_ms: int | None = None) -> None:
        """Its place is free again; `ran_ms` of a run that came to an answer."""
        worker = self._workers.get(self._where.pop(call, ""))
        if worker is not None and worker.calls.pop(call, None) is not None and not worker.calls:
            worker.idle_since_ms = now_ms
        if ran_ms is not None:
            mean = self._mean_run_ms
            self._mean_run_ms = ran_ms if mean is None else mean + RUN_WEIGHT * (ran_ms - mean)

    def started(self, worker: str, now_ms: int) -> None:
        self._workers[worker] = Worker(worker, now_ms)

    def ready(self, worker: str, now_ms: int) -> None:
        found = self._workers.get(worker)
        if found is None or found.leaving:
            return
        found.ready_ms = found.idle_since_ms = now_ms
        self._cold_starts.append(max(0, now_ms - found.started_ms))
        self._failures, self._retry_at_ms, self.problem = 0, 0, ""

    def failed(self, worker: str, why: str, now_ms: int) -> None:
        """It did not come up. The next try waits, longer each time."""
        self.gone(worker)
        self.problem = why
        backoff_ms = min(FIRST_BACKOFF_MS * 2**self._failures, LONGEST_BACKOFF_MS)
        self._failures = min(self._failures + 1, 16)
        self._retry_at_ms = now_ms + backoff_ms

    def leaving(self, worker: str) -> None:
        found = self._workers.get(worker)
        if found is not None:
            found.leaving = True

    def gone(self, worker: str) -> None:
        found = self._workers.pop(worker, None)
        for call in () if found is None else found.calls:
            self._where.pop(call, None)

    # --- what to do -------------------------------------------------------------------------

    def wanted(self, now_ms: int, room: int) -> Wanted:
        """`room` is how many workers more there is place for on this machine."""
        start = self._to_start(now_ms, room)
        return Wanted(start, self._to_stop(now_ms), self._to_refuse(now_ms, start))

    def spare(self, *, kept_too: bool) -> tuple[tuple[str, int], ...]:
        """Workers that nobody would miss now, and since when they have been idle; those that are
        kept warm only where `kept_too`."""
        if self._waiting:
            return ()
        idle = [(worker.name, worker.idle_since_ms) for worker in self._ready() if not worker.calls]
        idle.sort(key=lambda one: one[1])
        kept = 0 if kept_too else self.scale.min_workers
        return tuple(idle[: max(0, len(self._live()) - kept)])

    def next_look_ms(self, now_ms: int) -> int | None:
        """When time alone changes what is wanted; None if it does not."""
        times = [self._retry_at_ms] if self._retry_at_ms > now_ms else []
        if len(self._live()) > self.scale.min_workers:
            idle = [w for w in self._ready() if not w.calls]
            times += [w.idle_since_ms + self.scale.cooldown_ms for w in idle]
        if self._waiting:
            first_ms = next(iter(self._waiting.values()))
            times += [first_ms + self.scale.target_delay_ms, first_ms + self.scale.patience_ms]
        later = [at for at in times if at > now_ms]
        return min(later) if later else None

    def _to_start(self, now_ms: int, room: int) -> int:
        if now_ms < self._retry_at_ms:
            return 0
        live, more = len(self._live()), 0
        starting = live - len(self._ready())
        while live + more < self.scale.max_workers and more < room:
            if live + more >= self.scale.min_workers:
                # Those that come up already have places for so many.
                if len(self._waiting) <= (starting + more) * self.scale.concurrency:
                    break
                if live + more and self._tail_delay_ms(now_ms, more) <= self.scale.target_delay_ms:
                    break
            more += 1
        return more

    def _to_stop(self, now_ms: int) -> tuple[str, ...]:
        if self._waiting:
            return ()
        spare = len(self._live()) - self.scale.min_workers
        idle = [
            worker
            for worker in self._ready()
            if not worker.calls and now_ms - worker.idle_since_ms >= self.scale.cooldown_ms
        ]
        idle.sort(key=lambda worker: (-worker.started_ms, worker.name))
        return tuple(worker.name for worker in idle[: max(0, spare)])

    def _to_refuse(self, now_ms: int, start: int) -> tuple[tuple[str, str], ...]:
        if not self._live() and not start:
            why = self.problem or "there is no room for a worker on this machine now"
            return tuple((call, why) for call in self._waiting)
        patience_ms = self.scale.patience_ms
        return tuple(
            (call, f"no place within {patience_ms} ms")
            for call, arrived_ms in self._waiting.items()
            if now_ms - arrived_ms >= patience_ms
        )

    # --- what there is ----------------------------------------------------------------------

    @property
    def workers_ready(self) -> int:
        return len(self._ready())

    @property
    def workers_starting(self) -> int:
        return len(self._live()) - len(self._ready())

    @property
    def workers_alive(self) -> int:
        return len(self._live())

    @property
    def running(self) -> int:
        return sum(len(worker.calls) for worker in self._workers.values())

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def cold_start_ms(self) -> int:
        """Median of those seen; 0 while none was."""
        return round(statistics.median(self._cold_starts)) if self._cold_starts else 0

    def names(self) -> tuple[str, ...]:
        return tuple(self._workers)

    def calls_of(self, worker: str) -> int:
        found = self._workers.get(worker)
        return 0 if found is None else len(found.calls)

    def delay_ms(self, now_ms: int) -> int:
        """What a call that came now would wait for a place, as far as can be told."""
        if not self._live():
            return self.cold_start_ms
        return self._wait_ms(now_ms, len(self._waiting), 0)

    def _tail_delay_ms(self, now_ms: int, more: int) -> int:
        """All that the last call in the queue will have waited."""
        if not self._waiting:
            return 0
        last_ms = next(reversed(self._waiting.values()))
        return now_ms - last_ms + self._wait_ms(now_ms, len(self._waiting) - 1, more)

    def _wait_ms(self, now_ms: int, ahead: int, more: int) -> int:
        """Until the call with so many ahead of it has a place, with `more` workers started now."""
        free_in = [self.cold_start_ms] * (more * self.scale.concurrency)
        for worker in self._live():
            if worker.ready_ms is None:
                up_in_ms = max(0, worker.started_ms + self.cold_start_ms - now_ms)
                free_in += [up_in_ms] * self.scale.concurrency
                continue
            free_in += [0] * (self.scale.concurrency - len(worker.calls))
            free_in += [self._rest_ms(now_ms - began_ms) for began_ms in worker.calls.values()]
        if not free_in:
            return self.cold_start_ms
        heapq.heapify(free_in)
        run_ms = round(self._mean_run_ms or 0)
        at_ms = free_in[0]
        for _ in range(ahead + 1):
            at_ms = free_in[0]
            heapq.heapreplace(free_in, at_ms + run_ms)
        return at_ms

    def _rest_ms(self, elapsed_ms: int) -> int:
        """Of a run that has taken so long: what is missing to the mean; beyond it, or without one,
        as long again."""
        left_ms = round(self._mean_run_ms or 0) - elapsed_ms
        return left_ms if left_ms > 0 else max(0, elapsed_ms)

    def _next_free(self) -> Worker | None:
        for worker in self._workers.values():
            if worker.ready_ms is None or worker.leaving:
                continue
            if len(worker.calls) < self.scale.concurrency:
                return worker
        return None

    def _live(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if not worker.leaving]

    def _ready(self) -> list[Worker]:
        """Oldest first: they were put in in that order."""
        return [worker for worker in self._live() if worker.ready_ms is not None]
