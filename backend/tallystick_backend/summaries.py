"""Calls and tasks added up by the hour or the day, in any time zone. Pure.

A call counts where it was asked for: a bar never changes once its calls have ended. A task counts
where the chain settled it: what it costs is not known before. Amounts are added as whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from tallystick_backend.errors import BackendError

Bar = Literal["hour", "day"]

_STEP_MS = 15 * 60 * 1000
"""Clocks are changed, and hours begin, on quarters of an hour everywhere."""
_DAY = timedelta(days=1)


class SummaryError(BackendError):
    """These sums cannot be made as asked for."""


class UnknownTimeZone(SummaryError):
    next_step = "Name one of the IANA list, such as Europe/Berlin or UTC."

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no time zone {name[:80]!r}")


class RangeTooLong(SummaryError):
    next_step = "Ask for less time at once, or by the day."

    def __init__(self, by: Bar, days: int, most_days: int) -> None:
        super().__init__(f"{days} days by the {by} are more than {most_days}")


class RangeEmpty(SummaryError):
    next_step = "Give a from_ms before until_ms, both in unix milliseconds."

    def __init__(self, from_ms: int, until_ms: int) -> None:
        super().__init__(f"the time from {from_ms} until {until_ms} has no end after its beginning")


class TooManyRows(SummaryError):
    next_step = "Ask for less time at once, or group by less."

    def __init__(self, most: int) -> None:
        super().__init__(f"there are more than {most} rows")


MOST_DAYS: dict[Bar, int] = {"hour": 35, "day": 400}
MOST_ROWS = 20_000


def time_zone(name: str) -> ZoneInfo:
    if name not in _known_zones():
        raise UnknownTimeZone(name)
    return ZoneInfo(name)


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


Kind = Literal["call", "task"]


@dataclass(frozen=True, slots=True)
class Used:
    """What one call or task adds."""

    at_ms: int
    group: tuple[str, ...]
    state: str
    charge: int
    gpu_ms: int = 0
    run_ms: int = 0
    cold_start_ms: int = 0
    kind: Kind = "call"


@dataclass(slots=True)
class Sums:
    calls: int = 0
    tasks: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    gpu_ms: int = 0
    run_ms: int = 0
    cold_start_ms: int = 0
    charge: int = 0

    def add(self, used: Used) -> None:
        self.calls += used.kind == "call"
        self.tasks += used.kind == "task"
        self.completed += used.state == "completed"
        self.failed += used.state == "failed"
        self.canceled += used.state == "canceled"
        self.gpu_ms += used.gpu_ms
        self.run_ms += used.run_ms
        self.cold_start_ms += used.cold_start_ms
        self.charge += used.charge


@dataclass(frozen=True, slots=True)
class Span:
    """One hour or day: from `start_ms` until before `end_ms`."""

    start_ms: int
    end_ms: int
    start: str
    """Local, with its offset."""


@dataclass
class Calendar:
    """Which hour or day a time lies in."""

    by: Bar
    zone: ZoneInfo
    _spans: dict[int, Span] = field(default_factory=dict)

    def span(self, at_ms: int) -> Span:
        quarter = at_ms // _STEP_MS
        found = self._spans.get(quarter)
        if found is None:
            found = self._spans[quarter] = self._span(quarter * _STEP_MS)
        return found

    def _span(self, at_ms: int) -> Span:
        start = self._start(at_ms)
        if self.by == "day":
            local = datetime.fromtimestamp(start // 1000, self.zone)
            # Past noon of the next day, whatever the clock did in between.
            end = self._start((start // 1000 + 36 * 3600) * 1000)
            if datetime.fromtimestamp(end // 1000, self.zone).date() == local.date():
                raise AssertionError("a day has less than 36 hours")
        else:
            end = start + _STEP_MS
            while self._start(end) == start:
                end += _STEP_MS
        shown = datetime.fromtimestamp(start // 1000, self.zone).isoformat()
        return Span(start, end, shown)

    def _start(self, at_ms: int) -> int:
        """The first millisecond of the hour or day."""
        local = datetime.fromtimestamp(at_ms // 1000, self.zone)
        if self.by == "hour":
            # Of two hours with one name, `fold` keeps the one that it is.
            return int(local.replace(minute=0, second=0, microsecond=0).timestamp()) * 1000
        # A midnight that the clock skips is read by the offset before it: the moment of the change.
        midnight = datetime(local.year, local.month, local.day, tzinfo=self.zone)
        return int(midnight.timestamp()) * 1000


@dataclass
class Summary:
    """Takes calls and tasks one by one."""

    calendar: Calendar
    rows: dict[tuple[int, Kind, tuple[str, ...]], Sums] = field(default_factory=dict)
    all: Sums = field(default_factory=Sums)

    def add(self, many: Iterable[Used]) -> None:
        for used in many:
            key = (self.calendar.span(used.at_ms).start_ms, used.kind, used.group)
            sums = self.rows.get(key)
            if sums is None:
                if len(self.rows) >= MOST_ROWS:
                    raise TooManyRows(MOST_ROWS)
                sums = self.rows[key] = Sums()
            sums.add(used)
            self.all.add(used)

    def in_order(self) -> Iterable[tuple[Span, Kind, tuple[str, ...], Sums]]:
        for (start_ms, kind, group), sums in sorted(self.rows.items(), key=lambda item: item[0]):
            yield self.calendar.span(start_ms), kind, group, sums


def whole_range(calendar: Calendar, from_ms: int, until_ms: int) -> tuple[int, int]:
    """Widened to whole hours or days, so that no row is a part of one."""
    if from_ms >= until_ms:
        raise RangeEmpty(from_ms, until_ms)
    days = -(-(until_ms - from_ms) // 86_400_000)
    if days > MOST_DAYS[calendar.by]:
        raise RangeTooLong(calendar.by, days, MOST_DAYS[calendar.by])
    return calendar.span(from_ms).start_ms, calendar.span(until_ms - 1).end_ms
