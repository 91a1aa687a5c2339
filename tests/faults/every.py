"""The campaigns, in the order in which they run."""

from __future__ import annotations

import importlib

from tests.faults.campaign import Campaign

NAMES = ("chain", "outbox", "kills", "outages", "specs", "sandbox", "requests")


def campaigns() -> tuple[Campaign, ...]:
    return tuple(importlib.import_module(f"tests.faults.{name}").CAMPAIGN for name in NAMES)
