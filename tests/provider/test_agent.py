"""agent, on a real chain with real processes
├── a task goes round: accepted, fetched, run, metered, signed, uploaded, reported, settled
├── an agent that dies in the middle: the next one finds the run and finishes it
├── a backend that was away until the task was paid, or took its receipt for too late, has it after
├── ends: cancelled (143, billed so far), time over (124), output over the limit, lease lost,
│   cut off past the lease, hostile input
├── containers whose lease is over are reaped on start
├── a task without a place gets that of idle workers
└── what the backend sends is checked: renewals, acceptances, repeats, draining
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sqlite3
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.protocol import sealing, wire
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Domain,
    Receipt,
    TaskTerms,
    digest,
    recover,
    sign,
    task_id,
)
from tallystick.protocol.pricing import charge_up, split_charge_down
from tallystick.protocol.sealing_key import hpke_key_signer
from tallystick.protocol.types import Digest, Fence, TaskId
from tallystick.protocol.web3 import close, connect
from tallystick_provider.agent import DRAINING, Agent
from tallystick_provider.backend import Offline
from tallystick_provider.cards import Cards
from tallystick_provider.clock import SystemClock
from tallystick_provider.errors import ProviderError, RuntimeFailure
from tallystick_provider.gpus import SimulatedGpus
from tallystick_provider.journal import Journal, Lease
from tallystick_provider.ledger import ChainLedger
from tallystick_provider.offers import Reserved
from tallystick_provider.runtime import Finding, Runtime
from tallystick_provider.runtime.process import ProcessRuntime
from tallystick_provider.settle import Settler
from tallystick_provider.work import Tools, drop_result
from tests.provider.orders import CONSUMER_KEY, manifest_of, settings_of, terms_of
from tests.provider.settling import open_market
from tests.provider.waiting import until
from tests.support.anvil import (
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    STRANGER,
    LocalChain,
    market_of,
    send,
)

MIB = 1024 * 1024


@dataclass
class Office:
    """The backend as the agent sees it: takes everything, renews what it is told to."""

    domain: Any
    online: bool = True
    verdict: str = "renewed"
    lease_seconds: int = 30
    logs: list[wire.LogChunk] = field(default_factory=list)
    done: list[wire.Finished] = field(default_factory=list)
    failures: list[wire.Failed] = field(default_factory=list)
    announced: list[wire.Announcement] = field(default_factory=list)
    beats: list[wire.Heartbeat] = field(default_factory=list)
    heartbeat_seconds: float = 0.05
    held: dict[str, Assignment] = field(default_factory=dict)
    refusals: int = 0
    """How many receipts are still to be refused."""
    problem: str | None = None
    slow_s: float = 0.0

    def _require_line(self) -> None:
        if not self.online:
            raise Offline("the line is cut")

    async def announce(self, announcement: wire.Announcement) -> wire.AnnouncementReply:
        self._require_line()
        self.announced.append(announcement)
        return wire.AnnouncementReply(
            lease_seconds=30, heartbeat_seconds=self.heartbeat_seconds, problem=self.problem
        )

    async def heartbeat(self, beat: wire.Heartbeat) -> wire.HeartbeatReply:
        self._require_line()
        self.beats.append(beat)
        now_s = SystemClock().now_ms() // 1000
        answers = []
        for lease in beat.leases:
            renewed = replace(self.held[lease.task_id], lease_until=now_s + self.lease_seconds)
            signature = sign(self.domain, renewed, DISPATCHER.key)
            answers.append(
                wire.LeaseAnswer(
                    task_id=lease.task_id,
                    fence=lease.fence,
                    verdict=self.verdict,
                    assignment=renewed.to_body() if self.verdict == "renewed" else None,
                    assignment_signature=signature if self.verdict == "renewed" else None,
                )
            )
        return wire.HeartbeatReply(leases=tuple(answers))

    async def log(self, chunk: wire.LogChunk) -> wire.Ack:
        self._require_line()
        await asyncio.sleep(self.slow_s)
        self.logs.append(chunk)
        return wire.Ack()

    async def finished(self, finished: wire.Finished) -> wire.Ack:
        self._require_line()
        if self.refusals > 0:
            self.refusals -= 1
            return wire.Ack(ok=False, reason="the database is busy: send it again")
        self.done.append(finished)
        return wire.Ack()

    async def failed(self, failed: wire.Failed) -> wire.Ack:
        self._require_line()
        self.failures.append(failed)
        return wire.Ack()


@dataclass
class Stand:
    """A provider on a chain, with an office to answer to and a store to fetch from."""

    chain: LocalChain
    deployment: Deployment
    path: Path
    office: Office
    blobs: dict[str, bytes] = field(default_factory=dict)
    refuse_upload: list[int] = field(default_factory=list)
    """Status codes that the next uploads get; the last one for ever."""
    uploads: int = 0
    gpus: SimulatedGpus = field(init=False)
    agent: Agent | None = None
    settler: Settler | None = None
    engine: Callable[[], Runtime] | None = None
    """Makes the runtime; None for plain processes."""
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _close: list[Callable[[], Any]] = field(default_factory=list)

    async def open(self) -> Agent:
        """A new agent on the same directory, as after a restart."""
        clock = SystemClock()
        self.gpus = SimulatedGpus(PROVIDER.address, 4, "gpu1", 24576, clock)
        settings = settings_of(self.path, runtime="docker" if self.engine else "process")
        journal = Journal(settings.journal_path, clock)
        web3 = connect(self.chain.url)
        ledger = ChainLedger(web3, self.deployment, OPERATOR.key)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._store))
        tools = Tools(
            provider=PROVIDER.address,
            key=OPERATOR.key,
            domain=self.deployment.domain,
            sealing=sealing.key_from_seed(b"sealing key of the tests"),
            journal=journal,
            runtime=self.engine() if self.engine else ProcessRuntime(self.path / "process"),
            gpus=self.gpus,
            cards=Cards(self.gpus),
            backend=self.office,
            http=http,
            clock=clock,
            data_dir=self.path,
            poll_s=0.03,
            stop_grace_s=1,
        )
        self.settler = Settler(
            journal,
            ledger,
            clock,
            acceptance_wait_s=600,
            stuck_s=60,
            on_over=lambda lease: drop_result(self.path, lease),
        )
        self.agent = Agent(settings, tools, ledger, self.settler.wake)
        self._stop = asyncio.Event()
        await self.agent.resume()
        self._running = [
            asyncio.create_task(self.agent.run(self._stop)),
            asyncio.create_task(self.settler.run(self._stop, 0.05)),
        ]
        self._close = [lambda: close(web3), http.aclose]
        return self.agent

    async def die(self) -> None:
        """As by kill -9: nothing is tidied up, what runs goes on running."""
        assert self.agent is not None
        for task in self._running:
            task.cancel()
        _, left = await asyncio.wait(self._running, timeout=10)
        assert not left, [task.get_stack() for task in left]
        await self.agent.close()
        for close_it in self._close:
            await close_it()
        self.agent.tools.journal.close()

    def _store(self, request: httpx.Request) -> httpx.Response:
        digest = request.url.path.removeprefix("/")
        if request.method == "PUT":
            self.uploads += 1
            if self.refuse_upload:
                last = len(self.refuse_upload) == 1
                return httpx.Response(self.refuse_upload[0] if last else self.refuse_upload.pop(0))
            self.blobs[digest] = request.content
            return httpx.Response(201)
        if digest not in self.blobs:
            return httpx.Response(404)
        return httpx.Response(200, content=self.blobs[digest])

    def order(
        self,
        script: str,
        *,
        fence: int = 1,
        max_seconds: int = 500,
        deadline: int | None = None,
        **changes: Any,
    ) -> tuple[TaskTerms, wire.Offer]:
        """A secured task that runs `script`, its input sealed to this provider."""
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            info = tarfile.TarInfo("run.py")
            info.size = len(script.encode())
            archive.addfile(info, io.BytesIO(script.encode()))
        bundle = gzip.compress(target.getvalue())
        return self.order_bundle(bundle, fence, max_seconds, deadline, **changes)

    def order_bundle(
        self,
        bundle: bytes,
        fence: int = 1,
        max_seconds: int = 500,
        deadline: int | None = None,
        **changes: Any,
    ) -> tuple[TaskTerms, wire.Offer]:
        domain = self.deployment.domain
        content_key = b"k" * 32
        sealed = sealing.encrypt_bundle(content_key, bundle)
        self.blobs[digest_of(sealed)] = sealed
        manifest = manifest_of(
            **{
                "command": ("python", "/task/in/run.py"),
                "input_digest": digest_of(sealed),
                **changes,
            }
        )
        terms = terms_of(manifest, self.chain.now_s(), max_seconds=max_seconds)
        if deadline is not None:
            terms = replace(terms, deadline=deadline)
        send(self.chain, CONSUMER, market_of(self.deployment).create_task(terms))
        task = task_id(domain, terms)
        now_s = SystemClock().now_ms() // 1000
        lease = Assignment(task, PROVIDER.address, Fence(fence), now_s, now_s + 30)
        self.office.held[task] = lease
        public = sealing.key_from_seed(b"sealing key of the tests").public
        sealed_key = sealing.seal_input_key(public, task, fence, content_key)
        return terms, wire.Offer(
            terms=terms.to_body(),
            terms_signature=None,
            secured=True,
            manifest=manifest,
            assignment=lease.to_body(),
            assignment_signature=sign(domain, lease, DISPATCHER.key),
            sealed_key="0x" + sealed_key.hex(),
            input_url=f"http://store/{digest_of(sealed)}",
            result_url="http://store/{digest}",
        )

    def lease(self, offer: wire.Offer) -> Lease:
        assert self.agent is not None
        found = self.agent.tools.journal.lease(
            TaskId(offer.assignment.task_id),  # type: ignore[arg-type]
            offer.assignment.fence,
        )
        assert found is not None
        return found

    def outcome(self, offer: wire.Offer) -> str | None:
        return self.lease(offer).outcome

    def acceptance(self, done: wire.Finished) -> wire.AcceptanceNotice:
        return acceptance_of(self.deployment.domain, Receipt.from_body(done.receipt))

    async def credit(self) -> int:
        assert self.agent is not None
        ledger = self.agent.ledger
        assert isinstance(ledger, ChainLedger)
        return (await ledger._escrow.payee(PROVIDER.address)).credit


def acceptance_of(domain: Domain, receipt: Receipt) -> wire.AcceptanceNotice:
    acceptance = Acceptance(TaskId(receipt.route), receipt.total, digest(domain, receipt))
    return wire.AcceptanceNotice(
        acceptance=acceptance.to_body(), signature=sign(domain, acceptance, CONSUMER.key)
    )


@pytest.fixture
async def stand(chain: LocalChain, deployment: Deployment, tmp_path: Path) -> AsyncIterator[Stand]:
    with suppress(Exception):
        chain.set_time(SystemClock().now_ms() // 1000)
    open_market(chain, deployment)
    stand = Stand(chain, deployment, tmp_path, Office(deployment.domain))
    await stand.open()
    yield stand
    assert stand.agent is not None
    runtime = stand.agent.tools.runtime
    await stand.die()
    for ref in await runtime.own():
        await runtime.remove(ref)


HELLO = """
import os, time
print('::progress 10 warming up', flush=True)
print('hello', flush=True)
time.sleep(0.3)
print('::progress 100% done', flush=True)
open(os.environ['TALLYSTICK_OUTPUT'] + '/model', 'w').write('weights')
"""
LONG = """
import os, time
open(os.environ['TALLYSTICK_OUTPUT'] + '/up', 'w').close()
print('up', flush=True)
time.sleep(float(os.environ.get('NAP', '600')))
print('woke', flush=True)
"""


async def test_a_task_goes_round(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    on_cue = "while not os.path.exists('go'): time.sleep(0.02)"
    terms, offer = stand.order(HELLO.replace("time.sleep(0.3)", on_cue))
    assert (await agent.on_offer(offer)).accepted
    assert (await agent.on_offer(offer)).accepted  # a repeat changes nothing
    await until(
        lambda: any(
            lease.percent == 10 and lease.message == "warming up"
            for beat in stand.office.beats
            for lease in beat.leases
        ),
        what="the progress",
    )
    for beat in stand.office.beats:
        for lease in beat.leases:
            # Its cards are among those whose readings go with it.
            assert len(lease.gpu_ids) == terms.gpus
            assert set(lease.gpu_ids) <= {gpu.gpu_id for gpu in beat.gpus}
    (stand.path / "tasks" / stand.lease(offer).name / "work" / "go").touch()
    await until(lambda: bool(stand.office.done), what="the report")
    (done,) = stand.office.done
    receipt = Receipt.from_body(done.receipt)
    assert done.exit_code == 0
    assert done.simulated
    assert done.runtime == "process"
    assert receipt.gpu_ms == 2 * (receipt.ended_at_ms - receipt.started_at_ms) > 0
    assert receipt.total == charge_up(terms, 1, receipt.gpu_ms)
    signer = recover(stand.deployment.domain, receipt, done.receipt_signature)
    assert signer == OPERATOR.address
    assert done.energy_mj is not None
    assert done.energy_mj % (2 * 150) == 0
    assert "".join(chunk.text for chunk in stand.office.logs) == "hello\n"
    result = sealing.open_result(
        CONSUMER_KEY, receipt.route, receipt.seq, stand.blobs[done.result_digest]
    )
    with tarfile.open(fileobj=io.BytesIO(result), mode="r:gz") as archive:
        model = archive.extractfile("out/model")
        facts = archive.extractfile("tallystick.json")
        assert model is not None
        assert facts is not None
        assert model.read() == b"weights"
        assert json.load(facts)["exit_code"] == 0
    assert (await agent.on_acceptance(stand.acceptance(done))).ok
    await until(lambda: stand.outcome(offer) == "paid", what="the payment")
    assert await stand.credit() == split_charge_down(terms, receipt.total).provider
    assert list(await agent.tools.runtime.own()) == []
    assert not (stand.path / "tasks" / stand.lease(offer).name).exists()


async def test_the_next_agent_finishes_what_a_dead_one_began(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, env={"NAP": "1.5"})
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    await stand.die()
    await asyncio.sleep(0.2)
    again = await stand.open()
    assert len(await again.tools.runtime.own()) == 1
    await until(lambda: bool(stand.office.done), what="the report")
    (done,) = stand.office.done
    assert done.exit_code == 0
    assert done.receipt.ended_at_ms - done.receipt.started_at_ms >= 1500
    assert "".join(chunk.text for chunk in stand.office.logs) == "up\nwoke\n"


async def test_a_report_that_was_not_sent_is_sent_by_the_next_agent(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stand.office.online = False
    await until(lambda: stand.lease(offer).reached("uploaded"), what="the upload")
    signed = agent.tools.journal.signed(stand.lease(offer).task_id, 1)
    await stand.die()
    stand.office.online = True
    await stand.open()
    await until(lambda: bool(stand.office.done))
    assert signed is not None
    assert Receipt.from_body(stand.office.done[0].receipt) == signed.receipt


async def paid_without_the_backend(stand: Stand, offer: wire.Offer) -> Path:
    """Where its result is kept."""
    assert stand.agent is not None
    signed = stand.agent.tools.journal.signed(stand.lease(offer).task_id, 1)
    assert signed is not None
    accepted = acceptance_of(stand.deployment.domain, signed.receipt)
    assert (await stand.agent.on_acceptance(accepted)).ok
    await until(lambda: stand.outcome(offer) == "paid", what="the payment")
    return stand.path / "results" / signed.receipt.result


async def test_a_backend_that_was_away_until_the_payment_has_the_result_after(
    stand: Stand,
) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stand.office.online = False
    stand.refuse_upload = [503]
    await until(lambda: stand.uploads > 0, what="an upload")
    result = await paid_without_the_backend(stand, offer)
    paid = stand.lease(offer).reason
    await stand.die()
    assert result.exists()
    # It is back, and has not seen the payment on the chain yet.
    stand.office.online, stand.refuse_upload, tried = True, [409], stand.uploads
    await stand.open()
    await until(lambda: stand.uploads > tried + 1, what="another upload")
    assert result.exists()
    stand.refuse_upload = []
    await until(lambda: bool(stand.office.done), what="the report")
    await until(lambda: stand.lease(offer).reached("reported"))
    assert result.name in stand.blobs
    assert not result.exists()
    assert (stand.outcome(offer), stand.lease(offer).reason) == ("paid", paid)


async def test_a_receipt_that_came_too_late_is_told_again_once_it_is_paid(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend takes what the chain vouches for, once it has that from the chain."""
    monkeypatch.setattr("tallystick_provider.work.REPORT_TRIES", 2)
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    stand.office.refusals = 5
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).reached("reported"), what="the refusal")
    assert stand.lease(offer).reason
    result = await paid_without_the_backend(stand, offer)
    await until(lambda: bool(stand.office.done), what="the report")
    await until(lambda: not result.exists())
    assert stand.lease(offer).reached("reported")


