"""The parts of answering calls, joined: what `__main__.py` starts, follows and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import structlog
from web3 import AsyncWeb3

from tallystick.protocol import messages
from tallystick.protocol.contracts import Call
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.signatures import PrivateKey
from tallystick.protocol.types import ZERO_ADDRESS, to_address
from tallystick_provider.calls.apps import Apps
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.follow import ChainView
from tallystick_provider.calls.giving_way import GivingWay, Idle, Place
from tallystick_provider.calls.journal import CallJournal
from tallystick_provider.calls.lines import lines
from tallystick_provider.calls.redeem import Redeemer
from tallystick_provider.calls.room import Room
from tallystick_provider.calls.service import CallService
from tallystick_provider.calls.workers import WorkerTools, remove_leftovers
from tallystick_provider.cards import Cards
from tallystick_provider.clock import Clock
from tallystick_provider.errors import ProviderError
from tallystick_provider.inbox import Line
from tallystick_provider.journal import Journal
from tallystick_provider.offers import Reserved
from tallystick_provider.runtime import Runtime
from tallystick_provider.settings import Settings

FOLLOW_S = 1.0
UNREAD_AT_ONCE = 100

log = structlog.get_logger()


@dataclass(slots=True)
class Calls:
    settings: Settings
    runtime: Runtime
    journal: CallJournal
    chain: ChainView
    channels: Channels
    apps: Apps
    service: CallService
    redeemer: Redeemer
    room: Room
    giving_way: GivingWay
    clock: Clock
    draining: Callable[[], bool]
    problem: str = ""
    """Why calls are not answered as they should be; shown by `status`."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        web3: AsyncWeb3[Any],
        deployment: Deployment,
        key: PrivateKey,
        journal: Journal,
        runtime: Runtime,
        cards: Cards,
        gpus_simulated: bool,
        clock: Clock,
        draining: Callable[[], bool],
    ) -> Self:
        provider = to_address(settings.address)
        chain = ChainView(web3, deployment, provider, settings.confirmations)
        _, head_s = await chain.head()
        # A new journal begins by the later of both clocks, and no second is in two journals.
        calls = CallJournal(settings.call_journal_path, max(head_s, -(-clock.now_ms() // 1000)))

        def leases() -> list[Any]:
            return [lease for lease in journal.open_leases() if lease.holds_capacity]

        room = Room(settings, cards, leases)
        tools = WorkerTools(
            provider=provider,
            runtime=runtime,
            cards=cards,
            room=room,
            clock=clock,
            data_dir=settings.data_dir,
            apps_dir=settings.apps_dir,
            gpus_simulated=gpus_simulated,
            stop_grace_s=settings.stop_grace_seconds,
            warm_most=settings.warm_workers,
            idle_most_s=settings.idle_seconds,
        )
        channels = Channels(
            deployment.domain, calls, chain, clock, credit_calls=settings.credit_calls
        )
        apps = Apps(settings, tools, chain)
        service = CallService(
            provider=provider,
            channels=channels,
            apps=apps,
            journal=calls,
            sign=messages.signer(deployment.domain, key),
            clock=clock,
            credit_calls=settings.credit_calls,
        )
        redeemer = Redeemer(
            channels,
            chain,
            threshold_k=settings.redeem_at,
            cost=settings.redeem_cost,
            share_bps=settings.redeem_share_bps,
        )
        return cls(
            settings,
            runtime,
            calls,
            chain,
            channels,
            apps,
            service,
            redeemer,
            room,
            GivingWay(room, lambda: _idle(apps, kept_too=settings.warm_give_way)),
            clock,
            draining,
        )

    def lines(self) -> Mapping[str, Line]:
        """What the inbox carries for us. Without a registry there are no apps to serve."""
        return {} if self.chain.deployment.registry == ZERO_ADDRESS else lines(self.service)

    def reserved(self) -> Reserved:
        return self.room.reserved()

    async def make_room(self, task: str, place: Place) -> bool:
        return await self.giving_way.make_room(task, place)

    def room_taken(self, task: str) -> None:
        """The task's lease holds it from now on."""
        self.room.unclaim(task)

    async def redemption(self) -> Call | None:
        return await self.redeemer.next_call()

    async def resume(self) -> None:
        """Before anything else starts: workers of an agent that is gone, and what it wrote down."""
        await remove_leftovers(self.runtime, self.settings.data_dir)
        await asyncio.to_thread(self.channels.load)
        self.service.ready.set()

    async def run(self, stop: asyncio.Event, wake_settler: Callable[[], None]) -> None:
        """Follows the chain until told to stop."""
        self.service.wake_redeemer = wake_settler
        try:
            await self._accept_again()
            while not stop.is_set():
                # A new start reads what is on the disk, and signs again.
                self.journal.require_usable()
                await self._follow_once(wake_settler)
                with suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_S):
                        await stop.wait()
        finally:
            await self.apps.close()

    def close(self) -> None:
        self.journal.close()

    async def _accept_again(self) -> None:
        """What was served before. An app that is refused now is brought again, or is not."""
        for app_id, version, file in self.journal.apps():
            try:
                await self.apps.accept(app_id, version, file, self.clock.now_ms() // 1000)
            except (ProviderError, ProtocolError) as error:
                log.warning("app_not_served", app=app_id, version=version, why=str(error))

    async def _follow_once(self, wake_settler: Callable[[], None]) -> None:
        try:
            self.service.draining = self.draining()
            changed = await self.chain.changes()
            # Also those that were asked to close, or fell due, while nobody was here.
            looked_at = {*changed.channels, *self.channels.unread_money(UNREAD_AT_ONCE)}
            for channel in looked_at:
                await self.channels.look_again(channel)
            for app_id in changed.apps:
                await self.apps.look_again(app_id)
            self.apps.require_worth(self.clock.now_ms() // 1000)
        except (ProviderError, ProtocolError) as error:
            if self.problem != str(error):
                log.warning("chain_not_followed", why=str(error))
            self.problem = str(error)
            return
        self.problem = ""
        if looked_at:
            wake_settler()


def _idle(apps: Apps, *, kept_too: bool) -> Iterator[Idle]:
    for served in apps.all():
        workers = served.workers
        for name, since_ms in workers.pool.spare(kept_too=kept_too):
            yield Idle(name, since_ms, partial(workers.give_way, name))
