"""The `docker` runtime: one hardened container per task and worker, through Docker's SDK.

What a container may have is decided in `container.py`. This module speaks to the engine, in
threads, and touches only containers with this provider's labels.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
import docker.errors
import requests
import structlog
import urllib3.exceptions

from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.errors import ImageRefused, RuntimeFailure, RuntimeUnsafe
from tallystick_provider.runtime import (
    LOG_KEPT_BYTES,
    OUTPUT_PATH,
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
    TaskDirectory,
    WorkerRef,
    WorkerSpec,
    sockets,
    volume,
)
from tallystick_provider.runtime.container import (
    FIRST_USER,
    LABEL_FENCE,
    LABEL_PROVIDER,
    LABEL_TASK,
    LABEL_WORKER,
    UNPRIVILEGED,
    USERS,
    GpuDriver,
    check_image,
    check_image_name,
    refuse_unsafe,
    request_for,
    worker_request_for,
)
from tallystick_provider.runtime.images import (
    ImageLimits,
    ImagePuller,
    RegistryCheck,
    disk_finding,
)

RUNC_FIXED = ((1, 2, 8), (1, 3, 3), (1, 4, 0))
"""First release of each line with the fixes of November 2025 (CVE-2025-31133, CVE-2025-52565,
CVE-2025-52881). Distributions patch older ones without a word in the version."""
RUNC_FIXED_CANDIDATE = 3
"""Of the line 1.4.0, the release candidate that has them."""
API_FLOOR = (1, 41)
"""An older engine drops fields that it does not know, the container's own cgroup namespace say,
without a word."""
ANY_RUNC = "any"
NVIDIA_TOOLKIT_FLOOR = (1, 17, 8)
"""Below it a container escapes through the GPU hook (CVE-2025-23266 and earlier ones)."""
STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
CALL_SECONDS = 60
THREADS = 16
LOG_BYTES = 256 * 1024
"""Of one stream, with the engine's stamps, at a time. One message has 16 KiB at the most."""
LOG_MOST_BYTES = 2 * LOG_KEPT_BYTES
"""Read at a time in search of what is new: more than the engine keeps."""
SOCKET_MIB = 1
"""Room in the folder that a worker shares with the agent: for a socket."""
ELSEWHERE = "the engine does not see this agent's mounts: both need one mount namespace"

Answer = TypeVar("Answer")
log = structlog.get_logger()


