"""What the provider must not forget, in one SQLite file with `synchronous=FULL`.

Written before the step it makes possible: an offer before it is accepted, a receipt before it is
sent, a signed transaction before it is broadcast. One row per lease; one receipt for each route and
sequence number, ever. A journal that is new signs nothing for leases older than itself, so losing
the file never makes two histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

from sqlalchemy import Engine, Text, UniqueConstraint, event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import registry
from sqlalchemy.pool import NullPool
from sqlmodel import Column, Field, Session, SQLModel, col, create_engine, select

from tallystick.protocol import wire
from tallystick.protocol.contracts import Call
from tallystick.protocol.messages import Acceptance, Assignment, Receipt, TaskTerms
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, Signature, TaskId
from tallystick_provider.clock import Clock
from tallystick_provider.errors import AlreadySigned, JournalError, JournalUnavailable
from tallystick_provider.meter import Sample

Stage = Literal["accepted", "fetched", "started", "ended", "signed", "uploaded", "reported"]
STAGES: Final[tuple[Stage, ...]] = (
    "accepted",
    "fetched",
    "started",
    "ended",
    "signed",
    "uploaded",
    "reported",
)
Outcome = Literal["paid", "unpaid", "lost", "failed", "declined"]
BUSY_MS = 10_000
"""How long another program may hold the file before we give up for now."""


class Base(SQLModel, registry=registry()):
    """Tables of the provider's own; not those of other parts in the same process."""


class MetaRow(Base, table=True):
    __tablename__ = "meta"
    name: str = Field(primary_key=True)
    value: str


class LeaseRow(Base, table=True):
    __tablename__ = "lease"
    task_id: str = Field(primary_key=True)
    fence: int = Field(primary_key=True)
    offer: str = Field(sa_column=Column(Text, nullable=False))
    assignment: str = Field(sa_column=Column(Text, nullable=False))
    assignment_signature: str
    gpu_ids: str
    accepted_at_ms: int
    accepted_block: int
    stage: str = Field(index=True)
    outcome: str | None = Field(default=None, index=True)
    reason: str = ""
    handle: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    exit_code: int | None = None
    stop_reason: str | None = None
    lease_lost: bool = False
    log_seq: int = 0
    log_bytes: int = 0
    log_position: str = ""
    energy_mj: int | None = None
    peak_gpu_memory_mib: int | None = None
    result_digest: str | None = None
    result_bytes: int | None = None
    signed_at_ms: int | None = None
    acceptance: str | None = None
    acceptance_signature: str | None = None
    report_to_send: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    closed_at_ms: int | None = None
    checked_at_ms: int | None = None


class SampleRow(Base, table=True):
    __tablename__ = "sample"
    task_id: str = Field(primary_key=True)
    fence: int = Field(primary_key=True)
    at_ms: int = Field(primary_key=True)
    gpu_id: str = Field(primary_key=True)
    energy_mj: int | None = None
    memory_used_mib: int | None = None


class ReceiptRow(Base, table=True):
    """Never updated, never deleted."""

    __tablename__ = "receipt"
    route: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    digest: str
    body: str = Field(sa_column=Column(Text, nullable=False))
    signature: str


