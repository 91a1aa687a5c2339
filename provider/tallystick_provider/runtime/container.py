"""What the Docker engine is asked for, and nothing else. Pure.

`request_for` builds the body of the create call; `refuse_unsafe` reads it again before it is sent
and knows only what is allowed: a field it has never heard of is refused, so neither a new engine
nor a slip in this file opens a door.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tallystick_provider.errors import ImageRefused, RuntimeUnsafe
from tallystick_provider.runtime import (
    INPUT_PATH,
    LOG_KEPT_BYTES,
    OUTPUT_PATH,
    SOCKET_VARIABLE,
    WORK_PATH,
    RunSpec,
    WorkerSpec,
    seccomp,
)

LABEL_TASK = "tallystick.task"
LABEL_FENCE = "tallystick.fence"
LABEL_PROVIDER = "tallystick.provider"
LABEL_WORKER = "tallystick.worker"

MIB = 1024 * 1024
PIDS = 512
TMP_MIB = 64
SHM_MIB = 64
OPEN_FILES = 4096
LOG: dict[str, Any] = {
    "Type": "json-file",
    "Config": {"max-size": f"{LOG_KEPT_BYTES // MIB}m", "max-file": "1"},
}
UNPRIVILEGED = 65_532
FIRST_USER = 0x6000_0000
USERS = 0x0800_0000
"""Each container gets a user of its own out of these, which systemd keeps free for containers. The
kernel counts inotify instances, signals, pipe buffers and files on their way by user: with one for
all, a task could use up what its neighbours need."""

GpuDriver = Literal["nvidia", "cdi"]
Sandboxed = RunSpec | WorkerSpec
"""Both are strangers' programs, and both get the same walls."""

NO_SOCKET_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin"),
    *("/sys", "/task", "/tmp", "/usr"),
)
"""The system's own, and those that a container gets from us already."""

DIGEST = r"sha256:[0-9a-f]{64}"
LOCAL_IMAGE = re.compile(DIGEST)
PINNED_IMAGE = re.compile(
    rf"(?P<name>[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*)@{DIGEST}"
)
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
RESERVED_ENV = ("TALLYSTICK_", "NVIDIA_", "LD_", "CUDA_VISIBLE_DEVICES")
"""Ours, or read by the GPU hook that runs outside of the container (CVE-2025-23266)."""


def check_image_name(image: str) -> str | None:
    """The repository to pull from, None for a local image. Tags are refused: they can move."""
    if LOCAL_IMAGE.fullmatch(image):
        return None
    pinned = PINNED_IMAGE.fullmatch(image)
    if pinned is None:
        raise ImageRefused(
            f"image {image!r} is not pinned; name it by digest, such as "
            "registry.example/app@sha256:<64 hex digits>"
        )
    return pinned["name"]


def check_environment(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name):
            raise ImageRefused(f"{name!r} is no name of an environment variable; rename it")
        if name.upper().startswith(RESERVED_ENV):
            raise ImageRefused(f"the environment variable {name} is not a task's to set; drop it")
        if "\0" in value:
            raise ImageRefused(f"the environment variable {name} contains a NUL byte")


def check_image(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The image's own wishes. Returns the volumes it declares: they become bounded tmpfs."""
    for entry in config.get("Env") or ():
        name = str(entry).partition("=")[0].upper()
        if name.startswith("LD_"):
            raise ImageRefused(f"the image sets {name}, which code outside of the container reads")
    volumes = tuple(sorted(config.get("Volumes") or ()))
    if len(volumes) > 8:
        raise ImageRefused(f"the image declares {len(volumes)} volumes; at most 8 are taken")
    for path in volumes:
        if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path) or ".." in path or reserved(path):
            raise ImageRefused(f"the image declares the volume {path!r}, which no task gets")
    return volumes


def reserved(path: str) -> bool:
    return path.split("/")[1] in ("dev", "etc", "proc", "run", "sys", "task", "var")


def request_for(
    spec: RunSpec,
    *,
    user: str,
    volumes: Sequence[str] = (),
    gpu_driver: GpuDriver = "nvidia",
) -> dict[str, Any]:
    """Body of `POST /containers/create`."""
    check_image_name(spec.image)
    check_environment(spec.env)
    if not spec.command:
        raise ImageRefused("the manifest names no command; give the full argument list")
    return {
        **_container(spec, spec.task_environment, user, volumes, gpu_driver),
        # Both are set, so that nothing of the image's own command is mixed in.
        "Entrypoint": [spec.command[0]],
        "Cmd": list(spec.command[1:]),
        "WorkingDir": WORK_PATH,
        "Labels": labels(spec.provider, spec.task_id, spec.fence),
        "Hostname": "task",
    }


