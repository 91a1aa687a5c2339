"""Ends a market whose owner is gone: killed by a signal, a time limit or the loss of its terminal,
so that nobody was left to call `down`.

A process of its own. Its standard input is a pipe from the owner, and closes when the owner's
process ends, however it ends. Until then it is told, one JSON list a line:

    ["started", pid, born_at_s]    a program of the market
    ["while", pid, born_at_s]      the market lasts as long as this process, not as the owner
    ["over"]                       the market was ended, or is meant to stay: nothing left to do
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.devnet import leftovers
from tallystick.devnet.processes import Running, clean_environment, end_process

_PROGRAM = "from tallystick.devnet.keeper import main; main()"
_POLL_SECONDS = 0.5


class Keeper:
    """The owner's end of the pipe."""

    def __init__(self, directory: Path) -> None:
        log = directory / "logs" / "keeper.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(directory)],
                env=clean_environment({}),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # What is sent to the owner's whole group must not reach it.
                start_new_session=True,
            )

    def started(self, running: Running) -> None:
        self._tell("started", running.pid, running.born_at_s)

    def keep_while(self, running: Running) -> None:
        """Lets it go on alone; it ends the market when this process ends."""
        self._tell("while", running.pid, running.born_at_s)
        self._close()

    def release(self) -> None:
        """Returns when it is gone; the market is left as it is."""
        self._tell("over")
        self._close()
        self._child.wait()

    def _tell(self, *words: str | int | float) -> None:
        assert self._child.stdin is not None  # it was asked for above
        try:
            self._child.stdin.write(json.dumps(words).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # somebody ended it: then the market is ended by `down` alone, as it says

    def _close(self) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
        except BrokenPipeError:
            return


@dataclass
class Watch:
    """What the keeper was told."""

    services: list[Running] = field(default_factory=list)
    lasts_with: Running | None = None
    over: bool = False

    def hear(self, lines: Iterable[str]) -> None:
        """Returns when the pipe is closed."""
        for line in lines:
            said: list[Any] = json.loads(line)
            match said:
                case ["started", pid, born_at_s]:
                    self.services.append(Running(pid, born_at_s))
                case ["while", pid, born_at_s]:
                    self.lasts_with = Running(pid, born_at_s)
                case ["over"]:
                    self.over = True

    @property
    def somebody_runs(self) -> bool:
        return any(service.process() is not None for service in self.services)


def keep(directory: Path, lines: Iterable[str]) -> None:
    watch = Watch()
    watch.hear(lines)
    if watch.over:
        return
    if watch.lasts_with is not None:
        while watch.lasts_with.process() is not None:
            time.sleep(_POLL_SECONDS)
            if not watch.somebody_runs:
                return  # ended by `tallystick dev down`; another market may be in its place
    for service in reversed([*watch.services, *_started_again(directory)]):
        end_process(service)
    leftovers.sweep(directory)
    (directory / "state.json").unlink(missing_ok=True)


def _started_again(directory: Path) -> list[Running]:
    """What `tallystick dev start` put in the place of one that we were told of."""
    state = directory / "state.json"
    if not state.exists():
        return []
    services = json.loads(state.read_text()).get("services", {})
    return [Running(service["pid"], service["born_at_s"]) for service in services.values()]


def main() -> None:
    keep(Path(sys.argv[1]), sys.stdin)
