"""Everything that can be taken away from a market under load, taken away and given back.

A consumer orders tasks and makes calls without end. One trouble after the other comes, lasts for
some seconds and goes; after each, work must get through again by itself, without a person. At the
end the market comes to rest, and the books are compared.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psutil

from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.faults.load import books, distance
from tests.faults.load.market import Stage, lease_is_over_after_s, stage, wait_until
from tests.faults.load.marks import Board
from tests.support.postgres import PostgresServer, postgres_server

SHORT = 2
"""Troubles of a short run."""
RECOVER_S = 90.0
_FRESH_TASKS, _FRESH_CALLS = 1, 3


@dataclass
class Scene:
    """What a trouble can take hold of."""

    run: Run
    stage: Stage
    board: Board
    postgres: PostgresServer | None
    far: distance.Distance | None

    def seconds(self, least: float, most: float) -> None:
        """The trouble lasts."""
        time.sleep(self.run.random.uniform(least, most))

    def some_provider(self) -> str:
        return f"provider-{self.run.random.choice((1, 2))}"


Cause: TypeAlias = Callable[[Scene], None]


# --- programs that stand still -----------------------------------------------------------------


def provider_frozen(scene: Scene) -> None:
    """Past its lease: others have its task when it wakes up, and it does not know."""
    with _frozen(scene, scene.some_provider()):
        scene.seconds(lease_is_over_after_s(), lease_is_over_after_s() + 2)


def backend_frozen(scene: Scene) -> None:
    with _frozen(scene, "backend"):
        scene.seconds(2, 8)


def broker_frozen(scene: Scene) -> None:
    with _frozen(scene, "nats"):
        scene.seconds(2, 8)


def chain_frozen(scene: Scene) -> None:
    with _frozen(scene, "anvil"):
        scene.seconds(2, 8)


@contextmanager
def _frozen(scene: Scene, name: str) -> Iterator[None]:
    service = scene.stage.market.services[name]
    service.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.signal(signal.SIGCONT)


# --- programs that end -------------------------------------------------------------------------


def broker_killed(scene: Scene) -> None:
    broker = scene.stage.market.services["nats"]
    broker.kill()
    scene.seconds(0, 4)
    broker.start()


def chain_restarted(scene: Scene) -> None:
    """What waits to be mined is forgotten."""
    market = scene.stage.market
    market.rpc("evm_setAutomine", False)
    market.stop_chain()
    scene.seconds(0, 4)
    market.start_chain()


def backend_stopped(scene: Scene) -> None:
    """By its operator, who waits until it has ended."""
    scene.stage.market.services["backend"].stop(patience_s=30)
    scene.stage.start_again("backend")


def provider_stopped(scene: Scene) -> None:
    name = scene.some_provider()
    scene.stage.market.services[name].stop(patience_s=30)
    scene.stage.start_again(name)


def worker_killed(scene: Scene) -> None:
    _kill_children(scene, "tallystick.app")


def task_killed(scene: Scene) -> None:
    """With what watches over them, as a crash of the machine's runtime would."""
    _kill_children(scene, "count.py", "runtime/supervise.py")


def _kill_children(scene: Scene, program: str, *with_it: str) -> None:
    """All that any provider runs, once one of `program` is among it."""

    def running(*programs: str) -> list[psutil.Process]:
        mine = str(scene.stage.directory)
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            words = " ".join(process.info["cmdline"] or ())
            of_these = any(name in words for name in programs)
            if of_these and mine in f"{words} {process.info['environ']}":
                found.append(process)
        return found

    deadline = time.monotonic() + 20
    while not running(program):
        if time.monotonic() > deadline:
            raise Broken(f"no {program} runs that could be killed")
        time.sleep(0.02)
    for process in running(program, *with_it):
        with suppress(psutil.NoSuchProcess):
            process.kill()


# --- databases and disks -----------------------------------------------------------------------


def database_locked(scene: Scene) -> None:
    """Another program holds the backend's database, longer than anybody waits for it."""
    with _locked(scene.stage.directory / "backend.db"):
        scene.seconds(4, 12)


def journals_locked(scene: Scene) -> None:
    folder = scene.stage.directory / scene.some_provider()
    with ExitStack() as held:
        for path in folder.glob("*.sqlite"):
            held.enter_context(_locked(path))
        scene.seconds(4, 12)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with sqlite3.connect(path, isolation_level=None, timeout=30) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")
    database.close()


def database_killed(scene: Scene) -> None:
    assert scene.postgres is not None
    scene.postgres.kill()
    scene.seconds(0, 4)
    scene.postgres.start()


def disk_full(scene: Scene) -> None:
    """Backend, agents, broker and blobs are all on it."""
    ballast = scene.stage.directory / "ballast"
    try:
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(65_536))
                file.flush()
        scene.seconds(2, 6)
    finally:
        ballast.unlink()


# --- clocks and ways ---------------------------------------------------------------------------


def provider_clock_jumps(scene: Scene) -> None:
    _clock_jumps(scene, scene.some_provider(), 600)


def backend_clock_jumps(scene: Scene) -> None:
    """A lease that it gives meanwhile is good until it ends, by the clock of everybody else: its
    task waits so long. So the jump is shorter than our patience."""
    _clock_jumps(scene, "backend", 20)


