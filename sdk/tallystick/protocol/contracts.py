"""The contracts as typed reads and as calldata. A refusal arrives as `ContractError`, with a
sentence.

Reads answer frozen values at `block` (a number, or "latest"). Methods that change something answer
a `Call`; sending it is `transactions.Sender`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal

from web3 import AsyncWeb3
from web3.exceptions import ContractLogicError, OffchainLookup
from web3.types import TxParams, Wei

from tallystick.protocol import codec
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.codec import ContractName
from tallystick.protocol.contract_errors import decode_error
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, DeploymentError, MessageError
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Channel,
    ChannelAllowance,
    OperatorKey,
    Receipt,
    TaskTerms,
    Voucher,
    as_tuple,
    channel_id,
    domain_separator,
)
from tallystick.protocol.pricing import Price
from tallystick.protocol.signatures import canonical
from tallystick.protocol.types import (
    ZERO_ADDRESS,
    Address,
    AppId,
    Digest,
    Fence,
    Signature,
    TaskId,
)

__all__ = [
    "AcceptedProof",
    "Account",
    "AllowanceState",
    "App",
    "AppVersion",
    "Block",
    "Call",
    "ChannelState",
    "Checker",
    "Commission",
    "Court",
    "Delegation",
    "Discount",
    "Dispute",
    "DisputeState",
    "Escrow",
    "FeeStream",
    "KeyState",
    "LeasedProof",
    "Market",
    "Payee",
    "Pool",
    "PotKind",
    "ProvenWork",
    "Registry",
    "Seat",
    "Seats",
    "SignedReceipt",
    "SignedVoucher",
    "Stake",
    "Staking",
    "TaskState",
    "TaskStatus",
    "Token",
    "UnbondRequest",
    "UndelegateRequest",
    "Usage",
    "Verdict",
    "Vote",
    "call_contract",
    "refusal",
    "verify_deployment",
]

Block = int | Literal["latest", "pending", "safe", "finalized"]


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does, without who sends it and what gas costs."""

    to: Address
    data: bytes
    value: int = 0


# --- values -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    available: int
    locked: int


@dataclass(frozen=True, slots=True)
class Payee:
    credit: int
    fees: int


@dataclass(frozen=True, slots=True)
class AllowanceState:
    spent: int
    revoked: bool


class TaskStatus(IntEnum):
    """None also stands for settled and refunded: then the consumer's nonce is used."""

    NONE = 0
    OPEN = 1
    PROVEN = 2
    DISPUTED = 3


class Verdict(IntEnum):
    """What the court says of a disputed result."""

    UNDECIDED = 0
    RIGHT = 1
    WRONG = 2


class Vote(IntEnum):
    """What a checker found. No input speaks for the provider, no result against it."""

    NONE = 0
    RIGHT = 1
    WRONG = 2
    NO_INPUT = 3
    NO_RESULT = 4


class DisputeState(IntEnum):
    """None also stands for concluded."""

    NONE = 0
    DRAWING = 1
    SWORN = 2


@dataclass(frozen=True, slots=True)
class TaskState:
    status: TaskStatus
    time_s: int
    """Open: when it was cancelled, 0 if it was not. Proven: when the challenge window ends.
    Disputed: since when."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The fields of a task's receipt that do not follow from its terms."""

    provider: Address
    fence: Fence
    result: Digest
    gpu_set: Digest
    started_at_ms: int
    ended_at_ms: int
    calls: int
    gpu_ms: int
    usage_root: Digest

    @classmethod
    def of(cls, receipt: Receipt) -> Usage:
        return cls(
            receipt.provider,
            Fence(receipt.seq),
            receipt.result,
            receipt.gpu_set,
            receipt.started_at_ms,
            receipt.ended_at_ms,
            receipt.calls,
            receipt.gpu_ms,
            receipt.usage_root,
        )


@dataclass(frozen=True, slots=True)
class AcceptedProof:
    """An empty signature is "": terms of a task created before, a receipt that its provider
    sends."""

    terms: TaskTerms
    usage: Usage
    terms_signature: str
    receipt_signature: str
    acceptance: str


@dataclass(frozen=True, slots=True)
class LeasedProof:
    terms: TaskTerms
    usage: Usage
    lease_from: int
    lease_until: int
    receipt_signature: str
    assignment: str


@dataclass(frozen=True, slots=True)
class ProvenWork:
    """As `TaskProven` told it."""

    provider: Address
    charge: int
    receipt: Digest


@dataclass(frozen=True, slots=True)
class Stake:
    bonded: int
    unbonding: int


@dataclass(frozen=True, slots=True)
class UnbondRequest:
    """`amount` is what slashes left of it so far; both are zero once it was withdrawn."""

    amount: int
    withdrawable_at: int


class PotKind(IntEnum):
    """What `PotVoided` tells of."""

    UNBONDING = 0
    DELEGATED = 1
    UNDELEGATING = 2


@dataclass(frozen=True, slots=True)
class Seats:
    seats: int
    covered: int
    """How many of them the bonded stake still covers in full."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What others put behind a provider, and what of it is on its way out."""

    delegated: int
    shares: int
    generation: int
    undelegating: int


