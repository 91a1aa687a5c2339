"""What needs the account's look, each with what it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.market_views import Notice
from tallystick.protocol.types import Address, to_address
from tallystick_backend.api.context import Backend
from tallystick_backend.store.repositories import notices, usage

MOST = 100
DAY_MS = 86_400_000


async def notices_of(backend: Backend, session: AsyncSession, address: Address) -> list[Notice]:
    found: list[Notice] = []
    for part in (_tasks, _limits, _apps, _channels, _providers):
        found += [notice async for notice in part(backend, session, address)]
    return found[:MOST]


async def _tasks(backend: Backend, session: AsyncSession, me: Address) -> AsyncIterator[Notice]:
    since_ms = backend.clock.now_ms() - DAY_MS
    for task_id, name in await notices.failed_tasks(session, me, since_ms):
        yield Notice(kind="task_failed", subject=task_id, name=name)


async def _limits(backend: Backend, session: AsyncSession, me: Address) -> AsyncIterator[Notice]:
    today = backend.clock.now_ms() // DAY_MS
    for row in await usage.limits_of(session, me):
        if row.period == "call":
            continue
        spent = await usage.spent(
            session,
            me,
            scope=row.scope,
            subject=row.subject,
            from_day=today if row.period == "day" else 0,
        )
        if spent >= row.limit_units:
            yield Notice(
                kind="limit_reached", subject=row.id, name=row.scope, amount=row.limit_units
            )


async def _apps(backend: Backend, session: AsyncSession, me: Address) -> AsyncIterator[Notice]:
    for row in await notices.troubled_wishes(session, me, backend.clock.now_ms()):
        paused = row.state == "paused_funds"
        yield Notice(kind="app_paused_funds" if paused else "app_failing", subject=row.app_id)


async def _channels(_: Backend, session: AsyncSession, me: Address) -> AsyncIterator[Notice]:
    for row in await notices.closing_channels(session, me):
        yield Notice(
            kind="channel_closing",
            subject=row.channel_id,
            amount=row.deposited - row.claimed,
            at=row.close_at_s,
        )


async def _providers(backend: Backend, session: AsyncSession, me: Address) -> AsyncIterator[Notice]:
    """Its own, and those that hold its delegation."""
    delegated = await notices.delegated_to(session, me)
    for row, seen_ms in await notices.standing(session, [me, *delegated]):
        address = to_address(row.address)
        whose = "own" if row.address == me.lower() else "delegated"
        if row.jailed_until_s is not None and row.jailed_until_s > backend.now_s():
            yield Notice(kind="provider_jailed", subject=address, name=whose, at=row.jailed_until_s)
        elif row.gpus_registered and seen_ms < backend.seen_since_ms():
            yield Notice(kind="provider_offline", subject=address, name=whose)
