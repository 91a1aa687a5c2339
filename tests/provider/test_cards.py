"""cards: one task a card, and nothing left there for the next (security case 118)
├── take: cleared first, all of them or none; a card of another task is refused
├── give_back: cleared at once, by the task that has it and nobody else
├── kept back: whoever computes there, memory in use, a driver that fails or hangs; offered to
│   nobody, named in `problem`, tried again
└── any order of everything: no task ever gets a card that holds what another left
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick_provider.cards import Cards
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import GpuError
from tallystick_provider.gpus import NoGpus, SimulatedGpus

PROVIDER = "0x" + "ab" * 20


class Watched(SimulatedGpus):
    """Notes whose memory is on which card, and can be made to fail."""

    def __init__(self, count: int = 2) -> None:
        super().__init__(PROVIDER, count, "gpu1", 24_576, ManualClock())
        self.ids = [gpu.gpu_id for gpu in self.read()]
        self.cleared: list[str] = []
        self.on_clear: Callable[[str], None] = lambda _: None

    def clear(self, gpu_id: str) -> None:
        self.on_clear(gpu_id)
        super().clear(gpu_id)
        self.cleared.append(gpu_id)


def ids(gpus: Any) -> list[str]:
    return [gpu.gpu_id for gpu in gpus]


async def test_a_card_is_cleared_before_and_after_every_task() -> None:
    source = Watched()
    cards = Cards(source)
    one, two = source.ids
    await cards.take([one], "a")
    assert source.cleared == [one]
    assert ids(cards.free()) == [two]
    assert ids(cards.offered()) == [one, two]
    await cards.give_back([one], "a")
    assert source.cleared == [one, one]
    await cards.take([one, two], "b")
    assert sorted(source.cleared) == sorted([one, one, one, two])


async def test_a_simulated_card_is_not_lent_with_what_another_left() -> None:
    source = Watched()
    with pytest.raises(GpuError, match="what another task left"):
        source.lend(source.ids[0])  # nobody knows what ran before
    source.clear(source.ids[0])
    source.lend(source.ids[0])
    with pytest.raises(GpuError, match="what another task left"):
        source.lend(source.ids[0])


async def test_taking_twice_is_taking_once() -> None:
    source = Watched()
    cards = Cards(source)
    await cards.take(source.ids, "a")
    await cards.take(source.ids, "a")
    assert len(source.cleared) == 2


async def test_all_cards_or_none() -> None:
    source = Watched()
    cards = Cards(source)
    one, two = source.ids
    source.foreign[two] = "process 77"
    with pytest.raises(GpuError, match="used by process 77"):
        await cards.take([one, two], "a")
    assert ids(cards.free()) == [one]
    await cards.take([one], "b")


async def test_another_tasks_card_is_not_taken_nor_given_back() -> None:
    source = Watched()
    cards = Cards(source)
    one = source.ids[0]
    await cards.take([one], "a")
    with pytest.raises(GpuError, match=r"still another task's \(a\)"):
        await cards.take([one], "b")
    await cards.give_back([one], "b")
    assert source.cleared == [one]
    assert one not in ids(cards.free())


async def test_a_card_somebody_else_computes_on_is_kept_back_until_it_is_clear() -> None:
    source = Watched()
    cards = Cards(source)
    one, two = source.ids
    await cards.take([one], "a")
    source.foreign[one] = "process 77"
    await cards.give_back([one], "a")
    assert ids(cards.offered()) == ids(cards.free()) == [two]
    assert cards.problem == f"card kept back: {one} is used by process 77"
    await cards.try_again()
    assert one not in ids(cards.free())
    del source.foreign[one]
    await cards.try_again()
    assert ids(cards.free()) == [one, two]
    assert cards.problem == ""


async def test_a_task_that_began_before_the_agent_keeps_its_cards() -> None:
    source = Watched()
    cards = Cards(source)
    one, two = source.ids
    cards.hold([one], "a")
    await cards.clear_idle()
    assert source.cleared == [two]
    await cards.give_back([one], "a")
    assert source.cleared == [two, one]


async def test_cards_of_leases_that_have_not_begun_are_left_alone() -> None:
    source = Watched()
    one, two = source.ids
    await Cards(source).clear_idle({one})
    assert source.cleared == [two]


async def test_an_error_nobody_thought_of_keeps_the_card_back() -> None:
    source = Watched(1)
    cards = Cards(source)

    def broken(_: str) -> None:
        raise RuntimeError("segment 7")

    source.on_clear = broken
    with pytest.raises(GpuError, match="segment 7"):
        await cards.take(source.ids, "a")
    assert cards.free() == ()
    assert "segment 7" in cards.problem


async def test_a_driver_that_hangs_holds_nobody_up_and_is_asked_once() -> None:
    source = Watched()
    cards = Cards(source, limit_s=0.05)
    one, two = source.ids
    go_on, asked = threading.Event(), []

    def hang(gpu_id: str) -> None:
        if gpu_id == one:
            asked.append(gpu_id)
            go_on.wait(30)

    source.on_clear = hang
    with pytest.raises(GpuError, match=r"not cleared within 0\.05 s"):
        await cards.take([one], "a")
    await cards.try_again()
    assert "still being cleared" in cards.problem
    assert asked == [one]
    await cards.take([two], "b")
    go_on.set()
    while cards.problem:
        await asyncio.sleep(0.01)
        await cards.try_again()
    assert ids(cards.free()) == [one]


async def test_cancelled_while_it_is_cleared_the_card_is_nobodys() -> None:
    source = Watched(1)
    cards = Cards(source)
    go_on, began = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        began.set()
        go_on.wait(30)

    source.on_clear = wait
    taking = asyncio.create_task(cards.take(source.ids, "a"))
    await asyncio.to_thread(began.wait, 30)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    with pytest.raises(GpuError, match="still being cleared"):
        await cards.take(source.ids, "b")
    go_on.set()
    while cards.problem:
        await asyncio.sleep(0.01)
        await cards.try_again()
    await cards.take(source.ids, "b")


async def test_no_cards_no_work() -> None:
    cards = Cards(NoGpus())
    await cards.clear_idle()
    await cards.take((), "a")
    await cards.give_back((), "a")
    assert cards.offered() == cards.free() == ()
    assert cards.problem == ""
    with pytest.raises(GpuError, match="there is no card"):
        await cards.take(["GPU-1"], "a")


TASKS = ("a", "b", "c")
steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "give_back", "idle", "again", "haunt", "leave"]),
        st.sampled_from(TASKS),
        st.sets(st.integers(0, 2), min_size=1),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(steps)
def test_in_any_order_no_task_gets_what_another_left(
    script: list[tuple[str, str, set[int]]],
) -> None:
    """The simulated card itself refuses to be lent uncleared; here too two tasks never share one,
    and a card is free exactly when nobody has it and it is not kept back."""

    async def play() -> None:
        source = Watched(3)
        cards = Cards(source)
        await cards.clear_idle()
        tenants: dict[str, str] = {}
        for verb, task, wanted in script:
            chosen = [source.ids[n] for n in sorted(wanted)]
            if verb == "take":
                try:
                    await cards.take(chosen, task)
                except GpuError:
                    assert any(
                        tenants.get(card, task) != task or card in source.foreign for card in chosen
                    )
                else:
                    assert all(tenants.get(card, task) == task for card in chosen)
                    tenants |= dict.fromkeys(chosen, task)
            elif verb == "give_back":
                await cards.give_back(chosen, task)
                tenants = {c: t for c, t in tenants.items() if not (t == task and c in chosen)}
            elif verb == "idle":
                await cards.clear_idle()
            elif verb == "again":
                await cards.try_again()
            elif verb == "haunt":
                source.foreign |= dict.fromkeys(chosen, "somebody")
            else:
                source.foreign.clear()
            free = set(ids(cards.free()))
            assert not free & set(tenants)
            assert free <= set(ids(cards.offered()))
        source.foreign.clear()
        await cards.try_again()
        assert set(ids(cards.free())) == set(source.ids) - set(tenants)

    asyncio.run(play())
