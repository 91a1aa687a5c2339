"""Answers that are the same for everybody, kept for a moment: looking often costs little."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

KEPT_S: Final = 2.0

T = TypeVar("T")


class Kept:
    """One answer a name; made anew by the first who asks later."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._answers: dict[str, tuple[float, Any]] = {}

    async def get(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        found = self._answers.get(name)
        if found is not None and self._clock_s() - found[0] < KEPT_S:
            answer: T = found[1]
            return answer
        answer = await make()
        self._answers[name] = (self._clock_s(), answer)
        return answer
