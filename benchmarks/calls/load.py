"""One contender under load: calls per second, waiting times, CPU and memory of its processes.

wrk (https://github.com/wg/wrk) makes the load; it has to be installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

# Times are in microseconds there; an answer that is no 2xx is no call.
_SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
%(headers)s
local bad = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) failed = 0 end
function response(status, headers, body)
  if status < 200 or status > 299 then failed = failed + 1 end
end
function done(summary, latency, requests)
  for _, thread in ipairs(threads) do bad = bad + thread:get("failed") end
  io.write(string.format(
    '{"calls":%%d,"us":%%d,"bad":%%d,"lost":%%d,"p50":%%f,"p99":%%f}\\n',
    summary.requests, summary.duration, bad,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a contender listens, and what one call to it says."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    pids: Mapping[str, int]
    """Its processes by name: their children count too."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one process took, with its children."""

    cpu_s: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Measured:
    connections: int
    calls: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float
    parts: Mapping[str, Part]
    """By process."""

    @property
    def cpu_s(self) -> float:
        return sum(part.cpu_s for part in self.parts.values())

    @property
    def memory_mib(self) -> float:
        return sum(part.memory_mib for part in self.parts.values())

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        return self.cpu_s / self.calls * 1000 if self.calls else 0.0


def wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit(
            "bench-calls: wrk makes the load and is not installed. On Debian: apt-get install wrk"
        )
    return found


def measure(target: Target, connections: int, seconds: int) -> Measured:
    headers = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
        for name, value in target.headers.items()
    )
    script = _SCRIPT % {"body": json.dumps(target.body.decode()), "headers": headers}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "load.lua"
        path.write_text(script)
        before = {name: _cpu_s(pid) for name, pid in target.pids.items()}
        done = subprocess.run(
            [
                *(wrk(), "--threads", "1", "--connections", str(connections)),
                *("--duration", f"{seconds}s", "--timeout", "10s"),
                *("--script", str(path), target.url),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        parts = {
            name: Part(_cpu_s(pid) - before[name], _memory_mib(pid))
            for name, pid in target.pids.items()
        }
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(
        connections=connections,
        calls=told["calls"] - told["bad"],
        seconds=told["us"] / 1e6,
        failed=told["bad"] + told["lost"],
        p50_ms=told["p50"] / 1000,
        p99_ms=told["p99"] / 1000,
        parts=parts,
    )


def _cpu_s(pid: int) -> float:
    total = 0.0
    for process in _processes(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _memory_mib(pid: int) -> float:
    total = 0
    for process in _processes(pid):
        try:
            total += process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def _processes(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
