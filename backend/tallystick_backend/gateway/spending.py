"""Limits on what calls may cost, in force before a call begins.

A call's ceiling is reserved while it runs, so that many at once cannot pass a limit together, and
becomes its charge at the end. What was spent is summed up by key, app and UTC day, in memory and,
with each charge, in its row.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import SpendLimitReached
from tallystick_backend.gateway.journal import Journal
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database

DAY_MS: Final = 86_400_000
RULES_FRESH_MS: Final = 500
RULES_STALE_MS: Final = 1_000
"""A limit that was set or changed acts within this time."""
_KEPT: Final = 10_000


def utc_day(at_ms: int) -> int:
    return at_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class Rule:
    scope: str
    """workspace | key | app"""
    subject: str
    period: str
    """call | day | total"""
    limit: int

    def counts(self, key_id: str, app_id: str) -> bool:
        return self.scope == "workspace" or self.subject == (
            key_id if self.scope == "key" else app_id
        )


@dataclass(slots=True)
class Sum:
    charge: int = 0
    calls: int = 0


@dataclass(slots=True)
class Account:
    """One payer's spending; `days` by key, app and day."""

    rules: tuple[Rule, ...] = ()
    rules_at_ms: int = 0
    days: dict[tuple[str, str, int], Sum] = field(default_factory=dict)
    totals: dict[tuple[str, str], int] = field(default_factory=dict)
    """By key and app, all days."""
    reserved: dict[tuple[str, str], int] = field(default_factory=dict)

    def spent(self, rule: Rule, day: int) -> int:
        if rule.period == "total":
            return sum(v for (key, app), v in self.totals.items() if rule.counts(key, app))
        return sum(
            one.charge
            for (key, app, of_day), one in self.days.items()
            if of_day == day and rule.counts(key, app)
        )

    def held(self, rule: Rule) -> int:
        return sum(v for (key, app), v in self.reserved.items() if rule.counts(key, app))

    def require(self, key_id: str, app_id: str, ceiling: int, day: int) -> None:
        for rule in self.rules:
            if not rule.counts(key_id, app_id):
                continue
            is_per_call = rule.period == "call"
            spent = 0 if is_per_call else self.spent(rule, day)
            held = 0 if is_per_call else self.held(rule)
            if spent + held + ceiling > rule.limit:
                raise SpendLimitReached(rule.scope, rule.period, rule.limit, spent, held, ceiling)

    def add(self, key_id: str, app_id: str, day: int, charge: int, count: int = 1) -> Sum:
        one = self.days.setdefault((key_id, app_id, day), Sum())
        one.charge += charge
        one.calls += count
        self.totals[(key_id, app_id)] = self.totals.get((key_id, app_id), 0) + charge
        return one


class Reservation:
    """Held by one call; ends once, by `spend` or `release`."""

    __slots__ = ("_account", "_name", "_open", "_spending", "app_id", "ceiling", "key_id")

    def __init__(
        self,
        spending: Spending,
        name: str,
        account: Account,
        key_id: str,
        app_id: str,
        ceiling: int,
    ) -> None:
        self._spending = spending
        self._name = name
        self._account = account
        self.key_id = key_id
        self.app_id = app_id
        self.ceiling = ceiling
        self._open = True
        reserved = account.reserved
        reserved[(key_id, app_id)] = reserved.get((key_id, app_id), 0) + ceiling

    def release(self) -> None:
        if not self._open:
            return
        self._open = False
        place = (self.key_id, self.app_id)
        left = self._account.reserved[place] - self.ceiling
        if left:
            self._account.reserved[place] = left
        else:
            del self._account.reserved[place]

    def spend(self, charge: int, at_ms: int) -> dict[str, Any]:
        """The row of `spend` with this charge in it."""
        self.release()
        day = utc_day(at_ms)
        now = self._account.add(self.key_id, self.app_id, day, charge)
        return {
            "account": self._name,
            "day": day,
            "key_id": self.key_id,
            "app_id": self.app_id,
            "charge": now.charge,
            "calls": now.calls,
        }


class Spending:
    def __init__(self, database: Database, journal: Journal, clock: Clock) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._reading: dict[str, asyncio.Task[Account]] = {}

    async def reserve(self, account: str, key_id: str, app_id: str, ceiling: int) -> Reservation:
        """Raises `SpendLimitReached`."""
        name = account.lower()
        found = await self._account(name)
        found.require(key_id, app_id, ceiling, utc_day(self._clock.now_ms()))
        return Reservation(self, name, found, key_id, app_id, ceiling)

    async def hold(self, account: str, key_id: str, app_id: str, ceiling: int) -> Reservation:
        """Without asking the limits: of a call that began within them."""
        name = account.lower()
        return Reservation(self, name, await self._account(name), key_id, app_id, ceiling)

    def forget(self, account: str) -> None:
        """What was summed up here may not be what was written: read it again."""
        self._accounts.pop(account.lower(), None)

    async def _account(self, name: str) -> Account:
        now_ms = self._clock.now_ms()
        account = self._accounts.get(name)
        if account is not None:
            age_ms = now_ms - account.rules_at_ms
            if age_ms < RULES_STALE_MS:
                if age_ms >= RULES_FRESH_MS and name not in self._reading:
                    self._read(name)
                return account
        return await asyncio.shield(self._reading.get(name) or self._read(name))

    def _read(self, name: str) -> asyncio.Task[Account]:
        task = asyncio.create_task(self._load(name))
        self._reading[name] = task

        def ended(done: asyncio.Task[Account]) -> None:
            self._reading.pop(name, None)
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
        return task

    async def _load(self, name: str) -> Account:
        now_ms = self._clock.now_ms()
        if name not in self._accounts:
            await self._journal.projected()
        async with self._database.read() as session:
            rows = await calls.limits_of(session, name)
            account = self._accounts.get(name)
            if account is None:
                account = Account()
                for spent in await calls.spent_by(session, name):
                    account.add(spent.key_id, spent.app_id, spent.day, spent.charge, spent.calls)
                self._accounts[name] = account
        account.rules = _rules(rows)
        account.rules_at_ms = now_ms
        self._accounts.move_to_end(name)
        while len(self._accounts) > _KEPT:
            oldest, idle = next(iter(self._accounts.items()))
            if idle.reserved:
                break
            del self._accounts[oldest]
        return account


def _rules(rows: Sequence[Any]) -> tuple[Rule, ...]:
    return tuple(Rule(row.scope, row.subject.lower(), row.period, row.limit_units) for row in rows)
