"""One process signs vouchers on one database.

Two that rebuilt the same channel would sign two totals for one place. Whoever starts waits until
the holder is silent for its lease, then writes a token of its own; every journal transaction
requires the token that it was given, so one that was only paused writes nothing when it wakes up.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Final, NoReturn

import structlog
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.store.session import Database, is_conflict
from tallystick_backend.store.tables import GatewayRow

log = structlog.get_logger(__name__)

_INSERT: Final = (
    "insert into gateway_journal (id, body) select cast(:row as bigint), cast(:body as text) "
    "from gateway where gateway.id = 1 and token = :token"
)
_INSERT_LOCKED: Final = _INSERT + " for share"
"""The row is held until the end: whoever overtakes waits, and finds what was written."""


class Fence:
    def __init__(self, database: Database, clock: Clock, lease_seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_ms = round(lease_seconds * 1000)
        self._token = ""

    @property
    def held(self) -> bool:
        return bool(self._token)

    async def take(self, stop: asyncio.Event) -> bool:
        """Waits for its turn; False when `stop` came first."""
        token, told = secrets.token_hex(16), False
        while not stop.is_set():
            if await self._try(token):
                self._token = token
                log.info("gateway_holds_the_fence")
                return True
            if not told:
                log.warning("another_gateway_signs", lease_ms=self._lease_ms)
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._lease_ms / 4000)
        return False

    async def require(self, session: AsyncSession) -> None:
        """Inside every transaction of the gateway; raises when somebody else signs now. Holding on
        is the same statement."""
        self.require_held()
        done = await session.exec(
            update(GatewayRow)
            .where(col(GatewayRow.id) == 1, col(GatewayRow.token) == self._token)
            .values(held_until_ms=self._clock.now_ms() + self._lease_ms)
        )
        if done.rowcount != 1:
            self._overtaken()

    def require_held(self) -> None:
        if not self._token:
            raise GatewayNotReady("this gateway does not sign")

    async def insert_journal(self, row: int, body: str) -> None:
        """A row of the gateway's journal, if this process still signs: one statement, so that
        nothing lies between the look and the write. Raises as `require` does."""
        self.require_held()
        done = await self._database.execute(
            _INSERT_LOCKED if self._database.is_postgresql else _INSERT,
            row=row,
            body=body,
            token=self._token,
        )
        if done != 1:
            self._overtaken()

    async def hold(self, stop: asyncio.Event) -> None:
        """Renews while nothing else is written; ends when the fence is lost or `stop` is set."""
        while not stop.is_set() and self.held:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._lease_ms / 3000)
            if stop.is_set() or not self.held:
                return
            try:
                async with self._database.transaction() as session:
                    await self.require(session)
            except GatewayNotReady:
                return
            except Exception as failure:
                if not is_conflict(failure):
                    raise

    def _overtaken(self) -> NoReturn:
        self._token = ""
        log.error("gateway_was_fenced")
        raise GatewayNotReady("another gateway signs on this database now")

    async def give_back(self) -> None:
        """For a clean end: the next one need not wait."""
        token, self._token = self._token, ""
        if not token:
            return
        async with self._database.transaction() as session:
            await session.exec(
                update(GatewayRow)
                .where(col(GatewayRow.id) == 1, col(GatewayRow.token) == token)
                .values(held_until_ms=0)
            )

    async def _try(self, token: str) -> bool:
        now_ms = self._clock.now_ms()
        try:
            async with self._database.transaction() as session:
                row = await session.get(GatewayRow, 1)
                if row is None:
                    session.add(
                        GatewayRow(id=1, token=token, held_until_ms=now_ms + self._lease_ms)
                    )
                    return True
                # A clock that was set back must not keep everybody out for longer than a lease.
                if now_ms < row.held_until_ms <= now_ms + self._lease_ms:
                    return False
                row.token, row.held_until_ms = token, now_ms + self._lease_ms
                session.add(row)
                return True
        except Exception as failure:
            if not (is_conflict(failure) or isinstance(failure, IntegrityError)):
                raise
            return False