@dataclass(frozen=True, slots=True)
class Delegation:
    shares: int
    amount: int
    """What the shares are worth at the block asked about."""


@dataclass(frozen=True, slots=True)
class UndelegateRequest:
    provider: Address
    amount: int
    withdrawable_at: int


@dataclass(frozen=True, slots=True)
class FeeStream:
    remaining: int
    """Has not flowed to the pool yet."""
    ends_at: int
    """Unix seconds, rounded up."""


@dataclass(frozen=True, slots=True)
class Commission:
    bps: int
    next_bps: int
    """Holds from `effective_at` on."""
    effective_at: int


@dataclass(frozen=True, slots=True)
class KeyState:
    """`provider` is the zero address for a key that is bound to nobody; `retired_at` 0 if in
    use."""

    provider: Address
    retired_at: int


@dataclass(frozen=True, slots=True)
class App:
    """`publisher` is the zero address if nothing is published under the id."""

    publisher: Address
    versions: int
    retired_at: int
    """First second without a price; 0 if none is announced."""
    royalty_to: Address
    royalty_bps: int
    prices_settle_at: int
    """No price changes from then on unless another change is announced."""
    permanent: bool


@dataclass(frozen=True, slots=True)
class AppVersion:
    image_digest: Digest
    manifest_digest: Digest
    published_at: int


@dataclass(frozen=True, slots=True)
class Discount:
    """From `start` to `end`, both included; zeros if there never was one."""

    bps: int
    start: int
    end: int


# --- contracts --------------------------------------------------------------------------------


class _Contract:
    NAME: ClassVar[ContractName]

    def __init__(self, web3: AsyncWeb3[Any], address: Address) -> None:
        self._web3 = web3
        self.address = address

    async def _one(self, function: str, *values: Any, block: Block = "latest") -> Any:
        return (await self._read(function, *values, block=block))[0]

    async def _read(self, function: str, *values: Any, block: Block = "latest") -> tuple[Any, ...]:
        call = self._call(function, *values)
        return codec.decode_answer(
            self.NAME, function, await call_contract(self._web3, call, block=block)
        )

    def _call(self, function: str, *values: Any) -> Call:
        return Call(self.address, codec.encode_call(self.NAME, function, *values))


class _Signing(_Contract):
    """Checks signatures under the deployment's one domain."""

    async def domain_separator(self) -> Digest:
        return Digest(await self._one("domainSeparator"))


