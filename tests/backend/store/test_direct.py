"""Single statements on SQLite: at once where nobody else writes, in turn where somebody does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.protocol.disk_pace import QUICK_S
from tallystick_backend.store.direct import DirectWrites


@pytest.fixture
async def direct(tmp_path: Path) -> AsyncIterator[DirectWrites]:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as data:
        data.execute("pragma journal_mode = wal")
        data.execute("create table t (n integer primary key)")
    direct = DirectWrites(str(path), lambda data: setattr(data, "isolation_level", None))
    yield direct
    await direct.close()


INSERT = "insert into t values (:n)"


async def test_a_quick_write_waits_for_nothing(direct: DirectWrites) -> None:
    writing = direct.execute(INSERT, {"n": 1})
    with pytest.raises(StopIteration) as done:  # no suspension: it never left this thread
        writing.send(None)
    assert done.value.value == 1


async def test_another_writer_holds_up_the_statement_and_not_the_loop(
    direct: DirectWrites, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("begin immediate")
    writing = asyncio.create_task(direct.execute(INSERT, {"n": 1}))
    for _ in range(20):
        await asyncio.sleep(0.01)
        assert not writing.done()
    other.execute("commit")
    assert await asyncio.wait_for(writing, 5) == 1
    other.close()


async def test_a_slow_disk_is_written_from_the_thread(direct: DirectWrites) -> None:
    for _ in range(5):
        direct._pace.took(QUICK_S * 10)
    writing = asyncio.create_task(direct.execute(INSERT, {"n": 1}))
    await asyncio.sleep(0)
    assert not writing.done()
    assert await writing == 1


async def test_a_refused_statement_raises_and_leaves_nothing_open(direct: DirectWrites) -> None:
    await direct.execute(INSERT, {"n": 1})
    with pytest.raises(sqlite3.IntegrityError):
        await direct.execute(INSERT, {"n": 1})
    assert await direct.execute(INSERT, {"n": 2}) == 1
