"""How commands speak: data on stdout, words for people on stderr, never both mixed.

What a provider or a stranger wrote (logs, names, reasons) is cleaned of control characters before
it reaches a terminal, and never read as markup.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tallystick.jobs import JobStatus, Money
from tallystick.protocol.money import format_duration

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u202a-\u202e\u2066-\u2069]"
)


def clean(text: object) -> str:
    """Without escape sequences, control characters and direction overrides; tabs and newlines
    stay."""
    return _CONTROL.sub("", str(text))


class Output:
    """One command's two voices."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._people = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def data(self, document: Any) -> None:
        """The command's answer for programs; nothing without --json."""
        if self.as_json:
            print(json.dumps(document, indent=2, default=_plain), flush=True)

    def line(self, document: Any) -> None:
        """One document of many, one a line."""
        if self.as_json:
            print(json.dumps(document, default=_plain), flush=True)

    def raw(self, text: str) -> None:
        """The answer itself as text on stdout: a log, a number."""
        if not self.as_json:
            sys.stdout.write(clean(text))
            sys.stdout.flush()

    def say(self, text: str) -> None:
        self._people.print(clean(text))

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str
    ) -> None:
        """For people, on stdout; `empty` names the next act when there is nothing to show."""
        if self.as_json:
            return
        cells = [[clean("-" if cell is None else cell) for cell in row] for row in rows]
        if not cells:
            self.say(empty)
            return
        console = Console(highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        if not console.is_terminal:
            console = Console(highlight=False, width=max(console.width, _width(columns, cells)))
        console.print(table)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Name and value, one a line, for people."""
        if self.as_json:
            return
        width = max(map(len, facts))
        for name, value in facts.items():
            if value is not None and value != "":
                print(f"{name:<{width}}  {clean(value)}")

    @contextmanager
    def watching(self, task_id: str) -> Iterator[Watch]:
        """A live bar on a terminal, a line for each change elsewhere, nothing with --json."""
        if self.as_json or not self._people.is_terminal:
            yield Watch(None, self)
            return
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=self._people,
            transient=True,
        )
        with bar:
            yield Watch(bar, self)


class Watch:
    """Takes each look at a task and shows what is new."""

    def __init__(self, bar: Progress | None, output: Output) -> None:
        self._bar, self._output = bar, output
        self._row = bar.add_task("waiting", total=100, detail="") if bar is not None else None
        self._last = ""

    def __call__(self, status: JobStatus) -> None:
        eta = f"ETA {format_duration(status.eta_seconds)}" if status.eta_seconds else ""
        detail = clean(" ".join(part for part in (eta, status.message) if part))
        if self._bar is not None and self._row is not None:
            self._bar.update(
                self._row,
                description=status.state.value,
                completed=status.percent or 0,
                total=100 if status.percent is not None else None,
                detail=detail,
            )
            return
        percent = "" if status.percent is None else f" {status.percent} %"
        seen = f"{status.state.value}{percent}"
        if seen != self._last and not self._output.as_json:
            self._last = seen
            self._output.say(f"{status.id[:12]}  {seen}  {detail}".rstrip())


def price(per_hour: Decimal) -> str:
    """Tokens per GPU-hour, to six places for the eye; --json has the exact figure."""
    shown = per_hour.quantize(Decimal("0.000001")).normalize()
    return format(shown, "f") if per_hour == 0 or shown != 0 else format(per_hour, "f")


def amount(money: Money | None) -> str | None:
    return None if money is None else str(money)


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    widest = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    return sum(widest) + 2 * len(widest)


def _plain(value: object) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    describe = getattr(value, "to_json", None)
    return describe() if describe is not None else str(value)
