"""Channels are topped up before they are empty, so that no call waits for a block.

Beside a call and never in its way: a top-up that fails is told in the log and tried again a while
later, and the call that finds the channel empty does what it always did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import GatewayError
from tallystick_backend.gateway.paying_end import PayingEnd
from tallystick_backend.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

AGAIN_MS: Final = 30_000
"""After one that came to nothing: a payer without money is not asked about at every call."""

Refill = Callable[[PayingEnd, str, int, int], Awaitable[None]]
"""Channel, app, the ceiling of a call, and the balance below which it is to be topped up."""


class Refills:
    def __init__(self, refill: Refill, clock: Clock, settings: GatewaySettings) -> None:
        self._refill = refill
        self._clock = clock
        self._settings = settings
        self._running: dict[str, asyncio.Task[None]] = {}
        self._not_before_ms: dict[str, int] = {}

    def consider(self, paying: PayingEnd, app_id: str, ceiling: int) -> None:
        """Starts one where the balance is below its share of what a top-up brings."""
        settings, end = self._settings, paying.end
        low = ceiling * settings.channel_calls * settings.channel_refill_percent // 100
        if end.balance >= low or end.chain.close_at or not end.chain.deposited:
            return
        name = paying.channel_id
        if name in self._running or self._clock.now_ms() < self._not_before_ms.get(name, 0):
            return
        task = asyncio.create_task(self._run(paying, app_id, ceiling, low), name=f"refill {name}")
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _run(self, paying: PayingEnd, app_id: str, ceiling: int, low: int) -> None:
        self._not_before_ms[paying.channel_id] = self._clock.now_ms() + AGAIN_MS
        try:
            await self._refill(paying, app_id, ceiling, low)
        except GatewayError as why:
            log.info("channel_not_refilled", channel=paying.channel_id, why=str(why))
        except Exception:
            log.exception("channel_not_refilled", channel=paying.channel_id)
        else:
            self._not_before_ms.pop(paying.channel_id, None)
