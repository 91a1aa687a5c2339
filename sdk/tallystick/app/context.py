"""The call that a handler answers, for handlers that want to know."""

from __future__ import annotations

import contextvars
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as its handler may see it through `current_call()`."""

    call_id: str
    deadline_s: float
    """On the clock of `time.monotonic`: nobody waits for the answer after that."""
    _over: bool = field(default=False, repr=False)

    @property
    def remaining_s(self) -> float:
        return max(0.0, self.deadline_s - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether nobody waits any more: the caller left, or the time is up. A thread cannot be
        stopped from outside, so a long loop in a plain function looks here and returns."""
        return self._over

    def end(self) -> None:
        object.__setattr__(self, "_over", True)  # seen by the handler's thread at its next look


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("tallystick_call")


def current_call() -> Call:
    """Raises LookupError outside of a call, as in a test that calls the handler itself."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError(
            "there is no call: current_call() works inside a handler that the server called"
        ) from None


def enter(call: Call) -> None:
    """What the present task or thread does from here on belongs to this call."""
    _current.set(call)