class DockerRuntime:
    kind: Literal["docker"] = "docker"

    def __init__(
        self,
        provider: Address,
        url: str = "",
        images: ImageLimits | None = None,
        check_registry: RegistryCheck | None = None,
        volumes_in: Path | None = None,
        runc_accepted: str = "",
    ) -> None:
        """With `volumes_in`, the agent's data directory, outputs are bounded where that works."""
        self._runc_accepted = runc_accepted
        self._provider = provider.lower()
        self._url = url
        self._volumes_in = volumes_in
        self._limits = images or ImageLimits()
        self._puller = ImagePuller(self._where, self._limits, check_registry)
        self._api: Any = None
        self._gpu_driver: GpuDriver = "nvidia"
        self._said: Mapping[str, Any] | None = None
        """What the engine told of itself."""
        # Threads of its own: an engine that hangs must not hold up anything else of the agent.
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="docker")

    async def probe(self) -> RuntimeReport:
        def ask() -> RuntimeReport:
            with _engine(self._url):
                api = self._connect()
                info = self._said = api.info()
                self._gpu_driver = gpu_driver(info)
                return RuntimeReport(
                    (
                        *findings(info, api.version(), self._runc_accepted),
                        disk_finding(info, self._limits),
                        quota_finding(self._why_no_volumes()),
                    )
                )

        return await self._call(ask)

    async def images(self) -> tuple[str, ...]:
        def ask() -> tuple[str, ...]:
            names = []
            for image in self._connect().images():
                names.extend([image["Id"], *(image.get("RepoDigests") or ())])
            return tuple(sorted(name for name in names if len(name) <= 200)[:200])

        return await self._call(ask)

    async def prepare(self, image: str) -> None:
        await self._call(lambda: self._prepare(image))

    def _prepare(self, image: str) -> None:
        repository = check_image_name(image)
        api = self._connect()
        try:
            found = api.inspect_image(image)
        except docker.errors.ImageNotFound:
            if repository is None:
                raise ImageRefused(
                    f"the local image {image} is not on this provider; publish it to a registry "
                    "and name it by digest"
                ) from None
            found = self._puller.pull(image, repository)
        check_image(found.get("Config") or {})

    async def start(self, spec: RunSpec) -> RunRef:
        return await self._call(lambda: self._start(spec))

    def _start(self, spec: RunSpec) -> RunRef:
        api = self._connect()
        known = next(
            (r for r in self._own() if r.task_id == spec.task_id and r.fence == spec.fence), None
        )
        if known is None:
            image = api.inspect_image(spec.image)
            volumes = check_image(image.get("Config") or {})
            user = self._user()
            body = request_for(
                spec,
                user=user,
                volumes=volumes,
                gpu_driver=self._gpu_driver,
            )
            refuse_unsafe(body, spec)
            name = f"tallystick-{spec.task_id[2:14]}-{spec.fence}-{self._provider[2:10]}"
            made = api.create_container_from_config(body, name)
            known = RunRef(spec.task_id, spec.fence, made["Id"])
        if self._inspect(known)["State"]["Status"] == "created":
            self._begin(known, spec.directory, OUTPUT_PATH, spec.max_output_mib)
        return known

    async def start_worker(self, spec: WorkerSpec) -> WorkerRef:
        return await self._call(lambda: self._start_worker(spec))

    def _start_worker(self, spec: WorkerSpec) -> WorkerRef:
        api = self._connect()
        config = api.inspect_image(spec.image).get("Config") or {}
        volumes = check_image(config)
        if not config.get("Entrypoint") and not config.get("Cmd"):
            raise ImageRefused(
                f"the image {spec.image} names no command, and a worker runs its image's own; add "
                'CMD ["python", "-m", "tallystick.app", "serve"] to its Dockerfile, or your own'
            )
        user = self._user()
        body = worker_request_for(
            spec,
            user=user,
            volumes=volumes,
            gpu_driver=self._gpu_driver,
        )
        refuse_unsafe(body, spec)
        made = api.create_container_from_config(body, f"tallystick-{spec.name}")
        ref = WorkerRef(spec.name, made["Id"])
        self._begin(ref, spec.directory, spec.socket_directory, SOCKET_MIB)
        return ref

    def _begin(self, ref: AnyRef, place: TaskDirectory, seen_at: str, size_mib: int) -> None:
        api = self._connect()
        made = self._inspect(ref)
        owner = int(made["Config"]["User"].partition(":")[0])
        try:
            self._bound_output(ref, place, seen_at, size_mib, owner)
            with sockets.bounded(self._info(), ref.handle, made["HostConfig"]["Memory"]):
                api.start(ref.handle)
        except RuntimeFailure:
            api.remove_container(ref.handle, force=True)
            raise
        except docker.errors.APIError as error:
            api.remove_container(ref.handle, force=True)
            if error.status_code == 400:  # the command is not in the image, or not executable
                raise ImageRefused(f"the container does not start: {_why(error)}") from error
            raise

    def _bound_output(
        self, ref: AnyRef, place: TaskDirectory, seen_at: str, size_mib: int, owner: int
    ) -> None:
        """A file system of its own, if the engine sees it: one in another mount namespace would
        hand the program the plain directory below it."""
        if not self._why_no_volumes():
            volume.make(place, size_mib, owner)
            mark = place.output / ".tallystick"
            mark.touch()
            try:
                content, _ = self._connect().get_archive(ref.handle, f"{seen_at}/{mark.name}")
                for _ in content:
                    pass
            except docker.errors.APIError as error:
                log.warning("output_not_bounded", of=ref, why=ELSEWHERE, error=_why(error))
                volume.release(place)
            finally:
                mark.unlink(missing_ok=True)
        _hand_over(place.output, owner)

    def _user(self) -> str:
        """Never root: an agent that is root runs each container as a user of its own, others run
        them as themselves. An engine that maps users has no room for more than 65,536."""
        if os.geteuid() != 0:
            return f"{os.geteuid()}:{os.getegid()}"
        options = self._info().get("SecurityOptions") or ()
        maps_users = any(str(option).startswith("name=userns") for option in options)
        user = UNPRIVILEGED if maps_users else FIRST_USER + secrets.randbelow(USERS)
        return f"{user}:{user}"

    def _info(self) -> Mapping[str, Any]:
        if self._said is None:
            self._said = self._connect().info()
        return self._said

    def _why_no_volumes(self) -> str:
        if self._volumes_in is None:
            return "not asked for"
        return volume.why_not(self._volumes_in)

    async def state(self, ref: AnyRef) -> RunState:
        def ask() -> RunState:
            try:
                found = self._inspect(ref)
            except docker.errors.NotFound:
                return RunState("gone")
            state = replace(state_of(found["State"]), log_bytes=size_of(found.get("LogPath")))
            if state.status != "exited" or state.out_of_memory:
                return state
            return replace(state, interrupted=self._interrupted(ref, state))

        return await self._call(ask)

    def _interrupted(self, ref: AnyRef, state: RunState) -> bool:
        """The engine remembers what it did since it was started. Before that the exit code is all
        there is: 137 and 143 are signals, 255 is what it says of a container it lost."""
        now = f"{time.time():.6f}"
        seen = {
            event.get("Action")
            for event in self._connect().events(
                since=1, until=now, filters={"container": ref.handle}, decode=True
            )
        }
        return "kill" in seen or ("die" not in seen and state.exit_code in (137, 143, 255))

    async def logs(self, ref: AnyRef, cursor: LogCursor) -> LogRead:
        return await self._call(lambda: self._logs(ref, cursor))

    def _logs(self, ref: AnyRef, cursor: LogCursor) -> LogRead:
        out_seen, _, err_seen = cursor.position.partition("|")
        streams: tuple[tuple[Stream, str], ...] = (("stdout", out_seen), ("stderr", err_seen))
        pieces: list[LogPiece] = []
        last: dict[str, str] = {}
        for stream, seen in streams:
            with self._log(ref, stream, seen) as read:
                new, last[stream] = log_read(read, stream, seen)
            pieces.extend(new)
        return LogRead(tuple(pieces), LogCursor(f"{last['stdout']}|{last['stderr']}"))

    @contextmanager
    def _log(self, ref: AnyRef, stream: Stream, seen: str) -> Iterator[Callable[[int], bytes]]:
        """As it comes over the wire. The SDK's own call joins the messages, after which a program
        could pass its own words off as the engine's stamp in front of the next one."""
        api = self._connect()
        asked: dict[str, Any] = {"stdout": 0, "stderr": 0, stream: 1, "timestamps": 1}
        if seen:
            stamp = seen.partition("#")[0]
            asked["since"] = f"{to_ms(stamp) // 1000}.{stamp.rstrip('Z').partition('.')[2]}"
        answer = api.get(
            f"{api.base_url}/v{api.api_version}/containers/{ref.handle}/logs",
            params=asked,
            timeout=api.timeout,
            stream=True,
        )
        try:
            answer.raise_for_status()
            yield answer.raw.read
        except requests.HTTPError as error:
            docker.errors.create_api_error_from_http_exception(error)
            raise
        finally:
            answer.close()

    async def hold(self, ref: AnyRef) -> None:
        def hold() -> None:
            with suppress(docker.errors.NotFound):
                state = self._inspect(ref)["State"]
                if state["Running"] and not state["Paused"]:
                    self._connect().pause(ref.handle)

        await self._call(hold)

    async def go_on(self, ref: AnyRef) -> None:
        def go_on() -> None:
            with suppress(docker.errors.NotFound):
                if self._inspect(ref)["State"]["Paused"]:
                    self._connect().unpause(ref.handle)

        await self._call(go_on)

    async def stop(self, ref: AnyRef, grace_s: int) -> None:
        def stop() -> None:
            api = self._connect()
            try:
                if self._inspect(ref)["State"]["Running"]:
                    api.stop(ref.handle, timeout=grace_s)
                if self._inspect(ref)["State"]["Running"]:
                    api.kill(ref.handle, "SIGKILL")
            except docker.errors.NotFound:
                return

        await self._call(stop)

    async def remove(self, ref: AnyRef) -> None:
        def remove() -> None:
            try:
                self._inspect(ref)
                self._connect().remove_container(ref.handle, force=True, v=True)
            except docker.errors.NotFound:
                return

        await self._call(remove)

    async def own(self) -> Sequence[RunRef]:
        return await self._call(self._own)

    def _own(self) -> list[RunRef]:
        filters = {"label": [f"{LABEL_PROVIDER}={self._provider}", LABEL_TASK]}
        return [
            RunRef(
                TaskId(Digest(found["Labels"][LABEL_TASK])),
                int(found["Labels"][LABEL_FENCE]),
                found["Id"],
            )
            for found in self._connect().containers(all=True, filters=filters)
        ]

    async def own_workers(self) -> Sequence[WorkerRef]:
        def ask() -> list[WorkerRef]:
            filters = {"label": [f"{LABEL_PROVIDER}={self._provider}", LABEL_WORKER]}
            return [
                WorkerRef(found["Labels"][LABEL_WORKER], found["Id"])
                for found in self._connect().containers(all=True, filters=filters)
            ]

        return await self._call(ask)

    async def close(self) -> None:
        if self._api is not None:
            await asyncio.to_thread(self._api.close)
            self._api = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _inspect(self, ref: AnyRef) -> Any:
        """The container, if it is ours. A stranger's container does not exist for this agent."""
        found = self._connect().inspect_container(ref.handle)
        if (found["Config"].get("Labels") or {}).get(LABEL_PROVIDER) != self._provider:
            raise RuntimeUnsafe(f"container {ref.handle[:12]} is not this provider's; not touched")
        return found

    def _connect(self) -> Any:
        require_socket(self._url)
        if self._api is None:
            self._api = docker.APIClient(**self._where(), version="auto", timeout=CALL_SECONDS)
        return self._api

    def _where(self) -> dict[str, Any]:
        if self._url:
            return {"base_url": self._url}
        return dict(docker.utils.kwargs_from_env())

    async def _call(self, question: Callable[[], Answer]) -> Answer:
        def ask() -> Answer:
            with _engine(self._url):
                return question()

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


