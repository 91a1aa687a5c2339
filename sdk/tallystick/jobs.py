"""What the SDK hands out: jobs, their states, results, and amounts of money. All frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from tallystick.errors import ServiceError
from tallystick.protocol.money import format_amount
from tallystick.protocol.pricing import price_per_gpu_hour
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import OfferBody, ReceiptBody, ReceiptView, TaskBody, TaskTermsBody


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount of the market's token: exact in its smallest unit, readable as text."""

    units: int
    decimals: int = field(compare=False)
    symbol: str = field(compare=False)

    @property
    def amount(self) -> Decimal:
        """In whole tokens, exact: no context precision is involved."""
        return Decimal(self.text)

    @property
    def text(self) -> str:
        return format_amount(self.units, self.decimals)

    def __str__(self) -> str:
        return f"{self.text} {self.symbol}"

    def to_json(self) -> dict[str, str]:
        return {"units": str(self.units), "amount": self.text, "symbol": self.symbol}


class JobState(StrEnum):
    """Where a task stands. It only moves downwards in this list, save for a lost lease, which
    takes it from running back to funded."""

    ORDERED = "ordered"
    FUNDED = "funded"
    LEASED = "leased"
    RUNNING = "running"
    FINISHED = "finished"
    PROVEN = "proven"
    DISPUTED = "disputed"
    SETTLED = "settled"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ORPHANED = "orphaned"

    @property
    def has_result(self) -> bool:
        return self in (
            JobState.FINISHED,
            JobState.PROVEN,
            JobState.DISPUTED,
            JobState.SETTLED,
        )

    @property
    def is_over(self) -> bool:
        """Nothing about the task changes any more. An orphaned one may still come back: its
        creation was lost in a reorganisation of the chain and can be mined again."""
        return self in (
            JobState.SETTLED,
            JobState.REFUNDED,
            JobState.CANCELLED,
            JobState.FAILED,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted task. It runs on its own; ask for its status with `client.get_job_status`."""

    id: str
    name: str
    gpu_class: str
    gpus: int
    max_seconds: int
    price_per_gpu_hour: Decimal
    """What you pay for each GPU and hour, in tokens; billed by the millisecond used."""
    max_charge: Money
    """You never pay more than this."""
    secured: bool
    created_tx: str | None
    """Transaction that locked the ceiling; None for an order that is only signed."""
    terms: TaskTermsBody
    not_sealed_to: tuple[str, ...] = ()
    """Why some providers got no key to the input, a sentence each: the sealing key that the backend
    shows for them is not theirs."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "gpu_class": self.gpu_class,
            "gpus": self.gpus,
            "max_seconds": self.max_seconds,
            "price_per_gpu_hour": str(self.price_per_gpu_hour),
            "max_charge": self.max_charge.to_json(),
            "secured": self.secured,
            "created_tx": self.created_tx,
            "not_sealed_to": list(self.not_sealed_to),
        }


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A task at one moment."""

    id: str
    name: str
    state: JobState
    stage: str
    percent: int | None
    """0 to 100 as the task itself reports it; None until it says something."""
    eta_seconds: int | None
    message: str
    provider: str | None
    fence: int | None
    attempts: int
    failure: str | None
    simulated: bool
    """True when the provider's GPUs are simulated."""
    runtime: str
    max_charge: Money
    charge: Money | None
    created_at_ms: int
    created_tx: str | None
    proven_tx: str | None
    settled_tx: str | None
    receipt_digest: str | None

    @property
    def has_result(self) -> bool:
        return self.state.has_result

    @property
    def is_over(self) -> bool:
        return self.state.is_over

    @classmethod
    def from_body(cls, body: TaskBody, decimals: int, symbol: str) -> JobStatus:
        lease = body.lease
        state = _state(body)
        finished = state.has_result
        return cls(
            id=body.id,
            name=body.name,
            state=state,
            stage=body.progress.stage,
            percent=100 if finished else body.progress.percent,
            eta_seconds=0 if finished else body.progress.eta_seconds,
            message="" if finished else body.progress.message,
            provider=lease.provider if lease else None,
            fence=lease.fence if lease else None,
            attempts=body.attempts,
            failure=body.failure,
            simulated=bool(lease and lease.simulated),
            runtime=lease.runtime if lease else "",
            max_charge=Money(body.terms.max_charge, decimals, symbol),
            charge=None if body.charge is None else Money(body.charge, decimals, symbol),
            created_at_ms=body.created_at_ms,
            created_tx=body.created_tx,
            proven_tx=body.proven_tx,
            settled_tx=body.settled_tx,
            receipt_digest=body.receipt_digest,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "stage": self.stage,
            "percent": self.percent,
            "eta_seconds": self.eta_seconds,
            "message": self.message,
            "provider": self.provider,
            "fence": self.fence,
            "attempts": self.attempts,
            "failure": self.failure,
            "simulated": self.simulated,
            "runtime": self.runtime,
            "max_charge": self.max_charge.to_json(),
            "charge": self.charge.to_json() if self.charge else None,
            "created_at_ms": self.created_at_ms,
            "created_tx": self.created_tx,
            "proven_tx": self.proven_tx,
            "settled_tx": self.settled_tx,
            "receipt_digest": self.receipt_digest,
        }


