"""Whoever watches a task sees every step, in order, once."""

from __future__ import annotations

import asyncio

from tallystick_backend.store.repositories import events as steps
from tallystick_backend.store.session import Database


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


async def test_a_step_committed_late_never_appears_behind_a_watcher(database: Database) -> None:
    """PostgreSQL gives ids before commit: the later writer of the same task waits its turn."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as session:
            await steps.append(session, "0x1", "leased", {}, 0)
            begun.set()
            await may_end.wait()

    async def fast() -> None:
        await begun.wait()
        async with database.transaction() as session:
            await steps.append(session, "0x1", "running", {}, 0)

    writers = [asyncio.create_task(slow()), asyncio.create_task(fast())]
    await begun.wait()
    await asyncio.wait(writers, timeout=0.2)
    async with database.read() as session:
        seen = list(await steps.after(session, "0x1", 0))
    may_end.set()
    await asyncio.gather(*writers)
    async with database.read() as session:
        last = seen[-1].id if seen else 0
        assert last is not None
        seen += await steps.after(session, "0x1", last)
    assert [row.kind for row in seen] == ["leased", "running"]


async def test_the_steps_of_many_tasks_keep_their_order(database: Database) -> None:
    many = [steps.Step(f"0x{n % 7}", "progress", {"n": n}) for n in range(50)]
    async with database.transaction() as session:
        await steps.append_all(session, many, 0)
        await steps.append_all(session, [], 0)
    async with database.read() as session:
        of_one = await steps.after(session, "0x3", 0)
    assert [row.data["n"] for row in of_one] == list(range(3, 50, 7))


async def test_a_step_is_taken_back_with_its_transaction(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as session:
            await steps.append(session, "0x1", "settled", {}, 0)
            raise RuntimeError

    await asyncio.gather(write_and_fail(), return_exceptions=True)
    async with database.read() as session:
        assert await steps.after(session, "0x1", 0) == []
