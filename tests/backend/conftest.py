"""What the backend's tests stand on. `database` runs a test on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database of this test's own, migrated."""
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


# --- SQLite: a copy of a migrated file --------------------------------------------------------


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "backend.db"
    asyncio.run(_migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url_of_a_new_database(migrated_sqlite_file: Path, tmp_path: Path) -> object:
    def make() -> Iterator[str]:
        path = tmp_path / f"backend-{uuid.uuid4().hex}.db"
        shutil.copy(migrated_sqlite_file, path)
        yield f"sqlite+aiosqlite:///{path}"

    return make


# --- PostgreSQL: a server for the session, a database from a migrated template for each test ---


@dataclass(frozen=True)
class PostgresServer:
    socket_folder: Path

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@/{name}?host={self.socket_folder}"

    def run(self, statement: str) -> None:
        asyncio.run(self._run(statement))

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(
            host=str(self.socket_folder), user="postgres", database="postgres"
        )
        await connection.execute(statement)
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="tallystick-pg-"))
    # PostgreSQL refuses to run as root, as containers like to.
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    subprocess.run(
        [_postgres("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"],
        user=user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": "60",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [_postgres("postgres"), "-D", data, *options],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    server = PostgresServer(folder)
    try:
        _wait_for(server, process, folder / "log")
        server.run("CREATE DATABASE migrated")
        asyncio.run(_migrate(server.url("migrated")))
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql_url_of_a_new_database(postgres_server: PostgresServer) -> object:
    def make() -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex}"
        postgres_server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
        yield postgres_server.url(name)
        postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")

    return make


def _postgres(program: str) -> str:
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


def _wait_for(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    async def connects() -> None:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {process.returncode}: see {log}")
            try:
                await server._run("SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
            else:
                return

    asyncio.run(asyncio.wait_for(connects(), 30))


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()
