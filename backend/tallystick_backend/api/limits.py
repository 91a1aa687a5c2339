"""How much one caller may ask, and how many streams may stay open. Counted in this process: several
processes allow as many times more."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from tallystick_backend.access import TooManyRequests
from tallystick_backend.api.refusals import TooManyStreams


class Limits:
    """Two counters a caller and window, forgotten after it: memory stays flat."""

    def __init__(self, *, login: str, read: str, write: str, call: str = "600000/minute") -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items = {
            "log-ins": parse(login),
            "reads": parse(read),
            "writes": parse(write),
            "calls": parse(call),
        }

    async def count(self, what: str, who: str) -> None:
        """Raises `TooManyRequests` when `who` did this too often."""
        item = self._items[what]
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
