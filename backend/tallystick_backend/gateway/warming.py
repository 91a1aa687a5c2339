"""Apps that are kept warm: while an account wishes it, a warm call goes to the app now and then, as
an order of that account.

A warm call is a call (`call_bodies.WARM_MEDIA_TYPE`): it is paid on the account's channel, within
its allowance and its limits, and has a receipt. None is made where a call of the account's own came
to the same version meanwhile: that kept a worker, too.

How far a wish came stands in its row, and what it spent in its calls, so a restart forgets and
doubles nothing. Only the process that signs makes warm calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.call_bodies import WARM_MEDIA_TYPE, WARM_SECONDS
from tallystick.protocol.calls import call_charge_up
from tallystick.protocol.errors import AmountError, QuoteError
from tallystick.protocol.pricing import max_charge_up
from tallystick.protocol.types import to_address
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.calling import Calls
from tallystick_backend.gateway.errors import (
    GatewayNotReady,
    NoFunds,
    NoPrice,
    SpendLimitReached,
)
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.journal import Journal
from tallystick_backend.gateway.orders import TERMINAL, Ended, Order
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Shelf, Target, UnknownTarget
from tallystick_backend.store.repositories import access
from tallystick_backend.store.repositories import calls as rows
from tallystick_backend.store.session import Database, is_conflict
from tallystick_backend.store.tables import CallRow, KeepWarmRow

log = structlog.get_logger(__name__)

HOUR_MS: Final = 3_600_000
PROVIDERS_IDLE_S: Final = 300
"""After so long without a call a provider stops a worker whatever its app wishes, unless it says
otherwise (`TALLYSTICK_PROVIDER_IDLE_SECONDS`)."""
LEAST_EVERY_S: Final = 5
"""Unless the app's own cooldown is shorter."""
EXPECTED_RUN_MS: Final = 10
"""Of a warm call, where none was made so far: a question over a socket."""
LOOK_EVERY_S: Final = 1.0
AT_ONCE: Final = 64
OPEN_AGAIN_MS: Final = 500
"""Until a call that another process left is looked for again."""
FAILED_AGAIN_S: Final = 5
TRIES: Final = 6

Change = Callable[[KeepWarmRow], None]


@dataclass(frozen=True, slots=True)
class WarmPrice:
    """What keeping warm costs, at the price of this second."""

    calls_per_hour: int
    run_ms: int
    charge: int
    """Of one, if it runs `run_ms`."""
    most: int
    """Of one: its ceiling."""

    @property
    def per_hour(self) -> int:
        return self.calls_per_hour * self.charge

    def most_per_hour(self, cap: int) -> int:
        return min(cap, self.calls_per_hour * self.most)


def warm_price(target: Target, now_ms: int, every_s: int, run_ms: int | None) -> WarmPrice:
    """Raises `NoPrice`."""
    gpus = target.limits.gpus
    expected_ms = EXPECTED_RUN_MS if run_ms is None else run_ms
    try:
        price = target.history.price_for(now_ms, version=target.version)
        return WarmPrice(
            calls_per_hour=3600 // every_s,
            run_ms=expected_ms,
            charge=call_charge_up(price, 1, gpus * expected_ms),
            most=max_charge_up(price, gpus, min(WARM_SECONDS, target.limits.max_seconds)),
        )
    except (QuoteError, AmountError) as failure:
        raise NoPrice(str(failure)) from failure


def least_charge_up(target: Target, now_ms: int) -> int:
    """What has to be left of the hour's most for one more call. Raises `NoPrice`."""
    try:
        price = target.history.price_for(now_ms, version=target.version)
        return max_charge_up(price, target.limits.gpus, 1)
    except (QuoteError, AmountError) as failure:
        raise NoPrice(str(failure)) from failure


def kept_s(manifest: AppManifest) -> int:
    """How long its worker usually stays without a call."""
    return min(manifest.scaling.cooldown_s, PROVIDERS_IDLE_S)


