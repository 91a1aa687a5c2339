"""Whether a short write to disk may be made on the event loop's own thread.

Handing it to another thread costs two turns of the interpreter's lock; beside a busy loop each of
them can take longer than the flush of a quick disk. A slow disk would hold the loop up. So the last
writes decide.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["QUICK_S", "DiskPace"]

QUICK_S: Final = 0.002
"""A write that takes no longer than this on the whole holds nobody up."""
_NEWEST: Final = 0.1
"""The weight of the last write."""
_MOST: Final = 5 * QUICK_S
"""One hiccup says little."""
_TRIED_EVERY: Final = 256
"""Writes after which a disk that was slow is tried again."""


class DiskPace:
    def __init__(self) -> None:
        self._usual_s = 0.0
        self._aside = 0

    def is_quick(self) -> bool:
        """Asked before each write."""
        if self._usual_s <= QUICK_S:
            return True
        self._aside += 1
        if self._aside < _TRIED_EVERY:
            return False
        self._aside = 0
        return True

    @contextmanager
    def measured(self) -> Iterator[None]:
        """A write on the loop's own thread."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.took(time.perf_counter() - began_s)

    def took(self, seconds: float) -> None:
        self._usual_s += (min(seconds, _MOST) - self._usual_s) * _NEWEST
