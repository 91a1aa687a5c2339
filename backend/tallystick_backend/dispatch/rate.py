"""How often one provider may speak: a bucket of tokens each, filled by our clock."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick_backend.clock import Clock


@dataclass(frozen=True, slots=True)
class Allowance:
    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


class Limiter:
    """Remembers the busiest `keep` speakers; one who was forgotten starts with a full bucket."""

    def __init__(self, clock: Clock, keep: int = 10_000) -> None:
        self._clock = clock
        self._keep = keep
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def allows(self, speaker: str, kind: str, allowance: Allowance) -> bool:
        now_ms = self._clock.now_ms()
        key = (speaker, kind)
        bucket = self._buckets.pop(key, None) or _Bucket(allowance.burst, now_ms)
        self._buckets[key] = bucket
        if len(self._buckets) > self._keep:
            del self._buckets[next(iter(self._buckets))]
        filled = max(0, now_ms - bucket.at_ms) / 1000 * allowance.per_second
        bucket.tokens = min(allowance.burst, bucket.tokens + filled)
        bucket.at_ms = now_ms
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
