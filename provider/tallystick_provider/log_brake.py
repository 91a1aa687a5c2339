"""Holds a container back that writes its log faster than an engine should have to carry it.

What a container writes costs the engine and not the container: a few hundred kilobytes a second of
short lines keep one of the engine's cores busy, whatever the container's own share is, and its
neighbours miss that core. So a container whose log grows too fast is frozen until the engine is
through with what lies in the pipes, which can be five seconds of work, and then for several times
as long as all that took, longer each time it does so again: one part in thirty-three of an engine's
core at the end. One that wrote much at once waits a moment. How large a log is can be seen without
reading it; to read one under a flood is the most that an engine can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from tallystick_provider.runtime import LOG_KEPT_BYTES, AnyRef, RunState, Runtime

ALLOWED_BYTES_PER_S: Final = 512 * 1024
"""As the engine keeps it, some 85 bytes for the shortest line: a fifth of what keeps a core of it
busy."""
AT_ONCE_BYTES: Final = 2 * 1024 * 1024
"""And so much beyond that."""
FIRST_TIMES: Final = 4
MOST_TIMES: Final = 32
QUIET_MS: Final = 1_000
"""So long without growth, and the engine is through with what was written before."""
BUSY_MOST_MS: Final = 10_000
"""The most that one flood counts for: others may have slowed down engine and agent meanwhile."""
CALM_MS: Final = 30_000
"""So long without a flood, and the next one counts as the first."""

log = structlog.get_logger()


@dataclass(slots=True)
class LogBrake:
    """Of one container."""

    runtime: Runtime
    _times: int = FIRST_TIMES
    _looked_at_ms: int = 0
    _log_bytes: int | None = None
    _beyond_bytes: int = 0
    """What it wrote beyond ALLOWED_BYTES_PER_S."""
    _flooded_from_ms: int = 0
    _grew_at_ms: int = 0
    _rests_until_ms: int | None = 0
    """None while the engine still has what was written before."""

    async def pace(self, ref: AnyRef, now_ms: int, state: RunState) -> None:
        """At each look at a container that runs. What an agent froze before it was killed goes on
        under the next one. Raises `RuntimeFailure`."""
        since_ms, grown = now_ms - self._looked_at_ms, self._grown(state.log_bytes)
        self._looked_at_ms, self._log_bytes = now_ms, state.log_bytes
        if grown:
            self._grew_at_ms = now_ms
        if state.held:
            await self._rest(ref, now_ms)
            return
        if not self._beyond_bytes:
            self._flooded_from_ms = now_ms - since_ms
        allowed = ALLOWED_BYTES_PER_S * since_ms // 1000
        self._beyond_bytes = max(0, self._beyond_bytes + grown - allowed)
        if self._beyond_bytes > AT_ONCE_BYTES:
            await self.runtime.hold(ref)
            self._beyond_bytes, self._rests_until_ms = 0, None
        elif now_ms - (self._rests_until_ms or 0) > CALM_MS:
            self._times = FIRST_TIMES

    async def _rest(self, ref: AnyRef, now_ms: int) -> None:
        if self._rests_until_ms is None and now_ms - self._grew_at_ms >= QUIET_MS:
            flooded_ms = min(self._grew_at_ms - self._flooded_from_ms, BUSY_MOST_MS)
            rest_ms = flooded_ms * self._times
            self._times = min(2 * self._times, MOST_TIMES)
            self._rests_until_ms = now_ms + rest_ms
            log.info("log_held_back", container=ref.handle[:12], for_ms=rest_ms)
        if self._rests_until_ms is not None and now_ms >= self._rests_until_ms:
            await self.runtime.go_on(ref)

    def _grown(self, now: int | None) -> int:
        """At least; more, if it began anew more than once."""
        if now is None or self._log_bytes is None:
            return 0
        return now - self._log_bytes + (LOG_KEPT_BYTES if now < self._log_bytes else 0)
