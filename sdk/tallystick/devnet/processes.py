"""Programs started, watched and ended by pid; nothing that we did not start is ever touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tallystick.errors import TallystickError

_POLL_SECONDS = 0.05


class DevnetError(TallystickError):
    """The local market could not do what was asked. The next step names the log to look at."""

    code = "devnet"


@dataclass(frozen=True)
class Running:
    """A process as it can be found again later: pids are reused, so the birth time goes with it."""

    pid: int
    born_at_s: float

    @classmethod
    def of(cls, pid: int) -> Running:
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process itself, or None when it is gone or the pid belongs to somebody else now."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.born_at_s) > 1 or (
                found.status() == psutil.STATUS_ZOMBIE
            ):
                return None
        except psutil.NoSuchProcess:
            return None
        return found


@dataclass
class Service:
    """One long-running program of the market, with its log."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    running: Running | None = None
    on_start: Callable[[Running], None] = lambda _running: None
    _child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it in a session of its own, so that Ctrl-C here reaches it only through us."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                list(self.argv),
                env=clean_environment(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running = Running.of(self._child.pid)
        self.on_start(self.running)

    @property
    def alive(self) -> bool:
        if self._child is not None:
            self._child.poll()  # reaps our own child, so that it does not stay a zombie
        return self.running is not None and self.running.process() is not None

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Returns when `ready()` is true; raises with the log's end when it dies or is late."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.alive:
                raise DevnetError(
                    f"{self.name} ended while starting.\n{self._tail()}", next_step=self._hint()
                )
            if time.monotonic() > deadline:
                raise DevnetError(
                    f"{self.name} was not ready after {timeout_s:.0f} seconds.\n{self._tail()}",
                    next_step=self._hint(),
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, patience_s: float = 10.0) -> None:
        """Asks it to end, and ends it when it does not within `patience_s`."""
        if self.running is not None:
            end_process(self.running, patience_s)
        if self._child is not None:
            self._child.wait()

    def kill(self) -> None:
        """As a power cut would: SIGKILL to the program, no clean-up."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        found = self.running.process() if self.running else None
        if found is not None:
            found.send_signal(number)

    def _tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _hint(self) -> str:
        return f"The whole log is in {self.log}."


def end_process(running: Running, patience_s: float = 10.0) -> None:
    """Ends a process that we started, and what it left in its session."""
    found = running.process()
    if found is None:
        return
    family = [found, *found.children(recursive=True)]
    found.terminate()
    _, alive = psutil.wait_procs([found], timeout=patience_s)
    for process in [*alive, *family]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment without settings of other markets, with the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def program(name: str, *places: Path) -> str:
    """Path of a program: beside this interpreter, in one of `places`, or on PATH."""
    for folder in (Path(sys.executable).parent, *places):
        candidate = folder / name
        if candidate.exists():
            return str(candidate)
    found = shutil.which(name)
    if found is None:
        raise DevnetError(
            f"The program {name!r} is not installed.", next_step="Run `make setup` first."
        )
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
