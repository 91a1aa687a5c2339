"""Idle warm workers make room for a task that waits for it.

A task is paid for by the second from its start on; a worker without a call earns nothing. So those
that have been idle longest go, as few as will do, and only if that is enough. Never one with a call
under way, and never one of those that the provider itself keeps warm (`WARM_WORKERS`), unless
`WARM_GIVE_WAY` says so.

    room is claimed for the task -> workers are stopped -> the task is placed

What is claimed no worker gets, so that a queue of calls does not take what was just made free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from tallystick_provider.calls.room import Room
from tallystick_provider.errors import OfferRefused
from tallystick_provider.offers import Reserved

WAIT_S: Final = 3.0
"""A dispatcher waits five seconds for the answer to its offer."""
CLAIM_S: Final = 60.0
"""Room that came free too late for this offer waits for the next one."""
LOOK_S: Final = 0.02

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker that nobody would miss, and how to stop it."""

    name: str
    since_ms: int
    stop: Callable[[], None]


Place = Callable[[Reserved, frozenset[str]], Reserved]
"""What the task would take if workers had only so much, and these cards were free as well. Raises
OfferRefused."""


class GivingWay:
    def __init__(self, room: Room, idle: Callable[[], Iterable[Idle]]) -> None:
        self._room = room
        self._idle = idle

    async def make_room(self, task: str, place: Place) -> bool:
        """Whether the task has a place now."""
        room = self._room
        found = self._choose(place)
        if found is None:
            return False
        going, taken = found
        room.claim(task, taken)
        asyncio.get_running_loop().call_later(CLAIM_S, room.unclaim, task)
        log.info("workers_give_way", task=task, workers=[one.name for one in going])
        for one in going:
            one.stop()
        waited_s = 0.0
        while any(room.holds(one.name) for one in going):
            if waited_s >= WAIT_S:
                return False
            await asyncio.sleep(LOOK_S)
            waited_s += LOOK_S
        return True

    def _choose(self, place: Place) -> tuple[Sequence[Idle], Reserved] | None:
        """As few as will do. None when all of them would not be enough."""
        going: list[Idle] = []
        for one in sorted(self._idle(), key=lambda one: (one.since_ms, one.name)):
            going.append(one)
            if self._placed(place, going) is not None:
                break
        for one in tuple(going):
            fewer = [other for other in going if other is not one]
            if self._placed(place, fewer) is not None:
                going = fewer
        taken = self._placed(place, going)
        return None if taken is None else (going, taken)

    def _placed(self, place: Place, without: Sequence[Idle]) -> Reserved | None:
        names = {one.name for one in without}
        freed = frozenset(card for name in names for card in self._room.cards_of(name))
        try:
            return place(self._room.reserved(without=names), freed)
        except OfferRefused:
            return None
