"""who serves apps: one round of looking at providers
└── a provider that is met while its keys are read has its turn in the next round
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.types import to_address
from tallystick_backend.clock import ManualClock
from tallystick_backend.gateway import fleet as module
from tallystick_backend.gateway.bus import Silent
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.store.session import Database


class Nobody:
    """A bus at whose other end nobody is."""

    async def ask(self, *_: object) -> bytes:
        raise Silent("load", nobody=True)


NEW = "0x6f51c824b6dbf49f10d4f8ef65f0b7e32f46c77f"


async def test_a_provider_that_is_met_meanwhile_ends_no_round(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(database, Nobody(), ManualClock(0), GatewaySettings())  # type: ignore[arg-type]
    really = module.calls.operator_keys

    async def met_meanwhile(
        session: AsyncSession, providers: Iterable[str]
    ) -> dict[str, frozenset[str]]:
        found = await really(session, providers)
        fleet.member(NEW)
        return found

    monkeypatch.setattr(module.calls, "operator_keys", met_meanwhile)
    await fleet.look()
    assert fleet.member(NEW).provider == to_address(NEW)
    assert not fleet.member(NEW).operator_keys
