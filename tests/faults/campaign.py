"""What a campaign of faults is, and what it says of a run.

A campaign does the same thing to the product again and again, each time from another seed, and
raises as soon as something that must hold does not. What it tried is counted in rows, which
become the table in docs/reference/reliability.md.
"""

from __future__ import annotations

import asyncio
import faulthandler
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

SHORT_MOST_S: Final = 600
FULL_MOST_S: Final = 2 * 3600
"""A seed that has not ended by then hangs: it fails, and says where."""
_LAST_RESORT_S: Final = 60


class Broken(AssertionError):
    """Something that must hold did not. The message says what, with the values on both sides."""


class Overdue(BaseException):
    """The seed hangs. Nothing that it tries shall take this for an error of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    tried: str
    """What was done: "Reorganisations of 1 to 64 blocks"."""
    holds: str
    """What was found true each time: "tables equal a fresh index, to the unit"."""


@dataclass(slots=True)
class Run:
    """One seed of one campaign."""

    campaign: Campaign
    seed: int
    full: bool
    """Everything that there is to try; otherwise what fits CI, drawn by the seed."""
    directory: Path
    """Empty, and this run's own."""
    say: Callable[[str], None] = lambda _text: None
    """Shows what happens now, for whoever watches."""
    counts: Counter[str] = field(default_factory=Counter)
    random: random.Random = field(init=False)
    """The only source of chance; a run draws from it in an order that the seed decides."""

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.campaign.name}:{self.seed}")

    def count(self, row: str, times: int = 1) -> None:
        """Says that the row's sentence was tried, and held, this often more."""
        if row not in self.campaign.rows:
            raise KeyError(f"{self.campaign.name} has no row {row!r}")
        self.counts[row] += times


@dataclass(frozen=True, slots=True)
class Campaign:
    """Named `tests.faults.<name>.CAMPAIGN`."""

    name: str
    title: str
    rows: Mapping[str, Row]
    run: Callable[[Run], None]
    """Raises when something that must hold does not; anything that it raises fails the seed."""
    seeds: int
    """How many seeds a short run takes."""
    missing: Callable[[], str] = lambda: ""
    """What this machine lacks for it, as a sentence; empty: nothing."""


@dataclass(slots=True)
class Done:
    """What became of one seed."""

    campaign: str
    seed: int
    full: bool
    counts: Counter[str]
    seconds: float
    problem: str = ""
    """What it said on its way, and the traceback of what was raised; empty: everything held."""


Runner: TypeAlias = Callable[[Campaign, int, bool], Done]


def run_seed(
    campaign: Campaign, seed: int, full: bool, directory: Path, say: Callable[[str], None]
) -> Done:
    """Runs one seed to its end, whatever that is."""
    import traceback

    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        say(text)

    run = Run(campaign, seed, full, directory, tell)
    began = time.monotonic()
    problem = ""
    try:
        with _ended_within(FULL_MOST_S if full else SHORT_MOST_S):
            campaign.run(run)
    except (Exception, Overdue):
        problem = "".join(f"{text}\n" for text in said) + traceback.format_exc()
    return Done(campaign.name, seed, full, run.counts, time.monotonic() - began, problem)


@contextmanager
def _ended_within(seconds: int) -> Iterator[None]:
    def overdue(*_: object) -> None:
        raise Overdue(f"it did not end within {seconds} s\n{_where_tasks_wait()}")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.alarm(seconds)
    # What swallows even that would hang for ever.
    faulthandler.dump_traceback_later(seconds + _LAST_RESORT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _where_tasks_wait() -> str:
    """Each task of the running loop with its whole chain of awaits: a traceback has the loop's."""
    try:
        tasks = asyncio.all_tasks(asyncio.get_running_loop())
    except RuntimeError:
        return "no event loop was running"
    return "\n".join(f"{task.get_name()} waits in {_awaits(task.get_coro())}" for task in tasks)


def _awaits(waiting: Any) -> str:
    places = []
    while waiting is not None:
        frame = next(
            (f for kind in ("cr", "gi", "ag") if (f := getattr(waiting, f"{kind}_frame", None))),
            None,
        )
        if frame is None:
            places.append(repr(waiting)[:120])
            break
        places.append(
            f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        )
        waiting = next(
            (
                w
                for name in ("cr_await", "gi_yieldfrom", "ag_await")
                if (w := getattr(waiting, name, None)) is not None
            ),
            None,
        )
    return " > ".join(places)
