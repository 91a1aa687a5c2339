"""Case 109: what floods its log is held back, for the neighbours' sake
├── at once, for longer each time, and goes on in between
├── for so many times the time that the engine took, with what was in the pipes
├── what is chatty is left alone
├── what wrote much once waits a moment; calm for a while, and it is forgotten
└── what another agent held goes on
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_provider import log_brake
from tallystick_provider.errors import RuntimeFailure
from tallystick_provider.log_brake import LogBrake
from tallystick_provider.runtime import LOG_KEPT_BYTES, RunState, WorkerRef

REF = WorkerRef("any", "handle")
LOOK_MS = 250
QUIET = log_brake.QUIET_MS // LOOK_MS
BEGAN_MS = 1_000_000


class Held:
    """A runtime that can freeze one container."""

    def __init__(self) -> None:
        self.held, self.refuses = False, False

    async def hold(self, ref: object) -> None:
        if self.refuses:
            raise RuntimeFailure("no")
        self.held = True

    async def go_on(self, ref: object) -> None:
        self.held = False


async def share(
    writes: Callable[[int], int],
    looks: int,
    every_ms: int = LOOK_MS,
    seen: bool = True,
    in_pipes: int = 0,
) -> list[bool]:
    """Whether it ran after each look; `writes` so many bytes, by the looks in which it ran. The
    engine writes on for `in_pipes` looks when it is held."""
    runtime: Any = Held()
    brake, ran, runs, size, left = LogBrake(runtime), [], 0, 0, 0
    for look in range(looks):
        if not runtime.held:
            size, runs, left = (size + writes(runs)) % LOG_KEPT_BYTES, runs + 1, in_pipes
        elif left:
            size, left = (size + 1_000) % LOG_KEPT_BYTES, left - 1
        state = RunState("running", held=runtime.held, log_bytes=size if seen else None)
        await brake.pace(REF, BEGAN_MS + look * every_ms, state)
        ran.append(not runtime.held)
    return ran


def flood(_: int) -> int:
    return 7_000_000


async def test_a_flood_has_a_small_part_of_the_time() -> None:
    ran = await share(flood, 4_000)
    assert 0 < sum(ran[400:]) / len(ran[400:]) <= 1 / log_brake.MOST_TIMES
    # From the first look on, before it has cost anybody much.
    assert sum(ran[:20]) / 20 <= 0.25


@pytest.mark.parametrize("every_ms", [20, 100, 2_000])
async def test_it_is_no_different_with_frequent_or_rare_looks(every_ms: int) -> None:
    looks = 2_000_000 // every_ms
    ran = await share(lambda _: min(28 * every_ms * 1_000, 7_000_000), looks, every_ms=every_ms)
    late = ran[looks // 5 :]
    assert 0 < sum(late) / len(late) <= 1.3 / log_brake.MOST_TIMES


async def test_much_at_once_waits_a_moment() -> None:
    ran = await share(lambda runs: flood(runs) * (runs == 40), 100)
    assert ran.count(False) == QUIET + log_brake.FIRST_TIMES


async def test_what_the_engine_still_has_to_write_counts() -> None:
    ran = await share(lambda runs: flood(runs) * (runs == 40), 200, in_pipes=20)
    assert ran.count(False) == QUIET + 20 + log_brake.FIRST_TIMES * 21


async def test_one_flood_counts_for_so_long_and_no_longer() -> None:
    most = log_brake.BUSY_MOST_MS // LOOK_MS
    ran = await share(lambda runs: flood(runs) * (runs == 40), 800, in_pipes=2 * most)
    assert ran.count(False) == QUIET + 2 * most + log_brake.FIRST_TIMES * most


async def test_after_a_calm_the_next_one_counts_as_the_first() -> None:
    calm = 2 * log_brake.CALM_MS // LOOK_MS
    ran = await share(lambda runs: flood(runs) * (runs in (1, 2, 3, 3 + calm)), 8 * calm)
    holds = "".join("r" if one else "h" for one in ran).replace("r", " ").split()
    assert [len(hold) for hold in holds] == [QUIET + times for times in (4, 8, 16, 4)]


@pytest.mark.parametrize("every_ms", [20, LOOK_MS, 2_000])
async def test_what_is_slow_but_endless_is_held_back_however_often_it_is_looked_at(
    every_ms: int,
) -> None:
    """What a slow engine makes of a flood with all of its core."""
    writes = 1_000_000 * every_ms // 1000
    ran = await share(lambda _: writes, 600_000 // every_ms, every_ms=every_ms)
    assert 0 < sum(ran[len(ran) // 2 :]) / len(ran) < 0.2


@pytest.mark.parametrize("every_ms", [20, LOOK_MS, 2_000])
async def test_a_chatty_program_is_left_alone(every_ms: int) -> None:
    """Some 6,000 lines a second, and a file that begins anew every quarter of a minute."""
    writes = log_brake.ALLOWED_BYTES_PER_S * every_ms // 1000
    assert all(await share(lambda _: writes, 600_000 // every_ms, every_ms=every_ms))


async def test_a_traceback_or_a_list_now_and_then_is_left_alone() -> None:
    assert all(await share(lambda runs: 2_000_000 * (runs % 20 == 0), 2_000))


async def test_who_cannot_see_the_log_holds_nobody() -> None:
    assert all(await share(flood, 100, seen=False))


@given(st.lists(st.integers(0, 20_000_000), max_size=20))
async def test_whatever_it_writes_it_goes_on(writes: list[int]) -> None:
    ran = await share(lambda runs: writes[runs] if runs < len(writes) else 0, 3_000)
    assert ran[-1]


async def test_what_another_agent_held_goes_on() -> None:
    runtime: Any = Held()
    runtime.held = True
    await LogBrake(runtime).pace(REF, BEGAN_MS, RunState("running", held=True, log_bytes=0))
    assert not runtime.held


async def test_an_engine_that_refuses_is_asked_again() -> None:
    runtime: Any = Held()
    brake = LogBrake(runtime)
    await brake.pace(REF, BEGAN_MS, RunState("running", log_bytes=0))
    runtime.refuses = True
    with pytest.raises(RuntimeFailure):
        await brake.pace(REF, BEGAN_MS + 250, RunState("running", log_bytes=flood(0)))
    runtime.refuses = False
    await brake.pace(REF, BEGAN_MS + 500, RunState("running", log_bytes=2 * 10**6))
    assert runtime.held
