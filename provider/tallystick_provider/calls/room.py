"""What one machine has for tasks and workers together: cards, CPU, memory, disk.

A worker's place is taken before anything of it starts and given back when nothing of it is left;
`offers.place` and `Room.take` each count what the other has, without a pause between counting and
taking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tallystick.protocol.wire import Resources
from tallystick_provider.cards import Cards
from tallystick_provider.errors import NoRoom
from tallystick_provider.gpus import pick
from tallystick_provider.journal import Lease
from tallystick_provider.offers import Reserved, held_by
from tallystick_provider.settings import Settings


class Room:
    def __init__(
        self, settings: Settings, cards: Cards, leases: Callable[[], Sequence[Lease]]
    ) -> None:
        self._settings = settings
        self._cards = cards
        self._leases = leases
        self._held: dict[str, Reserved] = {}
        self._claimed: dict[str, Reserved] = {}
        self._used_until_ms: dict[str, int] = {}

    def reserved(self, *, without: Collection[str] = ()) -> Reserved:
        """What the workers have, but for those named."""
        total = Reserved()
        for name, held in self._held.items():
            if name not in without:
                total = total.plus(held)
        return total

    def holds(self, name: str) -> bool:
        return name in self._held

    def cards_of(self, name: str) -> tuple[str, ...]:
        held = self._held.get(name)
        return () if held is None else held.gpu_ids

    def claim(self, task: str, wanted: Reserved) -> None:
        """No worker gets this, until the task has it or does without."""
        self._claimed[task] = wanted

    def unclaim(self, task: str) -> None:
        self._claimed.pop(task, None)

    def take(self, name: str, wanted: Resources) -> tuple[str, ...]:
        """The cards of one more worker. Raises NoRoom."""
        held = self._find(wanted, self._taken())
        self._held[name] = held
        return held.gpu_ids

    def give_back(self, name: str) -> None:
        self._held.pop(name, None)

    def begin_at_ms(self, gpu_ids: Collection[str], now_ms: int) -> int:
        """When a call on these cards begins. Never before the last one there ended: with a clock
        set back, two receipts would claim one card at one time, which costs a unit of stake."""
        return max([now_ms, *(self._used_until_ms.get(gpu_id, 0) for gpu_id in gpu_ids)])

    def used_until(self, gpu_ids: Collection[str], ended_at_ms: int) -> None:
        for gpu_id in gpu_ids:
            self._used_until_ms[gpu_id] = max(ended_at_ms, self._used_until_ms.get(gpu_id, 0))

    def fits(self, wanted: Resources, most: int) -> int:
        """How many more such workers there is place for now, counted up to `most`."""
        taken, found = self._taken(), 0
        try:
            while found < most:
                taken = taken.plus(self._find(wanted, taken))
                found += 1
        except NoRoom:
            return found
        return found

    def why_not(self, wanted: Resources) -> str:
        """Why there is no place for one more; empty if there is."""
        try:
            self._find(wanted, self._taken())
        except NoRoom as error:
            return str(error)
        return ""

    def _find(self, wanted: Resources, taken: Reserved) -> Reserved:
        for what, total, asked, used in (
            ("CPU (milli)", self._settings.cpu_milli, wanted.cpu_milli, taken.cpu_milli),
            ("memory (MiB)", self._settings.memory_mib, wanted.memory_mib, taken.memory_mib),
            ("disk (MiB)", self._settings.disk_mib, wanted.disk_mib, taken.disk_mib),
        ):
            if asked > total - used:
                raise NoRoom(f"{what}: {asked} asked, {max(0, total - used)} of {total} free")
        chosen: tuple[str, ...] | None = ()
        if wanted.gpus:
            fitting = [g for g in self._cards.free() if g.memory_mib >= wanted.gpu_memory_mib]
            chosen = pick(fitting, frozenset(taken.gpu_ids), wanted.gpu_class, wanted.gpus)
        if chosen is None:
            raise NoRoom(f"{wanted.gpus} free GPUs of class {wanted.gpu_class!r} are not there now")
        return Reserved(wanted.cpu_milli, wanted.memory_mib, wanted.disk_mib, tuple(chosen))

    def _taken(self) -> Reserved:
        taken = held_by(self._leases(), self.reserved())
        for claimed in self._claimed.values():
            taken = taken.plus(claimed)
        return taken
