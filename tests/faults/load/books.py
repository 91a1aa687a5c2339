"""What must be true once the market is at rest again, read from outside: from the chain, the
consumer's own notes and the databases, with none of the code that wrote them.

    tasks     each has one end; each settled one was paid for once, and only those
    calls     each key has one charge, however often it was asked for
    sums      consumer's notes, backend's tables, its sums, vouchers and chain agree to the unit
    money     what the escrow holds is what it owes
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg

from tallystick import JobStatus
from tallystick.devnet.ledger import Ledger
from tests.faults.campaign import Broken, Row
from tests.faults.load.market import PATIENCE_S, Stage, wait_until

EVERY = 10_000
ROWS = {
    "tasks": Row("tasks ordered meanwhile", "one end each, paid once, for what was accepted"),
    "given_up": Row("of these, lost by three providers", "given back, and not paid for"),
    "calls": Row("calls made meanwhile", "one charge each; five books agree to the unit"),
}


def settle(stage: Stage) -> None:
    """Lets everything that is under way come to its end, with the consumer's help."""
    accept_the_rest(stage)
    wait_until(
        lambda: not _open(stage),
        "every task to be settled or given up",
        PATIENCE_S,
        lambda: ", ".join(_open(stage)),
    )
    for channel in stage.client.channels():
        if channel.state == "open":
            stage.client.close_channel(channel.id)
    wait_until(
        lambda: claimed(stage) == voucher_total(stage),
        "every voucher to be redeemed",
        PATIENCE_S,
        lambda: f"{claimed(stage)} on chain, {voucher_total(stage)} in vouchers",
    )


def accept_the_rest(stage: Stage) -> None:
    """Tasks that the consumer does not know of: it died before it was told. Where it died before
    it had locked the money, nobody works, and the order is withdrawn."""
    known = stage.book().tasks
    for job in _jobs(stage):
        if job.id in known or job.is_over:
            continue
        if job.state == "ordered":
            stage.client.cancel(job.id)
        else:
            stage.client.result(job.id, to=stage.home / "late" / job.id[:14], timeout=60)


def check(stage: Stage) -> Counter[str]:
    """Raises `Broken` at the first figure that is wrong; counts what was compared."""
    ledger = Ledger(stage.market)
    ledger.wait_until_indexed("")
    given_up = sum("failed" in one for one in stage.book().tasks.values())
    counts = Counter(tasks=_tasks(stage, ledger), calls=_calls(stage), given_up=given_up)
    _sums(stage)
    if differ := ledger.disagreements():
        raise Broken(f"index and chain differ: {'; '.join(differ)}")
    return counts


def _tasks(stage: Stage, ledger: Ledger) -> int:
    book = stage.book()
    tasks = {job.id: job for job in _jobs(stage)}
    for task_id in book.tasks:
        if task_id not in tasks:
            raise Broken(f"task {task_id} is lost: the consumer was told of it, the backend is not")
    for task_id, job in tasks.items():
        paid = ledger.payments(task_id)
        if len(paid) > 1:
            raise Broken(f"task {task_id} was paid {len(paid)} times: {paid}")
        if (job.state == "settled") != bool(paid):
            raise Broken(f"task {task_id} is {job.state}, and was paid {len(paid)} times on chain")
        noted = book.tasks.get(task_id, {})
        # A task that lost three providers is given back: what the market promises, and no more.
        if "failed" in noted and "3 attempts are spent" not in noted["failed"]:
            raise Broken(f"task {task_id} was given up: {noted['failed']}")
        if "charge" in noted and [noted["charge"]] != [one["charge"] for one in paid]:
            raise Broken(f"task {task_id} was accepted for {noted['charge']} and paid {paid}")
    return len(tasks)


def _calls(stage: Stage) -> int:
    book = stage.book()
    rows = _backend(stage, "select idempotency_key, state, charge from call")
    completed: dict[str, list[int]] = {}
    for key, state, charge in rows:
        if state == "completed":
            completed.setdefault(key, []).append(int(charge))
        elif int(charge or 0):
            raise Broken(f"call {key} is {state} and costs {charge}")
    for key, noted in book.calls.items():
        if [int(noted["charge"])] != completed.get(key, []):
            raise Broken(f"call {key} cost {noted['charge']}, the backend has {completed.get(key)}")
    return len(book.calls)


def _sums(stage: Stage) -> None:
    books = {
        "the consumer's notes": sum(int(one["charge"]) for one in stage.book().calls.values()),
        "the backend's calls": sum(
            int(c or 0) for (c,) in _backend(stage, "select charge from call")
        ),
        "its summaries": sum(int(row.charge) for row in stage.client.summaries(by="day").items),
        "vouchers": voucher_total(stage),
        "chain": claimed(stage),
    }
    if len(set(books.values())) > 1:
        raise Broken("calls: " + ", ".join(f"{name} say {value}" for name, value in books.items()))


def claimed(stage: Stage) -> int:
    return sum(int(channel.claimed) for channel in stage.client.channels())


def voucher_total(stage: Stage) -> int:
    """The last voucher of each channel, as the gateway keeps it."""
    ends = [
        json.loads(state)["record"]
        for (state,) in _backend(stage, "select state from paying_channel")
    ]
    return sum(int(end["voucher"]["voucher"]["total"]) for end in ends if end["voucher"])


def _jobs(stage: Stage) -> tuple[JobStatus, ...]:
    """All of them: a long run orders more than a page."""
    return stage.client.list_jobs(limit=EVERY)


def _open(stage: Stage) -> list[str]:
    return [f"{j.id[:14]} {j.state}" for j in _jobs(stage) if not j.is_over]


def _backend(stage: Stage, query: str) -> list[Any]:
    url = stage.market.plan.database_url
    if url:
        return asyncio.run(_postgresql(url, query))
    path = Path(stage.directory) / "backend.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


async def _postgresql(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()
