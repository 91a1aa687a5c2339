"""What the backend's tests stand on. `database` runs a test on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.support.postgres import PostgresServer, postgres_server


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


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.run("CREATE DATABASE migrated")
        asyncio.run(_migrate(server.url("migrated")))
        yield server


@pytest.fixture
def postgresql_url_of_a_new_database(postgres_server: PostgresServer) -> object:
    def make() -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex}"
        # Page by page through the log, as is usual, takes four times as long.
        postgres_server.run(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY FILE_COPY")
        yield postgres_server.url(name)
        postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")

    return make


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()
