"""The `process` runtime: a plain child process. DEVELOPMENT ONLY.

It gives no isolation worth the name: the task runs as this user, sees this file system and this
network. It exists so that a machine without a container engine can show the whole round. It says so
in the log, in `doctor`, in the announcement and in every receipt's record.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import structlog

from tallystick.protocol.types import Digest, TaskId
from tallystick_provider.errors import ImageRefused, RuntimeFailure
from tallystick_provider.runtime import (
    INPUT_PATH,
    OUTPUT_PATH,
    SOCKET_VARIABLE,
    WORK_PATH,
    AnyRef,
    Finding,
    LogCursor,
    LogPiece,
    LogRead,
    RunRef,
    RunSpec,
    RunState,
    RuntimeReport,
    Stream,
    WorkerRef,
    WorkerSpec,
    supervise,
)

WARNING = (
    "the process runtime runs strangers' programs WITHOUT a container: development only, "
    "never with a provider that others can reach"
)
MAX_PROCESSES = 512
READ_BYTES = 65_536
KEPT_LOG_MIB = 64
WORKERS = "workers"
LONGEST_SOCKET_PATH = 107

log = structlog.get_logger()


class ProcessRuntime:
    """Keeps one folder per run under `root`: spec, who runs it, when it began and ended, output."""

    kind: Literal["process"] = "process"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        log.warning("process_runtime_is_unsafe", warning=WARNING)

    async def probe(self) -> RuntimeReport:
        return RuntimeReport(
            (
                Finding(
                    "runtime isolation",
                    ok=True,
                    found=f"none: {WARNING}",
                    fix="set TALLYSTICK_PROVIDER_RUNTIME=docker",
                ),
            )
        )

    async def images(self) -> tuple[str, ...]:
        return ("process",)

    async def prepare(self, image: str) -> None:
        if image != "process":
            raise ImageRefused(
                f"this provider has no container engine and cannot run image {image}; "
                "order image='process' or choose a provider with the docker runtime"
            )

    async def start(self, spec: RunSpec) -> RunRef:
        place = self._root / f"{spec.task_id}-{spec.fence}"
        ref = RunRef(spec.task_id, spec.fence, place.name)
        if (await self.state(ref)).status != "gone":
            return ref
        await self.prepare(spec.image)
        await asyncio.to_thread(shutil.rmtree, place, True)
        for directory in (spec.directory.input, spec.directory.output, spec.directory.work):
            directory.mkdir(parents=True, exist_ok=True)
        await self._supervise(place, _spec_file(spec))
        return ref

    async def start_worker(self, spec: WorkerSpec) -> WorkerRef:
        ref = WorkerRef(spec.name, f"{WORKERS}/{spec.name}")
        await self.prepare(spec.image)
        if spec.project is None:
            raise ImageRefused(
                "the process runtime has no images: say where the app's code lies with "
                "TALLYSTICK_PROVIDER_APPS_DIR, or use the docker runtime"
            )
        path = spec.directory.output / spec.socket_name
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise RuntimeFailure(
                f"the path of the socket {path} is longer than {LONGEST_SOCKET_PATH} bytes; choose "
                "a shorter TALLYSTICK_PROVIDER_DATA_DIR"
            )
        spec.directory.work.mkdir(parents=True, exist_ok=True)
        await self._supervise(self._place(ref), _worker_file(spec, spec.project, path))
        return ref

    async def _supervise(self, place: Path, spec: dict[str, Any]) -> None:
        process = await asyncio.to_thread(_spawn_supervisor, place, spec)
        await self._await_supervisor(place, process)

    async def _await_supervisor(self, place: Path, process: subprocess.Popen[bytes]) -> None:
        for _ in range(1000):
            if (place / "started.json").exists():
                return
            if process.poll() is not None:
                raise RuntimeFailure(
                    f"the supervisor of {place.name} ended at once with {process.returncode}; "
                    f"run {sys.executable} {supervise.__file__} by hand to see why"
                )
            await asyncio.sleep(0.01)
        raise RuntimeFailure(f"the supervisor of {place.name} did not start within 10 s")

    async def state(self, ref: AnyRef) -> RunState:
        return await asyncio.to_thread(self._state, ref)

    def _state(self, ref: AnyRef) -> RunState:
        place = self._place(ref)
        started = _read(place / "started.json")
        alive = _supervisor(place) is not None
        ended = _read(place / "ended.json")  # after the look at `alive`: it is written before death
        if ended is not None:
            return RunState(
                "exited",
                None if started is None else started["started_ms"],
                ended["ended_ms"],
                ended["exit_code"],
                interrupted=bool(ended.get("interrupted")),
            )
        if alive:
            self._hold_limits(place)
            return RunState("running", None if started is None else started["started_ms"])
        if started is None:
            return RunState("gone")
        # Its supervisor is gone and left no word: killed, or its disk was full. Now is the earliest
        # moment anybody can vouch for, and how the task ended nobody can.
        end = {"ended_ms": time.time_ns() // 1_000_000, "exit_code": 137, "interrupted": 1}
        supervise.write(place / "ended.json", end)
        return self._state(ref)

    def _hold_limits(self, place: Path) -> None:
        """What rlimits cannot say: number of processes, memory of all together."""
        spec = _read(place / "spec.json") or {}
        family = list(_family(place))
        resident_mib = sum(_resident_mib(pid) for pid in family)
        if len(family) <= MAX_PROCESSES and resident_mib <= spec.get("memory_mib", 0):
            return
        supervisor = _supervisor(place)
        for pid in family:
            if pid != supervisor:
                _signal(pid, signal.SIGKILL)

    async def logs(self, ref: AnyRef, cursor: LogCursor) -> LogRead:
        return await asyncio.to_thread(self._logs, ref, cursor)

    def _logs(self, ref: AnyRef, cursor: LogCursor) -> LogRead:
        place = self._place(ref)
        ended = (place / "ended.json").exists()
        read: dict[str, int] = json.loads(cursor.position or '{"stdout": 0, "stderr": 0}')
        pieces: list[LogPiece] = []
        streams: tuple[Stream, Stream] = ("stdout", "stderr")
        for stream in streams:
            try:
                with (place / stream).open("rb") as file:
                    file.seek(read[stream])
                    data = file.read(READ_BYTES)
            except FileNotFoundError:
                continue
            # Whole lines only, so that a progress line is never seen in two halves.
            cut = data.rfind(b"\n") + 1
            if cut == 0 and (ended or len(data) == READ_BYTES):
                cut = len(data)
            if cut:
                read[stream] += cut
                text = data[:cut].decode(errors="replace")
                pieces.append(LogPiece(stream, time.time_ns() // 1_000_000, text))
        return LogRead(tuple(pieces), LogCursor(json.dumps(read)))

    async def hold(self, ref: AnyRef) -> None:
        """Never asked for: a process writes its log itself, into a file."""

    async def go_on(self, ref: AnyRef) -> None:
        """As `hold`."""

    async def stop(self, ref: AnyRef, grace_s: int) -> None:
        place = self._place(ref)
        for pid in await asyncio.to_thread(lambda: list(_family(place))):
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if (await self.state(ref)).status != "running":
                return
            await asyncio.sleep(0.02)
        # The task first: its supervisor then notes the end, unless it too hangs.
        while True:
            supervisor = _supervisor(place)
            for pid in await asyncio.to_thread(lambda: list(_family(place))):
                if pid != supervisor or time.monotonic() > deadline + 2:
                    _signal(pid, signal.SIGKILL)
            if (await self.state(ref)).status != "running":
                return
            await asyncio.sleep(0.02)

    async def remove(self, ref: AnyRef) -> None:
        if (await self.state(ref)).status == "running":
            await self.stop(ref, 1)
        await asyncio.to_thread(shutil.rmtree, self._place(ref), True)

    async def own(self) -> Sequence[RunRef]:
        refs = []
        for place in sorted(self._root.iterdir()):
            task_id, sign, fence = place.name.rpartition("-")
            if sign and fence.isdigit():
                refs.append(RunRef(TaskId(Digest(task_id)), int(fence), place.name))
        return refs

    async def own_workers(self) -> Sequence[WorkerRef]:
        places = sorted((self._root / WORKERS).glob("*"))
        return [WorkerRef(place.name, f"{WORKERS}/{place.name}") for place in places]

    async def close(self) -> None:
        return None

    def _place(self, ref: AnyRef) -> Path:
        return self._root / ref.handle


def _spawn_supervisor(place: Path, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Somebody waits for it from the first moment on, also when whoever asked for it is cancelled
    before it hears of it. A daemon thread, because the run may outlive the agent."""
    place.mkdir(mode=0o700, exist_ok=True, parents=True)
    (place / "spec.json").write_text(json.dumps(spec))
    process = subprocess.Popen(
        [sys.executable, "-I", supervise.__file__, str(place / "spec.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        cwd=place,
        start_new_session=True,
    )
    threading.Thread(target=process.wait, name=f"reap {place.name}", daemon=True).start()
    return process


def _spec_file(spec: RunSpec) -> dict[str, Any]:
    places = {
        INPUT_PATH: str(spec.directory.input),
        OUTPUT_PATH: str(spec.directory.output),
        WORK_PATH: str(spec.directory.work),
    }
    command = [_map(part, places) for part in spec.command]
    if command and command[0] in ("python", "python3"):
        command[0] = sys.executable
    env = {name: _map(value, places) for name, value in spec.task_environment.items()}
    return {
        "command": command,
        "cwd": str(spec.directory.work),
        "env": {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "HOME": str(spec.directory.work),
            "TMPDIR": str(spec.directory.work),
            **env,
        },
        "memory_mib": spec.memory_mib,
        "file_mib": max(spec.disk_mib, spec.max_output_mib, KEPT_LOG_MIB),
    }


def _worker_file(spec: WorkerSpec, project: Path, socket_path: Path) -> dict[str, Any]:
    """What an image of `tallystick app init` runs, with the very interpreter that runs us."""
    return {
        "command": [sys.executable, "-m", "tallystick.app", "serve", "--project", str(project)],
        "cwd": str(project),
        "env": {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "HOME": str(spec.directory.work),
            "TMPDIR": str(spec.directory.work),
            **spec.worker_environment,
            SOCKET_VARIABLE: str(socket_path),
        },
        "memory_mib": spec.memory_mib,
        "file_mib": max(spec.disk_mib, KEPT_LOG_MIB),
    }


def _map(text: str, places: dict[str, str]) -> str:
    """`/task/in/train.py` -> where that lies on this disk."""
    for path, real in places.items():
        if text == path or text.startswith(path + "/"):
            return real + text.removeprefix(path)
    return text


def _read(path: Path) -> dict[str, int] | None:
    try:
        value: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return value


def _supervisor(place: Path) -> int | None:
    """Its pid, if that very process still lives."""
    note = _read(place / "supervisor.json")
    if note is None:
        return None
    with suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{note['pid']}/stat").read_text().rpartition(")")[2].split()
        if int(stat[19]) == note["ticks"] and stat[0] not in ("Z", "X"):
            return note["pid"]
    return None


def _family(place: Path) -> Iterator[int]:
    """The supervisor and everything below it, also what moved to another session."""
    supervisor = _supervisor(place)
    if supervisor is None:
        return
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError, ValueError, IndexError):
            children.setdefault(supervise.parent(pid), []).append(pid)
    todo = [supervisor]
    while todo:
        pid = todo.pop()
        yield pid
        todo.extend(children.get(pid, ()))


def _resident_mib(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") // (1024 * 1024)
    return 0


def _signal(pid: int, which: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, which)
