"""When workers come and go: a table of moments, and what holds in every history of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tallystick.protocol.app_manifest import AppManifest
from tallystick_provider.calls.scaling import MAX_WAITING, Placed, Pool, Scale

SCALE = Scale(
    concurrency=1,
    min_workers=0,
    max_workers=3,
    target_delay_ms=1_000,
    cooldown_ms=60_000,
    patience_ms=30_000,
)
ROOM = 8


def pool_of(ready: int = 0, starting: int = 0, **changes: Any) -> Pool:
    values = {name: getattr(SCALE, name) for name in SCALE.__slots__}
    pool = Pool(Scale(**{**values, **changes}))
    for number in range(ready):
        pool.started(f"w{number}", 0)
        pool.ready(f"w{number}", 500)
    for number in range(starting):
        pool.started(f"s{number}", 0)
    return pool


def asked(pool: Pool, *calls: str, at_ms: int = 1_000) -> Pool:
    for call in calls:
        assert pool.ask(call, at_ms)
    pool.begin(at_ms)
    return pool


def ran(pool: Pool, ms: int) -> Pool:
    """One call came and went, so the mean is known."""
    asked(pool, "past", at_ms=500)
    pool.end("past", 500 + ms, ms)
    return pool


class TestAtOnce:
    def test_a_free_place_is_given_without_a_queue(self) -> None:
        pool = pool_of(1)
        assert pool.place("a", 1_000) == Placed("a", "w0", 0, 0)
        assert pool.calls_of("w0") == 1
        pool.end("a", 1_100, 100)
        assert pool.calls_of("w0") == 0

    def test_nobody_is_overtaken(self) -> None:
        pool = pool_of(1)
        for number in range(pool.scale.concurrency):
            assert pool.place(f"x{number}", 1_000)
        assert pool.place("a", 1_000) is None
        assert pool.ask("a", 1_000)
        pool.end("x0", 1_100, 100)
        assert pool.place("b", 1_100) is None  # `a` waits

    def test_none_before_it_is_ready_or_when_it_leaves(self) -> None:
        assert pool_of(starting=1).place("a", 1_000) is None
        pool = pool_of(1)
        pool.leaving("w0")
        assert pool.place("a", 1_000) is None


class TestSpare:
    def test_idle_ones_longest_first(self) -> None:
        pool = asked(pool_of(ready=3, starting=1), "a")
        pool.end("a", 2_000, 1_000)
        assert pool.spare(kept_too=False) == (("w1", 500), ("w2", 500), ("w0", 2_000))
        asked(pool, "b", at_ms=3_000)  # the oldest answers
        assert [name for name, _ in pool.spare(kept_too=False)] == ["w1", "w2"]
        pool.leaving("w1")
        assert [name for name, _ in pool.spare(kept_too=False)] == ["w2"]

    def test_not_those_kept_warm_unless_said(self) -> None:
        pool = pool_of(ready=3, min_workers=2)
        assert [name for name, _ in pool.spare(kept_too=False)] == ["w0"]
        assert [name for name, _ in pool.spare(kept_too=True)] == ["w0", "w1", "w2"]
        asked(pool, "a", "b")
        assert [name for name, _ in pool.spare(kept_too=False)] == ["w2"]
        assert pool_of(ready=2, min_workers=2).spare(kept_too=False) == ()

    def test_none_while_calls_wait(self) -> None:
        pool = pool_of(ready=1)
        assert pool.ask("a", 1_000)
        assert pool.spare(kept_too=True) == ()


class TestScaleOut:
    @pytest.mark.parametrize(
        ("pool", "now_ms", "room", "starts"),
        [
            pytest.param(pool_of(), 1_000, ROOM, 0, id="nobody asks: nothing starts"),
            pytest.param(asked(pool_of(), "a"), 1_000, ROOM, 1, id="the first call starts one"),
            pytest.param(asked(pool_of(), "a"), 1_000, 0, 0, id="without room nothing starts"),
            pytest.param(
                asked(pool_of(starting=1), "a"), 1_000, ROOM, 0, id="the one coming up is enough"
            ),
            pytest.param(
                asked(pool_of(starting=1), "a", "b"), 3_000, ROOM, 1, id="too few places come up"
            ),
            pytest.param(asked(pool_of(1), "a"), 1_000, ROOM, 0, id="there is a free place"),
            pytest.param(
                asked(ran(pool_of(1), 800), "a", "b"), 1_000, ROOM, 0, id="waits below the target"
            ),
            pytest.param(
                asked(ran(pool_of(1), 1_200), "a", "b"),
                1_000,
                ROOM,
                1,
                id="waits beyond the target",
            ),
            pytest.param(
                asked(pool_of(1), "a", "b"), 1_500, ROOM, 0, id="no mean yet: not waited long"
            ),
            pytest.param(
                asked(pool_of(1), "a", "b"), 2_001, ROOM, 1, id="no mean yet: has waited too long"
            ),
            pytest.param(
                asked(ran(pool_of(1), 9_000), *"abcdefgh"), 1_000, ROOM, 2, id="never beyond max"
            ),
            pytest.param(
                asked(ran(pool_of(1), 9_000), *"abcdefgh"), 1_000, 1, 1, id="never beyond the room"
            ),
            pytest.param(pool_of(min_workers=2), 1_000, ROOM, 2, id="min is kept without a call"),
            pytest.param(pool_of(1, min_workers=2), 1_000, ROOM, 1, id="and brought back"),
        ],
    )
    def test_table(self, pool: Pool, now_ms: int, room: int, starts: int) -> None:
        assert pool.wanted(now_ms, room).start == starts

    def test_places_count_not_workers(self) -> None:
        pool = asked(pool_of(starting=1, concurrency=8), *"abcdefgh")
        assert pool.wanted(5_000, ROOM).start == 0

    def test_after_a_failure_it_waits_longer_each_time(self) -> None:
        pool, now_ms, waits = pool_of(), 1_000, []
        for number in range(9):
            pool.ask("a", now_ms)
            assert pool.wanted(now_ms, ROOM).start == 1
            pool.started(f"w{number}", now_ms)
            pool.failed(f"w{number}", "out of memory", now_ms)
            ((call, why),) = pool.wanted(now_ms, ROOM).refuse
            assert (call, why) == ("a", "out of memory")
            pool.leave("a")
            next_ms = pool.next_look_ms(now_ms)
            assert next_ms is not None
            waits.append(next_ms - now_ms)
            now_ms = next_ms
        assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]

    def test_one_that_comes_up_ends_that(self) -> None:
        pool = pool_of()
        pool.started("w", 0)
        pool.failed("w", "no", 0)
        pool.started("v", 2_000)
        pool.ready("v", 3_000)
        assert (pool.problem, pool.cold_start_ms) == ("", 1_000)


class TestScaleIn:
    @pytest.mark.parametrize(
        ("pool", "now_ms", "stops"),
        [
            pytest.param(pool_of(2), 60_499, (), id="not idle for long enough"),
            pytest.param(pool_of(2), 60_500, ("w0", "w1"), id="idle: down to nothing"),
            pytest.param(pool_of(2, min_workers=1), 60_500, ("w0",), id="down to min"),
            pytest.param(asked(pool_of(2), "a"), 60_500, ("w1",), id="a busy one stays"),
            pytest.param(
                asked(pool_of(1), "a", "b"), 99_000, (), id="nobody goes while somebody waits"
            ),
        ],
    )
    def test_table(self, pool: Pool, now_ms: int, stops: tuple[str, ...]) -> None:
        assert pool.wanted(now_ms, 0).stop == stops

    def test_the_oldest_is_answered_by_so_that_the_youngest_falls_idle(self) -> None:
        pool = pool_of(3)
        for turn in range(5):
            asked(pool, f"c{turn}", at_ms=10_000 * turn + 1_000)
            assert pool.calls_of("w0") == 1
            pool.end(f"c{turn}", 10_000 * turn + 1_100, 100)
        assert pool.wanted(60_500, 0).stop == ("w1", "w2")


class TestWaiting:
    def test_first_come_first_served(self) -> None:
        pool = asked(pool_of(1), "a", "b", "c")
        for call in "abc":
            pool.end(call, 2_000, 10)
            placed = pool.begin(2_000)
            assert [p.call for p in placed] == {"a": ["b"], "b": ["c"], "c": []}[call]

    @pytest.mark.parametrize(
        ("asked_ms", "queued_ms", "cold_ms"),
        [
            pytest.param(100, 900, 900, id="came before its worker was started"),
            pytest.param(600, 400, 400, id="came while it was starting"),
            pytest.param(1_000, 0, 0, id="came when it was ready"),
        ],
    )
    def test_a_cold_start_is_told(self, asked_ms: int, queued_ms: int, cold_ms: int) -> None:
        pool = pool_of()
        if asked_ms < 200:
            pool.ask("a", asked_ms)
        pool.started("w", 100)
        if 200 <= asked_ms < 1_000:
            pool.ask("a", asked_ms)
        pool.ready("w", 1_000)
        if asked_ms >= 1_000:
            pool.ask("a", asked_ms)
        (placed,) = pool.begin(1_000)
        assert (placed.queued_ms, placed.cold_start_ms) == (queued_ms, cold_ms)

    def test_what_is_no_cold_start(self) -> None:
        """Waiting behind another call is waiting."""
        pool = asked(pool_of(1), "a", "b")
        pool.end("a", 9_000, 8_000)
        (placed,) = pool.begin(9_000)
        assert (placed.queued_ms, placed.cold_start_ms) == (8_000, 0)

    def test_who_waits_too_long_is_told(self) -> None:
        pool = asked(pool_of(1), "a", "b")
        assert pool.wanted(30_999, 0).refuse == ()
        ((call, why),) = pool.wanted(31_000, 0).refuse
        assert (call, why) == ("b", "no place within 30000 ms")

    def test_a_queue_has_an_end(self) -> None:
        pool = pool_of()
        for number in range(MAX_WAITING):
            assert pool.ask(f"c{number}", 0)
        assert not pool.ask("one more", 0)

    def test_delay_as_it_is_told(self) -> None:
        pool = ran(pool_of(1), 2_000)
        assert pool.delay_ms(3_000) == 0
        asked(pool, "a", at_ms=3_000)
        assert pool.delay_ms(3_500) == 1_500  # what is left of "a"
        asked(pool, "b", at_ms=3_500)
        assert pool.delay_ms(3_500) == 3_500  # and "b" after it
        assert pool_of().delay_ms(0) == 0  # cold, and no start was ever seen


def test_scale_of_a_manifest_keeps_warm_only_what_the_provider_goes_along_with() -> None:
    manifest = AppManifest.model_validate(
        {
            "image": "process",
            "handler": {"kind": "function", "entry": "a:b"},
            "scaling": {"min_workers": 9, "max_workers": 20, "cooldown_s": 86_400},
        }
    )
    scale = Scale.of(manifest, warm_most=4, idle_most_s=300)
    assert (scale.min_workers, scale.max_workers, scale.cooldown_ms) == (4, 20, 300_000)


@given(st.integers(1, 5), st.integers(0, 8), st.integers(0, 6), st.integers(1, 8))
def test_never_starts_beyond_max_or_room(
    concurrency: int, waiting: int, room: int, most: int
) -> None:
    pool = pool_of(concurrency=concurrency, max_workers=most)
    for number in range(waiting):
        pool.ask(f"c{number}", 0)
    start = pool.wanted(10_000, room).start
    assert start <= min(room, most, -(-waiting // concurrency))
    assert (start > 0) == (waiting > 0 and room > 0)


class Histories(RuleBasedStateMachine):
    """Every order of events: no call is lost, none has two places, no worker has too many."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool_of(concurrency=2, min_workers=1)
        self.now_ms = 0
        self.names = 0
        self.calls = 0
        self.starting: set[str] = set()
        self.placed: dict[str, str] = {}
        self.waiting: set[str] = set()

    def settle(self) -> None:
        for placed in self.pool.begin(self.now_ms):
            assert placed.call in self.waiting
            assert 0 <= placed.cold_start_ms <= placed.queued_ms
            self.waiting.discard(placed.call)
            self.placed[placed.call] = placed.worker

    @rule()
    def call(self) -> None:
        self.calls += 1
        if self.pool.ask(f"c{self.calls}", self.now_ms):
            self.waiting.add(f"c{self.calls}")
        self.settle()

    @rule(ms=st.integers(0, 90_000), room=st.integers(0, 4))
    def time_goes_on(self, ms: int, room: int) -> None:
        self.now_ms += ms
        wanted = self.pool.wanted(self.now_ms, room)
        assert not (wanted.start and wanted.stop)
        for call, why in wanted.refuse:
            assert why
            assert self.pool.leave(call)
            self.waiting.remove(call)
        for name in wanted.stop:
            assert self.pool.calls_of(name) == 0
            self.pool.leaving(name)
            self.pool.gone(name)
        for _ in range(wanted.start):
            self.names += 1
            self.pool.started(f"w{self.names}", self.now_ms)
            self.starting.add(f"w{self.names}")
        assert self.pool.workers_alive <= 3
        look_ms = self.pool.next_look_ms(self.now_ms)
        assert look_ms is None or look_ms > self.now_ms

    @precondition(lambda self: self.starting)
    @rule(good=st.booleans())
    def one_comes_up_or_not(self, good: bool) -> None:
        name = self.starting.pop()
        if good:
            self.pool.ready(name, self.now_ms)
        else:
            self.pool.failed(name, "no", self.now_ms)
        self.settle()

    @precondition(lambda self: self.placed)
    @rule()
    def one_ends(self) -> None:
        call, _ = self.placed.popitem()
        self.pool.end(call, self.now_ms, 100)
        self.settle()

    @precondition(lambda self: self.placed)
    @rule()
    def a_worker_dies(self) -> None:
        worker = next(iter(self.placed.values()))
        self.pool.leaving(worker)
        self.pool.gone(worker)
        for call in [c for c, w in self.placed.items() if w == worker]:
            del self.placed[call]
            self.pool.end(call, self.now_ms)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule()
    def one_leaves(self) -> None:
        assert self.pool.leave(self.waiting.pop())

    @invariant()
    def adds_up(self) -> None:
        assert self.pool.queued == len(self.waiting)
        assert self.pool.running == len(self.placed)
        assert all(self.pool.calls_of(name) <= 2 for name in self.pool.names())
        free = self.pool.workers_ready * 2 - self.pool.running
        assert not (self.waiting and free > 0)
        assert self.pool.delay_ms(self.now_ms) >= 0


TestHistories = Histories.TestCase
