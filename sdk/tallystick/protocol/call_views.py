"""What a consumer's HTTP says and hears about calls, session keys and allowances."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tallystick.protocol.wire import (
    AddressHex,
    Amount,
    ChannelAllowanceBody,
    Count,
    DigestHex,
    SignatureHex,
    Uint64,
    WireModel,
)

__all__ = [
    "AllowanceList",
    "AllowanceView",
    "CallState",
    "CallView",
    "ManifestView",
    "SessionKeyView",
    "SignedAllowanceBody",
    "WebhookSecretView",
]

CallState = Literal["queued", "running", "completed", "failed", "canceled"]


class CallView(WireModel):
    """One call. Figures are those of the receipt once it is `completed`, and 0 before."""

    call_id: str
    state: CallState
    app_id: DigestHex
    version: Count
    provider: str
    """The one that answered, else the last one asked; empty while none was."""
    attempts: Count
    asked_at_ms: Count
    ended_at_ms: Count | None
    queued_ms: Count
    """Waited at the provider, a cold start included."""
    cold_start_ms: Count
    """Never charged."""
    run_ms: Count
    gpu_ms: Count
    charge: Amount
    total: Amount
    """Of the channel, with this call."""
    channel_id: str
    seq: Count | None
    """Of the receipt in the channel's chain."""
    media_type: str
    result_bytes: Count
    result: str | None
    """Path of the result; none unless it was kept."""
    webhook_state: Literal["", "due", "delivered", "given_up"]
    problem: dict[str, Any] | None
    """Why it failed; nothing was charged then."""


class SessionKeyView(WireModel):
    """The key that the gateway signs this account's vouchers with. Name it as `signer` in a
    `ChannelAllowance`; it can spend what the allowance says and nothing else."""

    account: AddressHex
    signer: AddressHex
    created_at_ms: Count


class SignedAllowanceBody(WireModel):
    allowance: ChannelAllowanceBody
    signature: SignatureHex


class AllowanceView(WireModel):
    digest: DigestHex
    allowance: ChannelAllowanceBody
    spent: Amount
    """Moved into channels so far, as the escrow says."""
    left: Amount
    """Of the cap; 0 once it is revoked or expired."""
    revoked: bool
    expires_at: Uint64
    created_at_ms: Count


class AllowanceList(WireModel):
    items: tuple[AllowanceView, ...]


class ManifestView(WireModel):
    digest: DigestHex
    bytes: Count


class WebhookSecretView(WireModel):
    """HMAC-SHA256 key of webhooks to this account, in the form of the Standard Webhooks scheme."""

    secret: Annotated[str, Field(pattern=r"^whsec_[A-Za-z0-9+/=]+$")]
