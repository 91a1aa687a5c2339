"""Harm to the index from outside: its database errs, its process ends, at any statement, any
commit, any question to the node."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InterfaceError, OperationalError

from tallystick_backend.chain import Rpc
from tallystick_backend.store.session import Database


class Killed(BaseException):
    """The process ended here. What it had in memory is gone."""


class Harm:
    """Shared by the lives of one seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.on = True
        self.kill_rate = 0.002
        self.statement_error_rate = 0.001
        self.commit_error_rate = 0.005
        self.happened: Counter[str] = Counter()

    def step(self, name: str) -> None:
        """A place at which the process may end."""
        if self.on and self._chance.random() < self.kill_rate:
            self.happened[f"killed at {name}"] += 1
            raise Killed(name)

    def err(self, name: str, rate: float) -> None:
        if not self.on or self._chance.random() >= rate:
            return
        self.happened[f"database error at {name}"] += 1
        if self._chance.random() < 0.5:
            raise OperationalError(name, {}, sqlite3.OperationalError("database is locked"))
        raise InterfaceError(name, {}, ConnectionResetError("connection lost"))

    def over(self, database: Database) -> Database:
        """`database`, from now on unreliable."""
        engine = database.engine.sync_engine

        @event.listens_for(engine, "before_cursor_execute")
        def before(*_: Any) -> None:
            self.step("a statement")
            self.err("a statement", self.statement_error_rate)

        @event.listens_for(engine, "after_cursor_execute")
        def after(*_: Any) -> None:
            self.step("a statement's end")

        really_commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.step("a commit")
            self.err("a commit", self.commit_error_rate)
            really_commit(connection)
            # It is done, and nobody hears of it.
            self.step("a commit's end")
            self.err("a commit's end", self.commit_error_rate)

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]
        return database


class HarmedRpc:
    """An `Rpc` at whose questions the process may end."""

    def __init__(self, rpc: Rpc, harm: Harm) -> None:
        self._rpc = rpc
        self._harm = harm

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self._harm.step("a question to the node")
        answer = await self._rpc.request(method, params)
        self._harm.step("the node's answer")
        return answer

    async def close(self) -> None:
        await self._rpc.close()
