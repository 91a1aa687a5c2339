"""case 122: the container engine is restarted, crashes or hangs under a running task
├── stopped or crashed: the attempt fails, blamed on this provider, nothing is billed
├── crashed with live-restore, or frozen for a while: the task goes on, ends with its own exit code
│   and is billed for what it ran
├── ended while nobody could ask: its own exit code and its own times
├── frozen: leases are renewed meanwhile, and the heartbeat says what is not known; frozen for too
│   long: the attempt fails
├── cancelled while frozen: stopped as soon as the engine listens
├── flooded by a log: what writes it is held back (109), and goes on, also under the next agent
└── the output's file system: back after a lost mount, gone after any of these ends (110)
"""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tallystick.protocol import sealing, wire
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.types import TaskId, to_digest
from tallystick_provider import work
from tallystick_provider.clock import SystemClock
from tallystick_provider.runtime import LogCursor, RunRef, TaskDirectory, volume
from tallystick_provider.runtime.docker import DockerRuntime
from tallystick_provider.work import task_directories
from tests.provider.orders import CONSUMER_KEY
from tests.provider.runtime.engines import Engine, open_engine
from tests.provider.runtime.test_volume import assert_nothing_left, loops
from tests.provider.settling import open_market
from tests.provider.test_agent import Office, Stand
from tests.provider.waiting import until
from tests.support.anvil import PROVIDER, LocalChain

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets to the collector when nobody listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ENGINE_CALL_SECONDS = 2
"""So long a call to a frozen engine waits here."""
NAP = "echo up; busybox sleep {}; echo result > /task/out/model; echo woke; exit {}"

OBEDIENT = "trap 'exit 0' TERM; echo up; while true; do busybox sleep 0.1; done"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def steady_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """As provider/README.md advises."""
    engine = open_engine(tmp_path_factory.mktemp("steady"), "--live-restore")
    yield engine
    engine.close()


