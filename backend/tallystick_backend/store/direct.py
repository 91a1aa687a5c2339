"""One statement at a time to an SQLite file, each a transaction of its own, without the hops of an
asynchronous driver: for what is in the way of an answer. On the loop's own thread while the disk is
quick (`disk_pace`), else, and where somebody else is writing, on a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tallystick.protocol.disk_pace import DiskPace

Values = dict[str, Any]


class DirectWrites:
    def __init__(self, path: str, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._prepare = prepare
        self._pace = DiskPace()
        self._at_once: sqlite3.Connection | None = None
        self._patient: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def execute(self, statement: str, values: Values) -> int:
        """How many rows it touched. One at a time: whoever calls sees to it."""
        if self._pace.is_quick():
            if self._at_once is None:
                self._at_once = self._connect()
                # Others' writes are waited for in the thread. What the log has gathered is brought
                # into the file by other connections, also not here.
                self._at_once.execute("pragma busy_timeout = 0")
                self._at_once.execute("pragma wal_autocheckpoint = 0")
            try:
                with self._pace.measured():
                    return self._at_once.execute(statement, values).rowcount
            except sqlite3.OperationalError as failure:
                if failure.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="direct-sqlite")
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._wait_and_execute, statement, values
        )

    async def close(self) -> None:
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
            self._thread = None
        for connection in (self._at_once, self._patient):
            if connection is not None:
                connection.close()
        self._at_once = self._patient = None

    def _wait_and_execute(self, statement: str, values: Values) -> int:
        if self._patient is None:
            self._patient = self._connect()
        return self._patient.execute(statement, values).rowcount

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False)
        self._prepare(connection)
        return connection
