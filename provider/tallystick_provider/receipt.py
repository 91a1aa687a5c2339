"""From usage to the message that is worth money. Pure; signing goes through the journal."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.protocol.merkle import UsageSample, gpu_set_root, usage_root
from tallystick.protocol.messages import Receipt, TaskTerms
from tallystick.protocol.pricing import charge_up
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, TaskId
from tallystick_provider.meter import Sample, Usage

CALLS = 1
"""A task is one call: its fee is owed once, however long it runs."""


def build(
    provider: Address,
    task_id: TaskId,
    fence: int,
    terms: TaskTerms,
    usage: Usage,
    gpu_ids: Sequence[str],
    samples: Sequence[Sample],
    result: Digest,
) -> Receipt:
    """The usage proof of one fence: its charge is what the contract will compute from it."""
    return Receipt(
        provider=provider,
        route=task_id,
        seq=fence,
        prev=ZERO_DIGEST,
        request=terms.spec,
        result=result,
        gpu_set=gpu_set_root(gpu_ids),
        started_at_ms=usage.started_at_ms,
        ended_at_ms=usage.ended_at_ms,
        calls=CALLS,
        gpu_ms=usage.gpu_ms,
        usage_root=usage_root(usage_samples(samples)),
        total=charge_up(terms, CALLS, usage.gpu_ms),
    )


def usage_samples(samples: Sequence[Sample]) -> tuple[UsageSample, ...]:
    """One a card and moment, energy counted from the card's first reading of the run."""
    first: dict[str, int] = {}
    kept: dict[tuple[int, str], UsageSample] = {}
    for sample in sorted(samples, key=lambda s: (s.at_ms, s.gpu_id)):
        since_start = None
        if sample.energy_mj is not None:
            since_start = sample.energy_mj - first.setdefault(sample.gpu_id, sample.energy_mj)
            since_start = since_start if since_start >= 0 else None
        kept[sample.at_ms, sample.gpu_id] = UsageSample(sample.at_ms, sample.gpu_id, since_start)
    return tuple(kept.values())
