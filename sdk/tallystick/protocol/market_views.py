"""The market as anybody may look at it: what a page needs to begin, prices, totals, the explorer.

Everything here follows from the chain's events and from what providers announce; amounts are
decimal strings in the token's smallest unit.
"""

from __future__ import annotations

from typing import Any, Literal

from tallystick.protocol.wire import (
    AddressHex,
    Amount,
    Count,
    DigestHex,
    FindingBody,
    ProviderBody,
    ShortText,
    Uint64,
    WireModel,
)

__all__ = [
    "AgentSettings",
    "AppLoadView",
    "AppStartsView",
    "CallsLately",
    "ConfigBody",
    "DelegationBody",
    "DelegationPage",
    "EarnedBody",
    "EmbeddedGpus",
    "EmbeddedTask",
    "EventKind",
    "ExplorerEvent",
    "ExplorerPage",
    "ExplorerTask",
    "GpuPrices",
    "GpuSample",
    "NetworkTotals",
    "Notice",
    "NoticeKind",
    "OverviewBody",
    "PoolBody",
    "PriceList",
    "ProviderSummary",
    "SearchHit",
    "SearchResult",
    "ServingBody",
    "ServingTask",
    "TaskSample",
    "TaskSamples",
    "TokenBody",
    "WorkerStart",
    "WorkersBody",
]


class TokenBody(WireModel):
    address: AddressHex
    symbol: str
    decimals: Count
    name: str
    version: str
    """With `name`, the chain and the address the token's EIP-712 domain: permits and EIP-3009
    authorizations are signed for it."""


class ConfigBody(WireModel):
    """What a page in a browser has to know before it can do anything."""

    version: str
    """Of this backend."""
    chain_id: Count
    network_name: str
    """For people, and for a wallet that is offered this chain."""
    rpc_url: str
    """A node that browsers may ask and wallets may be offered; empty if the operator names none."""
    explorer_url: str
    """Of a block explorer: `{explorer_url}/tx/{hash}`; empty if the operator names none."""
    token: TokenBody
    """What work is paid in."""
    staking_token: TokenBody
    escrow: AddressHex
    market: AddressHex
    staking: AddressHex
    court: AddressHex
    """Zero where there is none."""
    registry: AddressHex
    """Zero where there is none."""
    treasury: AddressHex
    start_block: Count
    """First block that can hold an event of these contracts."""
    dispatcher: AddressHex
    dispatcher_bps: Count
    challenge_window_seconds: Count
    protocol_fee_bps: Count
    stake_unit: Amount
    """Own stake per GPU, smallest unit of the staking token."""
    unbonding_seconds: Count
    close_seconds: Count
    """From the request to close a channel until anyone may close it."""
    cancel_seconds: Count
    commission_notice_seconds: Count
    jail_seconds: Count
    notice_seconds: Count
    """How long before it takes effect a price change is announced."""


class AgentSettings(WireModel):
    """What a provider's agent has to know of this market. It checks the contracts on a node of its
    own choice; these are where it may begin."""

    deployment: dict[str, Any]
    """As `tallystick.protocol.deployments.load` reads it."""
    nats_url: str
    """The message bus to log in at; empty if the operator names none."""
    rpc_url: str
    """A node that may be asked; empty if the operator names none."""


# --- a provider at work -------------------------------------------------------------------------


class ServingTask(WireModel):
    """One lease of the provider: a task that it runs or ran."""

    task_id: DigestHex
    fence: Count
    state: str
    """Of the lease: offered, accepted, running, finished, declined, failed, lost, stopped, done."""
    stage: str
    percent: Count | None
    message: str
    gpus: Count
    gpu_class: str
    lease_from: Uint64
    updated_at_ms: Count
    gpu_ms: Count
    charge: Amount | None
    """By its receipt; none before there is one."""
    chain_state: str | None
    """Of the task; none while the chain does not know it."""
    settled_tx: DigestHex | None


class ServingBody(WireModel):
    """What the caller's own agent says of its machine, and what it was given to run."""

    provider: AddressHex
    online: bool
    last_seen_ms: Count | None
    agent_version: str | None
    operator_key: AddressHex | None
    checked_at_ms: Count | None
    """When the agent's doctor last looked, by the agent's clock."""
    findings: tuple[FindingBody, ...]
    tasks: tuple[ServingTask, ...]
    """The newest, at most 100."""


# --- prices and totals --------------------------------------------------------------------------


class GpuPrices(WireModel):
    """Cards of one kind that providers offer now; prices are theirs per GPU-second, counted by
    card."""

    gpu_class: str
    model: str
    memory_mib: Count
    simulated: bool
    providers: Count
    cards: Count
    cards_free: Count
    """Not held by a lease; which card of a class a lease holds is the provider's choice."""
    min_rate: Amount
    median_rate: Amount
    """The lower of the two in the middle."""
    max_rate: Amount


