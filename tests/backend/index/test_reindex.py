"""`tallystick-backend reindex`: what the chain said is forgotten and read again; orders stay."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from tallystick_backend.__main__ import cli
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import TaskOrderRow
from tests.backend.index.conftest import IndexOf
from tests.backend.index.node import Market, Node
from tests.backend.index.test_follow import check_books, contents


async def test_what_the_chain_said_is_forgotten_and_read_again(
    index_of: IndexOf, node: Node, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market(node, seed=9)
    for _ in range(10):
        market.mine()
    await index_of(node, database).catch_up()
    before = await contents(database)
    async with database.transaction() as session:
        order = TaskOrderRow(
            task_id="0x1",
            consumer="0x2",
            terms={},
            signature="0x",
            manifest={},
            created_at_ms=1,
        )
        session.add(order)

    monkeypatch.setenv("TALLYSTICK_BACKEND_DATABASE_URL", database.url)
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["reindex", "--json"])
    assert result.exit_code == 0, result.output
    async with database.read() as session:
        assert await rows.cursor(session) is None
        assert await session.get(TaskOrderRow, "0x1") is not None

    await index_of(node, database).catch_up()
    assert await contents(database) == before
    await check_books(database, market)
