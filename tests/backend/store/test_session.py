"""A transaction is whole or nothing; a lost update is an error on both databases."""

from __future__ import annotations

import asyncio
import gc
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from tallystick_backend.store import session as session_module
from tallystick_backend.store.session import (
    Database,
    DatabaseBusy,
    UnsupportedDatabase,
    is_conflict,
)
from tallystick_backend.store.tables import AccountRow


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as session:
            session.add(AccountRow(address="0xa", available=1))
            await session.flush()
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        await write_and_fail()
    async with database.read() as session:
        assert await session.get(AccountRow, "0xa") is None


async def test_one_statement_is_a_transaction(database: Database) -> None:
    insert = "insert into account (address, available, locked, credit) values (:who, :n, :n, :n)"
    zero = "0" * 78
    try:
        assert await database.execute(insert, who="0xa", n=zero) == 1
        async with database.read() as session:
            assert await session.get(AccountRow, "0xa") is not None
        with pytest.raises((DBAPIError, sqlite3.IntegrityError)):
            await database.execute(insert, who="0xa", n=zero)
        nobody = "update account set available = :much where address = :who"
        assert await database.execute(nobody, who="0xb", much=zero) == 0
    finally:
        await database.close()


async def test_one_statement_waits_for_a_transaction_and_the_other_way_round(
    database: Database,
) -> None:
    async with database.transaction() as session:
        session.add(AccountRow(address="0xa", available=0))

    async def add_one() -> None:
        while True:
            try:
                async with database.transaction() as session:
                    row = await session.get(AccountRow, "0xa")
                    assert row is not None
                    row.available += 1
                    session.add(row)
                return
            except Exception as error:
                if not is_conflict(error):
                    raise

    async def touch() -> None:
        while True:
            try:
                touched = "update account set locked = locked where address = :who"
                assert await database.execute(touched, who="0xa") == 1
                return
            except Exception as error:
                if not is_conflict(error):
                    raise

    try:
        await asyncio.gather(*(work() for _ in range(10) for work in (add_one, touch)))
        async with database.read() as session:
            row = await session.get(AccountRow, "0xa")
            assert row is not None
            assert row.available == 10
    finally:
        await database.close()


async def test_a_read_sees_one_moment(database: Database) -> None:
    async with database.transaction() as session:
        session.add(AccountRow(address="0xa", available=1))
    async with database.read() as reading:
        before = await reading.get(AccountRow, "0xa")
        assert before is not None
        async with database.transaction() as writing:
            row = await writing.get(AccountRow, "0xa")
            assert row is not None
            row.available = 2
            writing.add(row)
        await reading.refresh(before)
        assert before.available == 1


async def test_a_read_cannot_write(database: Database) -> None:
    async with database.read() as session:
        session.add(AccountRow(address="0xa"))
        with pytest.raises(DBAPIError):
            await session.flush()


async def test_twenty_writers_lose_no_update(database: Database) -> None:
    async with database.transaction() as session:
        session.add(AccountRow(address="0xa", available=0))

    async def add_one() -> None:
        while True:
            try:
                async with database.transaction() as session:
                    row = await session.get(AccountRow, "0xa")
                    assert row is not None
                    row.available += 1
                    session.add(row)
                return
            except DBAPIError as error:
                if not is_conflict(error):
                    raise

    await asyncio.gather(*(add_one() for _ in range(20)))
    async with database.read() as session:
        row = await session.get(AccountRow, "0xa")
    assert row is not None
    assert row.available == 20


async def test_a_transaction_inside_another_is_an_error_and_no_deadlock(
    sqlite_url_of_a_new_database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BUSY_TIMEOUT_S", 0.05)
    database = Database(next(sqlite_url_of_a_new_database()))  # type: ignore[operator]
    async with database.transaction():
        with pytest.raises(DatabaseBusy):
            async with database.transaction():
                pass
    await database.close()


def test_another_database_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedDatabase, match="mysql"):
        Database("mysql+aiomysql://root@localhost/x")


async def test_a_writer_cancelled_in_the_queue_leaves_the_queue_moving(database: Database) -> None:
    async def write(amount: int) -> None:
        async with database.transaction() as session:
            session.add(AccountRow(address=f"0x{amount}", available=amount))

    for turn in range(10):
        writers = [asyncio.create_task(write(10 * turn + n)) for n in range(5)]
        for _ in range(turn):
            await asyncio.sleep(0)
        for writer in writers[1:4]:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    await write(1000)
    async with database.read() as session:
        assert await session.get(AccountRow, "0x1000") is not None


@pytest.mark.parametrize("times", [1, 1_000])
async def test_a_writer_cancelled_over_a_statement_lets_others_write(
    database: Database, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, not when the statement is collected as garbage one day. Once, as a timeout cancels,
    and at each await, as the web framework does with a request whose client has gone."""

    async def write(number: int) -> None:
        async with database.transaction() as session:
            for _ in range(50):
                await session.exec(select(AccountRow))
            session.add(AccountRow(address=f"0x{number}", available=1))

    gc.disable()
    try:
        for number in range(25):
            writer = asyncio.create_task(write(number))
            await asyncio.sleep(0.001 + number * 0.0005)
            for _ in range(times):
                writer.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(writer, return_exceptions=True)
            async with asyncio.timeout(5), database.transaction() as session:
                session.add(AccountRow(address=f"0xf{number}", available=1))
    finally:
        gc.enable()
    assert caplog.records == []
