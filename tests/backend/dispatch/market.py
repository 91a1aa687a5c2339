"""A small market in rows: people with keys, orders, and providers that answer as they are told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from tallystick.protocol import messages, pricing, wire
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import Acceptance, Assignment, Domain, Receipt, TaskTerms
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import (
    ZERO_ADDRESS,
    ZERO_DIGEST,
    Address,
    Digest,
    Fence,
    TaskId,
    to_address,
)
from tallystick.protocol.wire import (
    Ack,
    Announcement,
    AnnouncementReply,
    Failed,
    Finished,
    GpuBody,
    Heartbeat,
    HeartbeatReply,
    LeaseAnswer,
    LeaseBeat,
    LogChunk,
    Manifest,
    Offer,
    OfferReply,
    Resources,
    WireModel,
)
from tallystick_backend.clock import ManualClock
from tallystick_backend.dispatch.assign import KeySigner
from tallystick_backend.dispatch.bus import Handler
from tallystick_backend.dispatch.errors import NoAnswer, NoListener
from tallystick_backend.dispatch.inbox import Inbox
from tallystick_backend.dispatch.loop import Dispatcher
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import events, work
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AcceptanceRow,
    AccountRow,
    CursorRow,
    LeaseRow,
    OperatorKeyRow,
    ProviderRow,
    ReceiptRow,
    SealedKeyRow,
    TaskChainRow,
    TaskOrderRow,
    TaskWorkRow,
)

Body = TypeVar("Body", bound=WireModel)

DOMAIN = Domain(31337, to_address("0x" + "e5" * 20))
UNIT = 1_000_000
RATE = 1_000


def key(number: int) -> bytes:
    """Private keys for people: small numbers, as anybody can see."""
    return number.to_bytes(32, "big")


DISPATCHER_KEY = key(1)
CONSUMER_KEY = key(2)


class Urls:
    def input_url(self, task_id: str, fence: int, digest: str) -> str:
        return f"http://127.0.0.1/in/{task_id}/{fence}/{digest}"

    def result_url(self, task_id: str, fence: int) -> str:
        return f"http://127.0.0.1/out/{task_id}/{fence}/{{digest}}"


class ScriptedBus:
    """A bus in this process: whoever is not put on it listens to nothing."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[tuple[str, bytes]] = []
        self.listeners: dict[str, Callable[[str, bytes], bytes | None]] = {}
        self.handler: Handler | None = None

    async def connect(self, stop: asyncio.Event) -> None:
        return

    async def close(self) -> None:
        return

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> bytes:
        self.sent.append((subject, payload))
        provider = subject.split(".")[2]
        if provider not in self.listeners:
            raise NoListener(subject)
        reply = self.listeners[provider](subject.split(".")[3], payload)
        if reply is None:
            raise NoAnswer(subject)
        return reply

    async def serve(self, subject: str, queue: str, handler: Handler) -> None:
        self.handler = handler

    def subjects(self, kind: str) -> list[str]:
        return [subject for subject, _ in self.sent if subject.endswith(f".{kind}")]


