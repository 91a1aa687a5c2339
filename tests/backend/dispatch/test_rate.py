from __future__ import annotations

from tallystick_backend.clock import ManualClock
from tallystick_backend.dispatch.rate import Allowance, Limiter

TEN = Allowance(per_second=10, burst=3)


def test_allows_a_burst_and_then_the_rate(clock: ManualClock) -> None:
    limiter = Limiter(clock)
    assert [limiter.allows("a", "log", TEN) for _ in range(5)] == [True] * 3 + [False] * 2
    clock.advance(ms=100)
    assert [limiter.allows("a", "log", TEN) for _ in range(2)] == [True, False]


def test_each_speaker_and_each_kind_has_a_bucket_of_its_own(clock: ManualClock) -> None:
    limiter = Limiter(clock)
    while limiter.allows("a", "log", TEN):
        pass
    assert limiter.allows("b", "log", TEN)
    assert limiter.allows("a", "heartbeat", TEN)


def test_a_clock_that_is_set_back_gives_nothing_away(clock: ManualClock) -> None:
    limiter = Limiter(clock)
    while limiter.allows("a", "log", TEN):
        pass
    clock.advance(seconds=-3600)
    assert not limiter.allows("a", "log", TEN)
    clock.advance(ms=100)
    assert limiter.allows("a", "log", TEN)


def test_remembers_no_more_than_it_must(clock: ManualClock) -> None:
    limiter = Limiter(clock, keep=2)
    for speaker in ("a", "b", "c"):
        for _ in range(3):
            assert limiter.allows(speaker, "log", TEN)
    assert limiter.allows("a", "log", TEN), "forgotten, and starts anew"
    assert not limiter.allows("c", "log", TEN)
