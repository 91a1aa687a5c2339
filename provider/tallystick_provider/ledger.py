"""What the agent asks of the chain. `Ledger` is the promise; `ChainLedger` keeps it over JSON-RPC.

The agent follows a node of its own choice: that money is locked for a task is read here, never
believed from an offer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from web3 import AsyncWeb3
from web3.exceptions import TransactionNotFound

from tallystick.protocol import codec
from tallystick.protocol.contracts import (
    AcceptedProof,
    Call,
    Escrow,
    LeasedProof,
    Market,
    ProvenWork,
    Staking,
    TaskStatus,
    Usage,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ProtocolError, TransactionError
from tallystick.protocol.events import TaskProven, TaskSettled, decode_log, raw_log
from tallystick.protocol.messages import Assignment, Receipt, TaskTerms
from tallystick.protocol.signatures import PrivateKey
from tallystick.protocol.transactions import Fees, Sender, SignedTransaction
from tallystick.protocol.types import Address, Digest, Signature, TaskId
from tallystick.protocol.web3 import NODE_FAILED
from tallystick_provider.errors import SettlementError

LOG_RANGE_BLOCKS = 2_000
"""Nodes limit how many blocks one question for logs may span."""
REORG_BLOCKS = 64
"""How far below the block of its acceptance a task's event may come to lie: a reorganised chain
can be shorter for a moment."""


@dataclass(frozen=True, slots=True)
class Settled:
    """`TaskSettled`, as the chain told it."""

    provider: Address
    charge: int
    receipt: Digest
    tx_hash: str


@dataclass(frozen=True, slots=True)
class Proven:
    """`TaskProven`, as the chain told it."""

    provider: Address
    fence: int
    charge: int
    receipt: Digest
    challenge_ends_at: int


@dataclass(frozen=True, slots=True)
class TaskOnChain:
    """Where a task stands at `block`."""

    status: Literal["none", "open", "proven", "disputed"]
    nonce_used: bool
    """With status none: settled or refunded."""
    end_s: int
    """Last second a proof may arrive: the deadline, or sooner after a cancel."""
    available: int
    """What the consumer's account could pay a signed order with."""
    block: int
    now_s: int
    """Time of that block."""
    proven: Proven | None = None
    settled: Settled | None = None
    cancelled: bool = False
    """Only what was used before the cancellation is paid without the consumer's acceptance."""

    def vouches_for(self, receipt: Digest) -> bool:
        """The chain holds the task proven, or settled, by this very receipt."""
        return receipt in [told.receipt for told in (self.proven, self.settled) if told]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mined transaction."""

    succeeded: bool
    block: int


@dataclass(frozen=True, slots=True)
class Proof:
    """Everything a usage proof is made of."""

    task_id: TaskId
    terms: TaskTerms
    terms_signature: Signature | None
    receipt: Receipt
    receipt_signature: Signature


class Ledger(Protocol):
    """Trouble with the node is a SettlementError; a refusal is the kernel's ContractError."""

    @property
    def account(self) -> Address:
        """The key that pays the gas."""

    async def task(self, task_id: TaskId, terms: TaskTerms, from_block: int) -> TaskOnChain: ...

    async def head(self) -> tuple[int, int]:
        """Number and time of the newest block."""

    def create_task(self, proof: Proof) -> Call: ...

    def prove(self, proof: Proof, acceptance_signature: Signature, *, created: bool) -> Call:
        """`created` only makes it cheaper when it is right: both verbs read the task's state."""

    def prove_alone(
        self, proof: Proof, assignment: Assignment, assignment_signature: Signature
    ) -> Call: ...

    def finalize(
        self, proof: Proof, proven: Proven, acceptance_signature: Signature | None
    ) -> Call: ...

    async def nonce(self) -> int:
        """The account's next nonce by what is mined."""

    async def fees(self) -> Fees: ...

    async def sign(
        self, call: Call, nonce: int, fees: Fees, gas: int | None = None
    ) -> SignedTransaction:
        """Without `gas` it is simulated first, and ContractError says why it would be refused."""

    async def simulate_mined(self, call: Call) -> None:
        """Against mined blocks only: a transaction of ours that still waits does not count."""

    async def broadcast(self, raw: bytes) -> None:
        """Sending what the node has already is no failure."""

    async def mined(self, tx_hash: Digest) -> Outcome | None: ...


