"""Hours and days of any time zone, and calls added up in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick_backend import summaries
from tallystick_backend.summaries import Calendar, Summary, Used, time_zone, whole_range

HOUR_MS = 3_600_000
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # the clock goes back at one: there are two midnights
    "Africa/Cairo",  # the clock goes forward at midnight: there is none
    "Asia/Kolkata",  # half an hour off
    "Asia/Kathmandu",  # a quarter off
    "Australia/Lord_Howe",  # the clock is changed by half an hour
    "Pacific/Chatham",
    "America/Sao_Paulo",
]
TIMES_MS = st.integers(min_value=1_500_000_000_000, max_value=2_100_000_000_000)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def day_of(zone: str, text: str) -> tuple[str, float]:
    span = Calendar("day", time_zone(zone)).span(ms(text))
    return span.start, (span.end_ms - span.start_ms) / HOUR_MS


@pytest.mark.parametrize(
    ("zone", "at", "start", "hours"),
    [
        ("UTC", "2026-03-29T12:00", "2026-03-29T00:00:00+00:00", 24),
        ("Europe/Berlin", "2026-03-29T12:00", "2026-03-29T00:00:00+01:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", "2026-10-25T00:00:00+02:00", 25),
        ("Europe/Berlin", "2026-03-28T22:59", "2026-03-28T00:00:00+01:00", 24),
        ("Europe/Berlin", "2026-03-28T23:00", "2026-03-29T00:00:00+01:00", 23),
        ("America/Havana", "2026-11-01T12:00", "2026-11-01T00:00:00-04:00", 25),
        ("Africa/Cairo", "2026-04-24T12:00", "2026-04-24T01:00:00+03:00", 23),
        ("Australia/Lord_Howe", "2026-04-05T03:00", "2026-04-05T00:00:00+11:00", 24.5),
    ],
)
def test_a_day_is_as_long_as_the_clock_makes_it(
    zone: str, at: str, start: str, hours: float
) -> None:
    assert day_of(zone, at) == (start, hours)


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    calendar = Calendar("hour", time_zone("Europe/Berlin"))
    first = calendar.span(ms("2026-10-25T00:30"))
    again = calendar.span(ms("2026-10-25T01:30"))
    assert (first.start, again.start) == ("2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00")
    assert first.end_ms == again.start_ms


@settings(max_examples=300, deadline=None)
@given(at_ms=TIMES_MS, zone=st.sampled_from(ZONES), by=st.sampled_from(["hour", "day"]))
def test_spans_follow_each_other_without_a_gap(at_ms: int, zone: str, by: summaries.Bar) -> None:
    calendar = Calendar(by, time_zone(zone))
    span = calendar.span(at_ms)
    assert span.start_ms <= at_ms < span.end_ms
    assert calendar.span(span.start_ms) == calendar.span(span.end_ms - 1) == span
    assert calendar.span(span.end_ms).start_ms == span.end_ms
    assert calendar.span(span.start_ms - 1).end_ms == span.start_ms
    # A calendar that remembers nothing says the same.
    assert Calendar(by, time_zone(zone)).span(span.end_ms - 1) == span


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            TIMES_MS,
            st.sampled_from(["a", "b", ""]),
            st.sampled_from(["completed", "failed", "canceled", "running"]),
            st.integers(0, 2**128 - 1),
            st.sampled_from(["call", "task"]),
        ),
        max_size=40,
    ),
    st.sampled_from(ZONES),
)
def test_rows_add_up_to_all_of_it(
    used: list[tuple[int, str, str, int, summaries.Kind]], zone: str
) -> None:
    summary = Summary(Calendar("day", time_zone(zone)))
    summary.add(
        Used(at, (group,), state, charge, kind=kind) for at, group, state, charge, kind in used
    )
    rows = [sums for *_, sums in summary.in_order()]
    assert sum(row.charge for row in rows) == summary.all.charge == sum(one[3] for one in used)
    counts = summary.all.calls, summary.all.tasks
    assert (sum(row.calls for row in rows), sum(row.tasks for row in rows)) == counts
    assert sum(counts) == len(used)
    starts = [(span.start_ms, kind, group) for span, kind, group, _ in summary.in_order()]
    assert starts == sorted(set(starts))


def test_a_range_is_widened_to_whole_days() -> None:
    calendar = Calendar("day", time_zone("Europe/Berlin"))
    found = whole_range(calendar, ms("2026-03-28T10:00"), ms("2026-03-29T10:00"))
    assert found == (ms("2026-03-27T23:00"), ms("2026-03-29T22:00"))
    assert whole_range(calendar, *found) == found


def test_what_cannot_be_summed_is_refused() -> None:
    calendar = Calendar("hour", time_zone("UTC"))
    with pytest.raises(summaries.RangeTooLong):
        whole_range(calendar, 0, 36 * 86_400_000)
    with pytest.raises(summaries.RangeEmpty):
        whole_range(calendar, 5, 5)
    for name in ("Mars/Olympus", "", "..", "Europe", "../../etc/passwd", "Europe/Berlin\0"):
        with pytest.raises(summaries.UnknownTimeZone):
            time_zone(name)


def test_rows_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MOST_ROWS", 2)
    summary = Summary(Calendar("day", time_zone("UTC")))
    summary.add(Used(0, (name,), "completed", 1) for name in ("a", "b", "a"))
    with pytest.raises(summaries.TooManyRows):
        summary.add([Used(0, ("c",), "completed", 1)])
