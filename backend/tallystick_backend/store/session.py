"""One database: `transaction` writes, `read` looks, `execute` writes with one statement.

SQLite (WAL): a write transaction takes the write lock when it begins (BEGIN IMMEDIATE), so it never
fails half-way for want of it; writers of this process queue up in order. PostgreSQL: repeatable
read, so a row that somebody else changed meanwhile is an error to retry, never a lost update.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiosqlite
from sqlalchemy import Connection, CursorResult, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.errors import BackendError
from tallystick_backend.store.direct import DirectWrites

BUSY_TIMEOUT_S = 10.0

_READ_ONLY = "tallystick_read_only"

# serialization failure, deadlock
_POSTGRES_CONFLICTS = frozenset({"40001", "40P01"})


class StoreError(BackendError):
    """The database cannot be used as it is."""


class DatabaseBusy(StoreError):
    """Another write transaction of this process did not end in time."""

    next_step = "Try again; if it stays, look for a transaction that waits for the network."


class UnsupportedDatabase(StoreError):
    next_step = "Use sqlite+aiosqlite:///path/to/file.db or postgresql+asyncpg://user@server/name."


class Database:
    """Opens nothing until it is first used."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._one_writer = asyncio.Lock()
        self._direct = DirectWrites(make_url(url).database or ":memory:", _prepare_sqlite)
        self._write_sessions = async_sessionmaker(
            self._engine.execution_options(isolation_level="REPEATABLE READ")
            if not self._is_sqlite
            else self._engine,
            class_=AsyncSession,
            expire_on_commit=False,
        )
        self._read_sessions = async_sessionmaker(
            self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            if not self._is_sqlite
            else self._engine.execution_options(**{_READ_ONLY: True}),
            class_=AsyncSession,
            expire_on_commit=False,
        )

    @property
    def is_postgresql(self) -> bool:
        return not self._is_sqlite

    @property
    def engine(self) -> AsyncEngine:
        return self._engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: commits at the end of the block, rolls back if it raises.

        Nothing inside may wait for the network, and none may be opened inside another.
        """
        async with AsyncExitStack() as stack:
            if self._is_sqlite:
                await self._take_turn(stack)
            session = await stack.enter_async_context(self._write_sessions())
            async with session.begin():
                yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One snapshot: every query in the block sees the same moment."""
        async with self._read_sessions() as session:
            yield session

    async def execute(self, statement: str, **values: Any) -> int:
        """One statement as a transaction of its own; how many rows it touched. Parameters are
        `:name`. On SQLite it takes no hop to another thread, or one, where a `transaction` takes
        some ten: for what is in the way of an answer."""
        if not self._is_sqlite:
            async with self.transaction() as session:
                done = await (await session.connection()).execute(text(statement), values)
                assert isinstance(done, CursorResult)
                return done.rowcount
        async with AsyncExitStack() as stack:
            await self._take_turn(stack)
            return await self._direct.execute(statement, values)

    async def migrate(self) -> None:
        """Brings the schema up to date."""
        from tallystick_backend.migrations.run import upgrade

        async with self._engine.connect() as connection:
            await connection.run_sync(upgrade)
            await connection.commit()

    async def close(self) -> None:
        await self._direct.close()
        await self._engine.dispose()

    async def _take_turn(self, stack: AsyncExitStack) -> None:
        # SQLite's own waiting is a poll with growing sleeps; a queue is fair and at once.
        try:
            if not self._one_writer.locked():
                await self._one_writer.acquire()
                stack.callback(self._one_writer.release)
                return
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._one_writer.acquire()
        except TimeoutError:
            raise DatabaseBusy(
                f"no write transaction could begin within {BUSY_TIMEOUT_S:g} s"
            ) from None
        stack.callback(self._one_writer.release)


def is_conflict(error: BaseException) -> bool:
    """True when the same transaction may succeed if it is simply tried again."""
    if isinstance(error, DatabaseBusy):
        return True
    if isinstance(error, sqlite3.OperationalError):
        return "database is locked" in str(error)
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state in _POSTGRES_CONFLICTS or "database is locked" in str(error.orig)


class JsonText(str):
    """A value of a JSON column that is JSON already, and goes there as it is."""

    __slots__ = ()


def _to_json(value: object) -> str:
    return value if type(value) is JsonText else json.dumps(value)


def _engine(url: str) -> AsyncEngine:
    driver = make_url(url).drivername
    if driver == "sqlite+aiosqlite":
        path = make_url(url).database or ":memory:"
        engine = create_async_engine(
            url, async_creator=lambda: _Connection(path), json_serializer=_to_json
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    if driver == "postgresql+asyncpg":
        return create_async_engine(
            url, pool_size=10, max_overflow=10, pool_pre_ping=True, json_serializer=_to_json
        )
    raise UnsupportedDatabase(f"the database driver {driver!r} is not supported")


class _Connection(aiosqlite.Connection):
    """Rolls back before it is closed. SQLAlchemy closes the connection of a statement that was
    cancelled, and SQLite only really does so once its last statement is collected as garbage: until
    then nobody else could write."""

    def __init__(self, path: str) -> None:
        # Its own thread is the only one that uses it; SQLAlchemy sets its properties from ours.
        super().__init__(
            lambda: sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
            iter_chunk_size=64,
        )
        self._thread.daemon = True  # as SQLAlchemy would: one left open must not hold up an end

    async def close(self) -> None:
        self._roll_back_first()
        await super().close()

    def stop(self) -> asyncio.Future[None] | None:
        self._roll_back_first()
        return super().stop()

    def _roll_back_first(self) -> None:
        if self._connection is not None:
            self._tx.put_nowait((None, self._connection.rollback))


def _prepare_sqlite(connection: Any, _record: object = None) -> None:
    # The driver would begin transactions by itself, too late and without the write lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # A fence that was given must survive a power cut, or it would be given twice.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