@pytest.fixture
async def stand(
    chain: LocalChain, deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    monkeypatch.setattr("tallystick_provider.runtime.docker.CALL_SECONDS", ENGINE_CALL_SECONDS)
    monkeypatch.setattr(work, "QUIET_MS", 1000)
    with suppress(Exception):
        chain.set_time(SystemClock().now_ms() // 1000)
    open_market(chain, deployment)
    tmp_path.chmod(0o755)
    stand = Stand(chain, deployment, tmp_path, Office(deployment.domain))
    yield stand
    if stand.agent is None:
        return
    runtime = stand.agent.tools.runtime
    try:
        await until(lambda: not task_directories(tmp_path), 60, "clearing up")
        assert list(await runtime.own()) == []
    finally:
        await stand.die()
        for left in task_directories(tmp_path):
            volume.remove(left)
        await runtime.close()
    await until(lambda: loops(tmp_path) == [], what="letting go of the loop devices")
    assert_nothing_left(tmp_path)


async def begin(stand: Stand, engine: Engine, script: str) -> wire.Offer:
    """A task of a real container that has said `up`."""
    stand.engine = lambda: DockerRuntime(PROVIDER.address, engine.url, volumes_in=stand.path)
    if stand.agent is None:
        await stand.open()
    assert stand.agent is not None
    _, offer = stand.order(
        "", image=engine.image, command=("/bin/sh", "-c", script), max_output_mib=2
    )
    reply = await stand.agent.on_offer(offer)
    assert reply.accepted, reply
    await until(lambda: "up" in said(stand), 30, "the start")
    await until(lambda: stand.lease(offer).started_ms is not None)
    return offer


def said(stand: Stand) -> str:
    return "".join(chunk.text for chunk in stand.office.logs)


def result_of(stand: Stand, done: wire.Finished) -> bytes:
    sealed = stand.blobs[done.result_digest]
    task, fence = TaskId(to_digest(done.task_id)), done.fence
    with tarfile.open(
        fileobj=io.BytesIO(sealing.open_result(CONSUMER_KEY, task, fence, sealed)), mode="r:gz"
    ) as archive:
        model = archive.extractfile("out/model")
        assert model is not None
        return model.read()


def ran_ms(done: wire.Finished) -> int:
    return done.receipt.ended_at_ms - done.receipt.started_at_ms


def beats_of(stand: Stand, offer: wire.Offer) -> list[wire.LeaseBeat]:
    task = offer.assignment.task_id
    return [b for beat in stand.office.beats for b in beat.leases if b.task_id == task]


@pytest.mark.parametrize(
    ("script", "how"),
    [
        pytest.param(NAP.format(600, 0), signal.SIGTERM, id="stopped"),
        pytest.param(NAP.format(600, 0), signal.SIGKILL, id="crashed"),
        pytest.param(OBEDIENT, signal.SIGKILL, id="crashed, and told to end later"),
    ],
)
async def test_a_task_that_ended_with_the_engine_is_not_billed(
    stand: Stand, engine: Engine, script: str, how: signal.Signals
) -> None:
    offer = await begin(stand, engine, script)
    beats = len(stand.office.beats)
    await asyncio.to_thread(engine.stop, how)
    await asyncio.to_thread(engine.start)
    await until(lambda: bool(stand.office.failures), 30, "the failure")
    (failed,) = stand.office.failures
    assert failed.blame == "provider"
    assert "stopped from outside" in failed.reason
    assert stand.outcome(offer) == "failed"
    assert stand.office.done == []
    assert stand.agent is not None
    assert stand.agent.tools.journal.signed(stand.lease(offer).task_id, 1) is None
    assert len(stand.office.beats) > beats


async def test_a_task_that_ends_well_when_told_to_may_count_as_finished(
    stand: Stand, engine: Engine
) -> None:
    """The engine that told it is gone and the next knows nothing: exit 0 is all there is to see,
    unless the agent saw it in the moment before. Either way not the task's failure."""
    offer = await begin(stand, engine, OBEDIENT)
    await asyncio.to_thread(engine.stop, signal.SIGTERM)
    down_ms = SystemClock().now_ms()
    await asyncio.to_thread(engine.start)
    await until(lambda: bool(stand.office.done or stand.office.failures), 30, "the end")
    assert all(failed.blame == "provider" for failed in stand.office.failures)
    for done in stand.office.done:
        assert done.exit_code == 0
        assert done.receipt.ended_at_ms <= down_ms
    await until(lambda: stand.lease(offer).reached("reported") or bool(stand.office.failures))


async def test_with_live_restore_a_crash_of_the_engine_costs_nothing(
    stand: Stand, steady_engine: Engine
) -> None:
    await begin(stand, steady_engine, NAP.format(6, 5))
    await asyncio.to_thread(steady_engine.stop, signal.SIGKILL)
    await asyncio.to_thread(steady_engine.start)
    await until(lambda: bool(stand.office.done), 40, "the report")
    (done,) = stand.office.done
    assert done.exit_code == 5
    assert 5900 <= ran_ms(done) < 9000
    assert said(stand) == "up\nwoke\n"
    assert result_of(stand, done) == b"result\n"
    assert stand.office.failures == []


async def test_what_ended_while_the_engine_was_down_keeps_its_code_and_times(
    stand: Stand, engine: Engine
) -> None:
    offer = await begin(stand, engine, NAP.format(2, 3))
    await asyncio.to_thread(engine.stop, signal.SIGKILL)
    await asyncio.sleep(5)
    await asyncio.to_thread(engine.start)
    await until(lambda: bool(stand.office.done), 30, "the report")
    (done,) = stand.office.done
    assert done.exit_code == 3
    assert 1900 <= ran_ms(done) < 4500
    assert result_of(stand, done) == b"result\n"
    assert stand.outcome(offer) is None


async def test_a_frozen_engine_costs_no_lease_and_no_money(stand: Stand, engine: Engine) -> None:
    stand.office.lease_seconds = 4
    offer = await begin(stand, engine, NAP.format(4, 5))
    engine.freeze()
    await asyncio.sleep(8)
    frozen = beats_of(stand, offer)[-1]
    assert frozen.message == "the container engine does not answer"
    assert frozen.stage == "running"
    assert frozen.gpu_ms < 2 * 4000  # two cards, up to when it was last seen
    assert stand.office.done == []
    engine.go_on()
    await until(lambda: bool(stand.office.done), 30, "the report")
    (done,) = stand.office.done
    assert done.exit_code == 5
    assert 3900 <= ran_ms(done) < 7000
    assert said(stand) == "up\nwoke\n"
    assert result_of(stand, done) == b"result\n"
    assert stand.office.failures == []


async def test_an_engine_frozen_for_good_fails_the_attempt(
    stand: Stand, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SILENCE_MS", 4000)
    offer = await begin(stand, engine, NAP.format(600, 0))
    engine.freeze()
    await until(lambda: bool(stand.office.failures), 30, "the failure")
    (failed,) = stand.office.failures
    assert failed.blame == "provider"
    assert "has not answered for" in failed.reason
    assert stand.outcome(offer) == "failed"
    engine.go_on()
    assert stand.agent is not None
    runtime = stand.agent.tools.runtime
    stand.agent._reaped_at_ms = 0

    async def reaped() -> bool:
        return not await runtime.own()

    await until(reaped, 30, "removing what was left")


async def test_a_stop_that_a_frozen_engine_did_not_hear_is_said_again(
    stand: Stand, engine: Engine
) -> None:
    offer = await begin(stand, engine, NAP.format(600, 0))
    assert stand.agent is not None
    engine.freeze()
    await stand.agent.on_stop(
        wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="the consumer cancelled")
    )
    await asyncio.sleep(3 * ENGINE_CALL_SECONDS)
    engine.go_on()
    await until(lambda: bool(stand.office.done), 30, "the end")
    assert stand.office.done[0].exit_code == 143
    assert stand.office.failures == []


async def test_an_idle_agent_works_on_with_a_restarted_engine(stand: Stand, engine: Engine) -> None:
    await begin(stand, engine, NAP.format(0, 0))
    await until(lambda: len(stand.office.done) == 1, 30)
    await asyncio.to_thread(engine.stop, signal.SIGTERM)
    await asyncio.to_thread(engine.start)
    await begin(stand, engine, NAP.format(0, 0))
    await until(lambda: len(stand.office.done) == 2, 30)
    assert stand.office.failures == []


async def test_an_end_of_its_own_by_a_signals_number_is_the_tasks(
    stand: Stand, engine: Engine
) -> None:
    await begin(stand, engine, NAP.format(0, 137))
    await until(lambda: bool(stand.office.done), 30)
    assert stand.office.done[0].exit_code == 137


async def test_a_container_stopped_by_hand_is_not_the_tasks_fault(
    stand: Stand, engine: Engine
) -> None:
    offer = await begin(stand, engine, NAP.format(600, 0))
    engine.api().kill(stand.lease(offer).handle)
    await until(lambda: bool(stand.office.failures), 30)
    assert stand.office.failures[0].blame == "provider"


async def test_after_a_restart_of_the_machine_the_output_is_mounted_again(
    stand: Stand, engine: Engine
) -> None:
    """The agent dies, the task ends, the mount is lost: the next agent packs what was written."""
    offer = await begin(stand, engine, NAP.format(1, 0))
    place = TaskDirectory(stand.path / "tasks" / stand.lease(offer).name)
    lease = stand.lease(offer)
    await stand.die()
    runtime = DockerRuntime(PROVIDER.address, engine.url)
    ref = RunRef(lease.task_id, 1, lease.handle or "")

    async def over() -> bool:
        return (await runtime.state(ref)).status == "exited"

    await until(over, 30)
    assert "woke" in "".join(p.text for p in (await runtime.logs(ref, LogCursor())).pieces)
    await runtime.close()
    await asyncio.to_thread(subprocess.run, ["umount", place.output], check=True)
    await stand.open()
    await until(lambda: bool(stand.office.done), 30, "the report")
    assert result_of(stand, stand.office.done[0]) == b"result\n"


async def test_a_mount_without_a_lease_is_cleared_on_start(stand: Stand, engine: Engine) -> None:
    left = TaskDirectory(stand.path / "tasks" / "left-by-a-killed-agent")
    left.output.mkdir(parents=True)
    volume.make(left, 1, 0)
    (left.output / "model").write_text("weights")
    await begin(stand, engine, NAP.format(0, 0))
    assert not left.root.exists()
    await until(lambda: bool(stand.office.done), 30)


FLOOD = "echo up; busybox sleep 1; busybox timeout {} busybox yes"


@pytest.fixture
def patient(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a flood an engine is slow, not frozen."""
    monkeypatch.setattr("tallystick_provider.runtime.docker.CALL_SECONDS", 60)


@pytest.mark.usefixtures("patient")
async def test_a_flood_of_log_is_held_back_and_goes_on(stand: Stand, engine: Engine) -> None:
    """Case 109: the engine would pay for it, not the container."""
    flood = FLOOD.format(2)
    await begin(stand, engine, f"{flood}; echo result > /task/out/model; exit 5")
    assert stand.agent is not None
    await _held_back(stand)
    await stand.die()
    await stand.open()
    await until(lambda: bool(stand.office.done), 300, "the report")
    (done,) = stand.office.done
    assert done.exit_code == 5
    assert result_of(stand, done) == b"result\n"


async def _held_back(stand: Stand) -> None:
    """Asked seldom: whoever asks an engine all the time floods it as well."""
    assert stand.agent is not None
    runtime = stand.agent.tools.runtime
    for _ in range(150):
        if any([(await runtime.state(ref)).held for ref in await runtime.own()]):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("it was not held back")


@pytest.mark.usefixtures("patient")
async def test_what_is_held_back_is_stopped_like_any_other(stand: Stand, engine: Engine) -> None:
    offer = await begin(stand, engine, FLOOD.format(600))
    await _held_back(stand)
    assert stand.agent is not None
    stop = wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="the consumer cancelled")
    await stand.agent.on_stop(stop)
    await until(lambda: bool(stand.office.done), 300, "the report")
    assert stand.office.done[0].exit_code == work.STOPPED