@contextmanager
def _engine(url: str) -> Iterator[None]:
    """Engine trouble as one kind of error with a next step."""
    try:
        yield
    except docker.errors.APIError as error:
        raise RuntimeFailure(f"the container engine refused: {_why(error)}") from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,  # of a log, which is read as it comes over the wire
        OSError,
    ) as error:
        raise RuntimeFailure(
            f"no container engine answers at {url or os.environ.get('DOCKER_HOST', 'its socket')} "
            f"({type(error).__name__}); start it (systemctl start docker) and let this user reach "
            "it (group docker)"
        ) from error


def require_socket(url: str) -> None:
    """Raises OSError when nobody listens; the SDK would say less, and leave a socket open."""
    where = url or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(where.removeprefix("unix://"))


def log_read(read: Callable[[int], bytes], stream: Stream, seen: str) -> tuple[list[LogPiece], str]:
    """What is new since `seen`, and how far that goes. It ends with the first LOG_BYTES that have
    anything new in them: a flood is never read whole at a time. The engine begins with all that has
    the stamp of `seen`, which may be many messages of one line."""
    raw, ended = b"", False
    pieces, upto = log_pieces(raw, stream, seen)
    while not (pieces or ended) and len(raw) < LOG_MOST_BYTES:
        some = read(LOG_BYTES)
        raw += some
        ended = len(some) < LOG_BYTES
        pieces, upto = log_pieces(raw, stream, seen)
    stamp, _, passed = seen.partition("#")
    if ended and not pieces and passed:
        # Fewer messages with that stamp than were passed: the file was begun anew under the line.
        all_of_it, counted = log_pieces(raw, stream, f"{stamp}#0")
        if int(counted.partition("#")[2] or 0) < int(passed) < sys.maxsize:
            pieces, upto = all_of_it, counted
    return pieces, upto