class Escrow(_Signing):
    """Whose money waits for what."""

    NAME = "ComputeEscrow"

    async def account(self, owner: Address, *, block: Block = "latest") -> Account:
        return Account(*await self._read("accountOf", owner, block=block))

    async def payee(self, payee: Address, *, block: Block = "latest") -> Payee:
        return Payee(*await self._read("payeeOf", payee, block=block))

    async def payout_address(self, payee: Address, *, block: Block = "latest") -> Address:
        return Address(await self._one("payoutAddressOf", payee, block=block))

    async def channel(self, channel: Channel, *, block: Block = "latest") -> ChannelState:
        return ChannelState(*await self._read("channelOf", channel_id(channel), block=block))

    async def allowance(
        self, payer: Address, allowance: Digest, *, block: Block = "latest"
    ) -> AllowanceState:
        return AllowanceState(*await self._read("allowanceOf", payer, allowance, block=block))

    async def redeemable(
        self, provider: Address, vouchers: Sequence[SignedVoucher], *, block: Block = "latest"
    ) -> tuple[int, ...]:
        """What each would pay if all were redeemed now, in this order."""
        rows = _rows(provider, vouchers)
        return tuple(await self._one("redeemable", provider, rows, block=block))

    async def authorization_nonce(self, to: Address, salt: Digest) -> Digest:
        return Digest(await self._one("authorizationNonce", to, salt))

    async def channel_authorization_nonce(self, channel: Channel, salt: Digest) -> Digest:
        return Digest(await self._one("channelAuthorizationNonce", channel_id(channel), salt))

    async def digest_of(self, message: Voucher | ChannelAllowance) -> Digest:
        name = type(message).__name__
        return Digest(await self._one(f"digestOf{name}", as_tuple(message)))

    async def token(self) -> Address:
        return Address(await self._one("token"))

    async def market(self) -> Address:
        return Address(await self._one("market"))

    async def staking(self) -> Address:
        return Address(await self._one("staking"))

    async def treasury(self) -> Address:
        return Address(await self._one("treasury"))

    async def protocol_fee_bps(self) -> int:
        return int(await self._one("protocolFeeBps"))

    async def pool_share_bps(self) -> int:
        return int(await self._one("poolShareBps"))

    async def close_seconds(self) -> int:
        return int(await self._one("closeSeconds"))

    def deposit(self, to: Address, amount: int) -> Call:
        """The token must have approved the escrow before."""
        return self._call("deposit", to, amount)

    def deposit_with_permit(
        self, to: Address, amount: int, deadline: int, signature: Signature
    ) -> Call:
        return self._call("depositWithPermit", to, amount, deadline, *_vrs(signature))

    def deposit_with_authorization(
        self,
        owner: Address,
        to: Address,
        amount: int,
        valid_after: int,
        valid_before: int,
        salt: Digest,
        signature: Signature,
    ) -> Call:
        """Anyone sends it; `permits.sign_authorization` makes the signature."""
        return self._call(
            "depositWithAuthorization",
            owner,
            to,
            amount,
            valid_after,
            valid_before,
            salt,
            *_vrs(signature),
        )

    def withdraw(self, amount: int, to: Address) -> Call:
        return self._call("withdraw", amount, to)

    def deposit_to_channel(self, channel: Channel, amount: int) -> Call:
        """Opens the channel or tops it up with the sender's tokens, approved before."""
        return self._call("depositToChannel", _channel_tuple(channel), amount)

    def deposit_to_channel_with_permit(
        self, channel: Channel, amount: int, deadline: int, signature: Signature
    ) -> Call:
        return self._call(
            "depositToChannelWithPermit",
            _channel_tuple(channel),
            amount,
            deadline,
            *_vrs(signature),
        )

    def deposit_to_channel_with_authorization(
        self,
        owner: Address,
        channel: Channel,
        amount: int,
        valid_after: int,
        valid_before: int,
        salt: Digest,
        signature: Signature,
    ) -> Call:
        """Anyone sends it. `salt` is the authorization's, any word; not the channel's."""
        return self._call(
            "depositToChannelWithAuthorization",
            owner,
            _channel_tuple(channel),
            amount,
            valid_after,
            valid_before,
            salt,
            *_vrs(signature),
        )

    def fund(self, channel: Channel, amount: int) -> Call:
        """The payer: out of its available money."""
        return self._call("fund", _channel_tuple(channel), amount)

    def fund_with_allowance(
        self,
        allowance: ChannelAllowance,
        signature: str,
        provider: Address,
        salt: int,
        amount: int,
    ) -> Call:
        """The allowance's signer: out of the payer's available money, into a channel of the two."""
        return self._call(
            "fundWithAllowance", as_tuple(allowance), signature, provider, salt, amount
        )

    def revoke_allowance(self, allowance: Digest) -> Call:
        """The payer, by digest; channels already funded stay as they are."""
        return self._call("revokeAllowance", allowance)

    def request_close(self, channel: Channel) -> Call:
        return self._call("requestClose", _channel_tuple(channel))

    def cancel_close(self, channel: Channel) -> Call:
        return self._call("cancelClose", _channel_tuple(channel))

    def close(self, channel: Channel) -> Call:
        """Anyone, once the period after the request is over."""
        return self._call("close", _channel_tuple(channel))

    def release(self, channel: Channel, amount: int) -> Call:
        """The provider or its operator key: back to the payer, at once."""
        return self._call("release", _channel_tuple(channel), amount)

    def redeem(self, provider: Address, vouchers: Sequence[SignedVoucher]) -> Call:
        """Anyone. A voucher that pays nothing now is skipped."""
        return self._call("redeem", provider, _rows(provider, vouchers))

    def withdraw_credit(self, payee: Address, vouchers: Sequence[SignedVoucher] = ()) -> Call:
        """Anyone; redeems the vouchers first."""
        return self._call("withdrawCredit", payee, _rows(payee, vouchers))

    def set_payout_address(self, payee: Address, payout: Address) -> Call:
        return self._call("setPayoutAddress", payee, payout)

    def share_fees(self, payee: Address) -> Call:
        return self._call("shareFees", payee)


