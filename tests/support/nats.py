"""A nats-server of one's own, on a free port of the loopback interface.

with nats_server() as server:             # nobody has to log in
with nats_server(folder, config) as ...   # config(port) is its configuration
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 20.0


@dataclass
class NatsServer:
    """It can be ended and started again on the same port."""

    port: int
    config: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["-a", "127.0.0.1", "-p", str(self.port)]
        argv = where if self.config is None else ["-c", str(self.config)]
        log = Path("/dev/null") if self.config is None else self.config.with_suffix(".log")
        with log.open("ab") as out:
            self._process = subprocess.Popen([program(), *argv], stdout=out, stderr=out)
        for _ in range(int(PATIENCE_S / 0.05)):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        self.end()
        raise RuntimeError("nats-server did not start")

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def runs(self) -> Iterator[NatsServer]:
        self.start()
        try:
            yield self
        finally:
            self.end()


def planned(folder: Path | None = None, config: Callable[[int], str] | None = None) -> NatsServer:
    """One that is not started yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    if config is None:
        return NatsServer(port)
    assert folder is not None
    place = folder / "nats.conf"
    place.write_text(config(port))
    return NatsServer(port, place)


@contextmanager
def nats_server(
    folder: Path | None = None, config: Callable[[int], str] | None = None
) -> Iterator[NatsServer]:
    with planned(folder, config).runs() as server:
        yield server


def program() -> str:
    """It comes with the test dependencies."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("nats-server", path=beside) or shutil.which("nats-server")
    assert found, "nats-server is not installed: run `make setup`"
    return found
