"""What runs a container. `Runtime` is the promise; `docker` keeps it, `process` says it does not.

A runtime never touches what does not carry this provider's labels, and a started run outlives the
agent: after a restart `own()` finds it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from tallystick.protocol import wire
from tallystick.protocol.types import Address, TaskId

LOG_KEPT_BYTES = 8 * 1024 * 1024
SOCKET_VARIABLE = "TALLYSTICK_SOCKET"
SOCKET_PATH = "/run/tallystick/worker.sock"
"""Where a worker listens, unless its manifest names a socket of its own."""
INPUT_PATH = "/task/in"
OUTPUT_PATH = "/task/out"
WORK_PATH = "/task/work"

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class TaskDirectory:
    """One task's place on the provider's disk."""

    root: Path

    @property
    def input(self) -> Path:
        return self.root / "in"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def work(self) -> Path:
        return self.root / "work"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a runtime is told. There is no field for a privilege, so none can be asked for."""

    provider: Address
    task_id: TaskId
    fence: int
    image: str
    command: tuple[str, ...]
    env: dict[str, str]
    directory: TaskDirectory
    gpu_ids: tuple[str, ...]
    gpus_simulated: bool
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    max_output_mib: int

    @property
    def task_environment(self) -> dict[str, str]:
        """What a task sees: its own variables and ours, never the agent's."""
        return {
            **self.env,
            "TALLYSTICK_TASK_ID": self.task_id,
            "TALLYSTICK_INPUT": INPUT_PATH,
            "TALLYSTICK_OUTPUT": OUTPUT_PATH,
            "TALLYSTICK_GPU_IDS": ",".join(self.gpu_ids),
        }


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A warm container of an app's version. It runs what its image says; there is no field for a
    privilege here either."""

    provider: Address
    name: str
    """Unique on this machine, of lower-case letters, digits and hyphens."""
    image: str
    project: Path | None
    """Where the code lies for the development runtime, which has no images."""
    directory: TaskDirectory
    """Its `output` is the one place that both sides see: the socket's."""
    socket_path: str
    """Inside the container."""
    gpu_ids: tuple[str, ...]
    gpus_simulated: bool
    cpu_milli: int
    memory_mib: int
    disk_mib: int

    @property
    def socket_directory(self) -> str:
        return self.socket_path.rpartition("/")[0]

    @property
    def socket_name(self) -> str:
        return self.socket_path.rpartition("/")[2]

    @property
    def worker_environment(self) -> dict[str, str]:
        """What a worker sees beside its image's own variables."""
        return {SOCKET_VARIABLE: self.socket_path, "TALLYSTICK_GPU_IDS": ",".join(self.gpu_ids)}


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that exists: of which lease, and how the runtime calls it."""

    task_id: TaskId
    fence: int
    handle: str


@dataclass(frozen=True, slots=True)
class WorkerRef:
    """A worker that exists, and how the runtime calls it."""

    name: str
    handle: str


AnyRef = RunRef | WorkerRef


@dataclass(frozen=True, slots=True)
class RunState:
    """What the runtime says of a run. Times are those of the container, not of the observer."""

    status: Literal["created", "running", "exited", "gone"]
    started_ms: int | None = None
    ended_ms: int | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    interrupted: bool = False
    """Ended from outside and not by itself: the engine went down, somebody stopped it by hand, or
    `stop` did."""
    held: bool = False
    """Frozen by `hold`."""
    log_bytes: int | None = None
    """What the engine keeps of its log, at most `LOG_KEPT_BYTES`: then it begins anew. None where
    the agent cannot see it."""


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How far the log of a run was read."""

    position: str = ""
    """Opaque to everybody but the runtime."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    stream: Stream
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class LogRead:
    pieces: tuple[LogPiece, ...]
    cursor: LogCursor


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `doctor` looked at."""

    name: str
    ok: bool
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """What protections this runtime gives here."""

    findings: tuple[Finding, ...] = field(default=())

    @property
    def safe(self) -> bool:
        return all(finding.ok for finding in self.findings)


class Runtime(Protocol):
    """One verb each; every verb is safe to repeat."""

    @property
    def kind(self) -> Literal["docker", "process"]: ...

    async def probe(self) -> RuntimeReport:
        """What this runtime can and cannot protect, each with its fix."""

    async def images(self) -> tuple[str, ...]:
        """Digests of images present, so that a task starts without a pull."""

    async def prepare(self, image: str) -> None:
        """Have the image here. Raises ImageRefused when it cannot or must not run."""

    async def start(self, spec: RunSpec) -> RunRef:
        """Start it, or find the one already started for this task and fence."""

    async def start_worker(self, spec: WorkerSpec) -> WorkerRef:
        """Start it. Raises ImageRefused when the image cannot be a worker."""

    async def state(self, ref: AnyRef) -> RunState: ...

    async def logs(self, ref: AnyRef, cursor: LogCursor) -> LogRead: ...

    async def hold(self, ref: AnyRef) -> None:
        """Freeze it. It can be stopped and removed like any other."""

    async def go_on(self, ref: AnyRef) -> None:
        """Let what is held run again."""

    async def stop(self, ref: AnyRef, grace_s: int) -> None:
        """SIGTERM, then SIGKILL after the grace; returns when nothing of it runs."""

    async def remove(self, ref: AnyRef) -> None: ...

    async def own(self) -> Sequence[RunRef]:
        """All runs with this provider's labels, running or ended."""

    async def own_workers(self) -> Sequence[WorkerRef]:
        """All workers with this provider's labels, running or ended."""

    async def close(self) -> None: ...


def process_manifest(manifest: wire.Manifest) -> bool:
    """Whether the consumer itself asked for the development runtime."""
    return manifest.image == "process"
