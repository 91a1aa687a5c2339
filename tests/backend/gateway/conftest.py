from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tallystick_backend.store.session import Database
from tests.backend.gateway.market import BusServer, Market, bus_server, make_market


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusServer]:
    with bus_server(tmp_path_factory.mktemp("nats")) as up:
        yield up


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged; not printed."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """SQLite; what hangs on the database is tested on PostgreSQL too, by a fixture of its own."""
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
async def market(database: Database, server: BusServer, tmp_path: Path) -> AsyncIterator[Market]:
    """One provider that echoes, and a gateway that signs."""
    market = await make_market(database, server, tmp_path)
    await market.joins()
    await market.start()
    yield market
    await market.end()