def log_pieces(raw: bytes, stream: Stream, seen: str) -> tuple[list[LogPiece], str]:
    """What is new since `seen`, "<stamp>#<messages with it>", and how far that goes. A line of
    more than 16 KiB comes as several messages with one stamp."""
    at, _, some = seen.partition("#")
    # Cursors of an older agent have no number: it took all that there was.
    passed = int(some or sys.maxsize) if at else 0
    pieces: list[LogPiece] = []
    last, with_it = at, 0
    for message in log_messages(raw):
        stamp, _, text = message.partition(b" ")
        # The engine's stamps have a fixed width and sort.
        if not STAMP.fullmatch(stamp) or (when := stamp.decode()) < last:
            continue
        with_it = with_it + 1 if when == last else 1
        last = when
        if when == at and with_it <= passed:
            continue
        pieces.append(LogPiece(stream, to_ms(when), text.decode(errors="replace")))
    if last == at:
        with_it = max(with_it, passed)
    return pieces, f"{last}#{with_it}" if last else ""


def log_messages(raw: bytes) -> Iterator[bytes]:
    """Each has eight bytes in front: the stream, three of nothing, its length. One that was cut
    off is left for the next time."""
    at = 0
    while len(raw) - at >= 8:
        end = at + 8 + int.from_bytes(raw[at + 4 : at + 8], "big")
        if end > len(raw):
            return
        yield raw[at + 8 : end]
        at = end


