from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.backend.api.world import Consumer, World, make_world


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged; not printed."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def world(database: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[World]:
    world = await make_world(database, clock, tmp_path)
    yield world
    await world.http.aclose()


@pytest.fixture
async def consumer(world: World) -> Consumer:
    return await world.consumer()


@pytest.fixture
async def stranger(world: World) -> Consumer:
    return await world.stranger()