class ChainLedger:
    """Over JSON-RPC, with the kernel's typed contracts."""

    def __init__(
        self, web3: AsyncWeb3[Any], deployment: Deployment, private_key: PrivateKey
    ) -> None:
        self._web3 = web3
        self._deployment = deployment
        self._market = Market(web3, deployment.market)
        self._escrow = Escrow(web3, deployment.escrow)
        self._staking = Staking(web3, deployment.staking)
        self._sender = Sender(web3, private_key, chain_id=deployment.chain_id)

    @property
    def account(self) -> Address:
        return self._sender.address

    async def task(self, task_id: TaskId, terms: TaskTerms, from_block: int) -> TaskOnChain:
        """All of it at one block, so that no two answers contradict each other."""
        with node_trouble():
            head: Any = await self._web3.eth.get_block("latest")
            block = int(head["number"])
            state, used, account = await asyncio.gather(
                self._market.task(task_id, block=block),
                self._market.nonce_used(terms.consumer, terms.nonce, block=block),
                self._escrow.account(terms.consumer, block=block),
            )
            end_s, proven, settled = terms.deadline, None, None
            cancelled = state.status is TaskStatus.OPEN and bool(state.time_s)
            if cancelled:
                end_s = min(end_s, state.time_s + self._deployment.cancel_seconds)
            if state.status is TaskStatus.PROVEN:
                proven = await self._proven(task_id, from_block, block)
            elif state.status is TaskStatus.NONE and used:
                settled = await self._settled(task_id, from_block, block)
            return TaskOnChain(
                status=_STATUS[state.status],
                nonce_used=used,
                end_s=end_s,
                available=account.available,
                block=block,
                now_s=int(head["timestamp"]),
                proven=proven,
                settled=settled,
                cancelled=cancelled,
            )

    async def head(self) -> tuple[int, int]:
        with node_trouble():
            head: Any = await self._web3.eth.get_block("latest")
            return int(head["number"]), int(head["timestamp"])

    async def gas_balance_wei(self) -> int:
        with node_trouble():
            return int(await self._web3.eth.get_balance(_account(self.account)))

    async def signs_for(self, provider: Address) -> bool:
        with node_trouble():
            return await self._staking.signs_for(self.account, provider)

    async def staked_units(self, provider: Address) -> int:
        with node_trouble():
            return await self._staking.units_of(provider)

    async def gpus_registered(self, provider: Address) -> int:
        with node_trouble():
            return await self._staking.gpus_of(provider)

    def create_task(self, proof: Proof) -> Call:
        return self._market.create_task(proof.terms, proof.terms_signature or "")

    def prove(self, proof: Proof, acceptance_signature: Signature, *, created: bool) -> Call:
        accepted = AcceptedProof(
            terms=proof.terms,
            usage=Usage.of(proof.receipt),
            terms_signature=proof.terms_signature or "",
            receipt_signature=proof.receipt_signature,
            acceptance=acceptance_signature,
        )
        return self._market.prove(accepted) if created else self._market.prove_order(accepted)

    def prove_alone(
        self, proof: Proof, assignment: Assignment, assignment_signature: Signature
    ) -> Call:
        return self._market.prove_alone(
            LeasedProof(
                terms=proof.terms,
                usage=Usage.of(proof.receipt),
                lease_from=assignment.lease_from,
                lease_until=assignment.lease_until,
                receipt_signature=proof.receipt_signature,
                assignment=assignment_signature,
            )
        )

    def finalize(
        self, proof: Proof, proven: Proven, acceptance_signature: Signature | None
    ) -> Call:
        work = ProvenWork(proven.provider, proven.charge, proven.receipt)
        return self._market.finalize(proof.terms, work, acceptance_signature or "")

    async def nonce(self) -> int:
        with node_trouble():
            return int(await self._web3.eth.get_transaction_count(_account(self.account), "latest"))

    async def fees(self) -> Fees:
        with node_trouble():
            return await self._sender.fees()

    async def sign(
        self, call: Call, nonce: int, fees: Fees, gas: int | None = None
    ) -> SignedTransaction:
        with node_trouble():
            return await self._sender.sign(call, nonce=nonce, fees=fees, gas=gas)

    async def simulate_mined(self, call: Call) -> None:
        with node_trouble():
            await self._sender.simulate(call, block="latest")

    async def broadcast(self, raw: bytes) -> None:
        with node_trouble():
            await self._sender.broadcast(raw)

    async def mined(self, tx_hash: Digest) -> Outcome | None:
        with node_trouble():
            try:
                receipt: Any = await self._web3.eth.get_transaction_receipt(_hash(tx_hash))
            except TransactionNotFound:
                return None
            return Outcome(receipt["status"] == 1, int(receipt["blockNumber"]))

    async def _proven(self, task_id: TaskId, from_block: int, to_block: int) -> Proven | None:
        event = await self._newest(TaskProven, task_id, from_block, to_block)
        if event is None:
            return None
        return Proven(
            event.provider, event.fence, event.charge, event.receipt, event.challenge_ends_at
        )

    async def _settled(self, task_id: TaskId, from_block: int, to_block: int) -> Settled | None:
        event = await self._newest(TaskSettled, task_id, from_block, to_block)
        if event is None:
            return None
        return Settled(event.provider, event.charge, event.receipt, event.at.tx_hash)

    async def _newest(
        self, kind: type[_Event], task_id: TaskId, from_block: int, to_block: int
    ) -> _Event | None:
        """The task's last event of a kind, searched backwards in ranges a node answers."""
        topic = next(t for t, e in codec.events("TaskMarket").items() if e.name == kind.__name__)
        first, upper = max(0, from_block - REORG_BLOCKS), to_block
        while upper >= first:
            lower = max(first, upper - LOG_RANGE_BLOCKS + 1)
            question: Any = {
                "address": self._deployment.market,
                "topics": [topic, task_id],
                "fromBlock": lower,
                "toBlock": upper,
            }
            found = await self._web3.eth.get_logs(question)
            for answer in reversed(found):
                event = decode_log(raw_log(answer), self._deployment)
                if isinstance(event, kind):
                    return event
            upper = lower - 1
        return None


_Event = TypeVar("_Event", TaskProven, TaskSettled)
_STATUS: dict[TaskStatus, Literal["none", "open", "proven", "disputed"]] = {
    TaskStatus.NONE: "none",
    TaskStatus.OPEN: "open",
    TaskStatus.PROVEN: "proven",
    TaskStatus.DISPUTED: "disputed",
}


def _account(address: Address) -> Any:
    return address


def _hash(tx_hash: Digest) -> Any:
    return tx_hash


@contextmanager
def node_trouble() -> Iterator[None]:
    """Trouble with the node as one kind of error; a contract's refusal passes."""
    try:
        yield
    except TransactionError as error:
        raise SettlementError(str(error)) from error
    except ProtocolError:
        raise
    except NODE_FAILED as error:
        raise SettlementError(
            f"the node does not answer as it should ({type(error).__name__}: {str(error)[:200]}); "
            "check TALLYSTICK_PROVIDER_RPC_URL"
        ) from error