class Market(_Signing):
    """Was this task done, and what is it worth."""

    NAME = "TaskMarket"

    async def task(self, task_id: TaskId, *, block: Block = "latest") -> TaskState:
        status, time_s = await self._read("taskOf", task_id, block=block)
        return TaskState(TaskStatus(status), time_s)

    async def nonce_used(self, consumer: Address, nonce: int, *, block: Block = "latest") -> bool:
        return bool(await self._one("nonceUsed", consumer, nonce, block=block))

    async def charge(self, terms: TaskTerms, calls: int, gpu_ms: int) -> int:
        return int(await self._one("chargeOf", as_tuple(terms), calls, gpu_ms))

    async def bond(self, verification: int, charge: int) -> int:
        """What a dispute of this charge locks; `pricing.bond_up` computes the same."""
        return int(await self._one("bondOf", verification, charge))

    async def receipt(self, terms: TaskTerms, usage: Usage) -> tuple[Receipt, Digest]:
        """The receipt as the market completes it, and its digest."""
        receipt, digest = await self._read("receiptOf", as_tuple(terms), _usage_tuple(usage))
        return Receipt(*receipt), Digest(digest)

    async def digest_of(self, message: TaskTerms | Assignment | Receipt | Acceptance) -> Digest:
        name = type(message).__name__
        return Digest(await self._one(f"digestOf{name}", as_tuple(message)))

    async def escrow(self) -> Address:
        return Address(await self._one("escrow"))

    async def staking(self) -> Address:
        return Address(await self._one("staking"))

    async def court(self) -> Address:
        return Address(await self._one("court"))

    async def cancel_seconds(self) -> int:
        return int(await self._one("cancelSeconds"))

    async def min_challenge_seconds(self) -> int:
        return int(await self._one("minChallengeSeconds"))

    async def max_challenge_seconds(self) -> int:
        return int(await self._one("maxChallengeSeconds"))

    async def court_seconds(self) -> int:
        """From a dispute until anyone may end it without the court."""
        return int(await self._one("courtSeconds"))

    async def bond_floor(self) -> int:
        """The part of a bond that does not depend on the charge."""
        return int(await self._one("bondFloor"))

    def create_task(self, terms: TaskTerms, signature: str = "") -> Call:
        """Without a signature only the consumer can send it."""
        return self._call("createTask", as_tuple(terms), signature)

    def cancel(self, terms: TaskTerms) -> Call:
        return self._call("cancel", as_tuple(terms))

    def reclaim(self, terms: TaskTerms) -> Call:
        return self._call("reclaim", as_tuple(terms))

    def prove(self, proof: AcceptedProof) -> Call:
        return self._call("prove", _accepted_tuple(proof))

    def prove_order(self, proof: AcceptedProof) -> Call:
        """`prove`, cheaper for a signed order that was never created."""
        return self._call("proveOrder", _accepted_tuple(proof))

    def prove_many(self, proofs: Sequence[AcceptedProof]) -> Call:
        return self._call("proveMany", [_accepted_tuple(proof) for proof in proofs])

    def prove_alone(self, proof: LeasedProof) -> Call:
        return self._call(
            "proveAlone",
            (
                as_tuple(proof.terms),
                _usage_tuple(proof.usage),
                proof.lease_from,
                proof.lease_until,
                proof.receipt_signature,
                proof.assignment,
            ),
        )

    def finalize(self, terms: TaskTerms, proven: ProvenWork, acceptance: str = "") -> Call:
        """Without an acceptance only after the challenge window."""
        return self._call("finalize", as_tuple(terms), _proven_tuple(proven), acceptance)

    def dispute(self, terms: TaskTerms, proven: ProvenWork) -> Call:
        """By the consumer, inside the challenge window; locks the bond out of available."""
        return self._call("dispute", as_tuple(terms), _proven_tuple(proven))

    def end_dispute(self, terms: TaskTerms, proven: ProvenWork) -> Call:
        """By anyone, once the court's time is over."""
        return self._call("endDispute", as_tuple(terms), _proven_tuple(proven))


