"""Waiting for another process, with an end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

STEP_S = 0.02


async def until(
    condition: Callable[[], bool | Awaitable[bool]], within_s: float = 20, what: str = "it"
) -> None:
    """Returns when the condition holds; fails the test when it does not in time."""
    for _ in range(int(within_s / STEP_S)):
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        await asyncio.sleep(STEP_S)
    raise AssertionError(f"{what} did not happen within {within_s} s")
