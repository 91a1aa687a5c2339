"""What the people of the tests sign and send, with honest defaults that a test changes by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Domain,
    Message,
    OperatorKey,
    Receipt,
    TaskTerms,
)
from tallystick.protocol.pricing import charge_up
from tallystick.protocol.signatures import sign_digest
from tallystick.protocol.types import Address, Digest, Fence, TaskId

TALLY = 10**18
UNIT = 100 * TALLY
DAY_S = 86_400
BOND_FLOOR = 3 * TALLY
CLOSE_S = 3 * DAY_S
POOL_SHARE_BPS = 5_000
ZERO = Address("0x" + "00" * 20)
CLOCKS = (21 * DAY_S, 7 * DAY_S, 7 * DAY_S, 7 * DAY_S, 7 * DAY_S)
"""Unbonding, retired key, commission notice, jail, stream."""
NO_DIGEST = Digest("0x" + "00" * 32)


@contextmanager
def reverts_with(error: str, *values: Any) -> Iterator[None]:
    """The named error, its first values being these."""
    from brownie.exceptions import VirtualMachineError

    with pytest.raises(VirtualMachineError) as refused:
        yield
    message = str(refused.value.revert_msg)
    name, _, shown = message.partition(":")
    assert name == error, message
    told, expected = shown.strip().lower(), ", ".join(map(as_brownie_shows, values)).lower()
    assert told == expected or told.startswith(f"{expected}," if values else ""), message


def as_brownie_shows(value: Any) -> str:
    text = str(value)
    return str(bytes.fromhex(text[2:])) if len(text) == 66 and text.startswith("0x") else text


@contextmanager
def at_time(stage: Stage, timestamp: int) -> Iterator[None]:
    """The next transaction's block has this time."""
    from brownie import web3

    web3.provider.make_request("evm_setNextBlockTimestamp", [timestamp])
    yield


def digest_of(text: str) -> Digest:
    from web3 import Web3

    return Digest(Web3.keccak(text=text).to_0x_hex())


def two_words(signature: str) -> tuple[bytes, bytes]:
    """EIP-2098."""
    raw = bytes.fromhex(signature[2:])
    return raw[:32], bytes([raw[32] | (raw[64] - 27) << 7]) + raw[33:64]