class Staking(_Signing):
    """Who may serve, and what they stand to lose."""

    NAME = "ProviderStaking"

    async def stake_of(self, provider: Address, *, block: Block = "latest") -> Stake:
        return Stake(*await self._read("stakeOf", provider, block=block))

    async def gpus_of(self, provider: Address, *, block: Block = "latest") -> int:
        return int(await self._one("gpusOf", provider, block=block))

    async def units_of(self, provider: Address, *, block: Block = "latest") -> int:
        return int(await self._one("unitsOf", provider, block=block))

    async def unbond_request(
        self, provider: Address, request_id: int, *, block: Block = "latest"
    ) -> UnbondRequest:
        return UnbondRequest(*await self._read("unbondRequest", provider, request_id, block=block))

    async def unbond_requests(self, provider: Address, *, block: Block = "latest") -> int:
        """How many there ever were: their ids count from 0."""
        return int(await self._one("unbondRequestsOf", provider, block=block))

    async def seats_of(self, provider: Address, *, block: Block = "latest") -> Seats:
        return Seats(*await self._read("seatsOf", provider, block=block))

    async def is_jailed(self, provider: Address, *, block: Block = "latest") -> bool:
        return bool(await self._one("isJailed", provider, block=block))

    async def jailed_until(self, provider: Address, *, block: Block = "latest") -> int:
        """From when on the provider can lift it (unix seconds); 0 if it is not jailed."""
        return int(await self._one("jailedUntil", provider, block=block))

    async def is_punished(self, offence_id: Digest, *, block: Block = "latest") -> bool:
        return bool(await self._one("isPunished", offence_id, block=block))

    async def has_pool(self, provider: Address, *, block: Block = "latest") -> bool:
        return bool(await self._one("hasPool", provider, block=block))

    async def pool_of(self, provider: Address, *, block: Block = "latest") -> Pool:
        return Pool(*await self._read("poolOf", provider, block=block))

    async def delegation_of(
        self, provider: Address, delegator: Address, *, block: Block = "latest"
    ) -> Delegation:
        return Delegation(*await self._read("delegationOf", provider, delegator, block=block))

    async def undelegate_request(
        self, delegator: Address, request_id: int, *, block: Block = "latest"
    ) -> UndelegateRequest:
        provider, amount, withdrawable_at = await self._read(
            "undelegateRequest", delegator, request_id, block=block
        )
        return UndelegateRequest(Address(provider), amount, withdrawable_at)

    async def undelegate_requests(self, delegator: Address, *, block: Block = "latest") -> int:
        """How many there ever were, over all providers: their ids count from 0."""
        return int(await self._one("undelegateRequestsOf", delegator, block=block))

    async def rewards_of(
        self, provider: Address, delegator: Address, *, block: Block = "latest"
    ) -> int:
        """In the payment token."""
        return int(await self._one("rewardsOf", provider, delegator, block=block))

    async def stream_of(self, provider: Address, *, block: Block = "latest") -> FeeStream:
        return FeeStream(*await self._read("streamOf", provider, block=block))

    async def commission_of(self, provider: Address, *, block: Block = "latest") -> Commission:
        return Commission(*await self._read("commissionOf", provider, block=block))

    async def fees_of(self, account: Address, *, block: Block = "latest") -> int:
        """Commission to withdraw, in the payment token."""
        return int(await self._one("feesOf", account, block=block))

    async def bounty_of(self, account: Address, *, block: Block = "latest") -> int:
        """In the staking token."""
        return int(await self._one("bountyOf", account, block=block))

    async def unburned(self, *, block: Block = "latest") -> int:
        """Slashed stake that nobody has sent to the burn address yet."""
        return int(await self._one("unburned", block=block))

    async def operator_key(self, key: Address, *, block: Block = "latest") -> KeyState:
        return KeyState(*await self._read("operatorKey", key, block=block))

    async def signs_for(
        self, signer: Address, provider: Address, *, block: Block = "latest"
    ) -> bool:
        """The provider itself or one of its keys that is not retired."""
        return bool(await self._one("signsFor", signer, provider, block=block))

    async def answers_for(
        self, provider: Address, signer: Address, *, block: Block = "latest"
    ) -> bool:
        return bool(await self._one("answersFor", provider, signer, block=block))

    async def digest_of(self, message: OperatorKey) -> Digest:
        return Digest(await self._one("digestOfOperatorKey", message.provider, message.key))

    async def token(self) -> Address:
        return Address(await self._one("token"))

    async def payment_token(self) -> Address:
        return Address(await self._one("paymentToken"))

    async def escrow(self) -> Address:
        return Address(await self._one("escrow"))

    async def court(self) -> Address:
        """The zero address: nobody slashes."""
        return Address(await self._one("court"))

    async def treasury(self) -> Address:
        return Address(await self._one("treasury"))

    async def unit(self) -> int:
        return int(await self._one("unit"))

    async def min_delegation(self) -> int:
        return int(await self._one("minDelegation"))

    async def unbonding_seconds(self) -> int:
        return int(await self._one("unbondingSeconds"))

    async def retired_key_seconds(self) -> int:
        return int(await self._one("retiredKeySeconds"))

    async def commission_notice_seconds(self) -> int:
        return int(await self._one("commissionNoticeSeconds"))

    async def jail_seconds(self) -> int:
        return int(await self._one("jailSeconds"))

    async def stream_seconds(self) -> int:
        return int(await self._one("streamSeconds"))

    def stake(self, amount: int) -> Call:
        """The staking token must have approved the contract before."""
        return self._call("stake", amount)

    def stake_with_permit(self, amount: int, deadline: int, signature: Signature) -> Call:
        return self._call("stakeWithPermit", amount, deadline, *_vrs(signature))

    def request_unbond(self, amount: int) -> Call:
        return self._call("requestUnbond", amount)

    def withdraw_stake(self, request_id: int, to: Address) -> Call:
        return self._call("withdrawStake", request_id, to)

    def register_gpus(self, gpu_set: Digest, gpus: int) -> Call:
        return self._call("registerGpus", gpu_set, gpus)

    def delegate(self, provider: Address, amount: int, min_shares: int) -> Call:
        """The staking token must have approved the contract before. `min_shares` from
        `shares.Pot.shares_down`."""
        return self._call("delegate", provider, amount, min_shares)

    def delegate_with_permit(
        self,
        provider: Address,
        amount: int,
        min_shares: int,
        deadline: int,
        signature: Signature,
    ) -> Call:
        return self._call(
            "delegateWithPermit", provider, amount, min_shares, deadline, *_vrs(signature)
        )

    def request_undelegate(self, provider: Address, shares: int, min_amount: int) -> Call:
        return self._call("requestUndelegate", provider, shares, min_amount)

    def withdraw_delegation(self, request_id: int, to: Address) -> Call:
        return self._call("withdrawDelegation", request_id, to)

    def claim_rewards(self, provider: Address, to: Address) -> Call:
        return self._call("claimRewards", provider, to)

    def set_commission(self, bps: int) -> Call:
        return self._call("setCommission", bps)

    def withdraw_fees(self, account: Address) -> Call:
        """Anyone may send it; `account` is paid."""
        return self._call("withdrawFees", account)

    def unjail(self) -> Call:
        return self._call("unjail")

    def withdraw_bounty(self, account: Address) -> Call:
        """Anyone may send it; `account` is paid."""
        return self._call("withdrawBounty", account)

    def burn_slashed(self) -> Call:
        return self._call("burnSlashed")

    def bind_operator_key(self, key: Address, signature: str) -> Call:
        """`signature` is the key's own over `OperatorKey(provider, key)`."""
        return self._call("bindOperatorKey", key, signature)

    def retire_operator_key(self, key: Address) -> Call:
        return self._call("retireOperatorKey", key)


@dataclass(frozen=True, slots=True)
class Dispute:
    provider: Address
    opened_at: int
    round: int
    state: DisputeState
    draw_block: int
    drawn_at: int


