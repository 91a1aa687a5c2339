"""Runs one command for the `process` runtime, and notes when it began, when and how it ended.

A file of its own that imports nothing of ours: it is started as a separate process, in a session
of its own, and goes on when the agent dies. Argument: path of the run's `spec.json`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
MIB = 1024 * 1024


def main(spec_path: str) -> None:
    spec: dict[str, Any] = json.loads(Path(spec_path).read_text())
    place = Path(spec_path).parent
    # Orphans of the task come to us instead of to init, so that they can be ended with it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the task: we stay to note its end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write(place / "supervisor.json", {"pid": os.getpid(), "ticks": start_ticks(os.getpid())})
    with (place / "stdout").open("ab") as out, (place / "stderr").open("ab") as err:
        started_ms = time.time_ns() // 1_000_000
        write(place / "started.json", {"started_ms": started_ms})
        try:
            child = subprocess.Popen(
                spec["command"],
                cwd=spec["cwd"],
                env=spec["env"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=lambda: limit(spec),
            )
            code = child.wait()
        except OSError as error:
            err.write(f"{spec['command'][0]}: {error.strerror}\n".encode())
            code = 127 if isinstance(error, FileNotFoundError) else 126
    ended_ms = time.time_ns() // 1_000_000
    end_orphans()
    exit_code = 128 - code if code < 0 else code
    write(place / "ended.json", {"ended_ms": ended_ms, "exit_code": exit_code})


def limit(spec: dict[str, Any]) -> None:
    """In the child, before the command: limits, and signals as a program expects them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    for which, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 4096),
        (resource.RLIMIT_FSIZE, spec["file_mib"] * MIB),
        (resource.RLIMIT_DATA, spec["memory_mib"] * MIB),
    ):
        hard = resource.getrlimit(which)[1]
        ceiling = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(which, (ceiling, ceiling))


def end_orphans() -> None:
    """Kill whatever the task left behind, until nothing is ours."""
    for _ in range(100):
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_ours(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def is_ours(pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return parent(pid) == os.getpid()
    return False


def parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def start_ticks(pid: int) -> int:
    """Start time in clock ticks since boot: a pid alone may be somebody else's tomorrow."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])


def write(path: Path, value: dict[str, int]) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


if __name__ == "__main__":
    main(sys.argv[1])