def usual_every_s(manifest: AppManifest) -> int:
    """A little less than that."""
    kept = kept_s(manifest)
    return max(least_every_s(manifest), kept - max(1, kept // 10))


def least_every_s(manifest: AppManifest) -> int:
    return max(1, min(LEAST_EVERY_S, kept_s(manifest) - 1))


def hour_spent(row: KeepWarmRow, now_ms: int) -> int:
    return row.hour_spent if row.hour == now_ms // HOUR_MS else 0


def wish_of(account: str, app_id: str, version: int) -> str:
    return f"{account.lower()}/{app_id}/{version}"


class Warming:
    def __init__(
        self,
        database: Database,
        journal: Journal,
        fence: Fence,
        shelf: Shelf,
        calls: Calls,
        clock: Clock,
        settings: GatewaySettings,
        tell: Callable[[BackendError], dict[str, Any]],
        due: asyncio.Event,
    ) -> None:
        self._database = database
        self._journal = journal
        self._fence = fence
        self._shelf = shelf
        self._calls = calls
        self._clock = clock
        self._settings = settings
        self._tell = tell
        self._due = due
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self._due.clear()
                wait_s = LOOK_EVERY_S
                try:
                    wait_s = await self._look()
                except Exception:
                    log.exception("warm_apps_not_looked_at")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), wait_s)
        finally:
            tasks = tuple(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> float:
        """Begins what is due; seconds until the next one is."""
        now_ms = self._clock.now_ms()
        async with self._database.read() as session:
            soon = await rows.warm_due(
                session, now_ms + round(LOOK_EVERY_S * 1000), 2 * AT_ONCE + len(self._under_way)
            )
        wait_s = LOOK_EVERY_S
        for row in soon:
            if row.id in self._under_way or row.next_at_ms is None:
                continue
            if row.next_at_ms > now_ms:
                wait_s = min(wait_s, (row.next_at_ms - now_ms) / 1000)
            elif len(self._under_way) < AT_ONCE:
                task = asyncio.create_task(self._tend(row), name=f"warm {row.id}")
                self._under_way[row.id] = task
                task.add_done_callback(partial(self._tended, row.id))
        return wait_s

    def _tended(self, warm_id: str, _done: asyncio.Task[None]) -> None:
        self._under_way.pop(warm_id, None)
        self._due.set()

    async def _tend(self, row: KeepWarmRow) -> None:
        try:
            await self._one(row)
        except GatewayNotReady as why:
            log.info("warm_call_not_made", warm=row.id, why=str(why))
            await asyncio.sleep(LOOK_EVERY_S)
        except Exception:
            log.exception("warm_call_not_made", warm=row.id)
            await asyncio.sleep(LOOK_EVERY_S)

    # --- one wish -----------------------------------------------------------------------------

    async def _one(self, row: KeepWarmRow) -> None:
        now_ms = self._clock.now_ms()
        if row.ended_at_ms is None and (over := await self._over(row, now_ms)) is not None:
            row = await self._write(row.id, over)
        await self._journal.projected()
        async with self._database.read() as session:
            uncounted = await rows.warm_calls_after(session, row.id, row.counted_ms)
        if any(call.state not in TERMINAL for call in uncounted):
            await self._write(row.id, _at(now_ms + OPEN_AGAIN_MS))
            return
        if uncounted:
            row = await self._write(row.id, _counting(uncounted))
        if row.ended_at_ms is not None:
            await self._write(row.id, _nothing_left)
            return
        try:
            target = await self._shelf.get(row.app_id, row.version or None)
            await self._keep(row, target, now_ms)
        except UnknownTarget as unknown:
            failure = NoPrice(f"app {unknown.app_id} has no version {unknown.version}")
            await self._write(row.id, self._failed(failure, self._tell(failure)))
        except GatewayNotReady:
            raise
        except BackendError as failure:
            await self._write(row.id, self._failed(failure, self._tell(failure)))

    async def _over(self, row: KeepWarmRow, now_ms: int) -> Change | None:
        if now_ms >= row.until_ms:
            return _ended("over", row.until_ms)
        if not row.key_id:
            return None
        async with self._database.read() as session:
            keys = await access.api_keys_of(session, row.account)
        if any(key.id == row.key_id and "calls" in key.scopes for key in keys):
            return None
        return _ended("stopped", now_ms)

    async def _keep(self, row: KeepWarmRow, target: Target, now_ms: int) -> None:
        every_ms = row.every_s * 1000
        used_ms = self._calls.used_at_ms(row.account, target)
        if used_ms + every_ms > now_ms:
            await self._write(row.id, _skipping(used_ms + every_ms))
            return
        left = row.max_per_hour - hour_spent(row, now_ms)
        if left < least_charge_up(target, now_ms):
            await self._write(row.id, _until_next_hour(now_ms))
            return
        placed = await self._calls.place(
            Order(
                account=to_address(row.account),
                key_id=row.key_id,
                target=target,
                input=b"",
                media_type=WARM_MEDIA_TYPE,
                max_charge=left,
                warm_id=row.id,
            )
        )
        ended = placed if isinstance(placed, Ended) else await placed.wait()
        if ended.failure is not None:
            if isinstance(ended.failure, GatewayNotReady):
                raise ended.failure
            await self._write(row.id, self._failed(ended.failure, ended.problem or {}))
            return
        await self._journal.projected()
        async with self._database.read() as session:
            uncounted = await rows.warm_calls_after(session, row.id, row.counted_ms)
        next_at_ms = self._clock.now_ms() + every_ms
        await self._write(row.id, _counting(uncounted, next_at_ms))

    # --- its row ------------------------------------------------------------------------------

    def _failed(self, failure: BackendError, problem: dict[str, Any]) -> Change:
        now_ms = self._clock.now_ms()

        def change(row: KeepWarmRow) -> None:
            row.problem, row.failed_at_ms = problem, now_ms
            if isinstance(failure, NoFunds | SpendLimitReached):
                state = "paused_funds" if isinstance(failure, NoFunds) else "limit_reached"
                pause_ms = round(self._settings.warm_again_s * 1000)
            else:
                state, pause_ms = "failing", max(row.every_s, FAILED_AGAIN_S) * 1000
            _at(now_ms + pause_ms, state=state)(row)

        return change

    async def _write(self, warm_id: str, change: Change) -> KeepWarmRow:
        """Only while this process signs."""
        for attempt in range(1, TRIES + 1):
            try:
                async with self._database.transaction() as session:
                    await self._fence.require(session)
                    row = await rows.warm(session, warm_id)
                    if row is None:
                        raise GatewayNotReady("the wish is in this database no more")
                    change(row)
                    session.add(row)
                return row
            except Exception as failure:
                if attempt == TRIES or not is_conflict(failure):
                    raise
            await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError("the loop returns or raises")


def _at(next_at_ms: int, *, state: str = "") -> Change:
    """No later than its end. What was stopped meanwhile stays so."""

    def change(row: KeepWarmRow) -> None:
        if row.ended_at_ms is not None:
            return
        row.next_at_ms = min(next_at_ms, row.until_ms)
        row.state = state or row.state

    return change


def _skipping(next_at_ms: int) -> Change:
    def change(row: KeepWarmRow) -> None:
        row.skipped += 1
        _at(next_at_ms, state="on")(row)

    return change


def _until_next_hour(now_ms: int) -> Change:
    return _at((now_ms // HOUR_MS + 1) * HOUR_MS, state="hour_spent")


def _counting(calls: Sequence[CallRow], next_at_ms: int | None = None) -> Change:
    def change(row: KeepWarmRow) -> None:
        for call in calls:
            # Another look may have counted it: each call counts once.
            if call.asked_at_ms <= row.counted_ms:
                continue
            row.counted_ms = call.asked_at_ms
            row.last_call_id = call.call_id
            if call.state != "completed":
                continue
            hour = (call.ended_at_ms or call.asked_at_ms) // HOUR_MS
            row.hour_spent = call.charge + (row.hour_spent if row.hour == hour else 0)
            row.hour = hour
            row.spent += call.charge
            row.calls += 1
            row.run_ms = call.run_ms
        if next_at_ms is not None:
            _at(next_at_ms, state="on")(row)

    return change


def _ended(state: str, at_ms: int) -> Change:
    def change(row: KeepWarmRow) -> None:
        if row.ended_at_ms is None:
            end(row, state, at_ms)

    return change


def end(row: KeepWarmRow, state: str, at_ms: int) -> None:
    """Nothing more is called for it; a call under way is still counted."""
    row.state, row.ended_at_ms, row.wish, row.next_at_ms = state, at_ms, None, at_ms


def _nothing_left(row: KeepWarmRow) -> None:
    row.next_at_ms = None
