"""The EIP-712 messages of the protocol, in the words and order of their type strings.

A domain binds every digest to one chain and one deployment: a message signed for another is another
message. `digest` equals the contracts' `digestOf...` views and what wallets compute from
`typed_data`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Final, Self

from tallystick.protocol import signatures, wire
from tallystick.protocol.errors import MessageError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.signatures import PrivateKey
from tallystick.protocol.types import (
    Address,
    Digest,
    Fence,
    Signature,
    TaskId,
    to_address,
    to_digest,
)

__all__ = [
    "MESSAGES",
    "Acceptance",
    "Assignment",
    "Channel",
    "ChannelAllowance",
    "Domain",
    "Message",
    "OperatorKey",
    "Receipt",
    "TaskTerms",
    "Voucher",
    "as_tuple",
    "channel_id",
    "channel_of",
    "digest",
    "domain_separator",
    "recover",
    "sign",
    "signer",
    "task_id",
    "typed_data",
]

DOMAIN_NAME: Final = "Tallystick"
DOMAIN_VERSION: Final = "1"
_DOMAIN_TYPE: Final = (
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


@dataclass(frozen=True, slots=True)
class Domain:
    """One deployment on one chain; `escrow` verifies, whichever contract is asked."""

    chain_id: int
    escrow: Address


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What the consumer asks for and the most it pays; signed by the consumer, frozen for ever."""

    TYPE: ClassVar[str] = (
        "TaskTerms(address consumer,address signer,address dispatcher,address royaltyTo,"
        "bytes32 spec,uint32 gpus,uint128 flat,uint128 feePerCall,uint128 ratePerGpuSecond,"
        "uint16 dispatcherBps,uint16 royaltyBps,uint128 maxCharge,uint32 maxSeconds,"
        "uint64 deadline,uint32 challengeWindow,uint32 verification,uint256 nonce)"
    )

    consumer: Address
    signer: Address
    dispatcher: Address
    royalty_to: Address
    spec: Digest
    gpus: int
    flat: int
    fee_per_call: int
    rate_per_gpu_second: int
    dispatcher_bps: int
    royalty_bps: int
    max_charge: int
    max_seconds: int
    deadline: int
    challenge_window: int
    verification: int
    nonce: int

    @classmethod
    def from_body(cls, body: wire.TaskTermsBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.TaskTermsBody:
        return wire.TaskTermsBody(**_values(self))


@dataclass(frozen=True, slots=True)
class Assignment:
    """A lease: this provider may prove alone from `lease_from` until `lease_until`, both unix
    seconds and inclusive; signed by the terms' dispatcher."""

    TYPE: ClassVar[str] = (
        "Assignment(bytes32 taskId,address provider,uint64 fence,"
        "uint64 leaseFrom,uint64 leaseUntil)"
    )

    task_id: TaskId
    provider: Address
    fence: Fence
    lease_from: int
    lease_until: int

    @classmethod
    def from_body(cls, body: wire.AssignmentBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.AssignmentBody:
        return wire.AssignmentBody(**_values(self))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done and what it costs; signed by the provider or its operator key. For a task:
    route is the task id, seq the fence, prev zero, request the spec, total the charge."""

    TYPE: ClassVar[str] = (
        "Receipt(address provider,bytes32 route,uint64 seq,bytes32 prev,bytes32 request,"
        "bytes32 result,bytes32 gpuSet,uint64 startedAtMs,uint64 endedAtMs,uint64 calls,"
        "uint64 gpuMs,bytes32 usageRoot,uint128 total)"
    )

    provider: Address
    route: Digest
    seq: int
    prev: Digest
    request: Digest
    result: Digest
    gpu_set: Digest
    started_at_ms: int
    ended_at_ms: int
    calls: int
    gpu_ms: int
    usage_root: Digest
    total: int

    @classmethod
    def from_body(cls, body: wire.ReceiptBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.ReceiptBody:
        return wire.ReceiptBody(**_values(self))


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The consumer (or the terms' signer) agrees to pay `total` for the receipt of this digest."""

    TYPE: ClassVar[str] = "Acceptance(bytes32 taskId,uint128 total,bytes32 receipt)"

    task_id: TaskId
    total: int
    receipt: Digest

    @classmethod
    def from_body(cls, body: wire.AcceptanceBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.AcceptanceBody:
        return wire.AcceptanceBody(**_values(self))


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A hot key consents to sign for one provider, for ever; signed by the key itself."""

    TYPE: ClassVar[str] = "OperatorKey(address provider,address key)"

    provider: Address
    key: Address


@dataclass(frozen=True, slots=True)
class Channel:
    """One payer's money for one provider, claimed by vouchers of `signer`. Not signed itself: its
    id is the hash of its fields, the same on every chain."""

    payer: Address
    signer: Address
    provider: Address
    salt: int

    @classmethod
    def from_body(cls, body: wire.ChannelBody) -> Self:
        return cls(
            to_address(body.payer), to_address(body.signer), to_address(body.provider), body.salt
        )

    def to_body(self) -> wire.ChannelBody:
        return wire.ChannelBody(
            payer=self.payer, signer=self.signer, provider=self.provider, salt=self.salt
        )

    def voucher(self, total: int, receipt: Digest) -> Voucher:
        """What the channel's signer signs when `total` is owed."""
        return Voucher(self.payer, self.provider, self.salt, total, receipt)


@dataclass(frozen=True, slots=True)
class Voucher:
    """What the payer owes the provider on one channel, all calls together; signed by the channel's
    signer, who is recovered and completes the channel. `receipt` is the digest of the provider's
    last receipt, zero if there is none."""

    TYPE: ClassVar[str] = (
        "Voucher(address payer,address provider,uint96 salt,uint128 total,bytes32 receipt)"
    )

    payer: Address
    provider: Address
    salt: int
    total: int
    receipt: Digest

    @classmethod
    def from_body(cls, body: wire.VoucherBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.VoucherBody:
        return wire.VoucherBody(**_values(self))


@dataclass(frozen=True, slots=True)
class ChannelAllowance:
    """How much `signer` may move from the payer's available money into channels that it signs for,
    `cap` over its life, until `expires_at` (unix seconds, inclusive); signed by the payer."""

    TYPE: ClassVar[str] = (
        "ChannelAllowance(address payer,address signer,uint128 cap,uint64 expiresAt,"
        "bytes32 purpose,uint256 nonce)"
    )

    payer: Address
    signer: Address
    cap: int
    expires_at: int
    purpose: Digest
    nonce: int

    @classmethod
    def from_body(cls, body: wire.ChannelAllowanceBody) -> Self:
        return cls(**_from_body(cls, body))

    def to_body(self) -> wire.ChannelAllowanceBody:
        return wire.ChannelAllowanceBody(**_values(self))


Message = TaskTerms | Assignment | Receipt | Acceptance | OperatorKey | Voucher | ChannelAllowance
MESSAGES: Final[tuple[type[Message], ...]] = (
    TaskTerms,
    Assignment,
    Receipt,
    Acceptance,
    OperatorKey,
    Voucher,
    ChannelAllowance,
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    solidity_name: str
    solidity_type: str


def _layout(cls: type[Message]) -> tuple[_Field, ...]:
    """The Python fields paired with the type string's, by place; the tests compare the names."""
    inside = cls.TYPE[cls.TYPE.index("(") + 1 : -1]
    declared = [part.split(" ") for part in inside.split(",")]
    return tuple(
        _Field(field.name, name, kind)
        for field, (kind, name) in zip(fields(cls), declared, strict=True)
    )


_LAYOUT: Final = {cls: _layout(cls) for cls in MESSAGES}
_TYPE_HASH: Final = {cls: keccak256(cls.TYPE.encode()) for cls in MESSAGES}


def digest(domain: Domain, message: Message) -> Digest:
    """What is signed. Raises `MessageError` when a value does not fit its type. Remembered: each
    end of a call needs a receipt's several times."""
    return Digest("0x" + _digest(domain, message).hex())


def sign(domain: Domain, message: Message, private_key: PrivateKey) -> Signature:
    return signatures.sign_digest(_digest(domain, message), private_key)


def signer(domain: Domain, private_key: PrivateKey) -> Callable[[Message], Signature]:
    """`sign` for many messages of one key, which is made ready once."""
    sign_with = signatures.signer(private_key)
    return lambda message: sign_with(_digest(domain, message))


def recover(domain: Domain, message: Message, signature: str) -> Address:
    """Who signed; raises `SignatureError` unless the signature has the canonical form. A consumer
    that is a contract (EIP-1271) can only be checked on chain."""
    return signatures.recover_digest(_digest(domain, message), signature)


def task_id(domain: Domain, terms: TaskTerms) -> TaskId:
    return TaskId(digest(domain, terms))


@lru_cache(maxsize=4096)
def channel_id(channel: Channel) -> Digest:
    """keccak-256 of the four fields as ABI words."""
    return Digest(
        "0x"
        + keccak256(
            _word("payer", "address", channel.payer)
            + _word("signer", "address", channel.signer)
            + _word("provider", "address", channel.provider)
            + _word("salt", "uint96", channel.salt)
        ).hex()
    )


def channel_of(domain: Domain, voucher: Voucher, signature: str) -> Channel:
    """The channel a signed voucher claims from, its signer recovered as the escrow does. A wrong
    signature names a channel that nobody funded: look at its state before trusting the voucher."""
    signer = recover(domain, voucher, signature)
    return Channel(voucher.payer, signer, voucher.provider, voucher.salt)


def typed_data(domain: Domain, message: Message) -> dict[str, Any]:
    """The argument of a wallet's `eth_signTypedData_v4`. Integers are decimal strings, as JSON
    readers elsewhere would round them."""
    layout = _LAYOUT[type(message)]
    _struct_hash_slowly(message)  # refuses values that do not fit, as signing would
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            type(message).__name__: [
                {"name": field.solidity_name, "type": field.solidity_type} for field in layout
            ],
        },
        "primaryType": type(message).__name__,
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": domain.chain_id,
            "verifyingContract": domain.escrow,
        },
        "message": {
            field.solidity_name: str(value) if isinstance(value, int) else value
            for field, value in zip(layout, as_tuple(message), strict=True)
        },
    }


def as_tuple(message: Message) -> tuple[Any, ...]:
    """The fields in order, as a contract call takes the struct."""
    return tuple(getattr(message, field.name) for field in _LAYOUT[type(message)])


@lru_cache(maxsize=64)
def domain_separator(domain: Domain) -> bytes:
    return keccak256(
        keccak256(_DOMAIN_TYPE.encode())
        + keccak256(DOMAIN_NAME.encode())
        + keccak256(DOMAIN_VERSION.encode())
        + _word("chainId", "uint256", domain.chain_id)
        + _word("verifyingContract", "address", domain.escrow)
    )


def _digest(domain: Domain, message: Message) -> bytes:
    coder = _CODERS[type(message)]
    values = coder.values(message)
    if tuple(map(type, values)) == coder.types:
        return _digest_of(domain, coder, values)
    return _bound_to(domain, _struct_hash_slowly(message))  # true is 1 for a cache, and no number


@lru_cache(maxsize=2048)
def _digest_of(domain: Domain, coder: _Coder, values: tuple[Any, ...]) -> bytes:
    encoded = coder.encode(values)
    if encoded is None:
        return _bound_to(domain, _struct_hash_slowly(coder.cls(*values)))
    return _bound_to(domain, keccak256(encoded))


def _bound_to(domain: Domain, struct_hash: bytes) -> bytes:
    return keccak256(b"\x19\x01" + domain_separator(domain) + struct_hash)


def _struct_hash_slowly(message: Message) -> bytes:
    """Field by field: says which value does not fit."""
    cls = type(message)
    words = [_TYPE_HASH[cls]]
    for field in _LAYOUT[cls]:
        words.append(_word(field.name, field.solidity_type, getattr(message, field.name)))
    return keccak256(b"".join(words))


_HEX_LENGTH: Final[Mapping[str, int]] = {"address": 20, "bytes32": 32}
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)


def _word(name: str, kind: str, value: object) -> bytes:
    """One ABI word. Checks everything the contract's decoder would refuse."""
    length = _HEX_LENGTH.get(kind)
    if length is not None:
        if not isinstance(value, str) or len(value) != 2 + 2 * length or not _HEX.fullmatch(value):
            raise MessageError(
                f"{name} is {value!r}: expected {kind}, 0x and {2 * length} hex digits"
            )
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    bits = int(kind.removeprefix("uint"))
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessageError(f"{name} is {value!r}: expected a whole number ({kind})")
    if not 0 <= value < 1 << bits:
        raise MessageError(f"{name} is {value}: {kind} goes from 0 to {(1 << bits) - 1}")
    return value.to_bytes(32, "big")


class _Coder:
    """All words of one type at once. One pattern holds each to its type; what it does not know goes
    field by field, which takes three times as long."""

    def __init__(self, cls: type[Message]) -> None:
        self.cls = cls
        words, pattern = [_TYPE_HASH[cls].hex()], [_TYPE_HASH[cls].hex()]
        types: list[type] = []
        for one in _LAYOUT[cls]:
            length = _HEX_LENGTH.get(one.solidity_type)
            if length is not None:
                pad = "00" * (32 - length)
                words.append(pad + "%s")
                pattern.append(f"{pad}0x[0-9a-fA-F]{{{2 * length}}}")
                types.append(str)
            else:
                digits = int(one.solidity_type.removeprefix("uint")) // 4
                words.append("%064x")
                pattern.append(f"0{{{64 - digits}}}[0-9a-f]{{{digits}}}")
                types.append(int)
        self._words = "".join(words)
        self._pattern = re.compile("".join(pattern), re.ASCII)
        self.types = tuple(types)
        self.values = operator.attrgetter(*(one.name for one in _LAYOUT[cls]))

    def encode(self, values: tuple[Any, ...]) -> bytes | None:
        text = self._words % values
        if self._pattern.fullmatch(text) is None:
            return None
        return bytes.fromhex(text.replace("0x", ""))


_CODERS: Final = {cls: _Coder(cls) for cls in MESSAGES}


def _values(message: Message) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in _LAYOUT[type(message)]}


def _from_body(cls: type[Message], body: wire.WireModel) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in _LAYOUT[cls]:
        value = getattr(body, field.name)
        if field.solidity_type == "address":
            value = to_address(value)
        elif field.solidity_type == "bytes32":
            value = to_digest(value)
        values[field.name] = value
    return values
