"""What is in a container's sockets counts as its memory. cgroup v2 does that by itself.

cgroup v1 has a counter of its own for it, without a bound. Docker takes `KernelMemoryTCP` and says
that it is supported; runc 1.0 and later do nothing with it. So the container's cgroup is made here,
with the bound in it, before the engine puts the program there: a socket that is older than the
bound would never be counted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tallystick_provider.errors import RuntimeFailure

MOUNTS = Path("/proc/mounts")
PARENT = "docker"
"""Where an engine with the driver `cgroupfs` puts its containers, unless its owner changed it."""
GONE = frozenset({errno.ENOENT, errno.ENODEV})
"""A cgroup taken away before its file was opened, or between that and reading it."""
BOUND = "memory.kmem.tcp.limit_in_bytes"
MEMORY = "memory.limit_in_bytes"


def why_not(info: Mapping[str, Any], mounts: Path = MOUNTS) -> str:
    """Empty where what is in sockets can be bounded. `info`: what the engine says of itself."""
    if str(info.get("CgroupVersion")) == "2":
        return ""
    if info.get("CgroupDriver") != "cgroupfs":
        return f"cgroup v1, kept by {info.get('CgroupDriver') or 'an unknown driver'}"
    controller = _controller(mounts)
    if controller is None:
        return "cgroup v1, and no memory controller is mounted here"
    bound = controller / BOUND
    try:
        with bound.open("r+"):
            return ""
    except OSError as error:
        return f"cgroup v1, and {bound} is not this agent's to write ({error.strerror})"


@contextmanager
def bounded(
    info: Mapping[str, Any], container: str, memory_bytes: int, mounts: Path = MOUNTS
) -> Iterator[None]:
    """Start the container inside. Raises RuntimeFailure if it did not come under the bound."""
    if str(info.get("CgroupVersion")) == "2":
        yield
        return
    controller = _controller(mounts)
    if controller is None:
        raise RuntimeFailure(f"the container is not started: {why_not(info, mounts)}")
    group = controller / PARENT / container
    try:
        group.mkdir(parents=True, exist_ok=True)
        (group / BOUND).write_text(str(memory_bytes))
    except OSError as error:
        raise RuntimeFailure(
            f"what is in the container's sockets cannot be bounded: {error}; run the agent as "
            "root, or use cgroup v2"
        ) from error
    try:
        yield
        _see_that_it_is_there(group, memory_bytes)
    finally:
        with suppress(OSError):  # somebody is in it, or the engine took it away
            group.rmdir()


def _see_that_it_is_there(group: Path, memory_bytes: int) -> None:
    """The engine writes the memory's own bound into the cgroup it uses, and takes that cgroup away
    with the container."""
    try:
        found = (group / MEMORY).read_text().strip()
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    if found != str(memory_bytes):
        raise RuntimeFailure(
            f"the engine keeps its containers elsewhere than in {group.parent}, where what is in "
            "their sockets is bounded: take its own cgroup-parent out of /etc/docker/daemon.json "
            "and run the agent where the engine runs, or use cgroup v2"
        )


def _controller(mounts: Path) -> Path | None:
    """Where cgroup v1 keeps memory."""
    for line in mounts.read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place)
    return None