def worker_request_for(
    spec: WorkerSpec,
    *,
    user: str,
    volumes: Sequence[str] = (),
    gpu_driver: GpuDriver = "nvidia",
) -> dict[str, Any]:
    """The same for an app's worker: it runs its image's own command, in the image's own place."""
    check_image_name(spec.image)
    check_socket_path(spec.socket_path)
    return {
        **_container(spec, spec.worker_environment, user, volumes, gpu_driver),
        "Labels": worker_labels(spec.provider, spec.name),
        "Hostname": "worker",
    }


def check_socket_path(path: str) -> None:
    """Its folder is mounted over whatever the image has there, so it is one of its own."""
    if not re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,}", path) or path.startswith(
        tuple(f"{folder}/" for folder in NO_SOCKET_FOLDERS)
    ):
        raise ImageRefused(
            f"a worker cannot listen on {path!r}: its folder is mounted from outside, so name a "
            "socket in one that holds nothing else, such as /run/app/app.sock"
        )
    if path.count("/") == 2 and path.startswith(("/run/", "/var/", "/tmp/", "/home/", "/opt/")):
        raise ImageRefused(f"{path!r} has no folder of its own: use /run/app/app.sock, say")


def _container(
    spec: Sandboxed,
    environment: Mapping[str, str],
    user: str,
    volumes: Sequence[str],
    gpu_driver: GpuDriver,
) -> dict[str, Any]:
    """All that a task's container and a worker have in common: every wall."""
    work_mib, tmp_mib = _memory_disks_mib(spec)
    memory = spec.memory_mib * MIB
    uid, _, gid = user.partition(":")
    # An engine that makes the mount point itself ignores `mode`; the owner holds in any case.
    owned = f"mode=1777,uid={uid},gid={gid}"
    gpu_env = {} if spec.gpu_ids and not spec.gpus_simulated else {"NVIDIA_VISIBLE_DEVICES": "void"}
    env = {
        "HOME": WORK_PATH,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": "/tmp",
        **environment,
        **gpu_env,
    }
    return {
        "Image": spec.image,
        "User": user,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Tty": False,
        "OpenStdin": False,
        "NetworkDisabled": True,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "AutoRemove": False,
            "Binds": _binds(spec),
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "CgroupnsMode": "private",
            "DeviceRequests": _gpus(spec, gpu_driver),
            "IpcMode": "private",
            "LogConfig": LOG,
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": spec.cpu_milli * 1_000_000,
            "NetworkMode": "none",
            "PidsLimit": PIDS,
            "Privileged": False,
            "ReadonlyRootfs": True,
            "RestartPolicy": {"Name": "no"},
            "SecurityOpt": security_options(),
            "ShmSize": SHM_MIB * MIB,
            "Tmpfs": {
                WORK_PATH: f"rw,nosuid,nodev,size={work_mib}m,{owned}",
                "/tmp": f"rw,noexec,nosuid,nodev,size={tmp_mib}m,{owned}",
                **dict.fromkeys(volumes, f"rw,noexec,nosuid,nodev,size={tmp_mib}m,{owned}"),
            },
            "Ulimits": _limits(spec),
        },
    }


def _binds(spec: Sandboxed) -> list[str]:
    if isinstance(spec, WorkerSpec):
        return [f"{spec.directory.output}:{spec.socket_directory}:rw"]
    return [
        f"{spec.directory.input}:{INPUT_PATH}:ro",
        f"{spec.directory.output}:{OUTPUT_PATH}:rw",
    ]


def _file_bytes(spec: Sandboxed) -> int:
    most_mib = spec.disk_mib
    if isinstance(spec, RunSpec):
        most_mib = max(most_mib, spec.max_output_mib)
    return most_mib * MIB


def _limits(spec: Sandboxed) -> list[dict[str, Any]]:
    limits = {"core": 0, "fsize": _file_bytes(spec), "nofile": OPEN_FILES}
    return [{"Name": name, "Soft": most, "Hard": most} for name, most in limits.items()]


def _memory_disks_mib(spec: Sandboxed) -> tuple[int, int]:
    """Of the place to work in, and of each other one."""
    return min(spec.disk_mib, spec.memory_mib), min(TMP_MIB, spec.memory_mib)


def security_options() -> list[str]:
    """Both, and nothing else: an engine's own profile depends on its version."""
    return ["no-new-privileges:true", f"seccomp={seccomp.profile()}"]


def labels(provider: str, task_id: str, fence: int) -> dict[str, str]:
    return {LABEL_PROVIDER: provider.lower(), LABEL_TASK: task_id, LABEL_FENCE: str(fence)}


def worker_labels(provider: str, name: str) -> dict[str, str]:
    return {LABEL_PROVIDER: provider.lower(), LABEL_WORKER: name}


def refuse_unsafe(body: Mapping[str, Any], spec: Sandboxed) -> None:
    """Raises RuntimeUnsafe unless every field of the body is known and has an allowed value."""
    _refuse("", body, _worker_rules(spec) if isinstance(spec, WorkerSpec) else _task_rules(spec))
    _refuse("HostConfig.", body.get("HostConfig", {}), _host_rules(spec))


Rule = Callable[[Any], bool]


