"""compose.yaml names settings and commands that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tallystick_backend.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_every_setting_exists() -> None:
    given = COMPOSE["x-backend"]["environment"]
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(given) <= known


def test_every_service_that_is_waited_for_exists() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for secret in service.get("secrets", ()):
            assert secret in COMPOSE["secrets"]


def test_what_is_built_is_here() -> None:
    assert (ROOT / COMPOSE["x-backend"]["build"]["dockerfile"]).exists()