class PriceList(WireModel):
    at_ms: Count
    complete: bool
    """False when there are more providers than are looked at."""
    items: tuple[GpuPrices, ...]


class CardOfferBody(WireModel):
    """Cards of one kind at one provider and price."""

    provider: AddressHex
    gpu_class: str
    model: str
    memory_mib: Count
    simulated: bool
    runtime: str
    rate_per_gpu_second: Amount
    cards: Count
    cards_free: Count


class CardSearch(WireModel):
    """What a search found among the cards of providers that are online and take work."""

    at_ms: Count
    complete: bool
    """False when there are more providers than are looked at."""
    found: Count
    """Offers in all; `items` has as many of them as were asked for."""
    items: tuple[CardOfferBody, ...]


class PaidPrices(WireModel):
    """What settled tasks of one class paid for a GPU-second on one day (UTC). A task's price is its
    charge over its metered time, rounded down."""

    day: str
    """As `2026-11-21`."""
    start_ms: Count
    gpu_class: str
    tasks: Count
    gpu_ms: Count
    charge: Amount
    """The sum of them."""
    min_rate: Amount
    median_rate: Amount
    """The lower of the two in the middle."""
    max_rate: Amount


class PriceHistory(WireModel):
    from_ms: Count
    until_ms: Count
    complete: bool
    """False when there are more settlements than are looked at: the earlier days are missing."""
    items: tuple[PaidPrices, ...]
    """By day, then by class."""


class NetworkTotals(WireModel):
    """Of the whole market, as of `block`. Amounts of work are in the payment token, `staked`,
    `delegated` and `slashed` in the staking token."""

    block: Count
    block_at: Count
    """Unix seconds."""
    escrowed: Amount
    staked: Amount
    delegated: Amount
    slashed: Amount
    tasks_settled: Count
    task_charges: Amount
    redemptions: Count
    call_charges: Amount
    """Of calls whose vouchers were redeemed."""
    fees: Amount
    tasks: dict[str, Count]
    """Tasks on the chain by state."""
    apps: Count
    providers_online: Count
    cards_online: Count
    cards_free: Count


# --- explorer -----------------------------------------------------------------------------------

EventKind = Literal[
    "task", "dispute", "redemption", "channel", "money", "stake", "delegation", "slash", "app"
]


class ExplorerEvent(WireModel):
    """One event of the contracts, as it is on the chain."""

    id: Count
    """Rises in the order of the chain."""
    kind: EventKind | Literal["other"]
    name: str
    """In Solidity."""
    contract: str
    block_number: Count
    at: Count
    """Unix seconds, of the block."""
    tx: DigestHex
    log_index: Count
    parties: dict[str, AddressHex]
    """Accounts that the event names, by their part in it."""
    amount: Amount | None
    """The sum that it is about."""
    token: Literal["payment", "stake"] | None
    task_id: DigestHex | None
    app_id: DigestHex | None
    channel_id: DigestHex | None
    args: dict[str, Any]
    """All of its values, numbers as decimal strings."""


class ExplorerPage(WireModel):
    items: tuple[ExplorerEvent, ...]
    next_cursor: str | None = None
    block: Count
    """As of which."""


class ExplorerTask(WireModel):
    """What the chain says of a task, to anybody; inputs, names and logs are its consumer's."""

    id: DigestHex
    state: str
    consumer: AddressHex
    provider: AddressHex | None
    max_charge: Amount
    charge: Amount
    end: Uint64
    """Unix seconds."""
    receipt: DigestHex | None
    created_tx: DigestHex | None
    proven_tx: DigestHex | None
    settled_tx: DigestHex | None
    block: Count
    events: tuple[ExplorerEvent, ...]


class SearchHit(WireModel):
    kind: Literal["task", "app", "channel", "provider", "account", "transaction", "block"]
    id: str
    title: str
    """For people: an app's address of its manifest, a task's state."""


class SearchResult(WireModel):
    items: tuple[SearchHit, ...]


# --- providers ----------------------------------------------------------------------------------


class PoolBody(WireModel):
    """What others delegated to a provider, in the staking token; `fees` in the payment token."""

    delegated: Amount
    undelegating: Amount
    delegators: Count
    fees: Amount
    """Brought to the delegators so far."""
    commission_bps: Count
    """In force now."""
    next_commission_bps: Count | None
    """Announced, from `next_commission_at` on."""
    next_commission_at: Uint64 | None


class EarnedBody(WireModel):
    """Over an account's life, before the protocol's fee, in the payment token."""

    tasks: Amount
    tasks_settled: Count
    calls: Amount
    redemptions: Count
    dispatch: Amount
    royalties: Amount
    court: Amount
    commission: Amount
    """Of the fees of its own pool."""
    rewards: Amount
    """Claimed from pools that it delegates to."""
    withdrawn: Amount
    fees: Amount
    """The protocol's, taken when credit was withdrawn."""


