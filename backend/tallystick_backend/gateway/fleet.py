"""What providers say of their load, asked every moment; and who fell silent.

A provider is asked while it announces itself. A version that it does not know is shown to it with
its manifest; it checks digest and price on a chain of its own, and answers whether it serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from tallystick.protocol.call_bodies import (
    AppBody,
    AppLoadBody,
    AppReplyBody,
    LoadBody,
    LoadRequestBody,
    StartBody,
    StartsBody,
    StartsRequestBody,
)
from tallystick.protocol.errors import WireError
from tallystick.protocol.types import Address, to_address
from tallystick.protocol.wire import parse
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.bus import CallBus, Silent
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.gateway.routing import Seat
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Target
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database

log = structlog.get_logger(__name__)

LOAD_WITHIN_S: Final = 1.0
SHOW_WITHIN_S: Final = 5.0
SHOWN_AT_ONCE: Final = 16
HEARD_WITHIN_S: Final = 5.0
"""From a provider's first announcement: so long a call waits for it, where nobody else is."""
HEARD_AGAIN_S: Final = 0.1
REFUSED_FOR_MS: Final = 10_000
"""A provider that does not take a version is not shown it again for so long."""
KEYS_FRESH_MS: Final = 1_000

VersionKey = tuple[str, int]


@dataclass(slots=True)
class Member:
    provider: Address
    credit_calls: int = 1
    apps: dict[VersionKey, AppLoadBody] = field(default_factory=dict)
    taken: set[VersionKey] = field(default_factory=set)
    """Versions it said it would serve."""
    refused: dict[VersionKey, tuple[int, str]] = field(default_factory=dict)
    """When it said no, and why."""
    silent_polls: int = 0
    since_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    heard: bool = False
    """It has answered at least once: it speaks calls at all."""
    in_flight: dict[VersionKey, int] = field(default_factory=dict)
    run_ms: dict[VersionKey, float] = field(default_factory=dict)
    operator_keys: frozenset[Address] = frozenset()