def _refuse(prefix: str, given: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    for name, value in given.items():
        if name not in rules:
            raise RuntimeUnsafe(f"{prefix}{name} is not a field that a task's container may have")
        if not _allows(rules[name], value):
            raise RuntimeUnsafe(f"{prefix}{name} may not be {value!r:.300} for a task's container")
    for name in rules:
        if name not in given:
            raise RuntimeUnsafe(f"{prefix}{name} is missing; a task's container never runs without")


def _allows(rule: Rule, value: Any) -> bool:
    """A rule that cannot even be asked of such a value refuses it."""
    try:
        return rule(value)
    except (AttributeError, ImageRefused, KeyError, TypeError, ValueError, RecursionError):
        return False


def _task_rules(spec: RunSpec) -> dict[str, Rule]:
    return {
        **_body_rules(spec),
        "Entrypoint": _is([spec.command[0]]),
        "Cmd": _is(list(spec.command[1:])),
        "WorkingDir": _is(WORK_PATH),
        "Labels": _is(labels(spec.provider, spec.task_id, spec.fence)),
        "Hostname": _is("task"),
    }


def _worker_rules(spec: WorkerSpec) -> dict[str, Rule]:
    return {
        **_body_rules(spec),
        "Env": lambda v: _plain_environment(v) and f"{SOCKET_VARIABLE}={spec.socket_path}" in v,
        "Labels": _is(worker_labels(spec.provider, spec.name)),
        "Hostname": _is("worker"),
    }


def _plain_environment(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(entry, str) and "=" in entry for entry in value)
        and not any(entry.upper().startswith("LD_") for entry in value)
    )


def _body_rules(spec: Sandboxed) -> dict[str, Rule]:
    return {
        "Image": lambda v: (
            v == spec.image and bool(LOCAL_IMAGE.fullmatch(v) or PINNED_IMAGE.fullmatch(v))
        ),
        "User": _unprivileged,
        "Env": _plain_environment,
        "Tty": _is(False),
        "OpenStdin": _is(False),
        "NetworkDisabled": _is(True),
        "StopSignal": _is("SIGTERM"),
        "Healthcheck": _is({"Test": ["NONE"]}),
        "HostConfig": lambda v: isinstance(v, dict),
    }


def _host_rules(spec: Sandboxed) -> dict[str, Rule]:
    return {
        "AutoRemove": _is(False),
        "Binds": _is(_binds(spec)),
        "CapAdd": _is([]),
        "CapDrop": _is(["ALL"]),
        "CgroupnsMode": _is("private"),
        "DeviceRequests": lambda v: _only_held(v, spec),
        "IpcMode": _is("private"),
        "LogConfig": _is(LOG),
        "Memory": _is(spec.memory_mib * MIB),
        "MemorySwap": _is(spec.memory_mib * MIB),
        "NanoCpus": _is(spec.cpu_milli * 1_000_000),
        "NetworkMode": _is("none"),
        "PidsLimit": _is(PIDS),
        "Privileged": _is(False),
        "ReadonlyRootfs": _is(True),
        "RestartPolicy": _is({"Name": "no"}),
        "SecurityOpt": _is(security_options()),
        "ShmSize": _is(SHM_MIB * MIB),
        "Tmpfs": lambda v: _bounded_memory(v, spec),
        "Ulimits": _is(_limits(spec)),
    }


MEMORY_DISK = re.compile(
    r"rw,(?P<noexec>noexec,)?nosuid,nodev,size=(?P<mib>[0-9]+)m,"
    r"mode=1777,uid=[1-9][0-9]*,gid=[1-9][0-9]*"
)


def _bounded_memory(value: Mapping[str, str], spec: Sandboxed) -> bool:
    """A place to work in where programs may lie, /tmp, and volumes of the image; none of them over
    the system's own."""
    work_mib, tmp_mib = _memory_disks_mib(spec)
    for path, options in value.items():
        found = MEMORY_DISK.fullmatch(options)
        most = work_mib if path == WORK_PATH else tmp_mib
        if found is None or int(found["mib"]) != most:
            return False
        if bool(found["noexec"]) == (path == WORK_PATH):
            return False
        if path not in (WORK_PATH, "/tmp"):
            check_image({"Volumes": {path: {}}})
    return {WORK_PATH, "/tmp"} <= set(value)


def _is(expected: Any) -> Rule:
    return lambda value: type(value) is type(expected) and value == expected


def _unprivileged(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", value))


def _gpus(spec: Sandboxed, driver: GpuDriver) -> list[dict[str, Any]]:
    if not spec.gpu_ids or spec.gpus_simulated:
        return []
    if driver == "cdi":
        return [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={i}" for i in spec.gpu_ids]}]
    return [{"Driver": "nvidia", "DeviceIDs": list(spec.gpu_ids), "Capabilities": [["gpu"]]}]


def _only_held(value: Any, spec: Sandboxed) -> bool:
    return bool(value in (_gpus(spec, "nvidia"), _gpus(spec, "cdi")))
