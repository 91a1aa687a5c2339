"""What two signed receipts prove against their provider, and the words of a vote.

Pure: what `fault_of` finds is what the court would slash for, as far as receipts alone can tell.
Whether a signer is (or was) a key of the provider, and whether the receipts are too old, the chain
knows. `call_of` makes the report's transaction.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode

from tallystick.protocol import merkle, messages
from tallystick.protocol.contracts import Call, Court, SignedReceipt, Vote
from tallystick.protocol.errors import MessageError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.messages import Channel, Domain
from tallystick.protocol.signatures import PrivateKey, private_key_bytes
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, TaskId

__all__ = [
    "OVERLAP_ALLOWED_MS",
    "BrokenChain",
    "Fault",
    "GpuSoldTwice",
    "TwoHistories",
    "call_of",
    "commitment",
    "fault_of",
    "offence_of_gpu",
    "offence_of_route",
    "offence_of_silence",
    "offence_of_task",
    "signers_of",
    "vote_of",
    "vote_salt",
]

OVERLAP_ALLOWED_MS: Final = 2_000
"""Two receipts may hold one GPU together for so long: clocks differ, cards change hands."""

MS_PER_DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class TwoHistories:
    """Two receipts for one place."""

    one: SignedReceipt
    other: SignedReceipt


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """Neighbours on a channel, of which the later does not follow the earlier."""

    channel: Channel
    earlier: SignedReceipt
    later: SignedReceipt


@dataclass(frozen=True, slots=True)
class GpuSoldTwice:
    """One GPU held exclusively for two routes at one time."""

    one: SignedReceipt
    other: SignedReceipt
    gpu_id: Digest
    proof_one: tuple[Digest, ...]
    proof_other: tuple[Digest, ...]

    @property
    def day(self) -> int:
        """Since 1970 (UTC): of the moment in which both first ran."""
        return _both_from_ms(self.one, self.other) // MS_PER_DAY


Fault = TwoHistories | BrokenChain | GpuSoldTwice


def fault_of(
    domain: Domain,
    one: SignedReceipt,
    other: SignedReceipt,
    *,
    channel: Channel | None = None,
    gpus_one: Sequence[str] = (),
    gpus_other: Sequence[str] = (),
) -> Fault:
    """The fault these two show. Neighbours of a chain need the channel's fields; a GPU sold twice
    needs the ids behind both gpuSets. Raises `MessageError` with the reason if they show none."""
    if one.receipt.provider != other.receipt.provider:
        raise MessageError(
            f"the receipts are of two providers, {one.receipt.provider} and "
            f"{other.receipt.provider}: show two of one"
        )
    if one.receipt.route != other.receipt.route:
        return _gpu_sold_twice(one, other, gpus_one, gpus_other)
    if one.receipt.seq == other.receipt.seq:
        if messages.digest(domain, one.receipt) == messages.digest(domain, other.receipt):
            raise MessageError("it is twice the same receipt: that is no fault")
        return TwoHistories(one, other)
    return _broken_chain(domain, one, other, channel)


def call_of(court: Court, fault: Fault) -> Call:
    match fault:
        case TwoHistories(one, other):
            return court.report_two_histories(one, other)
        case BrokenChain(channel, earlier, later):
            return court.report_broken_chain(
                channel.payer, channel.signer, channel.salt, earlier, later
            )
        case GpuSoldTwice(one, other, gpu_id, proof_one, proof_other):
            return court.report_gpu_sold_twice(one, other, gpu_id, proof_one, proof_other)


def signers_of(domain: Domain, fault: Fault) -> tuple[Address, Address]:
    """Who signed the two receipts: the provider must answer for both (`Staking.answers_for`)."""
    pair = (
        (fault.earlier, fault.later)
        if isinstance(fault, BrokenChain)
        else (
            fault.one,
            fault.other,
        )
    )
    one, other = (messages.recover(domain, shown.receipt, shown.signature) for shown in pair)
    return one, other


def offence_of_route(provider: Address, route: Digest) -> Digest:
    """Punished once, whatever of this route is shown."""
    return _hash(["string", "address", "bytes32"], ["two histories", provider, _raw(route)])


def offence_of_gpu(provider: Address, gpu_id: Digest, day: int) -> Digest:
    kinds = ["string", "address", "bytes32", "uint64"]
    return _hash(kinds, ["one GPU sold twice", provider, _raw(gpu_id), day])


def offence_of_task(task_id: TaskId) -> Digest:
    """A result that the court found wrong."""
    return _hash(["string", "bytes32"], ["wrong result", _raw(task_id)])


def offence_of_silence(task_id: TaskId, checker: Address, round_: int) -> Digest:
    kinds = ["string", "bytes32", "address", "uint8"]
    return _hash(kinds, ["silent seat", _raw(task_id), checker, round_])


def commitment(vote: Vote, salt: Digest, checker: Address, task_id: TaskId) -> Digest:
    """What a checker commits to. Keep the salt secret until the commit is over, and take another
    for each vote: whoever knows it knows the vote."""
    kinds = ["uint8", "bytes32", "address", "bytes32"]
    return _hash(kinds, [int(vote), _raw(salt), checker, _raw(task_id)])


def vote_salt(
    private_key: PrivateKey, domain: Domain, task_id: TaskId, round_: int, checker: Address
) -> Digest:
    """A salt that follows from the key that commits: nothing has to be kept until the reveal, and
    no file can be lost or read. Another for each round, task, checker and deployment. An HMAC of
    the key and no signature: nobody can get it out of a wallet by asking for a signature."""
    kinds = ["uint256", "address", "bytes32", "uint8", "address"]
    place = encode(kinds, [domain.chain_id, domain.escrow, _raw(task_id), round_, checker])
    secret = private_key_bytes(private_key)
    mac = hmac.new(secret, b"Tallystick vote salt" + place, hashlib.sha256)
    return Digest("0x" + mac.hexdigest())


def vote_of(committed: Digest, salt: Digest, checker: Address, task_id: TaskId) -> Vote | None:
    """The vote behind a commitment, for whoever has the salt; None if it is another's salt."""
    for vote in (Vote.RIGHT, Vote.WRONG, Vote.NO_INPUT, Vote.NO_RESULT):
        if commitment(vote, salt, checker, task_id) == committed:
            return vote
    return None