async def test_a_lost_lease_whose_receipt_is_taken_all_the_same_brings_its_result(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its provider proved alone while the backend was away: the chain vouches for the receipt."""
    monkeypatch.setattr("tallystick_provider.work.UPLOAD_TRIES", 2)
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stand.office.online = False
    stand.refuse_upload = [503]
    await until(lambda: stand.uploads > 0, what="an upload")
    agent.tools.journal.lose(stand.lease(offer))
    await until(lambda: stand.uploads > 1, what="the last upload of a lost lease")
    stand.office.online = True
    await until(lambda: bool(stand.office.done), what="the report")
    tried = stand.uploads
    await until(lambda: stand.uploads > tried, what="another upload")
    stand.refuse_upload = []
    await until(lambda: stand.lease(offer).reached("reported"), what="the end")
    assert Receipt.from_body(stand.office.done[0].receipt).result in stand.blobs


async def test_a_paid_result_is_not_kept_for_ever(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stand.office.online = False
    await until(lambda: stand.lease(offer).reached("uploaded"), what="the upload")
    result = await paid_without_the_backend(stand, offer)
    assert result.exists()
    monkeypatch.setattr("tallystick_provider.work.TELL_PAID_MS", 0)
    await until(lambda: not result.exists(), 20, "the end of patience")
    assert stand.lease(offer).reached("reported")
    assert stand.office.done == []


async def test_cancelled_work_is_stopped_and_billed_so_far(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: "up\n" in [chunk.text for chunk in stand.office.logs])
    ack = await agent.on_stop(
        wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="the consumer cancelled")
    )
    assert ack.ok
    await until(lambda: bool(stand.office.done))
    assert stand.office.done[0].exit_code == 143
    assert stand.office.done[0].receipt.total > 0


async def test_time_over_is_124_and_not_a_millisecond_more(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, max_seconds=1)
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.done))
    (done,) = stand.office.done
    assert done.exit_code == 124
    assert done.receipt.ended_at_ms - done.receipt.started_at_ms == 1000


async def test_a_flood_of_log_lines_holds_up_no_limit(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    flood = "import time\nwhile True:\n    print('y' * 200)\n    time.sleep(0.0003)\n"
    stand.office.slow_s = 0.02  # on the way there, as in life: meanwhile the next lines come
    _, offer = stand.order(flood, max_seconds=2)
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.done), 20, "the end of its time")
    (done,) = stand.office.done
    assert done.exit_code == 124
    assert done.receipt.ended_at_ms - done.receipt.started_at_ms == 2000


async def test_a_log_that_is_slow_to_read_is_read_seldom(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 109: to find what is new an engine reads all that it keeps."""
    agent = stand.agent
    assert agent is not None
    runtime = agent.tools.runtime
    logs, began_s = runtime.logs, list[float]()

    async def reading(*arguments: Any) -> Any:
        began_s.append(time.monotonic())
        await asyncio.sleep(0.2)
        return await logs(*arguments)

    monkeypatch.setattr(runtime, "logs", reading)
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    # A look has four reads at most.
    await until(lambda: len(began_s) > 4, 40, "another look at the log")
    assert max(later - one for one, later in pairwise(began_s)) > 16 * 0.2
    agent.tools.journal.stop_wanted(TaskId(Digest(offer.assignment.task_id)), Fence(1), "cancelled")
    await until(lambda: bool(stand.office.done), 20, "the report")


async def test_a_stop_does_not_wait_for_the_log(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 109: a flood takes its time to read, and nobody waits for it."""
    agent = stand.agent
    assert agent is not None
    runtime = agent.tools.runtime
    logs, stop = runtime.logs, runtime.stop
    done: list[str] = []
    may_go_on = asyncio.Event()

    async def reading(*arguments: Any) -> Any:
        done.append("read")
        await may_go_on.wait()
        return await logs(*arguments)

    async def stopping(*arguments: Any) -> None:
        done.append("stop")
        await stop(*arguments)

    monkeypatch.setattr(runtime, "logs", reading)
    monkeypatch.setattr(runtime, "stop", stopping)
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: bool(done), 20, "a look at the log")
    task = TaskId(Digest(offer.assignment.task_id))
    agent.tools.journal.stop_wanted(task, Fence(1), "cancelled")
    await until(lambda: len(done) > 1, 20, "what is done next")
    assert done[:2] == ["read", "stop"]
    may_go_on.set()
    await until(lambda: bool(stand.office.done), 20, "the report")


async def test_work_ends_in_time_to_be_proven_before_the_deadline(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, max_seconds=500, deadline=stand.chain.now_s() + 52)
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.done), 20, "the end")
    assert stand.office.done[0].exit_code == 124
    assert SystemClock().now_ms() // 1000 < offer.terms.deadline - 40


async def test_a_receipt_that_was_refused_for_a_moment_is_sent_again(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    stand.office.refusals = 3
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.done), 20, "the report")
    await until(lambda: stand.lease(offer).reached("reported"))
    assert stand.lease(offer).reason == ""


async def test_a_journal_that_is_held_for_a_while_costs_no_work(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 85: the task ends while nothing can be written down, and is reported afterwards."""
    monkeypatch.setattr("tallystick_provider.journal.BUSY_MS", 1)
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, env={"NAP": "0.5"})
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None, 20, "the task to run")
    journal = next(stand.path.glob("**/journal.sqlite"))
    with closing(sqlite3.connect(journal, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(1.5)
        other.execute("ROLLBACK")
    await until(lambda: bool(stand.office.done), 20, "the report")
    (lease,) = agent.tools.journal.recent_leases(5)
    assert (lease.exit_code, lease.reason) == (0, "")


async def test_a_result_over_its_quota_is_cut(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    flood = (
        "import os\nn = 0\nwhile True:\n    n += 1\n"
        "    open(os.environ['TALLYSTICK_OUTPUT'] + f'/{n}', 'wb').write(b'x' * (1 << 20))\n"
        "    __import__('time').sleep(0.01)\n"
    )
    _, offer = stand.order(flood)
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.failures), what="the refusal")
    (failed,) = stand.office.failures
    assert failed.blame == "task"
    assert "over the ordered 4 MiB" in failed.reason
    assert stand.office.done == []
    assert list(await agent.tools.runtime.own()) == []


@pytest.mark.parametrize("passing", [503, 429])
@pytest.mark.parametrize(("status", "outcome"), [(413, "failed"), (403, "lost"), (409, "lost")])
async def test_a_result_that_is_refused_for_good_ends_the_attempt(
    stand: Stand, passing: int, status: int, outcome: str
) -> None:
    agent = stand.agent
    assert agent is not None
    stand.refuse_upload = [passing, status]
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: stand.outcome(offer) == outcome, what="the end of the attempt")
    await asyncio.sleep(0.2)
    assert stand.uploads == 2
    lease = stand.lease(offer)
    assert f"answered {status}" in lease.reason
    assert agent.tools.journal.signed(lease.task_id, 1) is not None
    assert stand.office.done == []
    told = [
        (failed.blame, str(lease.result_bytes) in failed.reason) for failed in stand.office.failures
    ]
    assert told == ([("task", True)] if status == 413 else [])