NO_SIGNATURE = (bytes(32), bytes(32))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider metered: as the market takes it, in its order."""

    provider: str
    fence: int
    result: str
    gpu_set: str
    started_at_ms: int
    ended_at_ms: int
    calls: int
    gpu_ms: int
    usage_root: str

    def row(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Stage:
    """One deployment with its people."""

    def __init__(
        self,
        token: Any,
        escrow: Any,
        staking: Any,
        market: Any,
        consumer: Any,
        provider: Any,
        operator: Any,
        dispatcher: Any,
    ) -> None:
        from brownie import chain

        self.chain = chain
        self.token = token
        self.escrow = escrow
        self.staking = staking
        self.market = market
        self.consumer = consumer
        self.provider = provider
        self.operator = operator
        self.dispatcher = dispatcher
        self.domain = Domain(chain.id, Address(escrow.address))

    # ------------------------------------------------------------------ time and money

    def now(self) -> int:
        return int(self.chain[-1].timestamp)

    def at(self, timestamp: int) -> None:
        """Mine a block at this time."""
        from brownie import web3

        web3.provider.make_request("evm_setNextBlockTimestamp", [timestamp])
        web3.provider.make_request("evm_mine", [])

    def deposit(self, person: Any, units: int) -> None:
        self.token.approve(self.escrow, units, {"from": person})
        self.escrow.deposit(person, units, {"from": person})

    # ------------------------------------------------------------------ messages

    def terms(self, **changes: Any) -> TaskTerms:
        """Two GPUs at 0.01 a second and 1 flat, at most 50, for a day; 5 % to the dispatcher."""
        terms = TaskTerms(
            consumer=Address(self.consumer.address),
            signer=ZERO,
            dispatcher=Address(self.dispatcher.address),
            royalty_to=ZERO,
            spec=digest_of("spec"),
            gpus=2,
            flat=TALLY,
            fee_per_call=TALLY // 10,
            rate_per_gpu_second=TALLY // 100,
            dispatcher_bps=500,
            royalty_bps=0,
            max_charge=50 * TALLY,
            max_seconds=3_600,
            deadline=self.now() + DAY_S,
            challenge_window=DAY_S,
            verification=0,
            nonce=0,
        )
        return replace(terms, **changes)

    def usage(self, **changes: Any) -> Usage:
        """Both GPUs for ten minutes until a second ago, one call: 1 + 0.1 + 12 = 13.1."""
        ended_at_ms = (self.now() - 1) * 1000
        usage = Usage(
            provider=self.provider.address,
            fence=1,
            result=digest_of("result"),
            gpu_set=digest_of("gpus"),
            started_at_ms=ended_at_ms - 600_000,
            ended_at_ms=ended_at_ms,
            calls=1,
            gpu_ms=1_200_000,
            usage_root=digest_of("samples"),
        )
        return replace(usage, **changes)

    def task_id(self, terms: TaskTerms) -> TaskId:
        return messages.task_id(self.domain, terms)

    def receipt(self, terms: TaskTerms, usage: Usage, **changes: Any) -> Receipt:
        receipt = Receipt(
            provider=Address(usage.provider),
            route=Digest(self.task_id(terms)),
            seq=usage.fence,
            prev=NO_DIGEST,
            request=terms.spec,
            result=Digest(usage.result),
            gpu_set=Digest(usage.gpu_set),
            started_at_ms=usage.started_at_ms,
            ended_at_ms=usage.ended_at_ms,
            calls=usage.calls,
            gpu_ms=usage.gpu_ms,
            usage_root=Digest(usage.usage_root),
            total=charge_up(terms, usage.calls, usage.gpu_ms),
        )
        return replace(receipt, **changes)

    def acceptance(self, terms: TaskTerms, usage: Usage, **changes: Any) -> Acceptance:
        receipt = self.receipt(terms, usage)
        acceptance = Acceptance(
            task_id=self.task_id(terms),
            total=receipt.total,
            receipt=self.digest(receipt),
        )
        return replace(acceptance, **changes)

    def assignment(self, terms: TaskTerms, usage: Usage, **changes: Any) -> Assignment:
        """From the start of the work until a minute from now."""
        assignment = Assignment(
            task_id=self.task_id(terms),
            provider=Address(usage.provider),
            fence=Fence(usage.fence),
            lease_from=usage.started_at_ms // 1000,
            lease_until=self.now() + 60,
        )
        return replace(assignment, **changes)

    def digest(self, message: Message) -> Digest:
        return messages.digest(self.domain, message)

    def signed(self, message: Message, by: Any) -> str:
        return messages.sign(self.domain, message, by.private_key)

    def consent(self, provider: Any, key: Any) -> str:
        message = OperatorKey(Address(provider.address), Address(key.address))
        return self.signed(message, key)

    # ------------------------------------------------------------------ proofs

    def accepted(
        self,
        terms: TaskTerms,
        usage: Usage,
        *,
        by: Any = None,
        receipt_by: Any = None,
        terms_signature: str | bytes = b"",
        acceptance: str | None = None,
    ) -> tuple[Any, ...]:
        """`AcceptedProof`, accepted by the consumer and signed by the operator key."""
        receipt = self.signed(self.receipt(terms, usage), receipt_by or self.operator)
        if acceptance is None:
            acceptance = self.signed(self.acceptance(terms, usage), by or self.consumer)
        return (
            messages.as_tuple(terms),
            usage.row(),
            terms_signature,
            *two_words(receipt),
            acceptance,
        )

    def leased(
        self,
        terms: TaskTerms,
        usage: Usage,
        *,
        assignment: Assignment | None = None,
        by: Any = None,
        receipt_by: Any = None,
    ) -> tuple[Any, ...]:
        """`LeasedProof`, assigned by the dispatcher and signed by the operator key."""
        assignment = assignment or self.assignment(terms, usage)
        return (
            messages.as_tuple(terms),
            usage.row(),
            assignment.lease_from,
            assignment.lease_until,
            self.signed(self.receipt(terms, usage), receipt_by or self.operator),
            self.signed(assignment, by or self.dispatcher),
        )

    def create(self, terms: TaskTerms) -> Any:
        return self.market.createTask(messages.as_tuple(terms), b"", {"from": self.consumer})

    def proven(self, terms: TaskTerms, usage: Usage, charge: int | None = None) -> tuple[Any, ...]:
        """`ProvenWork` as `TaskProven` tells it."""
        receipt = self.receipt(terms, usage)
        return (usage.provider, receipt.total if charge is None else charge, self.digest(receipt))

    def signed_digest(self, digest: str, by: Any) -> str:
        return sign_digest(bytes.fromhex(digest[2:]), by.private_key)

    # ------------------------------------------------------------------ reading

    # Brownie's own results do not compare with tuples in its compiled form.

    def account(self, person: Any) -> tuple[int, int]:
        """Available and locked."""
        available, locked = self.escrow.accountOf(person)
        return int(available), int(locked)

    def payee(self, person: Any) -> tuple[int, int]:
        """Credit and fees."""
        credit, fees = self.escrow.payeeOf(person)
        return int(credit), int(fees)

    def task(self, terms: TaskTerms) -> tuple[int, int]:
        """Status and time."""
        status, time = self.market.taskOf(self.task_id(terms))
        return int(status), int(time)

    def stake_of(self, person: Any) -> tuple[int, int]:
        """Bonded and unbonding."""
        bonded, unbonding = self.staking.stakeOf(person)
        return int(bonded), int(unbonding)