def _state(body: TaskBody) -> JobState:
    try:
        return JobState(body.state)
    except ValueError:
        raise ServiceError(
            f"The backend says task {body.id} is {body.state!r}, a state this SDK does not know.",
            next_step="Update the SDK: pip install --upgrade tallystick.",
        ) from None


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """A receipt whose signature, terms, times and price this machine verified for itself.

    Only `tallystick.receipts.check_receipt` makes one; what pays accepts nothing else.
    """

    task_id: str
    digest: str
    body: ReceiptBody
    view: ReceiptView
    charge: Money
    signed_by: str
    """The provider, or a key it bound to itself on chain."""

    @property
    def seconds(self) -> Decimal:
        return Decimal(self.body.ended_at_ms - self.body.started_at_ms) / 1000

    @property
    def gpu_seconds(self) -> Decimal:
        return Decimal(self.body.gpu_ms) / 1000

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "digest": self.digest,
            "provider": self.body.provider,
            "signed_by": self.signed_by,
            "fence": self.body.seq,
            "exit_code": self.view.exit_code,
            "seconds": str(self.seconds),
            "gpu_seconds": str(self.gpu_seconds),
            "charge": self.charge.to_json(),
            "energy_mj": self.view.energy_mj,
            "simulated": self.view.simulated,
            "runtime": self.view.runtime,
            "accepted": self.view.accepted,
            "receipt": self.body.model_dump(mode="json"),
            "signature": self.view.signature,
        }


@dataclass(frozen=True, slots=True)
class JobResult:
    """A result on this machine's disk, with the receipt it was checked against."""

    task_id: str
    directory: Path
    files: tuple[str, ...]
    """Names below `directory`; what the task wrote is under `out/`."""
    exit_code: int
    receipt: CheckedReceipt
    accepted: bool
    """True when the acceptance was signed and sent, so the provider is paid at once."""

    @property
    def outputs(self) -> Path:
        """Where the files that the task wrote to TALLYSTICK_OUTPUT lie."""
        return self.directory / "out"

    @property
    def charge(self) -> Money:
        return self.receipt.charge

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "directory": str(self.directory),
            "files": list(self.files),
            "exit_code": self.exit_code,
            "charge": self.charge.to_json(),
            "accepted": self.accepted,
            "receipt_digest": self.receipt.digest,
        }


@dataclass(frozen=True, slots=True)
class Balance:
    """Where the consumer's money is: in the wallet, free in the escrow, held for tasks."""

    address: str
    wallet: Money | None
    """None when no chain endpoint is set: the backend does not know wallets."""
    available: Money
    reserved: Money
    credit: Money

    def to_json(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "wallet": self.wallet.to_json() if self.wallet else None,
            "available": self.available.to_json(),
            "reserved": self.reserved.to_json(),
            "credit": self.credit.to_json(),
        }


@dataclass(frozen=True, slots=True)
class MarketOffer:
    """A provider as it stands for a request: what it asks for, and why it is passed over."""

    provider: str
    gpu_class: str
    gpus_free: int
    gpus_total: int
    gpu_memory_mib: int
    price_per_gpu_hour: Decimal
    rate_per_gpu_second: int
    runtime: str
    simulated: bool
    eligible: bool
    reason: str
    detail: str
    hpke_key: str
    hpke_signature: str
    key_problem: str = ""
    """Why no input is sealed to that key: it is not the provider's. Empty when it is, or when it
    was not checked (`explain` and `submit` check, `offers` does not)."""

    @classmethod
    def from_body(cls, body: OfferBody, decimals: int) -> MarketOffer:
        return cls(
            provider=to_address(body.provider.lower()),
            gpu_class=body.gpu_class,
            gpus_free=body.gpus_free,
            gpus_total=body.gpus_total,
            gpu_memory_mib=body.gpu_memory_mib,
            price_per_gpu_hour=price_per_gpu_hour(body.rate_per_gpu_second, decimals),
            rate_per_gpu_second=body.rate_per_gpu_second,
            runtime=body.runtime,
            simulated=body.simulated,
            eligible=body.eligible,
            reason=body.reason,
            detail=body.detail,
            hpke_key=body.hpke_key,
            hpke_signature=body.hpke_signature,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "gpu_class": self.gpu_class,
            "gpus_free": self.gpus_free,
            "gpus_total": self.gpus_total,
            "gpu_memory_mib": self.gpu_memory_mib,
            "price_per_gpu_hour": str(self.price_per_gpu_hour),
            "rate_per_gpu_second": str(self.rate_per_gpu_second),
            "runtime": self.runtime,
            "simulated": self.simulated,
            "eligible": self.eligible,
            "reason": self.reason,
            "detail": self.detail,
            "key_problem": self.key_problem,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task stands where it stands: a sentence, and one for each provider passed over."""

    task_id: str
    state: JobState
    summary: str
    offers: tuple[MarketOffer, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "state": self.state.value,
            "summary": self.summary,
            "offers": [offer.to_json() for offer in self.offers],
        }


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that was mined."""

    tx: str
    gas_used: int
    block: int

    def to_json(self) -> dict[str, Any]:
        return {"tx": self.tx, "gas_used": self.gas_used, "block": self.block}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One piece of what the task wrote. `text` is as written, control characters included."""

    id: int
    fence: int
    stream: str
    at_ms: int
    text: str

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "fence": self.fence,
            "stream": self.stream,
            "at_ms": self.at_ms,
            "text": self.text,
        }
