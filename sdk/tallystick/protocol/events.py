"""What happened on chain: one frozen dataclass per contract event, in the words of the contracts.

Raw logs go no further than `decode_log`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self

from tallystick.protocol import codec
from tallystick.protocol.codec import ContractName
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import MessageError
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.types import (
    Address,
    BlockNumber,
    Digest,
    Fence,
    TaskId,
    to_address,
    to_digest,
)

__all__ = [
    "EVENTS",
    "BountyCredited",
    "BountyWithdrawn",
    "CommissionSet",
    "AllowanceRevoked",
    "AllowanceUsed",
    "ChannelClosed",
    "ChannelDeposited",
    "ChannelFunded",
    "ChannelReleased",
    "CloseCancelled",
    "CloseRequested",
    "CreditWithdrawn",
    "Delegated",
    "DelegationWithdrawn",
    "Deposited",
    "Event",
    "EventAt",
    "FeesAdded",
    "FeesShared",
    "FeesWithdrawn",
    "GpusRegistered",
    "Jailed",
    "Log",
    "OperatorKeyBound",
    "OperatorKeyRetired",
    "PayoutAddressSet",
    "PoolDrained",
    "PotVoided",
    "ProofSkipped",
    "RawLog",
    "RewardsClaimed",
    "SeatsSet",
    "Slashed",
    "SlashedBurned",
    "StakeWithdrawn",
    "Staked",
    "TaskCancelled",
    "TaskCreated",
    "TaskProven",
    "TaskRefunded",
    "TaskSettled",
    "UnbondRequested",
    "UndelegateRequested",
    "Unjailed",
    "VoucherRedeemed",
    "Withdrawn",
    "decode_log",
    "raw_log",
]


class Log(Protocol):
    """A log as a reader of the chain holds it."""

    @property
    def address(self) -> str: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def data(self) -> bytes: ...
    @property
    def block_number(self) -> int: ...
    @property
    def block_hash(self) -> str: ...
    @property
    def tx_hash(self) -> str: ...
    @property
    def log_index(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RawLog:
    address: Address
    topics: tuple[Digest, ...]
    data: bytes
    block_number: int
    block_hash: Digest
    tx_hash: Digest
    log_index: int


@dataclass(frozen=True, slots=True)
class EventAt:
    """Where on the chain; `timestamp_s` is its block's, zero if the reader did not give it."""

    block_number: BlockNumber
    block_hash: Digest
    tx_hash: Digest
    log_index: int
    timestamp_s: int = 0


class _FromLog:
    CONTRACT: ClassVar[ContractName]
    __slots__ = ()

    @classmethod
    def from_log(cls, log: Log, timestamp_s: int = 0) -> Self:
        """Raises `MessageError` unless the log is this event; whose it is, asks `decode_log`."""
        topic = log.topics[0] if log.topics else ""
        declared = codec.events(cls.CONTRACT).get(Digest(topic))
        if declared is None or declared.name != cls.__name__:
            raise MessageError(f"the log with topic {topic or 'none'} is no {cls.__name__}")
        values = dict(
            zip(
                (_snake(field.name) for field in declared.fields),
                codec.decode_event(declared, log.topics, log.data),
                strict=True,
            )
        )
        if "terms" in values:
            values["terms"] = TaskTerms(*values["terms"])
        at = EventAt(
            BlockNumber(log.block_number),
            to_digest(log.block_hash),
            to_digest(log.tx_hash),
            log.log_index,
            timestamp_s,
        )
        values["at"] = at
        return cls(**values)


