"""No look-up walks a table: plans on 100,000 events, by SQLite's and PostgreSQL's own word."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import insert, text
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.repositories import explorer, usage
from tallystick_backend.store.repositories.explorer import EventFilter
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    CallRow,
    ChainEventEntityRow,
    ChainEventPartyRow,
    ChainEventRow,
    DelegationRow,
)

EVENTS = 100_000
NAMES = ("TaskSettled", "VoucherRedeemed", "VoucherRedeemed", "Deposited")
BUSY, QUIET = "0x" + "11" * 20, "0x" + "22" * 20

Question = Callable[[AsyncSession], Coroutine[Any, Any, Any]]


async def _fill(database: Database) -> None:
    def event(number: int) -> dict[str, Any]:
        # One slash among all the others, near the beginning.
        name = "Slashed" if number == 500 else NAMES[number % len(NAMES)]
        return {
            "id": number,
            "block_number": number // 10,
            "block_hash": f"0x{number:064x}",
            "log_index": 0,
            "tx_hash": f"0x{number:064x}",
            "timestamp_s": number,
            "contract": "TaskMarket",
            "name": name,
            "args": {},
        }

    def call(number: int) -> dict[str, Any]:
        zeros = ("queued_ms", "cold_start_ms", "run_ms", "gpu_ms", "result_bytes", "attempts")
        wei = ("flat", "fee_per_call", "rate_per_gpu_second", "charge", "total")
        return {
            "call_id": f"{number}",
            "account": BUSY,
            "app_id": f"0x{number % 100:064x}",
            "version": 1,
            "state": "completed",
            "asked_at_ms": number,
            "request": {},
            **dict.fromkeys((*zeros, *wei, "gpus", "webhook_attempts"), 0),
            **dict.fromkeys(
                (
                    "key_id",
                    "request_hash",
                    "provider",
                    "gpu_class",
                    "channel_id",
                    "media_type",
                    "webhook_url",
                    "webhook_state",
                ),
                "",
            ),
        }

    async with database.transaction() as session:
        for start in range(1, EVENTS + 1, 5_000):
            numbers = range(start, start + 5_000)
            rows = [event(number) for number in numbers]
            await session.exec(insert(ChainEventRow), params=rows)
            parties = [
                {"address": BUSY, "event_id": row["id"], "name": row["name"]} for row in rows
            ]
            parties += [
                {"address": QUIET, "event_id": row["id"], "name": row["name"]}
                for row in rows
                if row["id"] % 25_000 == 0
            ]
            await session.exec(insert(ChainEventPartyRow), params=parties)
            await session.exec(
                insert(ChainEventEntityRow),
                params=[
                    {"entity": f"task:{number // 5}", "event_id": number} for number in numbers
                ],
            )
        await session.exec(
            insert(DelegationRow),
            params=[
                {
                    "place": f"0x{number % 50:040x}/0x{number:040x}",
                    "provider": f"0x{number % 50:040x}",
                    "delegator": f"0x{number:040x}",
                    "generation": 0,
                    **dict.fromkeys(("shares", "put_in", "taken_out", "claimed"), 0),
                }
                for number in range(20_000)
            ],
        )
        await session.exec(insert(CallRow), params=[call(number) for number in range(20_000)])
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE"))


QUESTIONS: dict[str, Question] = {
    "all events": lambda s: explorer.newest_events(s, EventFilter(before=90_000), 51),
    "a rare kind": lambda s: explorer.newest_events(s, EventFilter(("Slashed",)), 51),
    "a kind, further back": lambda s: explorer.newest_events(
        s, EventFilter(("TaskSettled",), before=50_000), 51
    ),
    "a busy account": lambda s: explorer.newest_events(s, EventFilter(address=BUSY), 51),
    "a quiet account": lambda s: explorer.newest_events(
        s, EventFilter(address=QUIET, before=99_000), 51
    ),
    "a rare kind of a busy account": lambda s: explorer.newest_events(
        s, EventFilter(("Slashed",), address=BUSY), 51
    ),
    "a task's events": lambda s: explorer.events_of_entity(s, "task:7000", 200),
    "a transaction": lambda s: explorer.events_of_transaction(s, f"0x{77_777:064x}", 3),
    "what follows an event": lambda s: explorer.events_after(s, 99_990, 100),
    "the last event": explorer.last_event,
    "whether an account is known": lambda s: explorer.is_party(s, QUIET),
    "a pool's delegators": lambda s: explorer.delegations(
        s, provider=f"0x{7:040x}", delegator=None, after=f"0x{7:040x}/0x{9:040x}", limit=51
    ),
    "a delegator's pools": lambda s: explorer.delegations(
        s, provider=None, delegator=f"0x{77:040x}", after="", limit=51
    ),
    "an app's calls lately": lambda s: usage.calls_of_app_since(s, f"0x{5:064x}", 15_000, 2_001),
    "an account's charges lately": lambda s: usage.charges_since(s, BUSY, 15_000, 2_000),
}


@pytest.mark.slow
async def test_every_question_is_answered_by_an_index(database: Database) -> None:
    await _fill(database)
    plans: dict[str, list[str]] = {}
    for name, ask in QUESTIONS.items():
        async with database.read() as session:
            statements = await _asked(database, session, ask)
            assert statements, name
            plans[name] = [await _plan(session, *each) for each in statements]
    walked = {
        name: found for name, found in plans.items() for plan in found if _walks_a_table(plan)
    }
    assert walked == {}


async def _asked(database: Database, session: AsyncSession, ask: Question) -> list[tuple[str, Any]]:
    """The statements of a question, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    engine = database.engine.sync_engine
    sa_event.listen(engine, "before_cursor_execute", note)
    try:
        await ask(session)
    finally:
        sa_event.remove(engine, "before_cursor_execute", note)
    return seen


async def _plan(session: AsyncSession, statement: str, parameters: Any) -> str:
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return "\n".join(row[3] for row in rows)
    rows = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
    found = rows.scalar_one()
    return json.dumps(found if isinstance(found, list) else json.loads(found))


def _walks_a_table(plan: str) -> bool:
    """From end to end: SQLite says SCAN (a walk of the key that stops at the limit is none), or
    sorts what an index should have in order; PostgreSQL says Seq Scan."""
    if plan.startswith("["):
        return '"Seq Scan"' in plan
    return any(
        (line.startswith("SCAN") and line != "SCAN chain_event") or "TEMP B-TREE" in line
        for line in plan.splitlines()
    )
