"""Who has which card: one task a card, and nothing of it is left there for the next.

A card goes round: it is cleared, a task has it, it is cleared again and is free. One that cannot be
cleared (somebody else computes on it, memory stays in use, overwriting fails) is kept back: it is
offered to nobody, `problem` says why, and it is tried again now and then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Coroutine, Iterable
from typing import Any

import structlog

from tallystick_provider.errors import GpuError
from tallystick_provider.gpus import GpuInfo, GpuSource

CLEAR_SECONDS = 90.0
"""For everything about one card; scrubbing has its own, shorter limit."""

log = structlog.get_logger()


class Cards:
    def __init__(self, source: GpuSource, limit_s: float = CLEAR_SECONDS) -> None:
        self._source = source
        self._limit_s = limit_s
        self._tenants: dict[str, str] = {}
        self._kept_back: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def problem(self) -> str:
        """Which cards get no work, and why; empty when all may."""
        return "; ".join(f"card kept back: {why}" for _, why in sorted(self._kept_back.items()))

    def offered(self) -> tuple[GpuInfo, ...]:
        """All but those kept back."""
        return tuple(gpu for gpu in self._source.read() if gpu.gpu_id not in self._kept_back)

    def free(self) -> tuple[GpuInfo, ...]:
        """Those that a task may get now."""
        return tuple(gpu for gpu in self.offered() if gpu.gpu_id not in self._tenants)

    async def take(self, gpu_ids: Collection[str], task: str) -> None:
        """All of them are clear and this task's; or none is, and it raises GpuError."""
        missing = [gpu_id for gpu_id in gpu_ids if self._tenants.get(gpu_id) != task]
        try:
            await _each(self._take(gpu_id, task) for gpu_id in missing)
        except GpuError:
            self._release(missing, task)
            raise

    def hold(self, gpu_ids: Collection[str], task: str) -> None:
        """They are this task's already: it began before this agent did."""
        for gpu_id in gpu_ids:
            self._tenants.setdefault(gpu_id, task)

    async def give_back(self, gpu_ids: Collection[str], task: str) -> None:
        """The task is over: what it left is overwritten at once. Never raises for a card."""
        mine = [gpu_id for gpu_id in gpu_ids if self._tenants.get(gpu_id) == task]
        await _each(self._clear(gpu_id) for gpu_id in mine)
        self._release(mine, task)

    async def clear_idle(self, busy: Collection[str] = ()) -> None:
        """Every card that no task has, as after a start: nobody knows what ran there before."""
        try:
            found = [gpu.gpu_id for gpu in self._source.read()]
        except GpuError as error:
            log.warning("gpus_silent", error=str(error))
            return
        await _each(self._clear_if_idle(gpu_id) for gpu_id in found if gpu_id not in busy)

    async def try_again(self) -> None:
        """Those kept back."""
        await _each(self._clear_if_idle(gpu_id) for gpu_id in tuple(self._kept_back))

    async def _take(self, gpu_id: str, task: str) -> None:
        async with self._locks[gpu_id]:
            if (tenant := self._tenants.get(gpu_id)) is not None:
                raise GpuError(f"{gpu_id} is still another task's ({tenant})")
            why = await self._why_not_cleared(gpu_id)
            if why:
                raise GpuError(f"no card for this task: {why}")
            self._source.lend(gpu_id)
            self._tenants[gpu_id] = task

    async def _clear(self, gpu_id: str) -> None:
        async with self._locks[gpu_id]:
            await self._why_not_cleared(gpu_id)

    async def _clear_if_idle(self, gpu_id: str) -> None:
        async with self._locks[gpu_id]:
            if gpu_id not in self._tenants:
                await self._why_not_cleared(gpu_id)

    def _release(self, gpu_ids: Iterable[str], task: str) -> None:
        for gpu_id in gpu_ids:
            if self._tenants.get(gpu_id) == task:
                del self._tenants[gpu_id]

    async def _why_not_cleared(self, gpu_id: str) -> str:
        """Clears it; keeps it back, and says why, if that did not work."""
        why = await self._try_to_clear(gpu_id)
        if why and self._kept_back.get(gpu_id) != why:
            log.warning("card_kept_back", card=gpu_id, why=why)
        if why:
            self._kept_back[gpu_id] = why
        elif self._kept_back.pop(gpu_id, None):
            log.info("card_clear_again", card=gpu_id)
        return why

    async def _try_to_clear(self, gpu_id: str) -> str:
        if gpu_id in self._under_way:
            return f"{gpu_id} is still being cleared; a driver that hangs needs a restart"
        clearing = asyncio.ensure_future(asyncio.to_thread(self._source.clear, gpu_id))
        # Noted beside whoever waits: a thread goes on when its waiter is cancelled or gives up.
        self._under_way[gpu_id] = clearing
        clearing.add_done_callback(lambda done: self._end(gpu_id, done))
        await asyncio.wait({clearing}, timeout=self._limit_s)
        if not clearing.done():
            return f"{gpu_id} was not cleared within {self._limit_s:g} s; see dmesg"
        error = clearing.exception()
        if error is None:
            return ""
        if not isinstance(error, GpuError):
            log.error("clearing_broke", card=gpu_id, exc_info=error)
        return str(error) or type(error).__name__

    def _end(self, gpu_id: str, clearing: asyncio.Future[None]) -> None:
        self._under_way.pop(gpu_id, None)
        if not clearing.cancelled():
            clearing.exception()


async def _each(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first error is raised when all have ended."""
    ended = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome
