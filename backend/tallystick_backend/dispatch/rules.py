"""What may become of a lease: pure rules, no rows changed, no clock read.

How a lease ends, and what then becomes of the task (case 94: lost heartbeats with results that
arrive, and the reverse, follow this table and nothing else):

| what happened                                   | lease    | task                              |
|-------------------------------------------------|----------|-----------------------------------|
| reply: accepted, or any heartbeat               | goes on  | leased, then running              |
| reply: declined                                 | declined | waits; provider excluded          |
| receipt, while the lease was not given up       | finished | finished, however late the beats  |
| receipt, after the lease was given up           | -        | recorded as late, unpaid          |
| "failed" blaming the task                       | failed   | attempt spent; waits, or failed   |
| "failed" blaming the provider                   | failed   | waits; provider excluded          |
| silence past lease_until and the margin         | lost     | attempt spent; waits, or failed   |
| nobody wants it any more, and then one of these | stopped  | stopped (orphaned: waits)         |

Whatever the ending, the next fence is given only after lease_until and the margin: the provider
holds an assignment it could prove with until then (law L11). The one exception is an offer that
certainly reached nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.tasks import EXPIRY_MARGIN_S, LeaseState, WorkState

Ending: TypeAlias = Literal["declined", "failed_task", "failed_provider", "lost", "undelivered"]

SPENDS_AN_ATTEMPT: frozenset[Ending] = frozenset({"failed_task", "lost"})

RENEWABLE: frozenset[LeaseState] = frozenset({"offered", "accepted", "running", "finished", "done"})
"""A finished lease is kept up until its receipt is proven: the provider may have to prove alone."""

MAX_BACKOFF_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """What the order and the chain say of a task just now."""

    secured: bool
    deadline_s: int
    withdrawn_at_ms: int | None = None
    chain_state: str | None = None
    """open, proven, settled, refunded, orphaned; None when the chain does not know it."""
    chain_end_s: int = 0
    cancelled_at_s: int | None = None
    orphaned_at_ms: int | None = None

    @property
    def on_chain(self) -> bool:
        return self.chain_state is not None and self.chain_state != "orphaned"

    @property
    def end_s(self) -> int:
        """No lease reaches beyond it: nothing could be proven then."""
        return self.chain_end_s if self.on_chain else self.deadline_s


def must_stop(standing: Standing, now_ms: int, settings: DispatchSettings) -> str | None:
    """Why a running task must stop now, or None. A creation that was reorganised away mostly comes
    back a block later, so work in hand goes on for a while; no new work starts meanwhile."""
    if _is_only_orphaned(standing) and now_ms < _orphan_ends_ms(standing, settings):
        return None
    return unwanted(standing)


def unwanted(standing: Standing) -> str | None:
    """Why nobody may start or go on with the task, as things stand, or None."""
    if standing.withdrawn_at_ms is not None:
        return "the consumer withdrew the order"
    if standing.chain_state == "orphaned" and standing.secured:
        return "a reorganisation of the chain took the task's creation away"
    if standing.cancelled_at_s is not None:
        return "the consumer cancelled the task on chain"
    if standing.chain_state in ("settled", "refunded"):
        return f"the task is {standing.chain_state} on chain already"
    return None


def is_given_up(standing: Standing) -> bool:
    """Unwanted for good. An orphaned creation may come back with the next block."""
    return unwanted(standing) is not None and not _is_only_orphaned(standing)


def _is_only_orphaned(standing: Standing) -> bool:
    return standing.withdrawn_at_ms is None and standing.chain_state == "orphaned"


def _orphan_ends_ms(standing: Standing, settings: DispatchSettings) -> int:
    return (standing.orphaned_at_ms or 0) + settings.orphan_grace_seconds * 1000


def may_be_leased(standing: Standing, now_s: int, *, spare: int, max_charge: int) -> bool:
    """A secured task once its ceiling is locked; a signed order while the account's money that no
    other running order counts on (`spare`) covers it."""
    if unwanted(standing) is not None or now_s >= standing.end_s:
        return False
    if standing.chain_state == "open":
        return True
    return not standing.secured and not standing.on_chain and spare >= max_charge


def is_forgotten(standing: Standing, now_s: int) -> bool:
    """A signed order that never reached the chain and no longer can."""
    return not standing.on_chain and now_s > standing.deadline_s + EXPIRY_MARGIN_S


def lease_until(
    standing: Standing,
    *,
    now_s: int,
    lease_from_s: int,
    current_until_s: int,
    max_seconds: int,
    finished: bool,
    settings: DispatchSettings,
) -> int:
    """Up to when a heartbeat renews a lease; never earlier than it already reaches.

    Bounded by the task's end; while it runs also by its own time limit and a grace, so that nobody
    holds a task by beating alone; and after a stop by the time to hand in.
    """
    bounds = [now_s + settings.lease_seconds, standing.end_s]
    if not finished:
        bounds.append(lease_from_s + settings.start_grace_seconds + max_seconds)
        if must_stop(standing, now_s * 1000, settings) is not None:
            bounds.append(_stopped_at_s(standing, settings) + settings.stop_grace_seconds)
    return max(current_until_s, min(bounds))


def _stopped_at_s(standing: Standing, settings: DispatchSettings) -> int:
    times: Iterable[int] = [
        *([standing.withdrawn_at_ms // 1000] if standing.withdrawn_at_ms is not None else []),
        *([standing.cancelled_at_s] if standing.cancelled_at_s is not None else []),
        *([_orphan_ends_ms(standing, settings) // 1000] if _is_only_orphaned(standing) else []),
    ]
    return min(times, default=0)


def free_from_ms(lease_until_s: int, settings: DispatchSettings) -> int:
    """The first moment a higher fence may be given: lease_until counts to its last second."""
    return (lease_until_s + 1 + settings.lease_margin_seconds) * 1000


def is_expired(lease_until_s: int, now_ms: int, settings: DispatchSettings) -> bool:
    return now_ms >= free_from_ms(lease_until_s, settings)


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """What is known of the work when one of its leases ends."""

    fence: int
    attempts: int
    excluded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AfterLease:
    """What becomes of it."""

    state: WorkState
    attempts: int
    excluded: tuple[str, ...]
    not_before_ms: int
    failure: str | None


def after_lease(
    left: WorkLeft,
    ending: Ending,
    *,
    provider: str,
    reason: str,
    lease_until_s: int,
    now_ms: int,
    standing: Standing,
    settings: DispatchSettings,
) -> AfterLease:
    attempts = left.attempts + (ending in SPENDS_AN_ATTEMPT)
    excluded = left.excluded if provider in left.excluded else (*left.excluded, provider)
    not_before_ms = (
        now_ms if ending == "undelivered" else max(now_ms, free_from_ms(lease_until_s, settings))
    )
    state: WorkState = "waiting"
    failure = None
    if is_given_up(standing):
        state = "stopped"
    elif unwanted(standing) is not None:
        attempts, excluded = left.attempts, left.excluded
    elif attempts >= settings.max_attempts:
        state, failure = "failed", f"{attempts} attempts are spent; the last one: {reason}"
    elif left.fence >= settings.max_leases:
        state, failure = "failed", f"{left.fence} leases ended without a result; the last: {reason}"
    return AfterLease(state, attempts, excluded, not_before_ms, failure)


def may_ask_again(fence: int, not_before_ms: int, now_ms: int) -> bool:
    """Excluded providers are asked again, when there is nobody else, after a growing pause."""
    pause_s = min(1 << fence, MAX_BACKOFF_SECONDS)
    return now_ms - not_before_ms >= pause_s * 1000


def gpu_ms_counted(reported: int, before: int, *, gpus: int, lease_from_s: int, now_ms: int) -> int:
    """Usage as shown while it runs: never backwards, never more than our own clock allows."""
    possible = gpus * max(0, now_ms - lease_from_s * 1000)
    return max(before, min(reported, possible))
