"""What the dispatcher is told once, at start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    stake_unit: int
    """Own stake behind one GPU, smallest unit; a constructor argument of the staking contract."""

    lease_seconds: int = 30
    lease_margin_seconds: int = 2
    """How far our clock may be off the chain's: a fence rises this long after a lease ended."""

    max_attempts: int = 3
    """Leases that ended by the task's own fault, or in silence, before it is given up."""
    max_leases: int = 8
    """Leases of any ending before it is given up."""

    allow_process_runtime: bool = False
    """Offer tasks that name an image to providers without containers (development only)."""

    start_grace_seconds: int = 900
    """Time to fetch and pull, on top of the task's own limit, before a lease is not renewed."""
    orphan_grace_seconds: int = 30
    """How long work goes on after a reorganisation took its task's creation away: it mostly comes
    back with one of the next blocks."""
    stop_grace_seconds: int = 120
    """Time a stopped task has to hand in what it used."""

    poll_ms: int = 250
    batch: int = 500
    """Tasks looked at in one pass."""
    offer_timeout_seconds: float = 5.0
    offers_at_once: int = 64

    max_log_bytes: int = 16 * 2**20
    """Log text kept per task; what comes after is refused."""

    proof_max_age_seconds: int = 60
    """How old a provider's log-in proof may be, and how far ahead of our clock."""
    session_seconds: int = 3600
    """How long a provider stays logged in on the bus before it must prove itself again."""

    @property
    def heartbeat_seconds(self) -> float:
        """Three beats fit a lease, so two may be lost."""
        return self.lease_seconds / 3

    @property
    def online_ms(self) -> int:
        """A provider not heard of for three beats is offline."""
        return round(3 * self.heartbeat_seconds * 1000)
