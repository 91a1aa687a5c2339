"""The gateway as one supervised part: takes the fence, restores what was left, keeps its loops.

When another process takes over, or the fence cannot be held, everything here ends and begins anew
from the rows: nothing that was only in memory is signed for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from tallystick.protocol.messages import Domain
from tallystick_backend.access import Seals
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.bus import CallBus
from tallystick_backend.gateway.calling import Calls
from tallystick_backend.gateway.channels import Channels
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.funding import Funds
from tallystick_backend.gateway.journal import Journal
from tallystick_backend.gateway.keys import SessionKeys
from tallystick_backend.gateway.own_channels import OwnChannels
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Shelf
from tallystick_backend.gateway.spending import Spending
from tallystick_backend.gateway.warming import Warming
from tallystick_backend.gateway.webhooks import Webhooks
from tallystick_backend.store.session import Database

log = structlog.get_logger(__name__)

DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Parts:
    """One life of the gateway, from a fence to its loss."""

    calls: Calls
    channels: Channels
    fleet: Fleet
    journal: Journal
    own: OwnChannels


class Gateway:
    def __init__(
        self,
        database: Database,
        bus: Callable[[], CallBus],
        funds: Funds,
        seals: Seals,
        domain: Domain,
        clock: Clock,
        settings: GatewaySettings,
        tell: Callable[[BackendError], dict[str, Any]],
        ended: Callable[[str, str, float, int], None] = lambda *_: None,
    ) -> None:
        self._database = database
        self._bus = bus
        self.funds = funds
        self._domain = domain
        self._clock = clock
        self.settings = settings
        self._tell = tell
        self._count = ended
        self.keys = SessionKeys(database, seals, domain, clock)
        self.shelf = Shelf(database, clock)
        self.webhooks = Webhooks(database, seals, clock, settings)
        self.warm_due = asyncio.Event()
        """Set when somebody asked for a warm app; another process looks by itself."""
        self._parts: Parts | None = None

    @property
    def calls(self) -> Calls:
        """Raises `GatewayNotReady` while this process does not sign."""
        return self.parts.calls

    @property
    def parts(self) -> Parts:
        if self._parts is None or not self._parts.calls.ready:
            raise GatewayNotReady("the gateway is starting, or another one signs")
        return self._parts

    @property
    def condition(self) -> str:
        return "ok" if self._parts is not None and self._parts.calls.ready else "does not sign yet"

    async def projected(self) -> None:
        """Before the tables are read for a caller: with the calls of a moment ago in them. Another
        process that signs brings its own there, as soon as it can."""
        if self._parts is None:
            return
        try:
            await self._parts.journal.projected()
        except GatewayNotReady:
            return
        except Exception:
            # The tables as they are, then: they are behind, and not wrong.
            log.exception("journal_not_projected")

    def figures(self) -> tuple[int, int, int]:
        """Calls under way; transactions and entries of the journal since it began."""
        if self._parts is None:
            return 0, 0, 0
        journal = self._parts.journal
        return self._parts.calls.under_way, journal.transactions, journal.entries

    async def run(self, stop: asyncio.Event) -> None:
        fence = Fence(self._database, self._clock, self.settings.lease_seconds)
        if not await fence.take(stop):
            return
        bus = self._bus()
        try:
            await bus.connect(stop)
            if not stop.is_set():
                await self._live(fence, bus, stop)
            await fence.give_back()
        finally:
            self._parts = None
            await bus.close()

    async def _live(self, fence: Fence, bus: CallBus, stop: asyncio.Event) -> None:
        journal = Journal(self._database, fence, self._clock)
        fleet = Fleet(self._database, bus, self._clock, self.settings)
        channels = Channels(
            self._database,
            bus,
            journal,
            self.keys,
            self.funds,
            fleet,
            self._clock,
            self.settings,
            self._domain,
        )
        fleet.lost = channels.provider_lost
        own = OwnChannels(self._database, journal, channels, self.keys, self._domain)
        calls = Calls(
            self._database,
            journal,
            self.shelf,
            fleet,
            channels,
            own,
            Spending(self._database, journal, self._clock),
            self._clock,
            self.settings,
            self._tell,
            self._count,
        )
        warming = Warming(
            self._database,
            journal,
            fence,
            self.shelf,
            calls,
            self._clock,
            self.settings,
            self._tell,
            self.warm_due,
        )
        ending, written = asyncio.Event(), asyncio.Event()
        writing = asyncio.create_task(journal.run(written))
        loops = [
            asyncio.create_task(fence.hold(stop)),
            asyncio.create_task(fleet.run(ending)),
            asyncio.create_task(channels.watch(ending)),
            asyncio.create_task(self.webhooks.run(ending, calls.webhook_due)),
        ]
        try:
            await fleet.look()
            await journal.projected()
            await calls.restore()
            self._parts = Parts(calls, channels, fleet, journal, own)
            loops.append(asyncio.create_task(warming.run(ending)))
            log.info("gateway_signs")
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            # As if the process were killed: whoever comes next finds the rows as they are.
            writing.cancel()
            raise
        finally:
            self._parts = None
            await calls.drain(DRAIN_S if fence.held and not writing.cancelling() else 0)
            ending.set()
            written.set()
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await asyncio.gather(writing, return_exceptions=True)
            await channels.close()
            if fence.held and not writing.cancelled():
                await channels.tell_vouchers()
        if not stop.is_set() and not fence.held:
            raise GatewayNotReady("another gateway took over")
