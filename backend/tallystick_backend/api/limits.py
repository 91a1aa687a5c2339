"""How much one caller may ask, and how many streams may stay open. Counted in this process: several
processes allow as many times more."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from tallystick_backend.access import TooManyRequests
from tallystick_backend.api.refusals import TooManyStreams

AHEAD_SHARE: Final = 1000
"""Of a limit a thousandth is counted at once: counting takes longer than finding the caller."""
AHEAD_S: Final = 10.0
AHEAD_KEPT: Final = 10_000


class Limits:
    """Two counters a caller and window, forgotten after it: memory stays flat."""

    def __init__(self, *, login: str, read: str, write: str, call: str = "600000/minute") -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._ahead: dict[tuple[str, str], tuple[int, float]] = {}
        """Counted already and not used: how many, and how long they may be."""
        self._items = {
            "log-ins": parse(login),
            "reads": parse(read),
            "writes": parse(write),
            "calls": parse(call),
        }

    async def count(self, what: str, who: str) -> None:
        """Raises `TooManyRequests` when `who` did this too often."""
        item, now_s = self._items[what], time.monotonic()
        left, until_s = self._ahead.get((what, who), (0, 0.0))
        if left and now_s < until_s:
            self._ahead[(what, who)] = left - 1, until_s
            return
        ahead = item.amount // AHEAD_SHARE
        if ahead > 1 and await self._limiter.hit(item, what, who, cost=ahead):
            if len(self._ahead) >= AHEAD_KEPT:
                self._ahead.clear()
            self._ahead[(what, who)] = ahead - 1, now_s + AHEAD_S
            return
        if await self._limiter.hit(item, what, who):
            return
        window = await self._limiter.get_window_stats(item, what, who)
        wait_s = max(1, round(window.reset_time - time.time()))
        raise TooManyRequests(f"{what}: {item}", min(wait_s, item.get_expiry()))


def network_of(ip: str | None) -> str:
    """Who an address is for counting: an IPv6 caller has a whole /64 to choose from."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


class StreamGate:
    """Counts open event streams; each costs a task and a look at the rows every moment."""

    def __init__(self, *, total: int, per_caller: int) -> None:
        self._total = total
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()

    @property
    def open_streams(self) -> int:
        return self._open.total()

    @contextmanager
    def entered(self, caller: str) -> Iterator[None]:
        if self.open_streams >= self._total:
            raise TooManyStreams("all callers together", self._total)
        if self._open[caller] >= self._per_caller:
            raise TooManyStreams("you", self._per_caller)
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