class ProviderSummary(WireModel):
    """Everything public of one provider; its history is the explorer's, by its address."""

    provider: ProviderBody
    seats: Count
    jailed_until: Count | None
    """From when on it can lift its jail."""
    credit: Amount
    """Earned, and not withdrawn yet."""
    earned: EarnedBody
    pool: PoolBody
    block: Count


class DelegationBody(WireModel):
    provider: AddressHex
    delegator: AddressHex
    shares: Amount
    """Of the pool; what they are worth says the staking contract."""
    void: bool
    """A slash left nothing of these shares."""
    put_in: Amount
    taken_out: Amount
    claimed: Amount


class DelegationPage(WireModel):
    items: tuple[DelegationBody, ...]
    next_cursor: str | None = None


# --- an app's load ------------------------------------------------------------------------------


class WorkersBody(WireModel):
    """Workers of one version at one provider, as it said last."""

    provider: AddressHex
    version: Count
    state: str
    workers: Count
    max_workers: Count
    places: Count
    running: Count
    queued: Count
    delay_ms: Count
    cold_start_ms: Count
    problem: str


class CallsLately(WireModel):
    """Calls that this backend carried in the last minutes, of all callers together."""

    window_s: Count
    calls: Count
    completed: Count
    failed: Count
    p50_ms: Count | None
    """From asking to the end, of the completed ones."""
    p95_ms: Count | None
    complete: bool
    """False when there were more than are looked at: then these are the last ones."""


class AppLoadView(WireModel):
    app_id: DigestHex
    at_ms: Count
    workers: tuple[WorkersBody, ...]
    calls: CallsLately


class WorkerStart(WireModel):
    """How a worker started, and the end of what it wrote until it was ready, or was given up. That
    is the program's own text: to be shown as text."""

    provider: AddressHex
    version: Count
    at_ms: Count
    ready: bool
    why: str
    text: str


class AppStartsView(WireModel):
    app_id: DigestHex
    items: tuple[WorkerStart, ...]
    """The newest first."""


# --- the caller's own ---------------------------------------------------------------------------


class GpuSample(WireModel):
    """A reading that the driver cannot give is None."""

    gpu_id: ShortText
    utilization_percent: Count | None = None
    memory_used_mib: Count | None = None
    temperature_c: int | None = None
    power_mw: Count | None = None
    energy_mj: Count | None = None


class TaskSample(WireModel):
    id: Count
    fence: Count
    at_ms: Count
    gpus: tuple[GpuSample, ...]


class TaskSamples(WireModel):
    items: tuple[TaskSample, ...]


NoticeKind = Literal[
    "task_failed",
    "limit_reached",
    "app_paused_funds",
    "app_failing",
    "channel_closing",
    "provider_jailed",
    "provider_offline",
]
"""What needs a look:

task_failed        a task of the last day ran out of attempts; its ceiling can be had back
limit_reached      a spending limit lets nothing more through
app_paused_funds   an app is no longer kept warm: account or allowance do not cover a call
app_failing        an app is to be kept warm, and its calls fail
channel_closing    a channel with unclaimed money is being closed; the provider has until `at`
provider_jailed    a provider that is the account's own, or holds its delegation, is in jail
provider_offline   the same, and it was not heard of lately
"""


class Notice(WireModel):
    kind: NoticeKind
    subject: str
    """The task's, limit's, app's or channel's id, or the provider's address."""
    name: str = ""
    """A task's name, a limit's scope, `own` or `delegated` of a provider."""
    amount: Amount | None = None
    """What lies in the channel, or what the limit is. Payment token."""
    at: Count | None = None
    """Unix seconds at which the channel closes or the jail ends."""


class OverviewBody(WireModel):
    """What an account has, what it spends now, and until when that lasts. Payment token."""

    address: AddressHex
    block: Count
    available: Amount
    reserved: Amount
    """Locked for tasks, and in channels without being claimed."""
    locked: Amount
    in_channels: Amount
    credit: Amount
    tasks_running: Count
    spent_today_calls: Amount
    """Since midnight, UTC."""
    spent_today_tasks: Amount
    pace_per_hour: Amount
    """Calls of the last hour, and what the running tasks take in an hour."""
    lasts_until: Count | None
    """Unix seconds at which everything that is available and reserved would be spent at this pace;
    None while nothing is being spent,
    or so little that it would last beyond the year 9999."""
    alerts: tuple[Literal["runs_out_today", "nothing_available", "index_stopped"], ...]
    notices: tuple[Notice, ...] = ()
    """At most 100."""


# --- for pages of others ------------------------------------------------------------------------


class EmbeddedTask(WireModel):
    """What anybody may know of a task, as of `block`."""

    id: DigestHex
    state: str
    provider: AddressHex | None
    max_charge: Amount
    charge: Amount
    end: Uint64
    block: Count
    token_symbol: str
    token_decimals: Count


class EmbeddedGpus(WireModel):
    at_ms: Count
    items: tuple[GpuPrices, ...]
    token_symbol: str
    token_decimals: Count