@dataclass(frozen=True, slots=True)
class Checker:
    """One of a round's three; `commitment` is zero before it committed."""

    seat: Address
    vote: Vote
    commitment: Digest


@dataclass(frozen=True, slots=True)
class Seat:
    """`listable_at` 0: none. `leavable_at` 0: not leaving."""

    listable_at: int
    leavable_at: int
    listed: bool


class Court(_Signing):
    """Who lied."""

    NAME = "DisputeCourt"

    async def dispute(self, task_id: TaskId, *, block: Block = "latest") -> Dispute:
        provider, opened_at, round_, state, draw_block, drawn_at = await self._one(
            "disputeOf", task_id, block=block
        )
        return Dispute(provider, opened_at, round_, DisputeState(state), draw_block, drawn_at)

    async def checkers(
        self, task_id: TaskId, round_: int, *, block: Block = "latest"
    ) -> tuple[Checker, ...]:
        """The three of a round; zero addresses before they are drawn."""
        drawn = await self._one("checkersOf", task_id, round_, block=block)
        return tuple(Checker(seat, Vote(vote), Digest(digest)) for seat, vote, digest in drawn)

    async def times(self, task_id: TaskId, *, block: Block = "latest") -> tuple[int, int, int]:
        """When the round takes its last draw, commitment and reveal; 0 before the draw."""
        last_draw_at, commit_ends_at, reveal_ends_at = await self._read(
            "timesOf", task_id, block=block
        )
        return last_draw_at, commit_ends_at, reveal_ends_at

    async def seat(self, provider: Address, *, block: Block = "latest") -> Seat:
        return Seat(*await self._read("seatOf", provider, block=block))

    async def seats(self, *, block: Block = "latest") -> int:
        """How many are listed."""
        return int(await self._one("seats", block=block))

    async def market(self) -> Address:
        return Address(await self._one("market"))

    async def staking(self) -> Address:
        return Address(await self._one("staking"))

    async def commit_seconds(self) -> int:
        return int(await self._one("commitSeconds"))

    async def reveal_seconds(self) -> int:
        return int(await self._one("revealSeconds"))

    async def seat_seconds(self) -> int:
        return int(await self._one("seatSeconds"))

    def report_two_histories(self, one: SignedReceipt, other: SignedReceipt) -> Call:
        """`evidence.fault_of` says whether two receipts show this."""
        return self._call("reportTwoHistories", _signed_tuple(one), _signed_tuple(other))

    def report_broken_chain(
        self,
        payer: Address,
        signer: Address,
        salt: int,
        earlier: SignedReceipt,
        later: SignedReceipt,
    ) -> Call:
        return self._call(
            "reportBrokenChain", payer, signer, salt, _signed_tuple(earlier), _signed_tuple(later)
        )

    def report_gpu_sold_twice(
        self,
        one: SignedReceipt,
        other: SignedReceipt,
        gpu_id: Digest,
        proof_one: Sequence[Digest],
        proof_other: Sequence[Digest],
    ) -> Call:
        return self._call(
            "reportGpuSoldTwice",
            _signed_tuple(one),
            _signed_tuple(other),
            gpu_id,
            proof_one,
            proof_other,
        )

    def take_seat(self) -> Call:
        return self._call("takeSeat")

    def list_seat(self, provider: Address) -> Call:
        return self._call("listSeat", provider)

    def leave_seat(self) -> Call:
        return self._call("leaveSeat")

    def free_seat(self, provider: Address) -> Call:
        return self._call("freeSeat", provider)

    def dismiss_seat(self, provider: Address) -> Call:
        """Of a provider in jail."""
        return self._call("dismissSeat", provider)

    def draw(self, terms: TaskTerms) -> Call:
        return self._call("draw", as_tuple(terms))

    def commit(self, task_id: TaskId, checker: Address, commitment: Digest) -> Call:
        """`evidence.commitment` of the vote."""
        return self._call("commit", task_id, checker, commitment)

    def reveal(self, task_id: TaskId, checker: Address, vote: Vote, salt: Digest) -> Call:
        return self._call("reveal", task_id, checker, int(vote), salt)

    def conclude(self, terms: TaskTerms, proven: ProvenWork) -> Call:
        return self._call("conclude", as_tuple(terms), _proven_tuple(proven))


