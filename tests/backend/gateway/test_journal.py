"""What the gateway made durable, and how the tables come to have it
├── the journal is empty once the tables have everything; a channel is one row, however many calls
├── a row whose fate is not known is looked for, and counts once
├── tables that cannot be written wait, and nothing is lost
├── calls of a moment ago are in every list
├── a channel whose records are not whole is never signed on again
└── lines come back as they were written, and nothing else is read
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.call_journal import GivenUp, Opened
from tallystick.protocol.errors import WireError
from tallystick_backend.gateway import journal_lines
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.projection import Projection
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    CallRow,
    GatewayJournalRow,
    PayingChannelRow,
    SpendRow,
)
from tests.backend.gateway.market import BusServer, Market, make_market, until
from tests.protocol.calling import CHANNEL


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> object:
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
async def market(database: Database, server: BusServer, tmp_path: Path) -> AsyncIterator[Market]:
    market = await make_market(database, server, tmp_path)
    await market.joins(credit_calls=8)
    await market.start()
    yield market
    await market.end()


async def test_the_journal_is_empty_once_the_tables_have_everything(market: Market) -> None:
    await asyncio.gather(*(market.call(b"%d" % number) for number in range(20)))
    assert await market.rows(GatewayJournalRow) == []
    assert len(await market.rows(PayingChannelRow)) == 1
    calls = await market.rows(CallRow)
    assert [row.state for row in calls] == ["completed"] * 20
    assert sum(row.charge for row in calls) == 200
    assert [row.charge for row in await market.rows(SpendRow)] == [200]


async def test_a_row_whose_fate_is_not_known_counts_once(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written, and the word of it was lost: as when a database goes away in the middle."""
    assert (await market.call(b"0")).status_code == 200
    insert = Fence.insert_journal
    lost: list[str] = []

    async def insert_journal(self: Fence, row: int, body: str) -> None:
        await insert(self, row, body)
        if not lost:
            lost.append(body)
            raise ConnectionResetError("the database went away")

    monkeypatch.setattr(Fence, "insert_journal", insert_journal)
    failed = await market.call(b"1")
    assert (failed.status_code, failed.json()["code"]) == (503, "journal_failed")
    for number in range(3):
        answer = await market.call(b"%d" % number)
        assert answer.status_code == 200, answer.text
    assert await market.rows(GatewayJournalRow) == []
    calls = await market.rows(CallRow)
    assert sum(row.charge for row in calls) == 40
    assert [row.charge for row in await market.rows(SpendRow)] == [40]


async def test_tables_that_cannot_be_written_wait(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Projection.store
    failures: list[int] = []

    async def fail(self: Projection, session: AsyncSession, now_ms: int) -> None:
        await store(self, session, now_ms)
        if len(failures) < 3:
            failures.append(1)
            raise ConnectionResetError("the database went away")

    monkeypatch.setattr(Projection, "store", fail)
    for number in range(5):
        assert (await market.call(b"%d" % number)).status_code == 200
        await asyncio.sleep(0.05)
    await until(lambda: len(failures) == 3)
    assert len(await market.rows(CallRow)) == 5
    assert [row.charge for row in await market.rows(SpendRow)] == [50]


async def test_calls_of_a_moment_ago_are_in_every_list(market: Market) -> None:
    for number in range(1, 4):
        answer = await market.call(b"%d" % number)
        call_id = answer.headers["tallystick-call-id"]
        assert (await market.get(f"/v1/calls/{call_id}")).json()["state"] == "completed"
        assert (await market.get(f"/v1/calls/{call_id}/receipt")).status_code == 200
        assert len((await market.get("/v1/calls")).json()["items"]) == number
        page = (await market.get("/v1/summaries?by=day")).json()
        assert sum(int(item["charge"]) for item in page["items"]) == 10 * number


async def test_a_channel_whose_records_are_not_whole_is_never_signed_on(market: Market) -> None:
    assert (await market.call(b"0")).status_code == 200
    (before,) = await market.channels()
    await market.kill()
    async with market.database.transaction() as session:
        session.add(
            GatewayJournalRow(
                id=1_000,
                body=journal_lines.records(before.channel_id, (Opened(CHANNEL, 1),))[0],
            )
        )
    other = await market.reborn()
    await other.start()
    try:
        answer = await other.call(b"1")
        assert answer.status_code == 200, answer.text
        broken = [row for row in await other.rows(PayingChannelRow) if not row.state]
        assert [row.channel_id for row in broken] == [before.channel_id]
        assert len(await other.channels()) == 2
    finally:
        await other.stop()


columns = st.dictionaries(
    st.sampled_from(["call_id", "total", "input", "request", "problem"]),
    st.none()
    | st.integers(0, 2**256 - 1)
    | st.binary()
    | st.text()
    | st.dictionaries(st.sampled_from(["code", "detail"]), st.text()),
)


@given(columns, columns, columns)
def test_lines_come_back_as_they_were_written(
    begun: dict[str, Any], changed: dict[str, Any], spent: dict[str, Any]
) -> None:
    records = (Opened(CHANNEL, 1), GivenUp(2))
    lines = [
        *journal_lines.records("0xc", records),
        journal_lines.begun(begun),
        journal_lines.changed(changed),
        journal_lines.spent(spent),
    ]
    assert list(journal_lines.read("\n".join(lines))) == [
        *(("record", "0xc", record) for record in records),
        ("begun", "", begun),
        ("changed", "", changed),
        ("spent", "", spent),
    ]


@pytest.mark.parametrize("body", ["", "begun", "begun []", "begun {", "other {}", "record 0xc {}"])
def test_what_is_no_line_is_not_read(body: str) -> None:
    with pytest.raises(WireError):
        list(journal_lines.read(body))
