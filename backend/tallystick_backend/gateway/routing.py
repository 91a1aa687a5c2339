"""Which provider a call goes to: the one with the least expected delay. Pure.

What a provider says of itself is a second old; what was sent to it from here since is not, so the
calls under way from here count where they are more than it knows of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tallystick.protocol.call_bodies import AppLoadBody

COLD_START_MS: Final = 5_000
"""Where none was seen so far."""
PULL_MS: Final = 60_000
OPENING_MS: Final = 3_000
"""A channel has to be opened first: a transaction, and its way through the index."""
USUAL_RUN_MS: Final = 500
"""Where no run was seen so far."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One provider as a place for one version's calls."""

    provider: str
    load: AppLoadBody | None
    """None: it takes the version and has not told of it since."""
    in_flight: int
    """Calls of the version from here without an answer."""
    run_ms: float
    """Of calls of the version there, lately; 0 while none was seen."""
    funded: bool
    """A channel is open and covers a call."""


def expected_delay_ms(seat: Seat) -> float | None:
    """Until a call that is sent now would start; None where it would not."""
    load = seat.load
    opening = 0.0 if seat.funded else float(OPENING_MS)
    if load is None:
        return opening + PULL_MS
    if load.state == "failed" or load.max_workers == 0:
        return None
    cold_ms = float(load.cold_start_ms or COLD_START_MS)
    run_ms = seat.run_ms or USUAL_RUN_MS
    if load.workers == 0:
        wait_ms = cold_ms + (PULL_MS if load.state == "pulling" else 0)
        return opening + wait_ms + run_ms * max(seat.in_flight, load.queued) / max(1, load.places)
    unseen = max(0, seat.in_flight - load.running - load.queued)
    waiting = load.running + load.queued + unseen - load.places
    if waiting < 0:
        # Free: a little less good the fuller it is, so that equals share.
        return opening + (load.running + unseen) / (load.places + 1)
    queued_ms = max(float(load.delay_ms), run_ms * (waiting + 1) / max(1, load.places))
    if load.workers < load.max_workers:
        queued_ms = min(queued_ms, cold_ms)
    return opening + queued_ms


def best(seats: Iterable[Seat]) -> Seat | None:
    """Equals in the order of their address, turned by how much is under way there."""
    rated = [(delay, seat) for seat in seats if (delay := expected_delay_ms(seat)) is not None]
    if not rated:
        return None
    return min(rated, key=lambda one: (one[0], one[1].in_flight, one[1].provider))[1]