class Registry(_Contract):
    """What can be called, at what price."""

    NAME = "AppRegistry"

    async def app(self, app_id: AppId, *, block: Block = "latest") -> App:
        (app,) = await self._read("appOf", app_id, block=block)
        return App(*app)

    async def version(self, app_id: AppId, version: int, *, block: Block = "latest") -> AppVersion:
        return AppVersion(*await self._read("versionOf", app_id, version, block=block))

    async def price_at(
        self, app_id: AppId, version: int, time_s: int, *, block: Block = "latest"
    ) -> Price:
        """Any time since the version was published. `apps.AppHistory` answers without a chain."""
        return Price(*await self._one("priceAt", app_id, version, time_s, block=block))

    async def discount_at(self, app_id: AppId, time_s: int, *, block: Block = "latest") -> int:
        return int(await self._one("discountAt", app_id, time_s, block=block))

    async def discount(self, app_id: AppId, *, block: Block = "latest") -> Discount:
        """The one announced last."""
        return Discount(*await self._read("discountOf", app_id, block=block))

    async def app_id_of(self, publisher: Address, salt: Digest) -> AppId:
        return AppId(await self._one("appIdOf", publisher, salt))

    async def notice_seconds(self) -> int:
        return int(await self._one("noticeSeconds"))

    def publish(
        self,
        salt: Digest,
        image_digest: Digest,
        manifest_digest: Digest,
        manifest_uri: str,
        price: Price,
        royalty_to: Address = ZERO_ADDRESS,
        royalty_bps: int = 0,
    ) -> Call:
        return self._call(
            "publish",
            *(salt, image_digest, manifest_digest, manifest_uri),
            _price_tuple(price),
            *(royalty_to, royalty_bps),
        )

    def add_version(
        self,
        app_id: AppId,
        image_digest: Digest,
        manifest_digest: Digest,
        manifest_uri: str,
        price: Price,
    ) -> Call:
        return self._call(
            "addVersion", app_id, image_digest, manifest_digest, manifest_uri, _price_tuple(price)
        )

    def set_price(self, app_id: AppId, version: int, price: Price) -> Call:
        """Takes effect after the registry's notice."""
        return self._call("setPrice", app_id, version, _price_tuple(price))

    def set_discount(self, app_id: AppId, bps: int, start_s: int, end_s: int) -> Call:
        """Both seconds included. While one is announced or runs, another may only better it."""
        return self._call("setDiscount", app_id, bps, start_s, end_s)

    def retire(self, app_id: AppId) -> Call:
        """There is no way back."""
        return self._call("retire", app_id)

    def renounce(self, app_id: AppId) -> Call:
        """There is no way back."""
        return self._call("renounce", app_id)


class Token(_Contract):
    """An ERC-20 token; the permit parts need EIP-2612."""

    NAME = "TallyToken"

    async def domain_separator(self) -> Digest:
        return Digest(await self._one("DOMAIN_SEPARATOR"))

    async def balance_of(self, owner: Address, *, block: Block = "latest") -> int:
        return int(await self._one("balanceOf", owner, block=block))

    async def allowance(self, owner: Address, spender: Address, *, block: Block = "latest") -> int:
        return int(await self._one("allowance", owner, spender, block=block))

    async def decimals(self) -> int:
        return int(await self._one("decimals"))

    async def symbol(self) -> str:
        return str(await self._one("symbol"))

    async def permit_nonce(self, owner: Address) -> int:
        return int(await self._one("nonces", owner))

    def approve(self, spender: Address, amount: int) -> Call:
        return self._call("approve", spender, amount)

    def transfer(self, to: Address, amount: int) -> Call:
        return self._call("transfer", to, amount)


# --- calls ------------------------------------------------------------------------------------


async def call_contract(
    web3: AsyncWeb3[Any], call: Call, *, sender: Address | None = None, block: Block = "latest"
) -> bytes:
    """`eth_call`; raises `ContractError` when the contract refuses."""
    params: TxParams = {"to": call.to, "data": _hex(call.data), "value": Wei(call.value)}
    if sender is not None:
        params["from"] = sender
    try:
        answer = bytes(await web3.eth.call(params, block, ccip_read_enabled=False))
    except ContractLogicError as failure:
        raise refusal(failure) from failure
    return answer


def refusal(failure: ContractLogicError) -> ContractError:
    """web3's exception in our words."""
    if isinstance(failure, OffchainLookup):
        return ContractError(
            "OffchainLookup", (), "the contract asks to fetch data from elsewhere, which is refused"
        )
    data = failure.data
    if isinstance(data, str) and data.startswith("0x"):
        return decode_error(data)
    return decode_error(b"")


async def verify_deployment(web3: AsyncWeb3[Any], deployment: Deployment) -> None:
    """Raises `DeploymentError` unless the chain holds these very contracts, wired to each other."""
    actual_chain = await web3.eth.chain_id
    if actual_chain != deployment.chain_id:
        raise DeploymentError(
            f"the node is on chain {actual_chain} and the deployment on {deployment.chain_id}: "
            "name the node of that chain"
        )
    for what, expected, ask in _frozen(web3, deployment):
        try:
            actual = await ask()
        except (MessageError, ContractError) as failure:
            raise DeploymentError(
                f"chain {deployment.chain_id} does not hold this deployment ({failure}): "
                "name the file that belongs to it"
            ) from failure
        if expected != actual:
            raise DeploymentError(
                f"{what} should be {expected} and is {actual}: the deployment file belongs to "
                "other contracts"
            )


