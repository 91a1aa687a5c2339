"""What the gateway is told once, at start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    channel_calls: int = 100
    """A channel is opened and topped up for so many calls at their ceiling, where the allowance and
    the account go so far."""
    channel_refill_percent: int = 25
    """A channel with less than this share of what a top-up brings is topped up beside its calls, so
    that none waits for a block; 0 waits until one needs it."""
    session_gas_wei: int = 50_000_000_000_000_000
    """Most ether that the dispatcher's wallet sends one session key over its life."""
    online_ms: int = 30_000
    """Providers heard of since then are asked for their load."""
    max_calls: int = 4096
    max_calls_per_account: int = 512
    result_hours: int = 24
    """How long a result is kept that may be asked for again."""
    lease_seconds: float = 5.0
    """How long a gateway that fell silent keeps others from signing."""

    poll_s: float = 1.0
    """Between two looks at providers' load."""
    chain_poll_s: float = 0.25
    """Between two looks at the index's block."""
    lost_after_polls: int = 3
    """A provider that answers none of so many in a row is gone."""
    fund_wait_s: float = 60.0
    """From a funding transaction until the index has it."""
    provider_funds_wait_s: float = 20.0
    """How long a provider may see less in a channel than the index does."""
    own_voucher_wait_s: float = 2.0
    """How long a call waits for its consumer to sign for the one before."""
    voucher_within_s: float = 0.02
    """How long a voucher waits for a request that brings it, before it goes by itself."""
    repeat_s: float = 2.0
    """A request without an answer is sent again; it runs once however often it is sent."""
    queue_s: float = 30.0
    """On top of a version's own times, before a call is given up."""
    cancel_grace_s: float = 5.0
    """How long a canceled call's answer is still waited for, and paid."""

    warm_again_s: float = 60.0
    """After a warm call that money or a limit kept back."""

    webhook_loopback: bool = False
    """Deliver webhooks to this machine, and by plain http: development only."""
    webhook_tries: int = 8
    webhook_timeout_s: float = 10.0