def _broken_chain(
    domain: Domain, one: SignedReceipt, other: SignedReceipt, channel: Channel | None
) -> BrokenChain:
    earlier, later = sorted((one, other), key=lambda shown: shown.receipt.seq)
    if later.receipt.seq != earlier.receipt.seq + 1:
        raise MessageError(
            f"the receipts have seq {earlier.receipt.seq} and {later.receipt.seq}: show two for "
            "one place, or two neighbours of a channel"
        )
    if channel is None:
        raise MessageError(
            "neighbours are a fault on a channel only: give its payer, signer and salt"
        )
    expected = messages.channel_id(channel)
    if channel.provider != earlier.receipt.provider or expected != earlier.receipt.route:
        raise MessageError(
            f"the fields are the channel {expected} of {channel.provider} and the receipts are of "
            f"the route {earlier.receipt.route}: give the payer, signer and salt of that channel"
        )
    named = later.receipt.prev == messages.digest(domain, earlier.receipt)
    if named and later.receipt.total >= earlier.receipt.total:
        raise MessageError("the later receipt follows the earlier as it should: that is no fault")
    return BrokenChain(channel, earlier, later)


def _gpu_sold_twice(
    one: SignedReceipt, other: SignedReceipt, gpus_one: Sequence[str], gpus_other: Sequence[str]
) -> GpuSoldTwice:
    for shown, gpus in ((one, gpus_one), (other, gpus_other)):
        if shown.receipt.gpu_set == ZERO_DIGEST:
            raise MessageError(
                f"the receipt of {shown.receipt.route} holds no GPU exclusively: that is no fault"
            )
        root = merkle.gpu_set_root(gpus)
        if root != shown.receipt.gpu_set:
            raise MessageError(
                f"the {len(gpus)} GPU ids given have the root {root} and the receipt of "
                f"{shown.receipt.route} has {shown.receipt.gpu_set}: give all ids of its set"
            )
    common = sorted(set(gpus_one) & set(gpus_other))
    if not common:
        raise MessageError("the receipts have no GPU in common: that is no fault")
    until_ms = min(one.receipt.ended_at_ms, other.receipt.ended_at_ms)
    overlap_ms = max(0, until_ms - _both_from_ms(one, other))
    if overlap_ms <= OVERLAP_ALLOWED_MS:
        raise MessageError(
            f"the receipts overlap by {overlap_ms} ms and {OVERLAP_ALLOWED_MS} are allowed: that "
            "is no fault"
        )
    gpu = common[0]
    return GpuSoldTwice(
        one, other, merkle.gpu_id_digest(gpu), _proof(gpus_one, gpu), _proof(gpus_other, gpu)
    )


def _both_from_ms(one: SignedReceipt, other: SignedReceipt) -> int:
    return max(one.receipt.started_at_ms, other.receipt.started_at_ms)


def _proof(gpus: Sequence[str], gpu: str) -> tuple[Digest, ...]:
    return merkle.proof(
        [_raw(merkle.gpu_id_digest(one)) for one in gpus], _raw(merkle.gpu_id_digest(gpu))
    )


def _hash(kinds: Sequence[str], values: Sequence[object]) -> Digest:
    return Digest("0x" + keccak256(encode(kinds, values)).hex())


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest[2:])