class Fleet:
    def __init__(
        self, database: Database, bus: CallBus, clock: Clock, settings: GatewaySettings
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._members: dict[str, Member] = {}
        self._showing: dict[tuple[str, VersionKey], asyncio.Task[bool]] = {}
        self._hearing: asyncio.Task[None] | None = None
        self.lost: Callable[[str], None] = lambda _provider: None
        """Told of a provider that fell silent."""

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    await self.look()
                except Exception:
                    # The next look is soon; calls under way have nothing to do with it.
                    log.exception("fleet_not_looked_at")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._settings.poll_s)
        finally:
            if self._hearing is not None:
                self._hearing.cancel()

    def loads(self, app_id: str) -> list[tuple[Address, AppLoadBody]]:
        """What each provider that serves the app said of it last, by provider and version."""
        found = [
            (member.provider, load)
            for member in self._members.values()
            for (name, _), load in member.apps.items()
            if name == app_id
        ]
        return sorted(found, key=lambda each: (each[0], each[1].version))

    async def starts(self, app_id: str) -> list[tuple[Address, StartBody]]:
        """How workers of an app started lately, asked of every provider that serves it; who does
        not answer in time is left out."""
        asked = [
            (name, member)
            for name, member in self._members.items()
            if any(known == app_id for known, _ in (*member.apps, *member.taken))
        ]
        body = StartsRequestBody(app_id=app_id).model_dump_json().encode()

        async def ask(name: str) -> tuple[StartBody, ...]:
            try:
                return parse(
                    StartsBody, await self._bus.ask(name, "starts", body, LOAD_WITHIN_S)
                ).starts
            except (Silent, WireError, GatewayNotReady):
                return ()

        answers = await asyncio.gather(*(ask(name) for name, _ in asked))
        found = [
            (member.provider, start)
            for (_, member), starts in zip(asked, answers, strict=True)
            for start in starts
        ]
        return sorted(found, key=lambda each: each[1].at_ms, reverse=True)

    async def look(self) -> None:
        """One round: who is there, with which keys, and how busy."""
        since_ms = self._clock.now_ms() - self._settings.online_ms
        async with self._database.read() as session:
            online = set(await calls.providers_online(session, since_ms))
            # Whoever becomes a member while this is read has its turn in the next round.
            asked = online | set(self._members)
            keys = await calls.operator_keys(session, asked)
        for name in asked:
            member = self.member(name)
            member.operator_keys = frozenset(to_address(key) for key in keys[name])
            if name not in online and not member.in_flight:
                del self._members[name]
        await asyncio.gather(*(self._poll(name, one) for name, one in self._members.items()))

    def member(self, provider: str) -> Member:
        known = self._members.get(provider.lower())
        if known is None:
            known = self._members[provider.lower()] = Member(to_address(provider))
        return known

    def seats(
        self, target: Target, excluded: Iterable[str], funded: Callable[[str], bool]
    ) -> list[Seat]:
        """Providers that serve this version, as far as they said."""
        key, without = version_key(target), frozenset(excluded)
        return [
            Seat(
                name,
                member.apps.get(key),
                member.in_flight.get(key, 0),
                member.run_ms.get(key, 0.0),
                funded(name),
            )
            for name, member in self._members.items()
            if name not in without
            and member.silent_polls < self._settings.lost_after_polls
            and (key in member.apps or key in member.taken)
        ]

    async def show(self, target: Target, excluded: Iterable[str] = ()) -> str:
        """Shows the version to everybody who has not seen it; why nobody takes it, if so."""
        await self._hear()
        key, without = version_key(target), frozenset(excluded)
        asked: list[Coroutine[Any, Any, bool]] = []
        for name, member in self._members.items():
            if not member.heard or name in without or key in member.taken or key in member.apps:
                continue
            if len(asked) < SHOWN_AT_ONCE and not self._lately_refused(member, key):
                asked.append(self._show_once(name, target))
        await asyncio.gather(*asked)
        reasons = {m.refused[key][1] for m in self._members.values() if key in m.refused}
        if not self._anybody_heard:
            return "no provider that takes calls is online"
        return "; ".join(sorted(reasons)[:3]) or "no provider is free for it"

    async def _hear(self) -> None:
        """A call that comes before the first round, or while the first provider is still starting,
        waits for it. One wait for all calls; none where nobody new announces itself."""
        if self._anybody_heard or (self._members and not self._anybody_new):
            return
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._until_heard())
            self._hearing.add_done_callback(self._heard)
        await asyncio.shield(self._hearing)

    async def _until_heard(self) -> None:
        await self.look()
        while self._anybody_new and not self._anybody_heard:
            await asyncio.sleep(HEARD_AGAIN_S)
            await self.look()

    def _heard(self, done: asyncio.Task[None]) -> None:
        self._hearing = None
        if not done.cancelled():
            done.exception()  # whoever waited has it

    @property
    def _anybody_new(self) -> bool:
        new_s = asyncio.get_running_loop().time() - HEARD_WITHIN_S
        return any(not one.heard and one.since_s > new_s for one in self._members.values())

    @property
    def _anybody_heard(self) -> bool:
        return any(member.heard for member in self._members.values())

    async def show_again(self, provider: str, target: Target) -> bool:
        """It said that it does not know the version: perhaps it was started anew."""
        member = self.member(provider)
        member.taken.discard(version_key(target))
        member.apps.pop(version_key(target), None)
        return await self._show_once(provider.lower(), target)

    def began(self, provider: str, target: Target) -> None:
        flight, key = self.member(provider).in_flight, version_key(target)
        flight[key] = flight.get(key, 0) + 1

    def ended(self, provider: str, target: Target, run_ms: int | None) -> None:
        member, key = self.member(provider), version_key(target)
        left = member.in_flight.get(key, 1) - 1
        if left > 0:
            member.in_flight[key] = left
        else:
            member.in_flight.pop(key, None)
        if run_ms is not None:
            known = member.run_ms.get(key)
            member.run_ms[key] = run_ms if known is None else 0.8 * known + 0.2 * run_ms

    def _lately_refused(self, member: Member, key: VersionKey) -> bool:
        refused = member.refused.get(key)
        return refused is not None and self._clock.now_ms() - refused[0] < REFUSED_FOR_MS

    async def _show_once(self, name: str, target: Target) -> bool:
        place = (name, version_key(target))
        task = self._showing.get(place)
        if task is None:
            task = asyncio.create_task(self._show(name, target))
            self._showing[place] = task
            task.add_done_callback(lambda _done: self._showing.pop(place, None))
        return await asyncio.shield(task)

    async def _show(self, name: str, target: Target) -> bool:
        member, key = self.member(name), version_key(target)
        body = AppBody(app_id=target.app_id, version=target.version, manifest=target.manifest_text)
        try:
            data = await self._bus.ask(name, "app", body.model_dump_json().encode(), SHOW_WITHIN_S)
            reply = parse(AppReplyBody, data)
        except (Silent, WireError, GatewayNotReady) as failure:
            member.refused[key] = (self._clock.now_ms(), str(failure)[:200])
            return False
        if not reply.accepted:
            member.refused[key] = (self._clock.now_ms(), reply.reason[:200])
            return False
        member.refused.pop(key, None)
        member.taken.add(key)
        return True

    async def _poll(self, name: str, member: Member) -> None:
        try:
            data = await self._bus.ask(
                name, "load", LoadRequestBody().model_dump_json().encode(), LOAD_WITHIN_S
            )
            load = parse(LoadBody, data)
        except Silent:
            member.silent_polls += 1
            if member.heard and member.silent_polls == self._settings.lost_after_polls:
                log.warning("provider_fell_silent", provider=name)
                member.apps, member.taken = {}, set()
                self.lost(name)
            return
        except WireError as failure:
            log.warning("load_malformed", provider=name, why=str(failure)[:200])
            return
        except GatewayNotReady:
            return
        member.heard = True
        member.silent_polls = 0
        member.credit_calls = load.credit_calls
        member.apps = {(app.app_id.lower(), app.version): app for app in load.apps}
        # What it took and says nothing of, it has forgotten: a moment after it was shown, it has
        # not; so that is told apart by the next refusal.


def version_key(target: Target) -> VersionKey:
    return (target.app_id, target.version)