# --- ComputeEscrow ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deposited(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    account: Address
    payer: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class Withdrawn(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    account: Address
    to: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class CreditWithdrawn(_FromLog):
    """The payee's credit falls by `paid + fee`, to nothing; its fees rise by `fee`."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    payee: Address
    to: Address
    paid: int
    fee: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class PayoutAddressSet(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    payee: Address
    payout: Address
    at: EventAt


@dataclass(frozen=True, slots=True)
class FeesShared(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    payee: Address
    to_pool: int
    to_treasury: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class ChannelDeposited(_FromLog):
    """Tokens came from outside, of `source`; `deposited` is the channel's sum after it."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    signer: Address
    salt: int
    source: Address
    amount: int
    deposited: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class ChannelFunded(_FromLog):
    """`amount` of the payer went from available into the channel."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    signer: Address
    salt: int
    amount: int
    deposited: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class AllowanceUsed(_FromLog):
    """Beside the `ChannelFunded` that it allowed; `spent` in all."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    allowance: Digest
    payer: Address
    purpose: Digest
    channel_id: Digest
    amount: int
    spent: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class AllowanceRevoked(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    allowance: Digest
    payer: Address
    at: EventAt


@dataclass(frozen=True, slots=True)
class VoucherRedeemed(_FromLog):
    """`amount` is the provider's credit, or went out with it in the `CreditWithdrawn` behind it."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    amount: int
    claimed: int
    receipt: Digest
    at: EventAt


@dataclass(frozen=True, slots=True)
class CloseRequested(_FromLog):
    """Anyone may close the channel from `close_at` (unix seconds) on."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    close_at: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class CloseCancelled(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    at: EventAt


@dataclass(frozen=True, slots=True)
class ChannelClosed(_FromLog):
    """`amount` is available to the payer again; `deposited` equals what was claimed."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    amount: int
    deposited: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class ChannelReleased(_FromLog):
    """The provider gave `amount` back to the payer's available money."""

    CONTRACT: ClassVar[ContractName] = "ComputeEscrow"

    channel_id: Digest
    payer: Address
    provider: Address
    amount: int
    deposited: int
    at: EventAt


# --- TaskMarket -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskCreated(_FromLog):
    """`terms.max_charge` of the consumer went from available to locked."""

    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    task_id: TaskId
    consumer: Address
    dispatcher: Address
    terms: TaskTerms
    at: EventAt


@dataclass(frozen=True, slots=True)
class TaskProven(_FromLog):
    """`charge` stays locked until `challenge_ends_at` (unix seconds), the rest is available."""

    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    task_id: TaskId
    consumer: Address
    provider: Address
    fence: Fence
    charge: int
    receipt: Digest
    challenge_ends_at: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class TaskSettled(_FromLog):
    """Paid: the provider's credit rises by `provider_share`."""

    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    task_id: TaskId
    consumer: Address
    provider: Address
    charge: int
    receipt: Digest
    dispatcher: Address
    dispatcher_share: int
    royalty_to: Address
    royalty_share: int
    at: EventAt

    @property
    def provider_share(self) -> int:
        return self.charge - self.dispatcher_share - self.royalty_share


@dataclass(frozen=True, slots=True)
class TaskCancelled(_FromLog):
    """Proofs arrive until `end` (unix seconds)."""

    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    task_id: TaskId
    consumer: Address
    cancelled_at: int
    end: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class TaskRefunded(_FromLog):
    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    task_id: TaskId
    consumer: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class ProofSkipped(_FromLog):
    """`reason` is the error as `0x` hex; `contract_errors.decode_error` makes words of it."""

    CONTRACT: ClassVar[ContractName] = "TaskMarket"

    row: int
    reason: str
    at: EventAt


# --- ProviderStaking --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Staked(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    amount: int
    bonded: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class UnbondRequested(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    request_id: int
    amount: int
    withdrawable_at: int
    bonded: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class StakeWithdrawn(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    request_id: int
    to: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class OperatorKeyBound(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    key: Address
    at: EventAt


@dataclass(frozen=True, slots=True)
class OperatorKeyRetired(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    key: Address
    answerable_until: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class GpusRegistered(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    gpus: int
    gpu_set: Digest
    at: EventAt


@dataclass(frozen=True, slots=True)
class Delegated(_FromLog):
    """`delegated` is the provider's pool after it."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    delegator: Address
    amount: int
    shares: int
    delegated: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class UndelegateRequested(_FromLog):
    """`shares` left the pool for `amount`; `delegated` is the pool after it."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    delegator: Address
    request_id: int
    shares: int
    amount: int
    withdrawable_at: int
    delegated: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class DelegationWithdrawn(_FromLog):
    """`amount` is what slashes left of the request."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    delegator: Address
    request_id: int
    to: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class CommissionSet(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    bps: int
    effective_at: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class FeesAdded(_FromLog):
    """`remaining` flows to the pool until `ends_at` (unix seconds, rounded up)."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    amount: int
    commission: int
    remaining: int
    ends_at: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class PoolDrained(_FromLog):
    """Nobody is left in the pool: what had not flowed is the treasury's."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class RewardsClaimed(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    delegator: Address
    to: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class FeesWithdrawn(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    account: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class Slashed(_FromLog):
    """`amount` was taken, `bounty` of it for those who proved the offence; the last four are what
    is left."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    offence_id: Digest
    amount: int
    bounty: int
    bonded: int
    unbonding: int
    delegated: int
    undelegating: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class PotVoided(_FromLog):
    """`pot` is a `contracts.PotKind`; `rest` is the treasury's."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    pot: int
    generation: int
    rest: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class BountyCredited(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    account: Address
    offence_id: Digest
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class BountyWithdrawn(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    account: Address
    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class SlashedBurned(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    amount: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class Jailed(_FromLog):
    """The provider can lift it from `until` (unix seconds) on."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    until: int
    at: EventAt


@dataclass(frozen=True, slots=True)
class Unjailed(_FromLog):
    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    at: EventAt


@dataclass(frozen=True, slots=True)
class SeatsSet(_FromLog):
    """`seats` units of its bonded stake are set aside."""

    CONTRACT: ClassVar[ContractName] = "ProviderStaking"

    provider: Address
    seats: int
    at: EventAt


Event = (
    Deposited
    | Withdrawn
    | CreditWithdrawn
    | PayoutAddressSet
    | FeesShared
    | ChannelDeposited
    | ChannelFunded
    | AllowanceUsed
    | AllowanceRevoked
    | VoucherRedeemed
    | CloseRequested
    | CloseCancelled
    | ChannelClosed
    | ChannelReleased
    | TaskCreated
    | TaskProven
    | TaskSettled
    | TaskCancelled
    | TaskRefunded
    | ProofSkipped
    | Staked
    | UnbondRequested
    | StakeWithdrawn
    | OperatorKeyBound
    | OperatorKeyRetired
    | GpusRegistered
    | Delegated
    | UndelegateRequested
    | DelegationWithdrawn
    | CommissionSet
    | FeesAdded
    | PoolDrained
    | RewardsClaimed
    | FeesWithdrawn
    | Slashed
    | PotVoided
    | BountyCredited
    | BountyWithdrawn
    | SlashedBurned
    | Jailed
    | Unjailed
    | SeatsSet
)

EVENTS: Final[tuple[type[Event], ...]] = (
    Deposited,
    Withdrawn,
    CreditWithdrawn,
    PayoutAddressSet,
    FeesShared,
    ChannelDeposited,
    ChannelFunded,
    AllowanceUsed,
    AllowanceRevoked,
    VoucherRedeemed,
    CloseRequested,
    CloseCancelled,
    ChannelClosed,
    ChannelReleased,
    TaskCreated,
    TaskProven,
    TaskSettled,
    TaskCancelled,
    TaskRefunded,
    ProofSkipped,
    Staked,
    UnbondRequested,
    StakeWithdrawn,
    OperatorKeyBound,
    OperatorKeyRetired,
    GpusRegistered,
    Delegated,
    UndelegateRequested,
    DelegationWithdrawn,
    CommissionSet,
    FeesAdded,
    PoolDrained,
    RewardsClaimed,
    FeesWithdrawn,
    Slashed,
    PotVoided,
    BountyCredited,
    BountyWithdrawn,
    SlashedBurned,
    Jailed,
    Unjailed,
    SeatsSet,
)


def decode_log(log: Log, deployment: Deployment, timestamp_s: int = 0) -> Event | None:
    """None for another contract's log, even if it looks like ours, and for an unknown topic."""
    by_address: Mapping[str, ContractName] = {
        deployment.escrow: "ComputeEscrow",
        deployment.market: "TaskMarket",
        deployment.staking: "ProviderStaking",
    }
    contract = by_address.get(to_address(log.address))
    if contract is None or not log.topics:
        return None
    declared = codec.events(contract).get(Digest(log.topics[0]))
    kind = _BY_NAME.get((contract, declared.name)) if declared else None
    return kind.from_log(log, timestamp_s) if kind else None


def raw_log(answer: Mapping[str, Any]) -> RawLog:
    """From web3's `LogReceipt`."""
    return RawLog(
        address=to_address(answer["address"]),
        topics=tuple(to_digest(bytes(topic)) for topic in answer["topics"]),
        data=bytes(answer["data"]),
        block_number=answer["blockNumber"],
        block_hash=to_digest(bytes(answer["blockHash"])),
        tx_hash=to_digest(bytes(answer["transactionHash"])),
        log_index=answer["logIndex"],
    )


_BY_NAME: Final[Mapping[tuple[ContractName, str], type[Event]]] = {
    (kind.CONTRACT, kind.__name__): kind for kind in EVENTS
}
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def _snake(name: str) -> str:
    return _CAPITAL.sub("_", name).lower()
