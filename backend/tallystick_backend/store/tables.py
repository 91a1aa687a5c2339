"""Every table. One column has one writer; the writer stands in the table's docstring.

Amounts are `WeiColumn` (zero-padded text: exact and sortable on SQLite and PostgreSQL alike),
digests and addresses are lower-case hex text, times are integers with the unit in the name. A
migration goes with every change here: a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from tallystick_backend.store.types import Uint64Column, Uint96Column, WeiColumn

# Names for every constraint, so that a migration can change one.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(SQLModel):
    """Base of all tables; a metadata of our own keeps other packages' models out of our schema."""

    metadata = MetaData(naming_convention=NAMING)


def _big(*, primary_key: bool = False, index: bool = False) -> Any:
    # SQLite only autoincrements INTEGER PRIMARY KEY; there INTEGER is 64 bits wide anyway.
    return Field(
        sa_column=Column(
            BigInteger().with_variant(Integer, "sqlite"),
            primary_key=primary_key,
            index=index,
            nullable=False,
        )
    )


def _big_or_none() -> Any:
    return Field(default=None, sa_column=Column(BigInteger, nullable=True))


def _serial() -> Any:
    return Field(
        default=None,
        sa_column=Column(
            BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
    )


def _wei() -> Any:
    return Field(default=0, sa_column=Column(WeiColumn, nullable=False))


def _uint64_or_none() -> Any:
    return Field(default=None, sa_column=Column(Uint64Column, nullable=True))


def _json() -> Any:
    return Field(sa_column=Column(JSON, nullable=False))


# --- chain: written by the index only ---------------------------------------------------------


class CursorRow(Table, table=True):
    """Where the index stands. Writer: index. One row; refuses another chain or deployment."""

    __tablename__ = "cursor"
    id: int = Field(default=1, primary_key=True)
    chain_id: int = _big()
    genesis_hash: str
    escrow: str
    market: str
    staking: str
    app_registry: str | None = None
    """None: filled before apps were followed, when channels had no rows either."""
    block_number: int = _big()
    block_hash: str
    block_timestamp_s: int = _big()
    """Time of the last indexed block: what the rows know, they know as of then."""
    head_number: int = _big()
    """Newest block the RPC node told of; the rows lag by the difference."""
    degraded: str | None = None
    """Why the index stopped and waits for a person, in words; None while it follows."""
    fold: int | None = None
    """Which entities the rows were folded into (`index.project.FOLD`); None: the first ones."""


class BlockRow(Table, table=True):
    """Hashes of indexed blocks, to find the common ancestor after a reorg. Writer: index."""

    __tablename__ = "block"
    number: int = _big(primary_key=True)
    hash: str
    parent_hash: str
    timestamp_s: int = _big()


class ChainEventRow(Table, table=True):
    """Decoded events in order; the rows below are a pure fold of these. Writer: index."""

    __tablename__ = "chain_event"
    __table_args__ = (
        UniqueConstraint("block_hash", "log_index"),
        Index("ix_chain_event_newest", "name", "id"),
    )
    id: int | None = _serial()
    block_number: int = _big(index=True)
    block_hash: str
    log_index: int
    tx_hash: str = Field(index=True)
    timestamp_s: int = _big()
    contract: str
    """ComputeEscrow | TaskMarket | ProviderStaking | AppRegistry"""
    name: str
    args: dict[str, Any] = _json()
    """Numbers as decimal strings: JSON readers elsewhere round large ones."""


class ChainEventEntityRow(Table, table=True):
    """What each event changes, by kind and id: `task:0x..`, `version:0x../0000000001`. Writer:
    index. A rewind gives each entity named here back what it was before its first lost event."""

    __tablename__ = "chain_event_entity"
    entity: str = Field(primary_key=True)
    event_id: int = Field(
        sa_column=Column(
            BigInteger().with_variant(Integer, "sqlite"),
            ForeignKey("chain_event.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        )
    )
    before: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """The entity before this event; None when there was none, or when no rewind can reach it."""


class ChainEventPartyRow(Table, table=True):
    """Which accounts each event names. Writer: index."""

    __tablename__ = "chain_event_party"
    __table_args__ = (Index("ix_chain_event_party_newest", "address", "name", "event_id"),)
    address: str = Field(primary_key=True)
    event_id: int = Field(
        sa_column=Column(
            BigInteger().with_variant(Integer, "sqlite"),
            ForeignKey("chain_event.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        )
    )
    name: str
    """The event's."""


class TaskChainRow(Table, table=True):
    """What the chain says of a task. Writer: index."""

    __tablename__ = "task_chain"
    task_id: str = Field(primary_key=True)
    state: str = Field(index=True)
    """open | proven | disputed | settled | refunded | orphaned (its creation was reorganised
    away)"""
    consumer: str = Field(index=True)
    provider: str | None = None
    max_charge: int = _wei()
    charge: int = _wei()
    end_s: int = Field(default=0, sa_column=Column(Uint64Column, nullable=False))
    cancelled_at_s: int | None = _big_or_none()
    fence: int | None = _uint64_or_none()
    receipt_digest: str | None = None
    unlock_s: int | None = _big_or_none()
    created_tx: str | None = None
    created_block: int | None = _big_or_none()
    orphaned_at_ms: int | None = _big_or_none()
    """When the index saw the creation go; None while it is on the chain."""
    """Block of the creation, or of the proof that needed none."""
    proven_tx: str | None = None
    settled_tx: str | None = None


class AccountRow(Table, table=True):
    """Balances inside the escrow. Writer: index."""

    __tablename__ = "account"
    address: str = Field(primary_key=True)
    available: int = _wei()
    locked: int = _wei()
    credit: int = _wei()


class ProviderRow(Table, table=True):
    """Stake and registered capacity. Writer: index."""

    __tablename__ = "provider"
    address: str = Field(primary_key=True)
    stake: int = _wei()
    unbonding: int = _wei()
    seats: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    jailed_until_s: int | None = _big_or_none()
    gpus_registered: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    gpu_set: str | None = None
    tasks_settled: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class OperatorKeyRow(Table, table=True):
    """Keys bound to a provider, for ever. Writer: index."""

    __tablename__ = "operator_key"
    key: str = Field(primary_key=True)
    provider: str = Field(index=True)
    retired_at_s: int | None = _big_or_none()


class ChannelRow(Table, table=True):
    """What the escrow holds for one payer, signer and provider. Writer: index."""

    __tablename__ = "channel"
    __table_args__ = (Index("ix_channel_newest", "opened_at_s", "channel_id"),)
    channel_id: str = Field(primary_key=True)
    payer: str = Field(index=True)
    signer: str
    provider: str = Field(index=True)
    salt: int = Field(sa_column=Column(Uint96Column, nullable=False))
    opened_at_s: int = Field(sa_column=Column(BigInteger, nullable=False))
    deposited: int = _wei()
    claimed: int = _wei()
    close_at_s: int | None = _uint64_or_none()
    receipt_digest: str | None = None
    redeemed_at_s: int | None = _big_or_none()


class AppRow(Table, table=True):
    """What the registry says of an app. Writer: index."""

    __tablename__ = "app"
    __table_args__ = (Index("ix_app_newest", "published_at_s", "app_id"),)
    app_id: str = Field(primary_key=True)
    publisher: str = Field(index=True)
    salt: str = Field(index=True)
    """Of an app that `tallystick app deploy` published the keccak-256 of its name."""
    royalty_to: str
    royalty_bps: int
    published_at_s: int = Field(sa_column=Column(BigInteger, nullable=False))
    versions: int = Field(sa_column=Column(BigInteger, nullable=False))
    manifest_uri: str = Field(sa_column=Column(Text, nullable=False))
    retired_at_s: int | None = _uint64_or_none()
    permanent: bool = False


class AppVersionRow(Table, table=True):
    """A version never changes. Writer: index."""

    __tablename__ = "app_version"
    __table_args__ = (Index("ix_app_version_in_order", "app_id", "version"),)
    place: str = Field(primary_key=True)
    """`app_id/version`, ten digits."""
    app_id: str
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    image_digest: str
    manifest_digest: str
    manifest_uri: str = Field(sa_column=Column(Text, nullable=False))
    published_at_s: int = Field(sa_column=Column(BigInteger, nullable=False))


class AppPriceRow(Table, table=True):
    """Prices of a version, the first from its block on; none can be withdrawn. Writer: index."""

    __tablename__ = "app_price"
    __table_args__ = (Index("ix_app_price_in_order", "app_id", "version", "from_s"),)
    place: str = Field(primary_key=True)
    """`app_id/version/from_s`, ten and twenty digits: sorts by time within a version."""
    app_id: str
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    from_s: int = Field(sa_column=Column(Uint64Column, nullable=False))
    flat: int = _wei()
    fee_per_call: int = _wei()
    rate_per_gpu_second: int = _wei()


class AppDiscountRow(Table, table=True):
    """Discounts as announced, in that order: each takes the place of those before it from its start
    on. Writer: index."""

    __tablename__ = "app_discount"
    __table_args__ = (Index("ix_app_discount_in_order", "app_id", "place"),)
    place: str = Field(primary_key=True)
    """`app_id/block/log`, twenty and ten digits."""
    app_id: str
    bps: int
    start_s: int = Field(sa_column=Column(Uint64Column, nullable=False))
    end_s: int = Field(sa_column=Column(Uint64Column, nullable=False))
    announced_at_s: int = Field(sa_column=Column(BigInteger, nullable=False))


class EarnedRow(Table, table=True):
    """What an account earned over its life, before the protocol's fee. Writer: index."""

    __tablename__ = "earned"
    address: str = Field(primary_key=True)
    tasks: int = _wei()
    tasks_settled: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    calls: int = _wei()
    redemptions: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    dispatch: int = _wei()
    royalties: int = _wei()
    court: int = _wei()
    commission: int = _wei()
    rewards: int = _wei()
    withdrawn: int = _wei()
    fees: int = _wei()


class PoolRow(Table, table=True):
    """What others delegated to a provider. Writer: index."""

    __tablename__ = "pool"
    provider: str = Field(primary_key=True)
    delegated: int = _wei()
    undelegating: int = _wei()
    delegators: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    generation: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    fees: int = _wei()
    commission_bps: int = 0
    commission_at_s: int = Field(default=0, sa_column=Column(Uint64Column, nullable=False))
    commission_before_bps: int = 0


class DelegationRow(Table, table=True):
    """One delegator's part of a pool; of another generation than the pool's it is void. Writer:
    index."""

    __tablename__ = "delegation"
    __table_args__ = (Index("ix_delegation_of_delegator", "delegator", "place"),)
    place: str = Field(primary_key=True)
    """`provider/delegator`"""
    provider: str
    delegator: str
    shares: int = _wei()
    generation: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    put_in: int = _wei()
    taken_out: int = _wei()
    claimed: int = _wei()


class TotalsRow(Table, table=True):
    """Of the whole market. One row. Writer: index."""

    __tablename__ = "totals"
    name: str = Field(primary_key=True)
    escrowed: int = _wei()
    staked: int = _wei()
    delegated: int = _wei()
    slashed: int = _wei()
    tasks_settled: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    task_charges: int = _wei()
    redemptions: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    call_charges: int = _wei()
    fees: int = _wei()


class BooksRow(Table, table=True):
    """Whether the rows above agree with the contracts. One row. Writer: reconciler."""

    __tablename__ = "books"
    id: int = Field(default=1, primary_key=True)
    block_number: int = _big()
    """At which they were compared last."""
    at_ms: int = _big()
    differences: list[dict[str, Any]] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """entity, what, here, there; None: they agree."""


# --- orders: written by the API only ----------------------------------------------------------


class TaskOrderRow(Table, table=True):
    """The consumer's signed order and manifest. Writer: API."""

    __tablename__ = "task_order"
    __table_args__ = (Index("ix_task_order_mine", "consumer", "created_at_ms", "task_id"),)
    task_id: str = Field(primary_key=True)
    consumer: str
    name: str = ""
    terms: dict[str, Any] = _json()
    signature: str = Field(sa_column=Column(Text, nullable=False))
    manifest: dict[str, Any] = _json()
    secured: bool = True
    created_at_ms: int = _big(index=True)
    withdrawn_at_ms: int | None = _big_or_none()
    """Set by cancel: dispatch gives no new lease and stops the one in force."""


class SealedKeyRow(Table, table=True):
    """Input keys sealed to a provider for a fence. Writer: API."""

    __tablename__ = "sealed_key"
    task_id: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    fence: int = Field(primary_key=True)
    sealed: str = Field(sa_column=Column(Text, nullable=False))


class AcceptanceRow(Table, table=True):
    """The consumer's co-signature on a receipt. Writer: API."""

    __tablename__ = "acceptance"
    task_id: str = Field(primary_key=True)
    total: int = _wei()
    receipt_digest: str
    signature: str = Field(sa_column=Column(Text, nullable=False))
    at_ms: int = _big()


# --- work: written by dispatch only -----------------------------------------------------------


class TaskWorkRow(Table, table=True):
    """Where the work on a task stands. Writer: dispatch. No row means nothing was tried yet."""

    __tablename__ = "task_work"
    task_id: str = Field(primary_key=True)
    state: str = Field(index=True)
    """waiting | leased | running | finished | failed | stopped"""
    fence: int = 0
    """Highest fence given so far."""
    attempts: int = 0
    failure: str | None = None
    excluded: list[str] = _json()
    """Providers not to ask again for this task."""
    needs_key_provider: str | None = None
    not_before_ms: int = _big()


class LeaseRow(Table, table=True):
    """One provider's claim of one task. Writer: dispatch; updates guarded by task, fence, token."""

    __tablename__ = "lease"
    __table_args__ = (Index("ix_lease_open", "state", "lease_until_s"),)
    task_id: str = Field(primary_key=True)
    fence: int = Field(primary_key=True)
    provider: str = Field(index=True)
    token: str
    state: str
    """offered | accepted | running | finished | declined | failed | lost | stopped | done"""
    gpus: int = 0
    gpu_class: str = ""
    lease_from_s: int = _big()
    lease_until_s: int = _big()
    assignment_signature: str
    stage: str = ""
    percent: int | None = None
    eta_seconds: int | None = None
    message: str = ""
    gpu_ms: int = _big()
    energy_mj: int | None = _big_or_none()
    updated_at_ms: int = _big()


class LeaseSampleRow(Table, table=True):
    """Readings of a lease's cards over time, for the task's charts. Writer: dispatch; the oldest of
    a task are thinned out, so there are never more than a few hundred."""

    __tablename__ = "lease_sample"
    __table_args__ = (Index("ix_lease_sample_in_order", "task_id", "id"),)
    id: int | None = _serial()
    task_id: str
    fence: int
    at_ms: int = _big()
    gpus: list[dict[str, Any]] = _json()
    """wire.GpuSample"""


class ReceiptRow(Table, table=True):
    """The provider's signed receipt of one fence. Writer: dispatch; the first one stays."""

    __tablename__ = "receipt"
    task_id: str = Field(primary_key=True)
    fence: int = Field(primary_key=True)
    provider: str
    digest: str = Field(index=True)
    receipt: dict[str, Any] = _json()
    signature: str
    exit_code: int
    result_digest: str
    result_bytes: int = _big()
    energy_mj: int | None = _big_or_none()
    peak_gpu_memory_mib: int | None = None
    simulated: bool = False
    runtime: str = "docker"
    at_ms: int = _big()


class AnnouncementRow(Table, table=True):
    """What a provider offers now. Writer: dispatch."""

    __tablename__ = "announcement"
    provider: str = Field(primary_key=True)
    operator_key: str
    hpke_key: str
    runtime: str
    agent_version: str
    body: dict[str, Any] = _json()
    """The whole wire.Announcement."""
    draining: bool = False
    last_seen_ms: int = _big(index=True)


class TaskLogRow(Table, table=True):
    """Log chunks as the provider sent them. Writer: dispatch."""

    __tablename__ = "task_log"
    __table_args__ = (
        UniqueConstraint("task_id", "fence", "seq"),
        Index("ix_task_log_in_order", "task_id", "id"),
    )
    id: int | None = _serial()
    task_id: str
    fence: int
    seq: int
    stream: str
    at_ms: int = _big()
    text: str = Field(sa_column=Column(Text, nullable=False))


class TaskEventRow(Table, table=True):
    """Steps of a task in order, for SSE. Append-only; whoever changes a task appends in the same
    transaction."""

    __tablename__ = "task_event"
    __table_args__ = (Index("ix_task_event_in_order", "task_id", "id"),)
    id: int | None = _serial()
    task_id: str
    at_ms: int = _big()
    kind: str
    data: dict[str, Any] = _json()


# --- calls: written by the gateway only -------------------------------------------------------


class ManifestRow(Table, table=True):
    """Files that versions' `manifestDigest` names, as they were handed in. Writer: API."""

    __tablename__ = "manifest"
    digest: str = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    created_at_ms: int = _big()


class SessionKeyRow(Table, table=True):
    """Keys that the gateway signs a consumer's vouchers with: one at a time in use. Writer:
    gateway."""

    __tablename__ = "session_key"
    signer: str = Field(primary_key=True)
    account: str = Field(index=True)
    sealed: str = Field(sa_column=Column(Text, nullable=False))
    """The private key, encrypted for this backend."""
    created_at_ms: int = _big()
    retired_at_ms: int | None = _big_or_none()
    gas_wei: int = _wei()
    """Ether that the dispatcher's wallet has sent it so far, for gas."""


class ChannelAllowanceRow(Table, table=True):
    """What consumers signed for the session keys to spend. Writer: gateway."""

    __tablename__ = "channel_allowance"
    digest: str = Field(primary_key=True)
    payer: str = Field(index=True)
    signer: str
    cap: int = _wei()
    expires_at_s: int = Field(sa_column=Column(Uint64Column, nullable=False))
    purpose: str
    nonce: int = _wei()
    signature: str = Field(sa_column=Column(Text, nullable=False))
    created_at_ms: int = _big()


class GatewayJournalRow(Table, table=True):
    """What the gateway made durable and did not bring to the other tables yet: one row for all
    calls of a moment, gone with the transaction that brings it there. Writer: gateway."""

    __tablename__ = "gateway_journal"
    id: int = _big(primary_key=True)
    """Given by the writer."""
    body: str = Field(sa_column=Column(Text, nullable=False))
    """Lines: `gateway.journal`."""


class PayingChannelRow(Table, table=True):
    """The payer's end of a channel, up to the gateway's journal. Writer: gateway."""

    __tablename__ = "paying_channel"
    channel_id: str = Field(primary_key=True)
    used_at_ms: int = _big()
    state: str = Field(sa_column=Column(Text, nullable=False))
    """`call_journal.PayingCheckpoint`; empty where the records were not whole, and then nothing is
    signed on the channel."""


class CallRow(Table, table=True):
    """One call from its arrival to its receipt. Writer: gateway."""

    __tablename__ = "call"
    __table_args__ = (
        UniqueConstraint("account", "idempotency_key"),
        Index("ix_call_mine", "account", "asked_at_ms", "call_id"),
        Index("ix_call_of_app", "app_id", "asked_at_ms"),
        Index("ix_call_in_channel", "channel_id", "seq"),
        Index("ix_call_webhook_due", "webhook_at_ms"),
        Index("ix_call_forgotten", "forget_at_ms"),
        Index(
            "ix_call_warm",
            "warm_id",
            "asked_at_ms",
            sqlite_where=text("warm_id is not null"),
            postgresql_where=text("warm_id is not null"),
        ),
    )
    call_id: str = Field(primary_key=True)
    account: str
    """Who pays."""
    key_id: str = ""
    """Of the API key that asked; empty for a wallet's session."""
    idempotency_key: str | None = None
    request_hash: str = ""
    """Of everything that the caller sent: a key used for something else is refused."""
    app_id: str
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    provider: str = ""
    """The one that answered, else the last one asked."""
    gpu_class: str = ""
    gpus: int = 0
    channel_id: str = ""
    state: str
    """queued | running | completed | failed | canceled"""
    attempts: int = 0
    asked_at_ms: int = _big()
    ended_at_ms: int | None = _big_or_none()
    queued_ms: int = _big()
    cold_start_ms: int = _big()
    run_ms: int = _big()
    gpu_ms: int = _big()
    flat: int = _wei()
    fee_per_call: int = _wei()
    rate_per_gpu_second: int = _wei()
    charge: int = _wei()
    """0 unless completed."""
    seq: int | None = _big_or_none()
    total: int = _wei()
    """Of the channel, with this call."""
    request: dict[str, Any] = _json()
    """call_bodies.CallBody"""
    input: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    """Kept until the call ends; None of a large one whose result nobody can ask for later."""
    answer: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """call_bodies.CallAnswerBody, with the signed receipt."""
    voucher: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """The first one that pays for it, which may pay for later ones too."""
    problem: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """Why it failed, as it was told."""
    media_type: str = ""
    result_bytes: int = _big()
    result: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    """Kept for calls that are fetched later or may be asked for again, until `forget_at_ms`."""
    forget_at_ms: int | None = _big_or_none()
    """None: nobody can ask for the result later."""
    webhook_url: str = Field(default="", sa_column=Column(Text, nullable=False))
    webhook_state: str = ""
    """empty | due | delivered | given_up"""
    webhook_attempts: int = 0
    webhook_at_ms: int | None = _big_or_none()
    """When the next attempt is due."""
    warm_id: str | None = None
    """Of a warm call that nobody asked for himself: whose `keep_warm` it is."""
    signer: str = ""
    """The consumer's own session key, whose channels alone may pay; empty: the one it lent."""


class KeepWarmRow(Table, table=True):
    """A wish that an app be kept warm, and how far it came. What was spent is that of the calls up
    to `counted_ms`; the calls themselves say the rest. Writers: API (made, stopped), gateway."""

    __tablename__ = "keep_warm"
    __table_args__ = (
        UniqueConstraint("wish"),
        Index("ix_keep_warm_due", "next_at_ms"),
        Index("ix_keep_warm_mine", "account", "created_at_ms"),
    )
    id: str = Field(primary_key=True)
    account: str
    key_id: str = ""
    """Of the API key that asked: its limits hold, and without it this ends."""
    app_id: str
    version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """0: the latest of the moment."""
    wish: str | None = None
    """Account, app and version while it is on: there is one of each."""
    every_s: int
    max_per_hour: int = _wei()
    until_ms: int = _big()
    created_at_ms: int = _big()
    state: str = "on"
    """call_views.WarmState"""
    next_at_ms: int | None = _big_or_none()
    """When the gateway looks at it again; None once all is over and counted."""
    ended_at_ms: int | None = _big_or_none()
    counted_ms: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """When the last call was asked for that `spent` contains."""
    spent: int = _wei()
    calls: int = 0
    skipped: int = 0
    hour: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Since 1970, UTC: of which hour `hour_spent` speaks."""
    hour_spent: int = _wei()
    run_ms: int | None = _big_or_none()
    """Of the last call."""
    last_call_id: str = ""
    problem: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """The last failure, as it was told."""
    failed_at_ms: int | None = _big_or_none()


class SpendLimitRow(Table, table=True):
    """A most that calls may cost. Writer: API."""

    __tablename__ = "spend_limit"
    __table_args__ = (UniqueConstraint("account", "scope", "subject", "period"),)
    id: str = Field(primary_key=True)
    account: str = Field(index=True)
    scope: str
    """workspace | key | app"""
    subject: str = ""
    """The key's or the app's id; empty for the workspace."""
    period: str
    """call | day | total"""
    limit_units: int = _wei()
    created_at_ms: int = _big()


class SpendRow(Table, table=True):
    """What calls cost, summed up: limits are judged by it. One row for each key, app and UTC day.
    Writer: gateway, in the transaction of the call."""

    __tablename__ = "spend"
    account: str = Field(primary_key=True)
    day: int = _big(primary_key=True)
    """Days since 1970, UTC."""
    key_id: str = Field(primary_key=True)
    app_id: str = Field(primary_key=True)
    charge: int = _wei()
    calls: int = _big()


class GatewayRow(Table, table=True):
    """Which process signs vouchers on this database. One row. Every transaction of the gateway
    requires its own token here, so a process that was overtaken can write, and so sign, nothing.
    Writer: gateway."""

    __tablename__ = "gateway"
    id: int = Field(default=1, primary_key=True)
    token: str
    held_until_ms: int = _big()


# --- access: written by the API only ----------------------------------------------------------


class BlobRow(Table, table=True):
    """Sealed bundles on disk, by keccak-256 of their bytes. Writer: API."""

    __tablename__ = "blob"
    digest: str = Field(primary_key=True)
    size_bytes: int = _big()
    owner: str
    created_at_ms: int = _big()


class SiweNonceRow(Table, table=True):
    """Single-use login nonces. Writer: API."""

    __tablename__ = "siwe_nonce"
    nonce: str = Field(primary_key=True)
    expires_at_ms: int = _big()
    used_at_ms: int | None = _big_or_none()


class SessionRow(Table, table=True):
    """Logged-in wallets; only the token's hash is kept. Writer: API."""

    __tablename__ = "session"
    token_hash: str = Field(primary_key=True)
    address: str = Field(index=True)
    expires_at_ms: int = _big()


class ApiKeyRow(Table, table=True):
    """API keys; only the hash is kept. Writer: API."""

    __tablename__ = "api_key"
    id: str = Field(primary_key=True)
    address: str = Field(index=True)
    name: str
    prefix: str
    secret_hash: str = Field(index=True)
    scopes: list[str] = _json()
    created_at_ms: int = _big()
    last_used_at_ms: int | None = _big_or_none()
    revoked_at_ms: int | None = _big_or_none()


class IdempotencyRow(Table, table=True):
    """Answers already given, by caller and key. Writer: API."""

    __tablename__ = "idempotency"
    caller: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    status: int
    body: dict[str, Any] = _json()
    created_at_ms: int = _big(index=True)


class LoginProofRow(Table, table=True):
    """Nonces of provider log-ins already used. Writer: dispatch."""

    __tablename__ = "login_proof"
    nonce: str = Field(primary_key=True)
    at_ms: int = _big(index=True)