class TestProvider:
    """Speaks the protocol with its own key; keeps nothing but the last offer of each task."""

    __test__ = False

    def __init__(self, number: int, clock: ManualClock) -> None:
        self.key = key(1000 + number)
        self.operator_key = key(2000 + number)
        self.address: Address = address_of(self.key)
        self.id = self.address.lower()
        self.operator = address_of(self.operator_key)
        self.hpke_key = "0x" + f"{number:02x}" * 32
        self.clock = clock
        self.offers: dict[str, Offer] = {}
        self.heard: list[str] = []
        self.offered = asyncio.Event()
        self.accepts: bool | None = True
        """None: hears and never answers."""

    def listen(self, kind: str, payload: bytes) -> bytes | None:
        self.heard.append(kind)
        if kind == "offer":
            offer = wire.parse(Offer, payload)
            self.offers[offer.assignment.task_id] = offer
            self.offered.set()
            if self.accepts is None:
                return None
            reason = "" if self.accepts else "busy"
            return OfferReply(accepted=self.accepts, reason=reason).model_dump_json().encode()
        return Ack().model_dump_json().encode()

    def announcement(self, **changes: Any) -> Announcement:
        said: dict[str, Any] = {
            "provider": self.address,
            "operator_key": self.operator,
            "hpke_key": self.hpke_key,
            "hpke_signature": sign_hpke_key(DOMAIN, self.address, self.hpke_key, self.operator_key),
            "runtime": "docker",
            "agent_version": "1",
            "gpus": tuple(
                GpuBody(gpu_id=f"{self.id}-{n}", model="M", gpu_class="gpu1", memory_mib=24_000)
                for n in range(4)
            ),
            "rate_per_gpu_second": {"gpu1": RATE, "": 0},
            "cpu_milli": 64_000,
            "memory_mib": 256_000,
            "disk_mib": 512_000,
        }
        return Announcement(**{**said, **changes})

    def receipt(self, offer: Offer, **changes: Any) -> Receipt:
        """One that the contract pays: the whole time since the lease began."""
        terms = TaskTerms.from_body(offer.terms)
        started, ended = offer.assignment.lease_from * 1000, self.clock.now_ms()
        limit = terms.max_seconds * 1000
        ended = min(ended, started + limit)
        gpu_ms = terms.gpus * (ended - started)
        honest = Receipt(
            provider=self.address,
            route=Digest(offer.assignment.task_id),
            seq=offer.assignment.fence,
            prev=ZERO_DIGEST,
            request=terms.spec,
            result=digest_of(b"result"),
            gpu_set=digest_of(b"gpus") if terms.gpus else ZERO_DIGEST,
            started_at_ms=started,
            ended_at_ms=ended,
            calls=1,
            gpu_ms=gpu_ms,
            usage_root=ZERO_DIGEST,
            total=pricing.charge_up(terms, 1, gpu_ms),
        )
        return dataclasses.replace(honest, **changes)

    def finished(
        self, offer: Offer, *, signed_by: bytes | None = None, exit_code: int = 0, **changes: Any
    ) -> Finished:
        receipt = self.receipt(offer, **changes)
        return Finished(
            task_id=offer.assignment.task_id,
            fence=offer.assignment.fence,
            exit_code=exit_code,
            receipt=receipt.to_body(),
            receipt_signature=messages.sign(DOMAIN, receipt, signed_by or self.operator_key),
            result_digest=digest_of(b"sealed result"),
            result_bytes=13,
        )


