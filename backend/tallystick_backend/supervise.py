"""Parts that run as long as the process: one that ends with an error is logged, waited for a while,
and started again; meanwhile `conditions` says what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

Part = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set; returning before is a failure too."""

STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Backoff:
    first_s: float = 0.5
    longest_s: float = 30.0
    healthy_after_s: float = 60.0
    """A part that ran this long starts over with the first pause."""


@dataclass
class Supervisor:
    on_restart: Callable[[str], None] = lambda _part: None
    backoff: Backoff = field(default_factory=Backoff)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _conditions: dict[str, str] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, part: Part) -> None:
        self._conditions[name] = "ok"
        self._tasks[name] = asyncio.create_task(self._keep_running(name, part), name=name)

    def conditions(self) -> dict[str, str]:
        """ "ok", or in words what is wrong; never the text of an error, which may hold a URL."""
        return dict(self._conditions)

    async def end(self) -> None:
        """Asks every part to stop, and cancels those that do not."""
        self.stop.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=STOP_TIMEOUT_S)
        for task in late:
            log.warning("part_cancelled", part=task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep_running(self, name: str, part: Part) -> None:
        pause_s = self.backoff.first_s
        while True:
            started = time.monotonic()
            try:
                await part(self.stop)
                reason = "it ended by itself"
            except Exception as error:
                reason = type(error).__name__
                if not self.stop.is_set():
                    log.error("part_failed", part=name, exc_info=error)
            if self.stop.is_set():
                return
            if time.monotonic() - started >= self.backoff.healthy_after_s:
                pause_s = self.backoff.first_s
            self._conditions[name] = f"starts again after {reason}"
            self.on_restart(name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), pause_s)
            if self.stop.is_set():
                return
            pause_s = min(self.backoff.longest_s, pause_s * 2)
            # Up again as far as anybody knows; a part that fails at once says so a moment later.
            self._conditions[name] = "ok"
