"""A market ends with its owner, however that one ends; and not with one who left it up."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tallystick.devnet.processes import Running

OWNER = """
import sys
from pathlib import Path
from tallystick.devnet.keeper import Keeper
from tallystick.devnet.processes import Running, Service

folder = Path(sys.argv[1])
keeper = Keeper(folder)
log = folder / "logs" / "service.log"
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
service = Service("service", sleep, {}, folder, log, on_start=keeper.started)
service.start()
(folder / "state.json").write_text("{}")
print(service.running.pid, flush=True)
match sys.stdin.readline().split():
    case ["leave"]:
        keeper.release()
    case ["while", pid]:
        keeper.keep_while(Running.of(int(pid)))
    case _:
        pass
"""

Owner = subprocess.Popen[str]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[tuple[Owner, psutil.Process]]:
    """An owner in a process group of its own, and the service that it started."""
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    service = psutil.Process(int(child.stdout.readline()))
    yield child, service
    child.kill()
    child.communicate()
    if service.is_running():
        service.kill()


def ends(service: psutil.Process) -> bool:
    """Orphans are reaped by whoever adopts them; until then one that ended is a zombie."""
    running = Running(service.pid, service.create_time())
    _, alive = psutil.wait_procs([service], timeout=20)
    return not alive or running.process() is None


def wait_until(done: Callable[[], bool]) -> None:
    """A file is written or removed by another process: there is nothing to wait on but it."""
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
    try:
        while not done():
            assert waiting.poll() is None, "not within 20 seconds"
    finally:
        waiting.kill()
        waiting.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_owner_ends_the_services(
    owner: tuple[Owner, psutil.Process], tmp_path: Path, number: signal.Signals
) -> None:
    child, service = owner
    child.send_signal(number)
    assert ends(service)
    wait_until(lambda: not (tmp_path / "state.json").exists())


def test_an_owner_that_forgets_to_end_it_is_no_different(
    owner: tuple[Owner, psutil.Process],
) -> None:
    child, service = owner
    child.communicate("\n")
    assert ends(service)


def test_a_market_that_was_left_up_stays(
    owner: tuple[Owner, psutil.Process], tmp_path: Path
) -> None:
    child, service = owner
    child.communicate("leave\n")
    assert child.returncode == 0
    assert service.is_running()
    assert (tmp_path / "state.json").exists()


def test_it_may_last_with_another_process(owner: tuple[Owner, psutil.Process]) -> None:
    child, service = owner
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        child.communicate(f"while {other.pid}\n")
        assert service.is_running()
    finally:
        other.kill()
        other.wait()
    assert ends(service)


def test_what_follows_an_ended_market_in_its_place_is_let_alone(
    owner: tuple[Owner, psutil.Process], tmp_path: Path
) -> None:
    """`down` and a new `up`, while the process that the first one lasts with still runs."""
    child, service = owner
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        [keeper] = [one for one in psutil.Process(child.pid).children() if one != service]
        child.communicate(f"while {other.pid}\n")
        service.kill()
        assert ends(keeper)
    finally:
        other.kill()
        other.wait()
    assert (tmp_path / "state.json").exists()
