"""From what was seen of a run to what is billed. Pure: no clock, no driver, no disk.

Time is the container's own (started, ended), so an agent that died in between bills the same. What
cannot be known is None; nothing is ever estimated upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallystick_provider.gpus import GpuInfo


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one card during a run."""

    at_ms: int
    gpu_id: str
    energy_mj: int | None
    memory_used_mib: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a receipt states."""

    started_at_ms: int
    ended_at_ms: int
    gpu_ms: int
    energy_mj: int | None
    peak_gpu_memory_mib: int | None

    @property
    def elapsed_ms(self) -> int:
        return self.ended_at_ms - self.started_at_ms


def samples_of(readings: Iterable[GpuInfo], held: Sequence[str], at_ms: int) -> tuple[Sample, ...]:
    """The readings of the cards held by a task, and of no other card."""
    return tuple(
        Sample(at_ms, gpu.gpu_id, gpu.energy_mj, gpu.memory_used_mib)
        for gpu in readings
        if gpu.gpu_id in held
    )


def measure(
    gpu_ids: Sequence[str],
    started_ms: int,
    ended_ms: int,
    *,
    lease_from_ms: int,
    max_seconds: int,
    samples: Sequence[Sample],
) -> Usage:
    """Usage of one run, inside what the terms and the lease allow.

    A start before the lease and an end after the longest run are cut, and a clock that ran
    backwards bills nothing: the contract would refuse such a receipt whole.
    """
    started = max(started_ms, lease_from_ms)
    ended = max(started, min(ended_ms, started + max_seconds * 1000))
    return Usage(
        started_at_ms=started,
        ended_at_ms=ended,
        gpu_ms=len(gpu_ids) * (ended - started),
        energy_mj=_energy_mj(gpu_ids, samples),
        peak_gpu_memory_mib=_peak(samples),
    )


def running_gpu_ms(gpu_count: int, started_ms: int, now_ms: int) -> int:
    """GPU time so far, for progress only."""
    return gpu_count * max(0, now_ms - started_ms)


def _energy_mj(gpu_ids: Sequence[str], samples: Sequence[Sample]) -> int | None:
    """Last counter minus first, all cards together. None if a card has no counter or it fell."""
    if not gpu_ids:
        return None
    total = 0
    for gpu_id in gpu_ids:
        counters = [s.energy_mj for s in sorted(samples, key=_at) if s.gpu_id == gpu_id]
        known = [counter for counter in counters if counter is not None]
        if len(known) < 2 or known != sorted(known):
            return None
        total += known[-1] - known[0]
    return total


def _peak(samples: Sequence[Sample]) -> int | None:
    known = [s.memory_used_mib for s in samples if s.memory_used_mib is not None]
    return max(known) if known else None


def _at(sample: Sample) -> int:
    return sample.at_ms