def _clock_jumps(scene: Scene, name: str, most_s: int) -> None:
    seconds = scene.run.random.choice((-most_s, -most_s // 4, most_s // 4, most_s))
    scene.run.say(f"the clock of {name} jumps by {seconds} s")
    scene.board.set_clock(name, seconds * 1000)
    scene.seconds(3, 8)
    scene.board.set_clock(name, 0)


def provider_is_not_heard(scene: Scene) -> None:
    assert scene.far is not None
    with scene.far.loses("sent"):
        scene.seconds(lease_is_over_after_s(), lease_is_over_after_s() + 4)


def provider_hears_nothing(scene: Scene) -> None:
    assert scene.far is not None
    with scene.far.loses("heard"):
        scene.seconds(lease_is_over_after_s(), lease_is_over_after_s() + 4)


# --- the campaign ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    cause: Cause
    tried: str
    where: Callable[[Scene], bool] = lambda _scene: True
    """Whether this market can have it."""

    @property
    def name(self) -> str:
        return self.cause.__name__


def _on_sqlite(scene: Scene) -> bool:
    return scene.postgres is None


def _on_postgresql(scene: Scene) -> bool:
    return scene.postgres is not None


def _far(scene: Scene) -> bool:
    return scene.far is not None


def _on_own_disk(scene: Scene) -> bool:
    return os.path.ismount(scene.stage.directory.parent)


TROUBLES = (
    Trouble(provider_frozen, "provider frozen past its lease (SIGSTOP), then woken"),
    Trouble(backend_frozen, "backend frozen for 2 to 8 s"),
    Trouble(broker_frozen, "message bus frozen for 2 to 8 s"),
    Trouble(chain_frozen, "chain node frozen for 2 to 8 s"),
    Trouble(broker_killed, "message bus killed, started again"),
    Trouble(chain_restarted, "chain node restarted, its pool forgotten"),
    Trouble(backend_stopped, "backend stopped and started by its operator"),
    Trouble(provider_stopped, "provider stopped and started by its operator"),
    Trouble(worker_killed, "workers of apps killed"),
    Trouble(task_killed, "running tasks killed"),
    Trouble(database_locked, "database locked by another program for 4 to 12 s", _on_sqlite),
    Trouble(journals_locked, "journals of a provider locked for 4 to 12 s"),
    Trouble(database_killed, "PostgreSQL killed, started again", _on_postgresql),
    Trouble(disk_full, "disk full for 2 to 6 s", _on_own_disk),
    Trouble(provider_clock_jumps, "a provider's clock jumps by up to 10 minutes, and back"),
    Trouble(backend_clock_jumps, "the backend's clock jumps by up to 20 s, and back"),
    Trouble(provider_is_not_heard, "one-way loss: what a provider sends, past its lease", _far),
    Trouble(provider_hears_nothing, "one-way loss: what a provider hears, past its lease", _far),
)


def run(run: Run) -> None:
    with ExitStack() as stack:
        postgres = None
        if run.seed % 2 == 0:
            postgres = stack.enter_context(postgres_server())
            postgres.run("CREATE DATABASE market")
        if os.geteuid() == 0:
            stack.enter_context(_own_disk(run.directory / "market"))
        up = stack.enter_context(
            stage(run.directory, "" if postgres is None else postgres.url("market"))
        )
        far = None
        if not distance.missing():
            far = stack.enter_context(distance.distance(up.ports()))
            up.move_away("provider-2", far.namespace)
        scene = Scene(run, up, Board(up.market.board_file), postgres, far)
        troubles = [one for one in TROUBLES if one.where(scene)]
        run.random.shuffle(troubles)
        up.begin()
        _flows(scene, "the beginning")
        for trouble in troubles if run.full else troubles[:SHORT]:
            run.say(trouble.tried)
            trouble.cause(scene)
            _flows(scene, trouble.tried)
            run.count(trouble.name)
        up.end()
        run.say("the books")
        books.settle(up)
        found = books.check(up)
    run.count("tasks", found["tasks"])
    run.count("calls", found["calls"])
    run.count("given_up", found["given_up"])


def _flows(scene: Scene, after: str) -> None:
    """Tasks and calls that were not there before come to their end, with nobody's help."""
    for name in scene.stage.dead():
        scene.stage.require_sentence(name, after)
        scene.stage.start_again(name)
    book = scene.stage.book()
    tasks, calls = set(book.tasks), set(book.calls)

    def fresh() -> tuple[int, int]:
        now = scene.stage.book()
        return (
            sum("charge" in one for i, one in now.tasks.items() if i not in tasks),
            sum("charge" in one for k, one in now.calls.items() if k not in calls),
        )

    wait_until(
        lambda: all(a >= b for a, b in zip(fresh(), (_FRESH_TASKS, _FRESH_CALLS), strict=True)),
        f"work to get through after {after}",
        RECOVER_S,
        lambda: "{} tasks and {} calls did".format(*fresh()),
    )


@contextmanager
def _own_disk(directory: Path) -> Iterator[None]:
    """Small, so that it can be filled; in memory."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    try:
        yield
    except BaseException:
        # Whoever looks for the reason finds what was on it.
        kept = directory.with_name(f"{directory.name}-disk")
        shutil.copytree(directory, kept, ignore_dangling_symlinks=True, ignore=_sockets)
        raise
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(directory)], check=False)


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not os.path.isfile(f"{folder}/{name}") and not os.path.isdir(f"{folder}/{name}")
    ]


CAMPAIGN = Campaign(
    name="outages",
    title="Outages under load",
    rows={one.name: Row(one.tried, "work goes on by itself within 90 s") for one in TROUBLES}
    | books.ROWS,
    run=run,
    seeds=1,
)
