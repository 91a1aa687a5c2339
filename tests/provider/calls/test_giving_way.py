"""Idle workers make room for a task.

chosen
├── longest idle first, as few as will do, none that brings nothing
├── none when all of them would not be enough
└── by CPU and memory as by cards, which the task then gets
carried out
├── the task waits until their room is free, and no worker takes it meanwhile
└── one that will not end in time: refused, and the room is kept for the next offer
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.protocol.wire import Resources
from tallystick_provider.calls import giving_way
from tallystick_provider.calls.giving_way import GivingWay, Idle, Place
from tallystick_provider.calls.room import Room
from tallystick_provider.cards import Cards
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import NoRoom
from tallystick_provider.gpus import open_source
from tallystick_provider.offers import Reserved, check, place
from tests.provider.orders import DOMAIN, NOW_S, manifest_of, offer_of, settings_of, terms_of
from tests.support.anvil import PROVIDER

CLOCK = ManualClock(NOW_S * 1000)


class Machine:
    """Four cards, 2,000 mCPU, 4,096 MiB; workers by name, idle since the number given."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_of(folder)
        self.cards = Cards(open_source("simulated:4xgpu1:24576", PROVIDER.address, {}, CLOCK))
        self.room = Room(self.settings, self.cards, list)
        self.idle: dict[str, int] = {}
        self.stopped: list[str] = []
        self.end: Callable[[str], None] = self.room.give_back
        self.giving_way = GivingWay(self.room, self._idle)

    def _idle(self) -> list[Idle]:
        return [
            Idle(name, since_ms, lambda name=name: self._stop(name))  # type: ignore[misc]
            for name, since_ms in self.idle.items()
        ]

    def _stop(self, name: str) -> None:
        self.stopped.append(name)
        self.end(name)

    def worker(self, name: str, *, idle_ms: int | None = None, **resources: int) -> None:
        self.room.take(name, wanted(**resources))
        if idle_ms is not None:
            self.idle[name] = idle_ms

    def task(self, **resources: int) -> Place:
        needs = wanted(**resources)
        manifest = manifest_of(resources=needs)
        offer = offer_of(manifest=manifest, terms=terms_of(manifest, max_charge=10**19))
        checked = check(offer, DOMAIN, self.settings, NOW_S)

        def would_take(reserved: Reserved, freed: frozenset[str]) -> Reserved:
            gpu_ids = place(checked, self.cards.free(), [], self.settings, reserved)
            return Reserved(needs.cpu_milli, needs.memory_mib, needs.disk_mib, gpu_ids)

        return would_take


def wanted(gpus: int = 0, cpu_milli: int = 100, memory_mib: int = 128) -> Resources:
    return Resources(
        gpus=gpus,
        gpu_class="gpu1" if gpus else "",
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        disk_mib=64,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("idle_ms", "task", "stopped"),
    [
        pytest.param({"a": 3, "b": 1, "c": 2, "d": 4}, {"gpus": 1}, ["b"], id="longest idle first"),
        pytest.param({"a": 3, "b": 1, "c": 2, "d": 4}, {"gpus": 3}, ["b", "c", "a"], id="as many"),
        pytest.param({"a": 1, "b": 2}, {"gpus": 3}, [], id="all of them would not be enough"),
        pytest.param({}, {"gpus": 1}, [], id="all have calls under way"),
    ],
)
async def test_which_go(
    machine: Machine, idle_ms: dict[str, int], task: dict[str, int], stopped: list[str]
) -> None:
    for name in "abcd":
        machine.worker(name, gpus=1, idle_ms=idle_ms.get(name))
    assert await machine.giving_way.make_room("task", machine.task(**task)) == bool(stopped)
    assert machine.stopped == stopped


async def test_one_that_brings_nothing_stays(machine: Machine) -> None:
    machine.worker("old", idle_ms=1)
    machine.worker("large", cpu_milli=1500, idle_ms=2)
    assert await machine.giving_way.make_room("task", machine.task(cpu_milli=1000))
    assert machine.stopped == ["large"]


async def test_memory_counts_as_cards_do(machine: Machine) -> None:
    machine.worker("a", memory_mib=3000, idle_ms=1)
    assert await machine.giving_way.make_room("task", machine.task(memory_mib=2000))
    assert machine.stopped == ["a"]


async def test_room_is_kept_until_the_task_has_it(machine: Machine) -> None:
    for name in "abcd":
        machine.worker(name, gpus=1, idle_ms=1)
    machine.end = lambda name: None
    making = asyncio.create_task(machine.giving_way.make_room("task", machine.task(gpus=4)))
    await asyncio.sleep(0.05)
    assert sorted(machine.stopped) == ["a", "b", "c", "d"]
    for name in "abcd":
        assert not making.done()
        machine.room.give_back(name)
        # Calls wait here, and do not get what the task waits for.
        assert machine.room.fits(wanted(gpus=1), 9) == 0
        with pytest.raises(NoRoom):
            machine.room.take("another", wanted(gpus=1))
        await asyncio.sleep(0.03)
    assert await making
    assert machine.room.reserved() == Reserved()
    machine.room.unclaim("task")
    assert machine.room.fits(wanted(gpus=1), 9) == 4


async def test_one_that_does_not_end_in_time_is_waited_for_by_the_next_offer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "WAIT_S", 0.05)
    machine.worker("a", cpu_milli=2000, idle_ms=1)
    machine.end = lambda name: None
    task = machine.task(cpu_milli=2000)
    assert not await machine.giving_way.make_room("task", task)
    machine.room.give_back("a")
    assert machine.room.why_not(wanted())
    assert task(machine.room.reserved(), frozenset()).cpu_milli == 2000