def state_of(state: Mapping[str, Any]) -> RunState:
    """The engine's own words as ours."""
    if state["Status"] == "created":
        return RunState("created")
    started_ms = to_ms(state["StartedAt"])
    if state["Running"]:
        return RunState("running", started_ms, held=bool(state.get("Paused")))
    return RunState(
        "exited",
        started_ms,
        max(started_ms, to_ms(state["FinishedAt"])),
        int(state["ExitCode"]),
        bool(state.get("OOMKilled")),
    )


def size_of(path: str | None) -> int | None:
    """Only root may look there, where the engine runs on this machine at all."""
    try:
        return os.stat(path).st_size if path else None
    except OSError:
        return None


def to_ms(stamp: str) -> int:
    """RFC 3339 with nanoseconds -> milliseconds since 1970, rounded down."""
    if stamp.startswith("0001-"):
        return 0
    head, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    return seconds * 1000 + int((fraction + "000")[:3])


def gpu_driver(info: Mapping[str, Any]) -> GpuDriver:
    """How this engine hands out cards: NVIDIA's own runtime, else device descriptions (CDI)."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return "nvidia"
    directories = info.get("CDISpecDirs") or ()
    if any(p.name.startswith("nvidia") for d in directories for p in Path(d).glob("*")):
        return "cdi"
    return "nvidia"


def findings(
    info: Mapping[str, Any], version: Mapping[str, Any], accepted_runc: str = ""
) -> Iterator[Finding]:
    """The protections every task relies on, from what the engine says of itself."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    seccomp = next((o for o in options if o.startswith("name=seccomp")), "")
    yield Finding(
        "docker seccomp",
        ok=bool(seccomp),  # which profile is the engine's does not matter: tasks bring their own
        found=seccomp or "off",
        fix="take a kernel and an engine with seccomp: without it no task's container starts",
    )
    for field, what in (
        ("MemoryLimit", "memory limit"),
        ("PidsLimit", "process limit"),
        ("CpuCfsQuota", "CPU limit"),
    ):
        held = bool(info.get(field))
        yield Finding(
            f"docker {what}",
            ok=held,
            found="yes" if held else "not supported by this kernel",
            fix="enable the cgroup controllers memory, pids and cpu (cgroup v2 has all of them)",
        )
    swap_held = bool(info.get("SwapLimit")) or not _has_swap()
    yield Finding(
        "docker swap limit",
        ok=swap_held,
        found="yes" if swap_held else "a task could fill the swap",
        fix="boot with swapaccount=1, use cgroup v2, or run swapoff -a",
    )
    why_not = sockets.why_not(info)
    yield Finding(
        "docker socket memory",
        ok=not why_not,
        found=f"a task could fill the memory by what is in its sockets: {why_not}"
        if why_not
        else "yes",
        fix="use cgroup v2, which counts it with a container's other memory",
    )
    yield Finding(
        "docker isolation",
        ok=True,
        found=f"{info.get('Driver')}, cgroup v{info.get('CgroupVersion', '1')}, "
        + (", ".join(options) or "no security options"),
    )
    yield Finding("docker version", ok=True, found=str(version.get("Version") or "unknown"))
    yield api_finding(str(version.get("ApiVersion") or ""))
    yield runc_finding(info, version, accepted_runc)


