"""process runtime (development only)
├── runs in the task's directories, with a clean environment, and says how it ended
├── leaves nothing unowned behind when it is cancelled in the middle of a start
├── survives the agent: a new runtime finds the run again and reads its log and end
├── stops what ignores SIGTERM, with everything below it
└── holds memory, processes and file size
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.errors import ImageRefused
from tallystick_provider.runtime import LogCursor, RunRef, RunSpec, RunState, TaskDirectory
from tallystick_provider.runtime.process import ProcessRuntime
from tests.provider.waiting import until

Make = Callable[..., RunSpec]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(script: str, **changes: Any) -> RunSpec:
        directory = TaskDirectory(tmp_path / "task")
        directory.input.mkdir(parents=True, exist_ok=True)
        (directory.input / "run.py").write_text(script)
        values: dict[str, Any] = {
            "provider": Address("0x" + "11" * 20),
            "task_id": TaskId(Digest("0x" + "22" * 32)),
            "fence": 1,
            "image": "process",
            "command": ("python", "/task/in/run.py"),
            "env": {"NAME": "value"},
            "directory": directory,
            "gpu_ids": ("SIM-0", "SIM-1"),
            "gpus_simulated": True,
            "cpu_milli": 1000,
            "memory_mib": 256,
            "disk_mib": 16,
            "max_output_mib": 16,
        }
        return RunSpec(**{**values, **changes})

    return make


@pytest.fixture
def runtime(tmp_path: Path) -> ProcessRuntime:
    return ProcessRuntime(tmp_path / "process")


async def ended(runtime: ProcessRuntime, ref: RunRef, within_s: float = 20) -> RunState:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        state = await runtime.state(ref)
        if state.status == "exited":
            return state
        await asyncio.sleep(0.02)
    raise AssertionError("the run did not end in time")


async def output(runtime: ProcessRuntime, ref: RunRef) -> str:
    text, cursor = "", LogCursor()
    while True:
        read = await runtime.logs(ref, cursor)
        if not read.pieces:
            return text
        text += "".join(piece.text for piece in read.pieces)
        cursor = read.cursor


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_runs_in_its_directories_with_a_clean_environment(
    runtime: ProcessRuntime, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TALLYSTICK_PROVIDER_KEY_FILE", "CANARY-secret")
    spec = make(
        "import os, sys\n"
        "open(os.environ['TALLYSTICK_OUTPUT'] + '/result', 'w').write('42')\n"
        "print(sorted(os.environ), os.getcwd(), os.environ['TALLYSTICK_GPU_IDS'])\n"
        "print('CANARY' in str(os.environ), file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    ref = await runtime.start(spec)
    state = await ended(runtime, ref)
    assert state.exit_code == 3
    assert state.started_ms is not None
    assert state.ended_ms is not None
    assert state.started_ms <= state.ended_ms
    assert (spec.directory.output / "result").read_text() == "42"
    said = await output(runtime, ref)
    assert str(spec.directory.work) in said
    assert "SIM-0,SIM-1" in said
    assert "CANARY" not in said
    assert "False" in said
    assert "'NAME'" in said


async def test_a_second_start_finds_the_first(runtime: ProcessRuntime, make: Make) -> None:
    spec = make("import time; print('once', flush=True); time.sleep(0.5)")
    ref = await runtime.start(spec)
    assert await runtime.start(spec) == ref
    await ended(runtime, ref)
    assert await runtime.start(spec) == ref
    assert await output(runtime, ref) == "once\n"


async def test_a_start_that_is_cancelled_leaves_no_child_without_an_owner(
    runtime: ProcessRuntime, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_value))
    born, cancelled, handed_over = threading.Event(), threading.Event(), threading.Event()
    real = subprocess.Popen

    def slow(*args: Any, **named: Any) -> Any:
        process = real(*args, **named)
        born.set()
        assert cancelled.wait(20)
        threading.Timer(0.2, handed_over.set).start()
        return process

    monkeypatch.setattr(subprocess, "Popen", slow)
    starting = asyncio.create_task(runtime.start(make("import time; time.sleep(600)")))
    assert await asyncio.to_thread(born.wait, 20)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    del starting
    cancelled.set()
    assert await asyncio.to_thread(handed_over.wait, 20)
    gc.collect()
    assert lost == []

    (ref,) = await runtime.own()
    deadline = time.monotonic() + 20
    while (await runtime.state(ref)).status != "running":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await runtime.remove(ref)


async def test_a_new_agent_finds_the_run_and_its_end(
    runtime: ProcessRuntime, make: Make, tmp_path: Path
) -> None:
    ref = await runtime.start(make("import time; time.sleep(0.4); print('done'); exit(7)"))
    again = ProcessRuntime(tmp_path / "process")
    assert list(await again.own()) == [ref]
    assert (await again.state(ref)).status == "running"
    assert (await ended(again, ref)).exit_code == 7
    assert await output(again, ref) == "done\n"
    await again.remove(ref)
    assert list(await again.own()) == []
    assert (await again.state(ref)).status == "gone"


async def test_what_ignores_sigterm_is_gone_in_time(runtime: ProcessRuntime, make: Make) -> None:
    spec = make(
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time\\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'],"
        " start_new_session=True)\n"
        "open(os.environ['TALLYSTICK_OUTPUT'] + '/pids', 'w')"
        ".write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(600)\n"
    )
    ref = await runtime.start(spec)
    pids = spec.directory.output / "pids"
    await until(lambda: pids.exists() and bool(pids.read_text()))
    started = time.monotonic()
    await runtime.stop(ref, 1)
    assert time.monotonic() - started < 10
    state = await runtime.state(ref)
    assert state.status == "exited"
    assert state.exit_code == 137
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


async def test_a_polite_task_ends_by_sigterm(runtime: ProcessRuntime, make: Make) -> None:
    spec = make(
        "import os, time; open(os.environ['TALLYSTICK_OUTPUT'] + '/up', 'w'); time.sleep(600)"
    )
    ref = await runtime.start(spec)
    await until((spec.directory.output / "up").exists)
    await runtime.stop(ref, 5)
    assert (await runtime.state(ref)).exit_code == 143


async def test_a_supervisor_that_left_no_word_was_interrupted(
    runtime: ProcessRuntime, make: Make, tmp_path: Path
) -> None:
    ref = await runtime.start(make("import time; time.sleep(600)"))
    place = tmp_path / "process" / ref.handle
    supervisor = json.loads((place / "supervisor.json").read_text())["pid"]
    os.killpg(supervisor, 9)
    state = await ended(runtime, ref)
    assert (state.exit_code, state.interrupted) == (137, True)
    assert (await runtime.state(ref)).interrupted


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("x = bytearray(400 << 20); print('got', 'it')", id="memory of one"),
        pytest.param(
            "open(__import__('os').environ['TALLYSTICK_OUTPUT'] + '/x', 'wb')"
            ".write(b'x' * (80 << 20)); print('got', 'it')",
            id="size of a file",
        ),
    ],
)
async def test_limits_hold(runtime: ProcessRuntime, make: Make, script: str) -> None:
    ref = await runtime.start(make(script))
    state = await ended(runtime, ref)
    assert state.exit_code != 0
    assert "got it" not in await output(runtime, ref)


async def test_memory_of_all_together_is_held(runtime: ProcessRuntime, make: Make) -> None:
    spec = make(
        "import os, time\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0: break\n"
        "x = bytearray(100 << 20)\n"
        "time.sleep(600)\n"
    )
    ref = await runtime.start(spec)
    assert (await ended(runtime, ref)).exit_code == 137


async def test_a_command_that_is_not_there_reads_as_127(
    runtime: ProcessRuntime, make: Make
) -> None:
    ref = await runtime.start(make("", command=("/no/such/program",)))
    assert (await ended(runtime, ref)).exit_code == 127
    assert "No such file" in await output(runtime, ref)


async def test_images_are_not_for_this_runtime(runtime: ProcessRuntime) -> None:
    with pytest.raises(ImageRefused, match="no container engine"):
        await runtime.prepare("sha256:" + "ab" * 32)


async def test_says_loudly_that_it_isolates_nothing(runtime: ProcessRuntime) -> None:
    (finding,) = (await runtime.probe()).findings
    assert "WITHOUT a container" in finding.found
