"""A call as it is wanted, as it goes, and as it ended."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick.protocol.call_bodies import is_warm
from tallystick.protocol.calls import CallRequest
from tallystick.protocol.types import Address, Digest
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.paying_end import PayingEnd, Taken
from tallystick_backend.gateway.shelf import Target
from tallystick_backend.gateway.spending import Reservation
from tallystick_backend.store.tables import CallRow

TERMINAL: Final = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants called."""

    account: Address
    key_id: str
    target: Target
    input: bytes
    media_type: str = "application/json"
    idempotency_key: str | None = None
    max_charge: int | None = None
    webhook_url: str = ""
    queued: bool = False
    """It is asked for later: kept until then, and through a restart."""
    keep: bool = False
    """Keep the result, too, although somebody waits for it."""
    stream: bool = False
    warm_id: str | None = None
    """Of the `keep_warm` that wants it."""
    signer: str = ""
    """The consumer's own session key: only its channels pay. Empty: the key that it lent."""

    @property
    def is_warm(self) -> bool:
        return is_warm(self.media_type, self.input)

    def hash(self, input_digest: Digest) -> str:
        """What makes two requests under one key the same."""
        parts: tuple[object, ...] = (
            self.target.app_id,
            self.target.version,
            self.media_type,
            input_digest,
            self.max_charge,
            self.webhook_url,
            *([self.signer] if self.signer else []),
        )
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Due:
    """A voucher that waits for the consumer's own signature."""

    channel: str
    total: int
    receipt: Digest
    """Its digest."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as it is told."""

    call_id: str
    state: str
    charge: int = 0
    total: int = 0
    balance: int | None = None
    """None where it is told again, later."""
    media_type: str = ""
    result: bytes | None = None
    queued_ms: int = 0
    cold_start_ms: int = 0
    run_ms: int = 0
    due: Due | None = None
    """What the consumer has to sign for it."""
    failure: BackendError | None = None
    problem: dict[str, Any] | None = None
    """Of a failure that is told again, later."""
    replayed: bool = False


@dataclass(slots=True)
class Live:
    """A call under way."""

    call_id: str
    order: Order
    input_digest: Digest
    request_hash: str
    asked_at_ms: int
    target: Target
    ended: asyncio.Future[Ended] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    pieces: asyncio.Queue[bytes] | None = None
    recorded: bool = False
    """A row is there, or on its way."""
    keep: bool = False
    state: str = "queued"
    attempts: int = 0
    canceled: bool = False
    streaming: bool = False
    paying: PayingEnd | None = None
    reservation: Reservation | None = None
    request: CallRequest | None = None

    async def wait(self) -> Ended:
        return await asyncio.shield(self.ended)

    def piece(self, content: bytes) -> None:
        """Passed on, and so never taken back."""
        if self.pieces is not None:
            self.streaming = True
            self.pieces.put_nowait(content)


def completed(live: Live, taken: Taken) -> Ended:
    receipt = taken.answer.signed.receipt
    return Ended(
        live.call_id,
        "completed",
        charge=taken.charge,
        total=taken.total,
        balance=taken.balance,
        media_type=taken.body.media_type,
        result=taken.result,
        queued_ms=taken.body.queued_ms,
        cold_start_ms=taken.body.cold_start_ms,
        run_ms=receipt.ended_at_ms - receipt.started_at_ms,
        due=_due(taken),
    )


def _due(taken: Taken) -> Due | None:
    voucher = taken.due
    if voucher is None:
        return None
    return Due(taken.paying.channel_id, voucher.total, voucher.receipt)


def ended_of(row: CallRow) -> Ended:
    """What is told of a call again, later."""
    return Ended(
        row.call_id,
        row.state,
        charge=row.charge,
        total=row.total,
        media_type=row.media_type,
        result=row.result,
        queued_ms=row.queued_ms,
        cold_start_ms=row.cold_start_ms,
        run_ms=row.run_ms,
        problem=row.problem,
        replayed=True,
    )
