"""A PostgreSQL server of one's own, reached over a Unix socket.

with postgres_server() as server:
    server.run("CREATE DATABASE mine")
    server.url("mine")
    server.kill(); server.start()         # as a power cut would, and back
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
}


@dataclass
class PostgresServer:
    socket_folder: Path
    user: str | None = None
    """Whom the server runs as; None: us."""
    _process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@/{name}?host={self.socket_folder}"

    def run(self, statement: str) -> None:
        asyncio.run(self._run(statement))

    def start(self) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self.socket_folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._data, *options],
                user=self.user,
                cwd=self.socket_folder,
                stdout=log,
                stderr=log,
            )
        asyncio.run(asyncio.wait_for(self._answers(), 30))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def kill(self) -> None:
        """Its own processes end when they find their postmaster gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            # The next one refuses to start while the old one's memory is in use.
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def create(self) -> None:
        how = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(
            [_program("initdb"), "-D", self._data, *how],
            user=self.user,
            cwd=self.socket_folder,
            check=True,
            capture_output=True,
        )

    @property
    def _data(self) -> Path:
        return self.socket_folder / "data"

    @property
    def _log(self) -> Path:
        return self.socket_folder / "log"

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(
            host=str(self.socket_folder), user="postgres", database="postgres"
        )
        await connection.execute(statement)
        await connection.close()

    async def _answers(self) -> None:
        assert self._process is not None
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"PostgreSQL ended with {self._process.returncode}: see {self._log}"
                )
            try:
                await self._run("SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
            else:
                return


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="tallystick-pg-"))
    # PostgreSQL refuses to run as root, as containers like to.
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    server = PostgresServer(folder, user)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program(program: str) -> str:
    """From PATH, else from the `pgserver` wheel."""
    found = shutil.which(program)
    if found is not None:
        return found
    wheel = importlib.util.find_spec("pgserver")
    if wheel is None or wheel.origin is None:
        raise RuntimeError(
            f"{program} is neither on PATH nor in the pgserver package: run make setup"
        )
    return str(Path(wheel.origin).parent / "pginstall" / "bin" / program)