async def test_a_lost_lease_stops_the_work_and_signs_nothing(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stand.office.verdict = "lost"
    await until(lambda: stand.outcome(offer) == "lost", what="letting go")
    assert list(await agent.tools.runtime.own()) == []
    assert agent.tools.journal.signed(stand.lease(offer).task_id, 1) is None


async def test_an_agent_that_is_cut_off_stops_itself_at_the_end_of_its_lease(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    stand.office.lease_seconds = 1
    _, offer = stand.order(LONG)
    short = replace(
        Assignment.from_body(offer.assignment), lease_until=offer.assignment.lease_from + 2
    )
    offer = offer.model_copy(
        update={
            "assignment": short.to_body(),
            "assignment_signature": sign(stand.deployment.domain, short, DISPATCHER.key),
        }
    )
    stand.office.online = False
    assert (await agent.on_offer(offer)).accepted
    await until(lambda: stand.outcome(offer) == "lost", 10, "stopping itself")
    assert "could not be renewed" in stand.lease(offer).reason
    assert list(await agent.tools.runtime.own()) == []


async def test_a_hostile_input_is_the_tasks_fault(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order_bundle(b"not a bundle")
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.failures))
    assert stand.office.failures[0].blame == "task"
    assert "no tar.gz" in stand.office.failures[0].reason


async def test_an_input_that_cannot_be_fetched_is_the_providers(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    stand.blobs.clear()
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.failures))
    assert stand.office.failures[0].blame == "provider"


