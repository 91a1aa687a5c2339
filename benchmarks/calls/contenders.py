"""Who is measured: the limit, the peers, and our gateway (`market`).

Each is started alone, on loopback, answers `{"text": "hello"}` with the same, and is ended before
the next: with two cores nobody may stand in another's way.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.calls.load import Target

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PEERS = ROOT / ".make" / "peers" / "bin" / "python"
LOGS = ROOT / "build" / "bench-calls"
JSON = {"content-type": "application/json"}
START_S = 90.0

Contender = Callable[[], AbstractContextManager[Target]]


@contextmanager
def raw_echo() -> Iterator[Target]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "benchmarks.calls.echo:app"),
        *("--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"),
        *("--log-level", "warning", "--no-access-log"),
    ]
    with _started("raw-echo", command, f"http://127.0.0.1:{port}/", {"text": "hello"}) as target:
        yield target


@contextmanager
def ray_serve() -> Iterator[Target]:
    port = free_port()
    command = [str(PEERS), str(HERE / "peers" / "ray_serve.py"), str(port)]
    with _started("ray-serve", command, f"http://127.0.0.1:{port}/", {"text": "hello"}) as target:
        yield target


@contextmanager
def runpod_local() -> Iterator[Target]:
    port = free_port()
    script = str(HERE / "peers" / "runpod_local.py")
    command = [str(PEERS), script, "--rp_serve_api", "--rp_api_port", str(port)]
    url = f"http://127.0.0.1:{port}/runsync"
    with _started("runpod-local", command, url, {"input": {"text": "hello"}}) as target:
        yield target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _started(name: str, command: list[str], url: str, content: object) -> Iterator[Target]:
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"RAY_DISABLE_IMPORT_WARNING": "1"},
        )
    target = Target(url, json.dumps(content).encode(), JSON, {name: process.pid})
    try:
        _wait_for(target, process, name)
        yield target
    finally:
        _end(process)


def _wait_for(target: Target, process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        request = urllib.request.Request(target.url, target.body, dict(target.headers))
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"bench-calls: {name} did not come up; its log is {LOGS / name}.log")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With everything that it started, in our group or, as Ray's proxy, in one of its own."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    try:
        _end_group(process)
    finally:
        for left in started:
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            continue
