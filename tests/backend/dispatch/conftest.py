from __future__ import annotations

import pytest

from tallystick_backend.clock import ManualClock
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.session import Database
from tests.backend.dispatch.market import UNIT, Market


@pytest.fixture
def market(database: Database, clock: ManualClock) -> Market:
    return Market(database, clock, DispatchSettings(stake_unit=UNIT))