@dataclasses.dataclass
class Market:
    database: Database
    clock: ManualClock
    settings: DispatchSettings
    bus: ScriptedBus = dataclasses.field(default_factory=ScriptedBus)
    providers: dict[int, TestProvider] = dataclasses.field(default_factory=dict)
    orders: int = 0

    def __post_init__(self) -> None:
        self.signer = KeySigner(DOMAIN, DISPATCHER_KEY)
        self.consumer = address_of(CONSUMER_KEY)
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self, bus: ScriptedBus | None = None) -> Dispatcher:
        """As after a restart: nothing in memory."""
        return Dispatcher(
            self.database, bus or self.bus, self.signer, Urls(), self.settings, self.clock
        )

    @property
    def inbox(self) -> Inbox:
        return self.dispatcher.inbox

    # --- people -------------------------------------------------------------------------------

    async def provider(
        self,
        number: int = 1,
        *,
        stake: int = 8 * UNIT,
        seats: int = 0,
        jailed_until_s: int | None = None,
        registered: int = 4,
        online: bool = True,
        bound: bool = True,
        **announced: Any,
    ) -> TestProvider:
        one = self.providers[number] = TestProvider(number, self.clock)
        async with self.database.transaction() as session:
            session.add(
                ProviderRow(
                    address=one.id,
                    stake=stake,
                    seats=seats,
                    jailed_until_s=jailed_until_s,
                    gpus_registered=registered,
                )
            )
            if bound:
                session.add(OperatorKeyRow(key=one.operator.lower(), provider=one.id))
        if online:
            self.bus.listeners[one.id] = one.listen
            await self.say(one, "announce", one.announcement(**announced), AnnouncementReply)
        return one

    # --- orders -------------------------------------------------------------------------------

    async def order(
        self,
        *,
        gpus: int = 1,
        secured: bool = True,
        state: str | None = "open",
        with_input: bool = False,
        sealed_to: tuple[tuple[TestProvider, int], ...] = (),
        rate: int = RATE,
        max_seconds: int = 3600,
        deadline_s: int | None = None,
        consumer: Address | None = None,
        image: str = "sha256:" + "1" * 64,
    ) -> str:
        """`state` is the chain's word; None leaves it a signed order."""
        self.orders += 1
        manifest = Manifest(
            image=image,
            command=("python", "train.py"),
            input_digest=digest_of(b"input") if with_input else None,
            resources=Resources(gpu_class="gpu1" if gpus else "", gpus=gpus),
            result_key="0x" + "22" * 32,
        )
        deadline = deadline_s or self.clock.now_ms() // 1000 + 86_400
        terms = TaskTerms(
            consumer=consumer or self.consumer,
            signer=ZERO_ADDRESS,
            dispatcher=self.signer.address,
            royalty_to=ZERO_ADDRESS,
            spec=spec_digest(manifest),
            gpus=gpus,
            flat=5,
            fee_per_call=0,
            rate_per_gpu_second=rate,
            dispatcher_bps=500,
            royalty_bps=0,
            max_charge=5 + rate * gpus * max_seconds,
            max_seconds=max_seconds,
            deadline=deadline,
            challenge_window=86_400,
            verification=0,
            nonce=self.orders,
        )
        task_id = messages.task_id(DOMAIN, terms)
        async with self.database.transaction() as session:
            session.add(
                TaskOrderRow(
                    task_id=task_id,
                    consumer=terms.consumer.lower(),
                    terms=terms.to_body().model_dump(mode="json"),
                    signature=messages.sign(DOMAIN, terms, CONSUMER_KEY),
                    manifest=manifest.model_dump(mode="json"),
                    secured=secured,
                    created_at_ms=self.clock.now_ms() + self.orders,
                )
            )
            if state is not None:
                session.add(
                    TaskChainRow(
                        task_id=task_id,
                        state=state,
                        consumer=terms.consumer.lower(),
                        max_charge=terms.max_charge,
                        end_s=deadline,
                    )
                )
            for provider, fence in sealed_to:
                session.add(
                    SealedKeyRow(
                        task_id=task_id, provider=provider.id, fence=fence, sealed="0x0102"
                    )
                )
        return task_id

    async def chain_says(self, task_id: str, **values: Any) -> None:
        async with self.database.transaction() as session:
            row = await session.get(TaskChainRow, task_id)
            assert row is not None
            for name, value in values.items():
                setattr(row, name, value)
            session.add(row)

    async def proven(self, task_id: str, said: Finished) -> None:
        """By the provider alone, with the receipt in `said`."""
        receipt = Receipt.from_body(said.receipt)
        digest = messages.digest(DOMAIN, receipt)
        await self.chain_says(task_id, state="proven", fence=receipt.seq, receipt_digest=digest)

    async def index_stops(self, why: str | None) -> None:
        async with self.database.transaction() as session:
            await session.merge(
                CursorRow(
                    chain_id=31337,
                    genesis_hash="",
                    escrow="",
                    market="",
                    staking="",
                    block_number=1,
                    block_hash="",
                    block_timestamp_s=1,
                    head_number=1,
                    degraded=why,
                )
            )

    async def withdraw(self, task_id: str) -> None:
        async with self.database.transaction() as session:
            row = await session.get(TaskOrderRow, task_id)
            assert row is not None
            row.withdrawn_at_ms = self.clock.now_ms()
            session.add(row)

    async def deposit(self, available: int) -> None:
        async with self.database.transaction() as session:
            await session.merge(AccountRow(address=self.consumer.lower(), available=available))

    async def accept(self, task_id: str) -> None:
        receipt = await self.receipt(task_id)
        assert receipt is not None
        acceptance = Acceptance(
            TaskId(Digest(task_id)), int(receipt.receipt["total"]), Digest(receipt.digest)
        )
        async with self.database.transaction() as session:
            session.add(
                AcceptanceRow(
                    task_id=task_id,
                    total=acceptance.total,
                    receipt_digest=acceptance.receipt,
                    signature=messages.sign(DOMAIN, acceptance, CONSUMER_KEY),
                    at_ms=self.clock.now_ms(),
                )
            )

    # --- the round ----------------------------------------------------------------------------

    async def go(self, dispatcher: Dispatcher | None = None) -> None:
        """One pass, with every answer waited for."""
        one = dispatcher or self.dispatcher
        await one.one_pass()
        await one.sent()

    async def say(self, who: TestProvider, kind: str, body: WireModel, reply: type[Body]) -> Body:
        answer = await self.inbox.handle(
            f"tallystick.backend.{who.id}.{kind}", body.model_dump_json().encode()
        )
        assert answer is not None
        return wire.parse(reply, answer)

    async def beat(
        self, who: TestProvider, task_id: str, fence: int = 1, stage: str = "running", **said: Any
    ) -> LeaseAnswer:
        body = Heartbeat(leases=(LeaseBeat(task_id=task_id, fence=fence, stage=stage, **said),))
        reply = await self.say(who, "heartbeat", body, HeartbeatReply)
        return reply.leases[0]

    async def finish(self, who: TestProvider, task_id: str, **changes: Any) -> Ack:
        said = who.finished(who.offers[task_id], **changes)
        return await self.say(who, "finished", said, Ack)

    async def fail(self, who: TestProvider, task_id: str, blame: str, fence: int = 1) -> Ack:
        said = Failed(task_id=task_id, fence=fence, reason="it broke", blame=blame)
        return await self.say(who, "failed", said, Ack)

    async def log(
        self, who: TestProvider, task_id: str, text: str, seq: int = 0, **changes: Any
    ) -> Ack:
        said = {
            "task_id": task_id,
            "fence": 1,
            "seq": seq,
            "stream": "stdout",
            "at_ms": self.clock.now_ms(),
            "text": text,
        }
        return await self.say(who, "log", LogChunk(**{**said, **changes}), Ack)

    async def run_out(self) -> None:
        """Time passes until every lease of now is over, and its margin."""
        self.clock.advance(
            seconds=self.settings.lease_seconds + self.settings.lease_margin_seconds + 1
        )

    # --- questions ----------------------------------------------------------------------------

    async def work(self, task_id: str) -> TaskWorkRow:
        async with self.database.read() as session:
            row = await work.work(session, task_id)
        assert row is not None
        return row

    async def lease(self, task_id: str, fence: int | None = None) -> LeaseRow | None:
        async with self.database.read() as session:
            if fence is None:
                return await work.current_lease(session, task_id)
            return await work.lease(session, task_id, fence)

    async def receipt(self, task_id: str) -> ReceiptRow | None:
        async with self.database.read() as session:
            return await work.receipt(session, task_id)

    async def events(self, task_id: str) -> list[str]:
        async with self.database.read() as session:
            return [row.kind for row in await events.after(session, task_id, 0)]


def signed_assignment(lease: LeaseRow) -> Address:
    """Who signed the assignment that the lease row holds."""
    assignment = Assignment(
        TaskId(Digest(lease.task_id)),
        to_address(lease.provider),
        Fence(lease.fence),
        lease.lease_from_s,
        lease.lease_until_s,
    )
    return messages.recover(DOMAIN, assignment, lease.assignment_signature)
