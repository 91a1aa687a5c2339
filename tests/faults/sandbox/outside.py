"""What this machine is like, seen from outside of all containers: the same before and after."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.provider.runtime.engines import Engine
from tests.provider.runtime.test_volume import loops

MOVING = re.compile(
    r"/proc/sys/(?:fs/(?:dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota/.*|nfs/.*)"
    r"|kernel/(?:random/.*|ns_last_pid|pty/nr|sched_domain/.*|perf_event_max_sample_rate)"
    r"|kernel/(?:usermodehelper/.*|perf_cpu_time_max_percent)|kernel/core_uses_pid/.*"
    r"|net/.*/(?:conf|neigh|tcp_max_.*)/?.*|net/netfilter/.*|net/ipv4/route/.*|vm/.*_nr|sunrpc/.*"
    r"|vm/nr_hugepages.*|kernel/tainted|net/ipv[46]/.*|dev/.*)"
)
"""Those that change by themselves, and by networks that others on this machine make."""


def facts(engine: Engine, directory: Path) -> dict[str, Any]:
    api = engine.api()
    try:
        return {
            "containers": sorted(c["Id"] for c in api.containers(all=True)),
            "networks": sorted(n["Name"] for n in api.networks()),
            "volumes": sorted(v["Name"] for v in api.volumes()["Volumes"] or ()),
            "images": sorted(i["Id"] for i in api.images()),
            "shims": len(engine._processes("containerd-shim-runc-v2")),
            "mounts": _mounts(engine, directory),
            "loop devices": loops(directory),
            "settings": _settings(),
            "kernel modules": sorted(m.split()[0] for m in _read("/proc/modules").splitlines()),
            "packet filter": _packet_filter(),
            "links": sorted(os.listdir("/sys/class/net")),
            "secrets": _secrets(directory),
            "left in the data directory": sorted(p.name for p in (directory / "tasks").glob("*")),
        }
    finally:
        api.close()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    told = []
    for name, was in before.items():
        now = after[name]
        if was == now:
            continue
        if isinstance(was, dict):
            keys = {k for k in {*was, *now} if was.get(k) != now.get(k)}
            told += [f"{name}: {k} was {was.get(k)!r:.80}, is {now.get(k)!r:.80}" for k in keys]
        else:
            told.append(f"{name}: were {was!r:.300}, are {now!r:.300}")
    return told


def used_bytes(*roots: Path) -> int:
    """On the disk, of everything below."""
    total = 0
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def users_processes(uids: set[int]) -> list[int]:
    """Processes of these users, which have none when their container is gone."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real in uids:
                found.append(process.pid)
    return found


def _mounts(engine: Engine, directory: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = (f" {directory}", f" {engine.root}")
    return sorted(line.split(" ")[4] for line in lines if any(our in line for our in ours))


def _packet_filter() -> dict[str, list[str]]:
    """The rules of both families, without how often each was met; none without the program."""
    found = {}
    for name in ("iptables-save", "ip6tables-save"):
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is not None:
            done = subprocess.run([program], capture_output=True, text=True, check=False)
            lines = (re.sub(r" \[\d+:\d+\]$", "", line) for line in done.stdout.splitlines())
            found[name] = [line for line in lines if not line.startswith("#")]
    return found


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def _settings() -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = os.path.join(folder, name)
            if MOVING.match(path):
                continue
            with suppress(OSError):
                found[path] = Path(path).read_text(errors="replace")
    return found


def _secrets(directory: Path) -> dict[str, str]:
    """The agent's own files, apart from the journal that it writes to."""
    found = {}
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.startswith(("journal.sqlite", "calls.sqlite")):
            status = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.name] = f"{content} {status.st_mode:o} {status.st_uid}"
    return found
