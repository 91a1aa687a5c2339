"""Marks in a running process, and the board by which another one arms them.

The board is a file of a few bytes, mapped into every process: which step is armed (0: none), how
wrong each program's clock is, and how often each step was passed. A process that passes the armed
step disarms it, leaves its pid in a folder beside the board, and kills itself. Where two pass at
the same moment both die.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick_backend import clock as backend_clock
from tallystick_provider import clock as provider_clock
from tests.faults.load.steps import STEPS, Program, Step

_NUMBER = struct.Struct("<I")
_SKEW = struct.Struct("<q")
_CLOCKS = ("backend", "provider-1", "provider-2", "provider-3", "provider-4")
_ARMED = 0
_SKEWS = _ARMED + _NUMBER.size
_FIRST = _SKEWS + _SKEW.size * len(_CLOCKS)


class Board:
    def __init__(self, path: Path) -> None:
        self.path = path
        size = _FIRST + _NUMBER.size * len(STEPS)
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)
        self._deaths = path.with_name("deaths")
        self._deaths.mkdir(exist_ok=True)

    def arm(self, step: Step) -> None:
        self._put(_ARMED, STEPS.index(step) + 1)

    def disarm(self) -> None:
        self._put(_ARMED, 0)

    @property
    def armed(self) -> bool:
        return bool(self._get(_ARMED))

    def killed(self, pid: int) -> bool:
        """Whether this process died of a step, and not of something else."""
        return (self._deaths / str(pid)).exists()

    def set_clock(self, name: str, wrong_by_ms: int) -> None:
        """From now on the program of this name is told a time so much later than it is."""
        _SKEW.pack_into(self._map, _SKEWS + _SKEW.size * _CLOCKS.index(name), wrong_by_ms)

    def wrong_by_ms(self, name: str) -> int:
        if name not in _CLOCKS:
            return 0
        return int(_SKEW.unpack_from(self._map, _SKEWS + _SKEW.size * _CLOCKS.index(name))[0])

    def passed(self, step: Step) -> int:
        """How often any process came by; a few are lost where two come at once."""
        return self._get(_FIRST + _NUMBER.size * STEPS.index(step))

    def pass_by(self, number: int) -> None:
        """Step `number` (from 0), in the process that is marked."""
        place = _FIRST + _NUMBER.size * number
        self._put(place, self._get(place) + 1)
        if self._get(_ARMED) == number + 1:
            self._put(_ARMED, 0)
            (self._deaths / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _get(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._map, place)[0])

    def _put(self, place: int, value: int) -> None:
        _NUMBER.pack_into(self._map, place, value)


def mark(program: Program, board: Board) -> None:
    """Puts the steps of `program` into this process."""
    sides: dict[str, dict[str, int]] = {}
    for number, step in enumerate(STEPS):
        if step.program == program:
            sides.setdefault(step.function, {})[step.side] = number
    for function, numbers in sides.items():
        holder, name = resolve(function)
        wrapped = _around(getattr(holder, name), board, numbers)
        setattr(holder, name, wrapped)


def bend_clock(name: str, board: Board) -> None:
    """This process is `name` from now on, and its clock what the board says."""

    def now_ms(_clock: object) -> int:
        return time.time_ns() // 1_000_000 + board.wrong_by_ms(name)

    for clock in (backend_clock.SystemClock, provider_clock.SystemClock):
        holder: Any = clock
        holder.now_ms = now_ms  # everybody has an instance of his own


def resolve(function: str) -> tuple[Any, str]:
    """What holds the function, and its name there. Raises AttributeError when it is gone."""
    module, _, path = function.partition(":")
    holder: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    getattr(holder, name)
    return holder, name


def _around(function: Callable[..., Any], board: Board, numbers: dict[str, int]) -> Any:
    before, after = numbers.get("before"), numbers.get("after")

    def pass_by(number: int | None) -> None:
        if number is not None:
            board.pass_by(number)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            pass_by(before)
            result = await function(*args, **kwargs)
            pass_by(after)
            return result

        return waiting

    @functools.wraps(function)
    def calling(*args: Any, **kwargs: Any) -> Any:
        pass_by(before)
        result = function(*args, **kwargs)
        pass_by(after)
        return result

    return calling
