"""Bodies of calls over HTTP: how a call stands, what it cost, its receipt, sums of many, limits and
the session key that pays. Those between payer and provider are `call_bodies`.

An answer to `POST /v1/apps/{app}/calls` is the result's own bytes; what a call came to stands in
its headers, named here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, Strict

from tallystick.protocol.call_bodies import (
    CallBody,
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
    SignatureHex,
    SignedVoucherBody,
    Uint64,
    VoucherBody,
    WireModel,
)

__all__ = [
    "BALANCE_HEADER",
    "CALL_ID_HEADER",
    "CHARGE_HEADER",
    "MAX_CHARGE_HEADER",
    "SIGNER_HEADER",
    "TOTAL_HEADER",
    "VOUCHER_DUE_HEADER",
    "AllowanceList",
    "AllowanceView",
    "AppTermsView",
    "CallPage",
    "CallReceiptView",
    "CallState",
    "CallView",
    "Grouping",
    "KeepWarmList",
    "KeepWarmView",
    "LimitPeriod",
    "LimitScope",
    "ManifestView",
    "SessionKeyView",
    "SignedAllowanceBody",
    "SpendLimitBody",
    "SpendLimitList",
    "Spending",
    "SummaryPage",
    "SummaryRow",
    "SummarySums",
    "UnsignedView",
    "WantedLimit",
    "WantedWarm",
    "WarmFailure",
    "WarmState",
    "WebhookSecretView",
    "WebhookState",
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

SIGNER_HEADER: Final = "Tallystick-Signer"
"""Of a request: the session key that the caller keeps, whose channels pay."""
VOUCHER_DUE_HEADER: Final = "Tallystick-Voucher-Due"
"""What the caller has to sign for the call: `channel=0x...; total=N; receipt=0x...`."""

CallState = Literal["queued", "running", "completed", "failed", "canceled"]
WebhookState = Literal["", "due", "delivered", "given_up"]


class CallView(WireModel):
    """One call. Figures are those of the receipt once it is `completed`, and 0 before."""

    call_id: str
    state: CallState
    app_id: DigestHex
    version: Count
    provider: str
    """The one that answered, else the last one asked; empty while none was."""
    gpu_class: str = ""
    gpus: Count = 0
    key_id: str = ""
    """Of the API key that asked; empty for a wallet's log-in."""
    warm: bool = False
    """Made by the gateway to keep the app warm, as its caller wished."""
    attempts: Count
    asked_at_ms: Count
    ended_at_ms: Count | None
    queued_ms: Count
    """Waited at the provider, a cold start included."""
    cold_start_ms: Count
    """Never charged."""
    run_ms: Count
    gpu_ms: Count
    price: AppPriceBody | None = None
    """As quoted."""
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
    webhook_state: WebhookState
    problem: dict[str, Any] | None
    """Why it failed; nothing was charged then."""


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

    call_id: str
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
Spending = Literal["call", "task"]
"""What money is spent on."""


class SummarySums(WireModel):
    calls: Count
    """Asked for in that time, however they ended."""
    tasks: Count = 0
    """Settled or refunded on the chain in that time."""
    completed: Count
    """Calls that were answered, and tasks that were paid."""
    failed: Count
    canceled: Count
    gpu_ms: Count
    run_ms: Count
    cold_start_ms: Count
    charge: Amount
    """The sum of the calls' receipts and of what the chain settled for the tasks, to the unit."""


class SummaryRow(SummarySums):
    """Calls that were asked for, or tasks that were settled, from `start_ms` until before `end_ms`.
    What it is not grouped by is none."""

    kind: Spending = "call"

    start: str
    """Local time with its offset: 2026-03-29T00:00:00+01:00."""
    start_ms: Count
    end_ms: Count
    """A day has 23 or 25 hours where the clock is changed."""
    app_id: DigestHex | Literal[""] | None = None
    """Empty: a task."""
    provider: AddressHex | Literal[""] | None = None
    """Empty: none was asked."""
    gpu_class: str | None = None
    """Empty: no GPU."""
    key_id: str | None = None
    """Empty: the wallet's log-in."""
    channel_id: DigestHex | Literal[""] | None = None


class SummaryPage(WireModel):
    """Rows without calls and tasks are left out."""

    kinds: tuple[Spending, ...] = ("call",)
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


# --- apps that are kept warm -------------------------------------------------------------------

WarmState = Literal[
    "quoted", "on", "hour_spent", "paused_funds", "limit_reached", "failing", "over", "stopped"
]
"""How a wish stands:

quoted         only its price was asked for
on             warm calls are made
hour_spent     the hour's most is spent: it goes on with the next hour, UTC
paused_funds   the account or the allowance does not cover a call: it goes on when there is money
limit_reached  a spend limit keeps the calls back: it goes on when there is room
failing        the last call was not answered, and cost nothing: it is tried again
over           its time is over
stopped        by its owner, or because the API key that asked for it is no more
"""


class WantedWarm(WireModel):
    """That an app be kept warm: a call with no work in it now and then, at the app's price."""

    app_id: DigestHex
    version: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)] | None = None
    """Without it the latest, also when a later one is published."""
    until_ms: Count
    """Unix time in milliseconds; at most 31 days ahead."""
    every_seconds: Annotated[int, Strict(), Field(ge=1, le=86_400)] | None = None
    """Between two calls; without it a little less than a worker stays without one."""
    max_charge_per_hour: Amount
    """The most that this may cost in one hour, UTC. No call is made that could pass it."""
    dry_run: bool = False
    """Answer what it would cost, and do nothing."""


class WarmFailure(WireModel):
    code: str
    detail: str
    at_ms: Count


class KeepWarmView(WireModel):
    """A wish that an app be kept warm, what that costs now, and what it cost so far. Amounts are in
    the smallest unit, prices those of this second."""

    id: str
    """Empty where only the price was asked for."""
    app_id: DigestHex
    version: Count | None
    """None: the latest."""
    state: WarmState
    every_seconds: Count
    until_ms: Count
    cooldown_seconds: Count
    """How long the app's workers stay without a call."""
    calls_per_hour: Count
    """At most: a call of the account's own takes the place of one."""
    run_ms: Count
    """Of one, as the last one ran; an estimate where none was made so far."""
    charge_per_call: Amount | None
    """If it runs so long. None of an app without a price now."""
    most_per_call: Amount | None
    """Its ceiling."""
    charge_per_hour: Amount | None
    most_per_hour: Amount | None
    """By the ceilings and by `max_charge_per_hour`."""
    max_charge_per_hour: Amount
    spent: Amount
    spent_this_hour: Amount
    calls: Count
    skipped: Count
    """Calls that were not needed: one of the account's own came to the app."""
    next_at_ms: Count | None
    last_call_id: str
    failure: WarmFailure | None
    """The last one, if there was any; it was charged with nothing."""
    created_at_ms: Count
    ended_at_ms: Count | None


class KeepWarmList(WireModel):
    items: tuple[KeepWarmView, ...]


# --- who pays ----------------------------------------------------------------------------------


class UnsignedView(WireModel):
    """What a channel whose key its payer keeps stands at."""

    channel: ChannelBody
    call_id: str = ""
    """Whose receipt waits for a voucher; empty: none does."""
    seq: Count = 0
    voucher: VoucherBody | None = None
    """To be signed by the channel's signer, once the call's receipt was checked."""
    last: SignedVoucherBody | None = None
    """The last one that was handed in."""


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
