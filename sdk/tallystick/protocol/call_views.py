"""Bodies of calls over HTTP: how a call stands, what it cost, its receipt, sums of many, limits and
the session key that pays. Those between payer and provider are `call_bodies`.

An answer to `POST /v1/apps/{app}/calls` is the result's own bytes; what a call came to stands in
its headers, named here.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from tallystick.protocol.call_bodies import (
    CallBody,
    CallIdText,
    SignedReceiptBody,
    UsageSampleBody,
)
from tallystick.protocol.wire import (
    AddressHex,
    Amount,
    AppPriceBody,
    AppVersionBody,
    Bps,
    ChannelAllowanceBody,
    ChannelBody,
    ChannelView,
    Count,
    DigestHex,
    DiscountBody,
    PricePointBody,
    Problem,
    SignatureHex,
    SignedVoucherBody,
    Uint32,
    Uint64,
    WireModel,
)

__all__ = [
    "BALANCE_HEADER",
    "CALL_ID_HEADER",
    "CHARGE_HEADER",
    "MAX_CHARGE_HEADER",
    "TOTAL_HEADER",
    "AllowanceBody",
    "AllowancePage",
    "AppTermsView",
    "CallPage",
    "CallReceiptView",
    "CallState",
    "CallView",
    "Grouping",
    "LimitPeriod",
    "LimitScope",
    "SessionKeyBody",
    "SignedAllowanceBody",
    "SpendLimitBody",
    "SpendLimitList",
    "SummaryPage",
    "SummaryRow",
    "SummarySums",
    "WantedLimit",
]

CALL_ID_HEADER: Final = "Tallystick-Call-Id"
CHARGE_HEADER: Final = "Tallystick-Charge"
"""What this call cost."""
TOTAL_HEADER: Final = "Tallystick-Total"
"""What the channel's calls cost together, with this one."""
BALANCE_HEADER: Final = "Tallystick-Balance"
"""What the channel's deposit still covers."""
MAX_CHARGE_HEADER: Final = "Tallystick-Max-Charge"
"""Of a request: the most that the call may cost, or it is not made."""

CallState = Literal["queued", "running", "completed", "failed", "canceled"]


class CallView(WireModel):
    """A call, as its caller sees it."""

    id: CallIdText
    app_id: DigestHex
    version: Uint32
    state: CallState
    provider: AddressHex | None
    """The one that answered, else the last one asked."""
    gpu_class: str
    gpus: Count
    key_id: str
    """Of the API key that asked; empty for a wallet's log-in."""
    attempts: Count
    asked_at_ms: Count
    ended_at_ms: Count | None
    queued_ms: Count
    cold_start_ms: Count
    """Of that, while a worker was being started for it. Never charged."""
    run_ms: Count
    gpu_ms: Count
    price: AppPriceBody
    charge: Amount
    """0 unless completed."""
    total: Amount
    """Of the channel, with this call."""
    channel_id: DigestHex | None
    seq: Count | None
    """Its receipt's place in the channel."""
    media_type: str
    result_bytes: Count
    result_until_ms: Count | None
    """The result is kept until then; none: it is not kept."""
    problem: Problem | None
    """Why it failed."""


class CallPage(WireModel):
    items: tuple[CallView, ...]
    next_cursor: str | None = None


class AppTermsView(WireModel):
    """What the registry's events say of the version that was called, as the index has them."""

    publisher: AddressHex
    royalty_to: AddressHex
    royalty_bps: Bps
    retired_at: Uint64 | None
    permanent: bool
    version: AppVersionBody
    prices: tuple[PricePointBody, ...]
    """Of this version, before discounts."""
    discounts: tuple[DiscountBody, ...]
    """In the order in which they were announced."""


class CallReceiptView(WireModel):
    """Everything there is to check a call by, nothing of which has to be believed: what the parties
    signed is signed, and the rest can be read on the chain."""

    call_id: CallIdText
    chain_id: Count
    escrow: AddressHex
    """With the chain's id: the domain of every signature here."""
    request: CallBody
    channel: ChannelBody
    signed: SignedReceiptBody
    gpu_ids: tuple[str, ...]
    usage: tuple[UsageSampleBody, ...]
    charge: Amount
    before: SignedReceiptBody | None
    """The channel's receipt before this one; none at its first."""
    later: tuple[SignedReceiptBody, ...]
    """Those behind it, up to the one that the voucher names: empty where that is this one."""
    voucher: SignedVoucherBody | None
    """The first that pays for it."""
    on_chain: ChannelView | None
    """The channel as indexed; none while the index has not seen it."""
    app: AppTermsView | None
    """None while the index does not know the version."""
    manifest: str | None
    """The version's file, if this backend has it: its digest is on the chain."""
    operator_keys: tuple[AddressHex, ...]
    """Bound to the provider on chain."""


# --- sums --------------------------------------------------------------------------------------

Grouping = Literal["app", "provider", "gpu", "key", "channel"]


class SummarySums(WireModel):
    calls: Count
    """Asked for in that time, however they ended."""
    completed: Count
    failed: Count
    canceled: Count
    gpu_ms: Count
    run_ms: Count
    cold_start_ms: Count
    charge: Amount
    """The sum of the calls' receipts, to the unit."""


class SummaryRow(SummarySums):
    """Calls that were asked for from `start_ms` until before `end_ms`. What it is not grouped by is
    none."""

    start: str
    """Local time with its offset: 2026-03-29T00:00:00+01:00."""
    start_ms: Count
    end_ms: Count
    """A day has 23 or 25 hours where the clock is changed."""
    app_id: DigestHex | None = None
    provider: AddressHex | Literal[""] | None = None
    """Empty: none was asked."""
    gpu_class: str | None = None
    """Empty: no GPU."""
    key_id: str | None = None
    """Empty: the wallet's log-in."""
    channel_id: DigestHex | Literal[""] | None = None


class SummaryPage(WireModel):
    """Rows without calls are left out."""

    by: Literal["hour", "day"]
    time_zone: str
    group: tuple[Grouping, ...]
    from_ms: Count
    until_ms: Count
    items: tuple[SummaryRow, ...]
    sums: SummarySums


# --- limits ------------------------------------------------------------------------------------

LimitScope = Literal["workspace", "key", "app"]
LimitPeriod = Literal["call", "day", "total"]


class WantedLimit(WireModel):
    """The most that calls may cost: the workspace's all together, one API key's, or one app's."""

    scope: LimitScope
    subject: Annotated[str, Field(max_length=66)] = ""
    """The key's or the app's id; empty for the workspace."""
    period: LimitPeriod
    """One call, a day in UTC, or all calls ever."""
    limit: Amount


class SpendLimitBody(WantedLimit):
    id: str
    spent: Amount | None
    """Today, or ever; none of a limit for each call."""
    created_at_ms: Count


class SpendLimitList(WireModel):
    items: tuple[SpendLimitBody, ...]


# --- who pays ----------------------------------------------------------------------------------


class SessionKeyBody(WireModel):
    """The key that this backend signs a consumer's vouchers with: what a `ChannelAllowance` has to
    name as its signer."""

    signer: AddressHex
    created_at_ms: Count


class SignedAllowanceBody(WireModel):
    allowance: ChannelAllowanceBody
    signature: SignatureHex


class AllowanceBody(WireModel):
    digest: DigestHex
    allowance: ChannelAllowanceBody
    created_at_ms: Count


class AllowancePage(WireModel):
    items: tuple[AllowanceBody, ...]
    next_cursor: str | None = None