class OutboxRow(Base, table=True):
    """One transaction: an intent bound to an account's nonce. Versions differ in the fee only."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("account", "nonce", "state_key"),)
    id: int | None = Field(default=None, primary_key=True)
    task_id: str = Field(index=True)
    fence: int
    verb: str
    account: str
    nonce: int
    to: str
    data: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(index=True)
    """sent | mined | reverted | displaced (another transaction took the nonce)"""
    state_key: int = 0
    """0 while the row holds its nonce; its id once displaced: the nonce is free for another."""
    tx_hash: str | None = None
    error: str = ""
    created_at_ms: int


class OutboxVersionRow(Base, table=True):
    __tablename__ = "outbox_version"
    id: int | None = Field(default=None, primary_key=True)
    outbox_id: int = Field(index=True)
    tx_hash: str
    raw: str = Field(sa_column=Column(Text, nullable=False))
    gas: int
    max_fee_wei: str
    tip_wei: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Signed:
    """A receipt that may be sent: it is on disk."""

    receipt: Receipt
    digest: Digest
    signature: Signature


@dataclass(frozen=True, slots=True)
class Lease:
    """One row of the journal, in the words of the protocol."""

    task_id: TaskId
    fence: int
    offer: wire.Offer
    assignment: Assignment
    assignment_signature: Signature
    gpu_ids: tuple[str, ...]
    accepted_at_ms: int
    accepted_block: int
    stage: Stage
    outcome: Outcome | None
    reason: str
    handle: str | None
    started_ms: int | None
    ended_ms: int | None
    exit_code: int | None
    stop_reason: str | None
    lease_lost: bool
    log_seq: int
    log_bytes: int
    log_position: str
    energy_mj: int | None
    peak_gpu_memory_mib: int | None
    result_digest: Digest | None
    result_bytes: int | None
    signed_at_ms: int | None
    acceptance: Acceptance | None
    acceptance_signature: Signature | None
    report_to_send: str | None
    closed_at_ms: int | None
    checked_at_ms: int | None

    @property
    def terms(self) -> TaskTerms:
        return TaskTerms.from_body(self.offer.terms)

    @property
    def name(self) -> str:
        return f"{self.task_id}-{self.fence}"

    def reached(self, stage: Stage) -> bool:
        return STAGES.index(self.stage) >= STAGES.index(stage)

    @property
    def holds_capacity(self) -> bool:
        return self.outcome is None and not self.reached("signed")

    @property
    def refused(self) -> bool:
        """The backend did not take its receipt or its result, as one that came too late, say."""
        return self.outcome is None and self.reached("reported") and self.reason != ""

    @property
    def untold(self) -> bool:
        """Paid for, and the backend has not taken its receipt: the consumer has no result yet."""
        return self.outcome == "paid" and not self.reached("reported")


class Subject(Protocol):
    """What a transaction is for: a lease, or `ERRAND`."""

    @property
    def task_id(self) -> TaskId: ...

    @property
    def fence(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Errand:
    """A transaction for no task: redeeming the vouchers of calls."""

    task_id: TaskId
    fence: int


ERRAND: Final = Errand(TaskId(ZERO_DIGEST), 0)


@dataclass(frozen=True, slots=True)
class Version:
    """One signed transaction of an intent."""

    tx_hash: Digest
    raw: bytes
    gas: int
    max_fee_wei: int
    tip_wei: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Intent:
    id: int
    task_id: TaskId
    fence: int
    verb: str
    account: str
    nonce: int
    call: Call
    state: str
    versions: tuple[Version, ...]

    @property
    def latest(self) -> Version:
        return self.versions[-1]


class Journal:
    """All reads and writes are short and synchronous: a step is on disk when the call returns.
    Raises JournalUnavailable when the file cannot be used; then nothing of the call is in it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clock = clock
        self._path = path
        self._engine = _open(path)
        with self._using():
            Base.metadata.create_all(self._engine)
        with self._write() as session:
            if session.get(MetaRow, "created_at_ms") is None:
                session.add(MetaRow(name="created_at_ms", value=str(clock.now_ms())))

    def close(self) -> None:
        self._engine.dispose()

    @property
    def created_at_ms(self) -> int:
        return int(self.meta("created_at_ms") or "0")

    def meta(self, name: str) -> str | None:
        with self._read() as session:
            row = session.get(MetaRow, name)
            return None if row is None else row.value

    def set_meta(self, name: str, value: str) -> None:
        with self._write() as session:
            session.merge(MetaRow(name=name, value=value))

    # --- leases ---------------------------------------------------------------------------------

    def accept(self, offer: wire.Offer, gpu_ids: Sequence[str], accepted_block: int) -> Lease:
        """Writes the offer down as taken. A repeat of the same offer gives the same lease."""
        assignment = Assignment.from_body(offer.assignment)
        if assignment.lease_from * 1000 + 999 < self.created_at_ms:
            raise JournalError(
                f"the lease began at {assignment.lease_from}, before this journal was made; what "
                "an earlier journal signed for it is not known, so nothing is signed"
            )
        with self._write() as session:
            row = session.get(LeaseRow, (assignment.task_id, assignment.fence))
            if row is None:
                if session.get(ReceiptRow, (assignment.task_id, assignment.fence)) is not None:
                    raise AlreadySigned(
                        f"a receipt for {assignment.task_id} fence "
                        f"{assignment.fence} was signed before"
                    )
                row = LeaseRow(
                    task_id=assignment.task_id,
                    fence=assignment.fence,
                    offer=offer.model_dump_json(),
                    assignment=offer.assignment.model_dump_json(),
                    assignment_signature=offer.assignment_signature,
                    gpu_ids="\n".join(gpu_ids),
                    accepted_at_ms=self._clock.now_ms(),
                    accepted_block=accepted_block,
                    stage="accepted",
                )
                session.add(row)
                session.flush()
            return _lease(row)

    def lease(self, task_id: TaskId, fence: int) -> Lease | None:
        with self._read() as session:
            row = session.get(LeaseRow, (task_id, fence))
            return None if row is None else _lease(row)

    def open_leases(self) -> tuple[Lease, ...]:
        """Leases whose end is not known yet, oldest first."""
        with self._read() as session:
            question = (
                select(LeaseRow)
                .where(col(LeaseRow.outcome).is_(None))
                .order_by(col(LeaseRow.accepted_at_ms))
            )
            return tuple(_lease(row) for row in session.exec(question))

    def untold_leases(self) -> tuple[Lease, ...]:
        with self._read() as session:
            question = select(LeaseRow).where(
                LeaseRow.outcome == "paid", LeaseRow.stage != STAGES[-1]
            )
            return tuple(_lease(row) for row in session.exec(question))

    def recent_leases(self, limit: int) -> tuple[Lease, ...]:
        with self._read() as session:
            question = select(LeaseRow).order_by(col(LeaseRow.accepted_at_ms).desc()).limit(limit)
            return tuple(_lease(row) for row in session.exec(question))

    def paid_since(self, closed_after_ms: int) -> tuple[Lease, ...]:
        """Leases paid lately: a reorganisation may still unpay them."""
        with self._read() as session:
            question = select(LeaseRow).where(
                LeaseRow.outcome == "paid", col(LeaseRow.closed_at_ms) > closed_after_ms
            )
            return tuple(_lease(row) for row in session.exec(question))

    def unsent_reports(self) -> tuple[Lease, ...]:
        with self._read() as session:
            question = select(LeaseRow).where(col(LeaseRow.report_to_send).is_not(None))
            return tuple(_lease(row) for row in session.exec(question))

    def renew(self, assignment: Assignment, signature: Signature) -> None:
        """A later lease on the same fence; an earlier one changes nothing."""

        def change(row: LeaseRow) -> None:
            held = wire.AssignmentBody.model_validate_json(row.assignment)
            if assignment.lease_until > held.lease_until:
                row.assignment = assignment.to_body().model_dump_json()
                row.assignment_signature = signature

        self._change(assignment.task_id, assignment.fence, change)

    def fetched(self, lease: Lease) -> Lease:
        return self._advance(lease, "fetched")

    def started(self, lease: Lease, handle: str) -> Lease:
        return self._advance(lease, "started", handle=handle)

    def running(self, lease: Lease, started_ms: int) -> Lease:
        return self._set(lease, started_ms=started_ms)

    def ended(self, lease: Lease, started_ms: int, ended_ms: int, exit_code: int) -> Lease:
        return self._advance(
            lease, "ended", started_ms=started_ms, ended_ms=ended_ms, exit_code=exit_code
        )

    def uploaded(self, lease: Lease) -> Lease:
        return self._advance(lease, "uploaded")

    def reported(self, lease: Lease, note: str = "") -> Lease:
        return self._advance(lease, "reported", reason=note)

    def tell_again(self, lease: Lease) -> Lease:
        """The receipt and its result, which were refused."""
        return self._set(lease, stage="signed", reason="")

    def stop_wanted(self, task_id: TaskId, fence: int, reason: str) -> None:
        def change(row: LeaseRow) -> None:
            row.stop_reason = row.stop_reason or reason

        self._change(task_id, fence, change)

    def lose(self, lease: Lease) -> Lease:
        return self._set(lease, lease_lost=True)

    def logged(self, lease: Lease, seq: int, size: int, position: str) -> Lease:
        return self._set(lease, log_seq=seq, log_bytes=size, log_position=position)

    def close_lease(self, lease: Lease, outcome: Outcome, reason: str) -> Lease:
        return self._set(
            lease, outcome=outcome, reason=reason[:500], closed_at_ms=self._clock.now_ms()
        )

    def reopen(self, lease: Lease) -> Lease:
        """The chain took the payment back."""
        return self._set(lease, outcome=None, closed_at_ms=None)

    def checked(self, lease: Lease) -> Lease:
        return self._set(lease, checked_at_ms=self._clock.now_ms())

    def report(self, lease: Lease, body: wire.Failed) -> Lease:
        """A failure to tell the backend of; kept until it was told."""
        return self._set(lease, report_to_send=body.model_dump_json())

    def report_sent(self, lease: Lease) -> Lease:
        return self._set(lease, report_to_send=None)

    def keep_acceptance(self, acceptance: Acceptance, signature: Signature, fence: int) -> None:
        def change(row: LeaseRow) -> None:
            row.acceptance = acceptance.to_body().model_dump_json()
            row.acceptance_signature = signature

        self._change(acceptance.task_id, fence, change)

    # --- metering -------------------------------------------------------------------------------

    def add_samples(self, lease: Lease, samples: Sequence[Sample]) -> None:
        with self._write() as session:
            for sample in samples:
                session.merge(
                    SampleRow(
                        task_id=lease.task_id,
                        fence=lease.fence,
                        at_ms=sample.at_ms,
                        gpu_id=sample.gpu_id,
                        energy_mj=sample.energy_mj,
                        memory_used_mib=sample.memory_used_mib,
                    )
                )

    def samples(self, lease: Lease) -> tuple[Sample, ...]:
        with self._read() as session:
            question = (
                select(SampleRow)
                .where(SampleRow.task_id == lease.task_id, SampleRow.fence == lease.fence)
                .order_by(col(SampleRow.at_ms), col(SampleRow.gpu_id))
            )
            return tuple(
                Sample(row.at_ms, row.gpu_id, row.energy_mj, row.memory_used_mib)
                for row in session.exec(question)
            )

    # --- receipts -------------------------------------------------------------------------------

    def sign_once(
        self,
        lease: Lease,
        receipt: Receipt,
        digest: Digest,
        sign: Callable[[], Signature],
        *,
        result_bytes: int,
        energy_mj: int | None,
        peak_gpu_memory_mib: int | None,
    ) -> Signed:
        """Signs and writes down in one transaction; a repeat gives back what was signed.

        Raises AlreadySigned for a different receipt of the same route and sequence number: the two
        together would be a proof of fraud.
        """
        with self._write() as session:
            row = session.get(LeaseRow, (lease.task_id, lease.fence))
            if row is None:
                raise JournalError(
                    f"no lease {lease.name} in this journal; nothing is signed for it"
                )
            known = session.get(ReceiptRow, (receipt.route, receipt.seq))
            if known is not None:
                if known.digest != digest:
                    raise AlreadySigned(
                        f"{receipt.route} fence {receipt.seq} has the receipt {known.digest}; "
                        f"{digest} is not signed"
                    )
                return _signed(known)
            known = ReceiptRow(
                route=receipt.route,
                seq=receipt.seq,
                digest=digest,
                body=receipt.to_body().model_dump_json(),
                signature=sign(),
            )
            session.add(known)
            row.stage = "signed"
            row.signed_at_ms = self._clock.now_ms()
            row.result_digest = receipt.result
            row.result_bytes = result_bytes
            row.energy_mj = energy_mj
            row.peak_gpu_memory_mib = peak_gpu_memory_mib
            session.add(row)
            session.flush()
            return _signed(known)

    def signed(self, task_id: TaskId, fence: int) -> Signed | None:
        with self._read() as session:
            row = session.get(ReceiptRow, (task_id, fence))
            return None if row is None else _signed(row)

    # --- outbox ---------------------------------------------------------------------------------

    def put_out(
        self, lease: Subject, verb: str, account: Address, nonce: int, call: Call, version: Version
    ) -> Intent:
        """Binds the nonce and keeps the signed bytes; only then may they be broadcast."""
        row = OutboxRow(
            task_id=lease.task_id,
            fence=lease.fence,
            verb=verb,
            account=account,
            nonce=nonce,
            to=call.to,
            data="0x" + call.data.hex(),
            state="sent",
            created_at_ms=self._clock.now_ms(),
        )
        try:
            with self._write() as session:
                session.add(row)
                session.flush()
                session.add(_version_row(_id(row), version))
                session.flush()
                return _intent(session, row)
        except IntegrityError:
            raise JournalError(
                f"nonce {nonce} of {account} already carries another intent"
            ) from None

    def add_version(self, intent: Intent, version: Version) -> Intent:
        with self._write() as session:
            session.add(_version_row(intent.id, version))
            session.flush()
            return _intent(session, _outbox(session, intent.id))

    def in_flight(self) -> Intent | None:
        """The one with the lowest nonce. There is one at most, unless a reorganisation took others
        back while it waited."""
        with self._read() as session:
            question = (
                select(OutboxRow).where(OutboxRow.state == "sent").order_by(col(OutboxRow.nonce))
            )
            row = session.exec(question).first()
            return None if row is None else _intent(session, row)

    def land(self, intent: Intent, state: str, tx_hash: str | None, error: str = "") -> None:
        with self._write() as session:
            row = _outbox(session, intent.id)
            row.state, row.tx_hash, row.error = state, tx_hash, error[:500]
            if state == "displaced":
                row.state_key = intent.id
            session.add(row)

    def holder(self, account: str, nonce: int) -> Intent | None:
        """The intent that is bound to this nonce."""
        with self._read() as session:
            question = select(OutboxRow).where(
                OutboxRow.account == account, OutboxRow.nonce == nonce, OutboxRow.state_key == 0
            )
            row = session.exec(question).first()
            return None if row is None else _intent(session, row)

    def intents(self, task_id: TaskId) -> tuple[Intent, ...]:
        with self._read() as session:
            question = (
                select(OutboxRow).where(OutboxRow.task_id == task_id).order_by(col(OutboxRow.id))
            )
            return tuple(_intent(session, row) for row in session.exec(question))

    # --- plumbing -------------------------------------------------------------------------------

    def _advance(self, lease: Lease, stage: Stage, **values: Any) -> Lease:
        def change(row: LeaseRow) -> None:
            if STAGES.index(cast(Stage, row.stage)) < STAGES.index(stage):
                row.stage = stage
            for name, value in values.items():
                setattr(row, name, value)

        return self._change(lease.task_id, lease.fence, change)

    def _set(self, lease: Lease, **values: Any) -> Lease:
        def change(row: LeaseRow) -> None:
            for name, value in values.items():
                setattr(row, name, value)

        return self._change(lease.task_id, lease.fence, change)

    def _change(self, task_id: TaskId, fence: int, change: Callable[[LeaseRow], None]) -> Lease:
        with self._write() as session:
            row = session.get(LeaseRow, (task_id, fence))
            if row is None:
                raise JournalError(f"no lease of task {task_id} with fence {fence} in this journal")
            change(row)
            session.add(row)
            session.flush()
            return _lease(row)

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with (
            self._using(),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with self._using(), Session(self._engine) as session:
            yield session

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise JournalUnavailable(
                f"the journal {self._path} cannot be used now ({error.orig}); make room on its "
                "disk, or end what holds it: the agent goes on by itself then"
            ) from error


def _open(path: Path) -> Engine:
    # No pool: connections are cheap here, and none is left open when the process is killed.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={BUSY_MS}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _lease(row: LeaseRow) -> Lease:
    return Lease(
        task_id=TaskId(Digest(row.task_id)),
        fence=row.fence,
        offer=wire.Offer.model_validate_json(row.offer),
        assignment=Assignment.from_body(wire.AssignmentBody.model_validate_json(row.assignment)),
        assignment_signature=Signature(row.assignment_signature),
        gpu_ids=tuple(filter(None, row.gpu_ids.split("\n"))),
        accepted_at_ms=row.accepted_at_ms,
        accepted_block=row.accepted_block,
        stage=cast(Stage, row.stage),
        outcome=cast("Outcome | None", row.outcome),
        reason=row.reason,
        handle=row.handle,
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
        exit_code=row.exit_code,
        stop_reason=row.stop_reason,
        lease_lost=row.lease_lost,
        log_seq=row.log_seq,
        log_bytes=row.log_bytes,
        log_position=row.log_position,
        energy_mj=row.energy_mj,
        peak_gpu_memory_mib=row.peak_gpu_memory_mib,
        result_digest=None if row.result_digest is None else Digest(row.result_digest),
        result_bytes=row.result_bytes,
        signed_at_ms=row.signed_at_ms,
        acceptance=None
        if row.acceptance is None
        else Acceptance.from_body(wire.AcceptanceBody.model_validate_json(row.acceptance)),
        acceptance_signature=None
        if row.acceptance_signature is None
        else Signature(row.acceptance_signature),
        report_to_send=row.report_to_send,
        closed_at_ms=row.closed_at_ms,
        checked_at_ms=row.checked_at_ms,
    )


def _signed(row: ReceiptRow) -> Signed:
    receipt = Receipt.from_body(wire.ReceiptBody.model_validate_json(row.body))
    return Signed(receipt, Digest(row.digest), Signature(row.signature))


def _outbox(session: Session, intent_id: int) -> OutboxRow:
    row = session.get(OutboxRow, intent_id)
    if row is None:
        raise JournalError(f"no outbox row {intent_id}")
    return row


def _intent(session: Session, row: OutboxRow) -> Intent:
    question = (
        select(OutboxVersionRow)
        .where(OutboxVersionRow.outbox_id == row.id)
        .order_by(col(OutboxVersionRow.id))
    )
    versions = tuple(
        Version(
            Digest(v.tx_hash),
            bytes.fromhex(v.raw),
            v.gas,
            int(v.max_fee_wei),
            int(v.tip_wei),
            v.at_ms,
        )
        for v in session.exec(question)
    )
    return Intent(
        id=_id(row),
        task_id=TaskId(Digest(row.task_id)),
        fence=row.fence,
        verb=row.verb,
        account=row.account,
        nonce=row.nonce,
        call=Call(Address(row.to), bytes.fromhex(row.data[2:])),
        state=row.state,
        versions=versions,
    )


def _id(row: OutboxRow) -> int:
    if row.id is None:
        raise JournalError("the outbox row has no id yet")
    return row.id


def _version_row(outbox_id: int, version: Version) -> OutboxVersionRow:
    return OutboxVersionRow(
        outbox_id=outbox_id,
        tx_hash=version.tx_hash,
        raw=version.raw.hex(),
        gas=version.gas,
        max_fee_wei=str(version.max_fee_wei),
        tip_wei=str(version.tip_wei),
        at_ms=version.at_ms,
    )