async def test_a_failure_is_told_when_the_line_is_back(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order_bundle(b"not a bundle")
    stand.office.online = False
    await agent.on_offer(offer)
    await until(lambda: stand.outcome(offer) == "failed")
    stand.office.online = True
    await until(lambda: bool(stand.office.failures))
    assert agent.tools.journal.unsent_reports() == ()


async def test_a_run_whose_lease_is_over_is_reaped_on_start(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    held = stand.lease(offer)
    await stand.die()
    journal = Journal(stand.path / "journal.sqlite", SystemClock())
    journal.lose(held)
    journal.close()
    again = await stand.open()
    assert list(await again.tools.runtime.own()) == []
    assert stand.outcome(offer) == "lost"


async def test_a_run_unknown_to_the_journal_is_removed_and_never_signed(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    await stand.die()
    for path in stand.path.glob("journal.sqlite*"):
        path.unlink()
    await asyncio.sleep(1.1)  # a new journal is younger than the lease, also in whole seconds
    again = await stand.open()
    assert list(await again.tools.runtime.own()) == []
    reply = await again.on_offer(offer)
    assert not reply.accepted
    assert "before this journal was made" in reply.reason


async def test_a_forged_renewal_changes_nothing(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    held = stand.lease(offer)
    forged = replace(held.assignment, lease_until=held.assignment.lease_until + 10_000)
    widened = replace(forged, lease_from=0)
    for lease, key in ((forged, STRANGER.key), (widened, DISPATCHER.key)):
        agent._obey(
            held,
            wire.LeaseAnswer(
                task_id=held.task_id,
                fence=1,
                verdict="renewed",
                assignment=lease.to_body(),
                assignment_signature=sign(stand.deployment.domain, lease, key),
            ),
        )
    assert stand.lease(offer).assignment.lease_until < forged.lease_until


async def test_only_the_consumers_acceptance_of_our_receipt_is_kept(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(HELLO)
    await agent.on_offer(offer)
    await until(lambda: bool(stand.office.done))
    good = stand.acceptance(stand.office.done[0])
    domain = stand.deployment.domain
    body = Acceptance.from_body(good.acceptance)
    forged = wire.AcceptanceNotice(
        acceptance=good.acceptance, signature=sign(domain, body, STRANGER.key)
    )
    assert "may not accept" in (await agent.on_acceptance(forged)).reason
    other = replace(body, receipt=body.task_id)
    stray = wire.AcceptanceNotice(
        acceptance=other.to_body(), signature=sign(domain, other, CONSUMER.key)
    )
    assert "no receipt of ours" in (await agent.on_acceptance(stray)).reason
    assert stand.lease(offer).acceptance is None

    assert (await agent.on_acceptance(good)).ok
    less = replace(body, total=body.total - 1)
    await agent.on_acceptance(
        wire.AcceptanceNotice(acceptance=less.to_body(), signature=sign(domain, less, CONSUMER.key))
    )
    assert stand.lease(offer).acceptance == body


async def test_a_task_that_is_not_locked_on_chain_is_declined(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    terms, offer = stand.order(HELLO)
    send(stand.chain, CONSUMER, market_of(stand.deployment).cancel(terms))
    stand.chain.wait(3601)
    reply = await agent.on_offer(offer)
    assert not reply.accepted
    assert "ended on chain" in reply.reason


async def test_a_draining_provider_finishes_and_takes_nothing_new(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, first = stand.order(HELLO)
    await agent.on_offer(first)
    agent.tools.journal.set_meta(DRAINING, "1")
    _, second = stand.order(HELLO)
    reply = await agent.on_offer(second)
    assert not reply.accepted
    assert "draining" in reply.reason
    await until(lambda: bool(stand.office.done))
    await until(lambda: stand.office.announced[-1].draining)


class Workers:
    """One idle worker with three of the four cards."""

    def __init__(self, cards: Cards) -> None:
        self.cards = cards
        self.gpu_ids = tuple(gpu.gpu_id for gpu in cards.offered()[:3])
        self.asked: list[Reserved] = []
        self.taken: list[str] = []
        self.gives_way = True

    def reserved(self) -> Reserved:
        return Reserved(gpu_ids=self.gpu_ids)

    async def make_room(
        self, task: str, place: Callable[[Reserved, frozenset[str]], Reserved]
    ) -> bool:
        self.asked.append(place(Reserved(), frozenset(self.gpu_ids)))
        if self.gives_way:
            await self.cards.give_back(self.gpu_ids, "worker")
            self.gpu_ids = ()
        return self.gives_way

    def room_taken(self, task: str) -> None:
        self.taken.append(task)


async def test_a_task_gets_the_room_of_idle_workers(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    workers = Workers(agent.tools.cards)
    await agent.tools.cards.take(workers.gpu_ids, "worker")
    agent.workers = workers
    workers.gives_way = False
    _, offer = stand.order(HELLO)
    refused = await agent.on_offer(offer)
    assert "2 free GPUs of class 'gpu1'" in refused.reason
    assert workers.taken == []
    workers.gives_way = True
    assert (await agent.on_offer(offer)).accepted
    assert [len(asked.gpu_ids) for asked in workers.asked] == [2, 2]
    assert workers.asked[0].disk_mib == offer.manifest.disk_needed_mib
    assert len(workers.taken) == 1
    await until(lambda: bool(stand.office.done))


async def test_an_older_fence_of_the_same_task_is_declined(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, fence=2)
    assert (await agent.on_offer(offer)).accepted
    older = replace(Assignment.from_body(offer.assignment), fence=Fence(1))
    reply = await agent.on_offer(
        offer.model_copy(
            update={
                "assignment": older.to_body(),
                "assignment_signature": sign(stand.deployment.domain, older, DISPATCHER.key),
            }
        )
    )
    assert not reply.accepted
    assert "fence 2" in reply.reason


async def test_a_run_that_could_not_be_stopped_is_reaped_later(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = stand.agent
    assert agent is not None
    runtime = agent.tools.runtime
    monkeypatch.setattr("tallystick_provider.agent.REAP_MS", 0)
    _, offer = stand.order(LONG)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    stop = runtime.stop

    async def hangs(*_: Any) -> None:
        raise RuntimeFailure("the engine does not answer")

    monkeypatch.setattr(runtime, "stop", hangs)
    monkeypatch.setattr(runtime, "own", hangs)
    stand.office.verdict = "lost"
    await until(lambda: stand.outcome(offer) == "lost", what="letting go")
    left = stand.path / "tasks" / "left-behind-1"
    left.mkdir(parents=True)
    monkeypatch.undo()
    monkeypatch.setattr("tallystick_provider.agent.REAP_MS", 0)
    assert runtime.stop == stop
    assert len(await runtime.own()) == 1
    await until(lambda: not left.exists(), what="the reaper")
    assert list(await runtime.own()) == []


async def test_more_leases_than_fit_a_heartbeat_go_in_several(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = stand.agent
    assert agent is not None
    monkeypatch.setattr("tallystick_provider.agent.LEASES_IN_A_BEAT", 1)
    offers = [stand.order(LONG)[1] for _ in range(2)]
    for offer in offers:
        assert (await agent.on_offer(offer)).accepted
    before = [stand.lease(offer).assignment.lease_until for offer in offers]
    await until(
        lambda: all(
            stand.lease(offer).assignment.lease_until > was
            for offer, was in zip(offers, before, strict=True)
        )
    )
    assert max(len(beat.leases) for beat in stand.office.beats) == 1


async def test_an_objection_of_the_backend_is_asked_for_again(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    stand.office.problem = "the key is not bound"
    agent._announced = None
    await until(lambda: agent.problem == "the key is not bound")
    stand.office.problem = None  # bound meanwhile, and nothing of ours has changed
    await until(lambda: agent.problem == "")


async def test_announces_what_it_is_and_labels_what_is_simulated(stand: Stand) -> None:
    await until(lambda: bool(stand.office.announced))
    announced = stand.office.announced[0]
    assert announced.runtime == "process"
    assert announced.operator_key == OPERATOR.address
    signer = hpke_key_signer(
        stand.deployment.domain, PROVIDER.address, announced.hpke_key, announced.hpke_signature
    )
    assert signer == OPERATOR.address
    assert len(announced.gpus) == 4
    assert all(gpu.simulated for gpu in announced.gpus)
    await until(lambda: bool(stand.office.beats))
    assert len(stand.office.announced) == 1  # once, until something changes


async def test_what_the_doctor_finds_is_told_and_told_again_when_it_changes(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    found = [Finding("disk", True, "9 MiB free")]

    async def looks() -> tuple[Finding, ...]:
        return tuple(found)

    agent.doctor = looks
    await until(lambda: stand.office.announced[-1].doctor is not None)
    report = stand.office.announced[-1].doctor
    assert report is not None
    assert [one.model_dump() for one in report.findings] == [
        {"name": "disk", "ok": True, "found": "9 MiB free", "fix": ""}
    ]
    found[0] = Finding("disk", False, "x" * 600, "free some space")
    agent._examined_at_ms = 0  # a minute later
    await until(lambda: "xxx" in stand.office.announced[-1].model_dump_json())
    last = stand.office.announced[-1].doctor
    assert last is not None
    assert len(last.findings[0].found) == 500
    assert last.findings[0].fix == "free some space"
    found[0] = Finding("disk", True, "10 MiB free")
    agent._examined_at_ms = agent.tools.clock.now_ms() - 10_000  # sooner while something is wrong
    await until(lambda: "10 MiB free" in stand.office.announced[-1].model_dump_json())


async def test_a_doctor_that_fails_costs_no_heartbeat(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None

    async def fails() -> tuple[Finding, ...]:
        raise ProviderError("the node is away")

    agent.doctor = fails
    await until(lambda: agent._examining is not None and agent._examining.done())
    beats = len(stand.office.beats)
    await until(lambda: len(stand.office.beats) > beats)
    assert all(said.doctor is None for said in stand.office.announced)