def api_finding(found: str) -> Finding:
    match = re.fullmatch(r"(\d+)\.(\d+)", found)
    return Finding(
        "docker API",
        ok=match is not None and (int(match[1]), int(match[2])) >= API_FLOOR,
        found=found or "unknown",
        fix="take Docker 20.10 or later: an older engine leaves out walls that it does not know",
    )


def runc_finding(info: Mapping[str, Any], version: Mapping[str, Any], accepted: str) -> Finding:
    """Tasks start in the engine's default runtime; NVIDIA's hands them on to runc."""
    runtime = str(info.get("DefaultRuntime") or "runc")
    if runtime not in ("runc", "nvidia", "io.containerd.runc.v2"):
        return Finding("runc version", ok=True, found=f"not used: containers run in {runtime}")
    components = version.get("Components") or ()
    found = str(next((c.get("Version") for c in components if c.get("Name") == "runc"), "") or "")
    if runc_is_fixed(found):
        return Finding("runc version", ok=True, found=found)
    fixed = ", ".join(".".join(map(str, number)) for number in RUNC_FIXED)
    below = f"{found or 'an unknown version'} is not {fixed} or later of its line"
    if accepted and accepted in (found, ANY_RUNC):
        return Finding(
            "runc version",
            ok=True,
            found=f"{found or 'unknown'}, accepted by TALLYSTICK_PROVIDER_RUNC_ACCEPTED",
            fix=f"{below}: make sure that your distribution patched it (CVE-2025-31133, "
            "CVE-2025-52565, CVE-2025-52881)",
        )
    return Finding(
        "runc version",
        ok=False,
        found=found or "unknown",
        fix=f"{below}: a container may escape (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881). "
        "Update it; if your distribution patched this very version, set "
        f"TALLYSTICK_PROVIDER_RUNC_ACCEPTED={found or ANY_RUNC}",
    )


def runc_is_fixed(text: str) -> bool:
    release = release_of(text)
    if release is None:
        return False
    number, candidate = release
    if number == RUNC_FIXED[-1] and candidate is not None:
        return candidate >= RUNC_FIXED_CANDIDATE
    floor = next((f for f in RUNC_FIXED if f[:2] == number[:2]), RUNC_FIXED[-1])
    return number > floor or (number == floor and candidate is None)


def quota_finding(why_not: str) -> Finding:
    """Which of two tiers holds a task's output: a bound, or a look now and then."""
    if not why_not:
        return Finding("output quota", ok=True, found="a file system per task")
    return Finding(
        "output quota",
        ok=True,
        found=f"watched every 0.5 s, not enforced ({why_not})",
        fix="run the agent as root with mkfs.ext4, mount and loop devices (provider/README.md)",
    )


def toolkit_finding() -> Finding:
    """Asked only when real cards are offered."""
    found = ""
    if shutil.which("nvidia-ctk"):
        done = subprocess.run(
            ["nvidia-ctk", "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        found = done.stdout.strip().splitlines()[0] if done.stdout else ""
    return Finding(
        "nvidia container toolkit",
        ok=toolkit_is_fixed(found),
        found=found or "not installed",
        fix=f"install nvidia-container-toolkit {'.'.join(map(str, NVIDIA_TOOLKIT_FLOOR))} or "
        "later: older ones let a container escape",
    )


def toolkit_is_fixed(text: str) -> bool:
    release = release_of(text)
    if release is None:
        return False
    number, candidate = release
    return number > NVIDIA_TOOLKIT_FLOOR or (number == NVIDIA_TOOLKIT_FLOOR and candidate is None)


RELEASE = re.compile(
    r"(?<![\w.])v?(\d+)\.(\d+)\.(\d+)(?![\d.])(?:[-~.+]?(alpha|beta|rc|dev|pre)[-.~]?(\d*))?",
    re.ASCII,
)


def release_of(text: str) -> tuple[tuple[int, int, int], int | None] | None:
    """The release that a version text names, and which candidate for it: 0 for anything else that
    came before, None for the release itself. What a distribution adds says nothing about that.
    None where the text names no release."""
    found = RELEASE.search(text)
    if found is None:
        return None
    major, minor, patch, kind, number = found.groups()
    candidate = None if not kind else int(number or 0) if kind == "rc" else 0
    return (int(major), int(minor), int(patch)), candidate


def _has_swap() -> bool:
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return True


def _hand_over(output: Path, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(output, owner, owner)


def _why(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return str(explanation or error)[:300]
