from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.courtroom import Courtroom
from tests.contracts.stage import Stage


@pytest.fixture
def room(stage: Stage, court: Any, deployer: Any) -> Courtroom:
    return Courtroom(stage, court, deployer)
