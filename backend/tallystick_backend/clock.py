"""Time as an argument: whatever depends on it takes a `Clock`, so that no test waits."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Unix time in milliseconds."""

    def now_ms(self) -> int: ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, *, seconds: float = 0, ms: int = 0) -> None:
        self._now_ms += round(seconds * 1000) + ms

    def set_ms(self, now_ms: int) -> None:
        self._now_ms = now_ms


def now_s(clock: Clock) -> int:
    """Whole unix seconds, rounded down, as the chain counts them."""
    return clock.now_ms() // 1000
