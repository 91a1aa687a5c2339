"""A worker as a process of its own: uvicorn on a Unix socket, a project in a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).resolve().parent
PATIENCE_S = 20.0


class Running:
    """A started worker. `calls` goes through its socket with real HTTP."""

    def __init__(self, project: Path, process: subprocess.Popen[bytes]) -> None:
        self.project = project
        self.process = process
        self._log = project / "log"
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(project / "s")),
            base_url="http://worker",
            timeout=PATIENCE_S,
        )

    def call(self, content: Any, **headers: str) -> httpx.Response:
        return self.http.post("/call", json=content, headers=headers)

    def do(self, manner: str, **more: Any) -> httpx.Response:
        return self.call({"manner": manner, **more})

    def ready(self) -> httpx.Response:
        return self.http.get("/ready")

    def marks(self) -> list[str]:
        path = self.project / "marks"
        return path.read_text().splitlines() if path.exists() else []

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in told if event["event"] == name]

    def event(self, name: str) -> dict[str, Any]:
        """The first of them. An answer may be here before its line in the log."""
        self.until(lambda: self.events(name), name)
        return self.events(name)[0]

    def log(self) -> str:
        return self._log.read_text()

    def until(self, holds: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"never: {what}\n{self.log()}"
            time.sleep(0.01)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Start = Callable[..., Running]


@contextmanager
def workers(directory: Path) -> Iterator[Start]:
    """`start(entry="handlers:do", timeout_s=5)`: ready, unless told not to wait for it. All of them
    end with the block."""
    started: list[Running] = []

    def start(
        entry: str = "handlers:do",
        *,
        kind: str = "function",
        warm_up: bool = False,
        input_schema: str = "",
        wait: bool = True,
        environment: dict[str, str] | None = None,
        **fields: int,
    ) -> Running:
        project = directory / f"app{len(started)}"
        project.mkdir()
        shutil.copy(HERE / "handlers.py", project)
        lines = ['name = "test"', *(f"{name} = {value}" for name, value in fields.items())]
        lines += [f"input_schema = '{input_schema}'"] if input_schema else []
        lines += ["[handler]", f'kind = "{kind}"', f'entry = "{entry}"']
        lines += ['warm_up = "handlers:load"'] if warm_up else []
        (project / "tallystick.toml").write_text("\n".join(lines) + "\n")
        worker = Running(project, launch(project, environment or {}))
        started.append(worker)
        if wait:
            worker.until(lambda: worker.events("worker_ready"), "ready")
        return worker

    try:
        yield start
    finally:
        for worker in started:
            worker.close()


def launch(project: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (project / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tallystick.app", "serve", "--project", str(project)],
            env={**os.environ, "TALLYSTICK_SOCKET": str(project / "s"), **environment},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with workers(tmp_path) as start:
        yield start