def _frozen(
    web3: AsyncWeb3[Any], deployment: Deployment
) -> Iterator[tuple[str, object, Callable[[], Awaitable[object]]]]:
    """What a deployment's file says that its contracts can be asked about: neighbours and domain
    first, as wrong addresses make the rest senseless."""
    escrow = Escrow(web3, deployment.escrow)
    market = Market(web3, deployment.market)
    staking = Staking(web3, deployment.staking)
    court = Court(web3, deployment.court)
    separator = "0x" + domain_separator(deployment.domain).hex()
    has_court = deployment.court != ZERO_ADDRESS
    yield "the escrow's token", deployment.token, escrow.token
    yield "the escrow's market", deployment.market, escrow.market
    yield "the escrow's staking", deployment.staking, escrow.staking
    yield "the escrow's treasury", deployment.treasury, escrow.treasury
    yield "the escrow's signing domain", separator, escrow.domain_separator
    yield "the market's escrow", deployment.escrow, market.escrow
    yield "the market's staking", deployment.staking, market.staking
    yield "the market's court", deployment.court, market.court
    yield "the market's signing domain", separator, market.domain_separator
    yield "the staking's token", deployment.staking_token, staking.token
    yield "the staking's escrow", deployment.escrow, staking.escrow
    yield "the staking's court", deployment.court, staking.court
    yield "the staking's signing domain", separator, staking.domain_separator
    if has_court:
        yield "the court's market", deployment.market, court.market
        yield "the court's staking", deployment.staking, court.staking
        yield "the court's signing domain", separator, court.domain_separator

    yield "the escrow's protocol fee", deployment.protocol_fee_bps, escrow.protocol_fee_bps
    yield "the escrow's pool share", deployment.pool_share_bps, escrow.pool_share_bps
    yield "the escrow's close period", deployment.close_seconds, escrow.close_seconds
    yield "the staking's unit", deployment.stake_unit, staking.unit
    yield "the staking's unbonding time", deployment.unbonding_seconds, staking.unbonding_seconds
    retired_key_s, notice_s = deployment.retired_key_seconds, deployment.commission_notice_seconds
    yield "the staking's time for retired keys", retired_key_s, staking.retired_key_seconds
    yield "the staking's notice of commission", notice_s, staking.commission_notice_seconds
    yield "the staking's jail time", deployment.jail_seconds, staking.jail_seconds
    yield "the staking's stream", deployment.stream_seconds, staking.stream_seconds
    shortest_s, longest_s = deployment.min_challenge_seconds, deployment.max_challenge_seconds
    yield "the market's cancel period", deployment.cancel_seconds, market.cancel_seconds
    yield "the market's shortest challenge window", shortest_s, market.min_challenge_seconds
    yield "the market's longest challenge window", longest_s, market.max_challenge_seconds
    yield "the market's time for the court", deployment.court_seconds, market.court_seconds
    yield "the market's floor of bonds", deployment.bond_floor, market.bond_floor
    if has_court:
        yield "the court's time to commit", deployment.commit_seconds, court.commit_seconds
        yield "the court's time to reveal", deployment.reveal_seconds, court.reveal_seconds
        yield "the court's time for a seat", deployment.seat_seconds, court.seat_seconds
    if deployment.registry != ZERO_ADDRESS:
        registry = Registry(web3, deployment.registry)
        yield "the registry's notice", deployment.notice_seconds, registry.notice_seconds


def _accepted_tuple(proof: AcceptedProof) -> tuple[Any, ...]:
    return (
        as_tuple(proof.terms),
        _usage_tuple(proof.usage),
        proof.terms_signature,
        *_r_vs(proof.receipt_signature),
        proof.acceptance,
    )


def _price_tuple(price: Price) -> tuple[int, int, int]:
    return price.flat, price.fee_per_call, price.rate_per_gpu_second


def _channel_tuple(channel: Channel) -> tuple[Any, ...]:
    return (channel.payer, channel.signer, channel.provider, channel.salt)


def _rows(provider: Address, vouchers: Sequence[SignedVoucher]) -> list[tuple[Any, ...]]:
    rows = []
    for signed in vouchers:
        voucher = signed.voucher
        if voucher.provider != provider:
            raise MessageError(
                f"a voucher for {voucher.provider} is among those of {provider}: redeem the "
                "vouchers of one provider at a time"
            )
        if not 0 <= voucher.salt < 1 << 96:
            raise MessageError(f"salt is {voucher.salt}: uint96 goes from 0 to {(1 << 96) - 1}")
        payer_and_salt = int(voucher.payer, 16) << 96 | voucher.salt
        rows.append((payer_and_salt, voucher.total, voucher.receipt, *_r_vs(signed.signature)))
    return rows


def _proven_tuple(proven: ProvenWork) -> tuple[Any, ...]:
    return (proven.provider, proven.charge, proven.receipt)


def _signed_tuple(signed: SignedReceipt) -> tuple[Any, ...]:
    return (as_tuple(signed.receipt), *_r_vs(signed.signature))


def _usage_tuple(usage: Usage) -> tuple[Any, ...]:
    return tuple(getattr(usage, name) for name in Usage.__slots__)


def _r_vs(signature: str) -> tuple[bytes, bytes]:
    """EIP-2098's two words; zeros for no signature."""
    if signature in ("", "0x"):
        return bytes(32), bytes(32)
    raw = bytes.fromhex(canonical(signature)[2:])
    return raw[:32], bytes([raw[32] | (raw[64] - 27) << 7]) + raw[33:64]


def _vrs(signature: Signature) -> tuple[int, bytes, bytes]:
    raw = bytes.fromhex(canonical(signature)[2:])
    return raw[64], raw[:32], raw[32:64]


def _hex(data: bytes) -> Any:
    return "0x" + data.hex()
