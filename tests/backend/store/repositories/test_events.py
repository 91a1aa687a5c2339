"""Whoever watches a task sees every step, in order, once."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import DBAPIError

from tallystick_backend.store.repositories import events as steps
from tallystick_backend.store.session import Database, is_conflict


async def test_steps_come_back_in_order_after_the_last_one_seen(database: Database) -> None:
    async with database.transaction() as session:
        first = await steps.append(session, "0x1", "ordered", {"by": "0xa"}, 5)
        await steps.append(session, "0x2", "ordered", {}, 6)
        await steps.append(session, "0x1", "funded", {}, 7)
        await steps.append(session, "0x1", "leased", {}, 8)
    async with database.read() as session:
        everything = await steps.after(session, "0x1", 0)
        rest = await steps.after(session, "0x1", first, limit=1)
        assert await steps.last_id(session, "0x1") == everything[-1].id
        assert await steps.last_id(session, "0x3") == 0
    assert [row.kind for row in everything] == ["ordered", "funded", "leased"]
    assert everything[0].data == {"by": "0xa"}
    assert [row.kind for row in rest] == ["funded"]


async def test_a_watcher_misses_no_step_of_writers_that_overlap(database: Database) -> None:
    """An id that a slower transaction took before must not appear behind the watcher's back."""

    async def write(number: int) -> None:
        while True:
            try:
                async with database.transaction() as session:
                    await steps.append(session, "0x1", "progress", {"n": number}, 0)
                    await asyncio.sleep(0.002 * (number % 3))
                return
            except DBAPIError as error:
                if not is_conflict(error):
                    raise

    seen: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        last = 0
        while True:
            finished = done.is_set()
            async with database.read() as session:
                for row in await steps.after(session, "0x1", last):
                    assert row.id is not None
                    last = row.id
                    seen.append(row.data["n"])
            if finished:
                return
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(write(number) for number in range(30)))
    done.set()
    await watching
    assert sorted(seen) == list(range(30))


async def test_a_step_is_taken_back_with_its_transaction(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as session:
            await steps.append(session, "0x1", "settled", {}, 0)
            raise RuntimeError

    await asyncio.gather(write_and_fail(), return_exceptions=True)
    async with database.read() as session:
        assert await steps.after(session, "0x1", 0) == []
