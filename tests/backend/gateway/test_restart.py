"""A gateway that ends at any moment, and another one on the same rows
├── ended between any two steps: asked, sent, answered, accepted, voucher sent, projected
│   ├── nothing signed is signed again for another total
│   ├── the provider's chain of receipts goes on, or the channel is followed by another
│   └── each call is charged once, or not at all
├── a call under a key that was in flight answers the same after the restart
├── an answer given before is given again after it
├── queued calls go on
└── two gateways on one database: the second waits, and one that was overtaken signs nothing
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.call_journal import VoucherSigned
from tallystick_backend.gateway import journal_lines
from tallystick_backend.gateway.bus import NatsCallBus
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.journal import Entry, Journal, Row
from tallystick_backend.gateway.paying_end import PayingEnd
from tallystick_backend.gateway.projection import Projection
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow, GatewayJournalRow, GatewayRow, SpendRow
from tests.backend.gateway.market import BusServer, Market, make_market, until

STEPS = [
    "commit asked",
    "send call",
    "receive answer",
    "commit accepted",
    "send voucher",
    "project",
]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> object:
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
def journal_bodies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every row that was ever in the gateway's journal: they leave it once the tables have them."""
    bodies: list[str] = []
    insert = Fence.insert_journal

    async def insert_journal(self: Fence, row: int, body: str) -> None:
        await insert(self, row, body)
        bodies.append(body)

    monkeypatch.setattr(Fence, "insert_journal", insert_journal)
    return bodies


@pytest.fixture
async def market(database: Database, server: BusServer, tmp_path: Path) -> AsyncIterator[Market]:
    market = await make_market(database, server, tmp_path)
    await market.joins()
    await market.start()
    yield market
    await market.end()


class Crash:
    """Ends everything when the process comes to a step: nothing after it happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
        self.reached = asyncio.Event()
        self.dead = False
        self._commits = 0
        write, send, arrive = Journal._write, NatsCallBus.send, PayingEnd._arrive
        store = Projection.store
        crash = self

        async def at(now: str, work: object) -> None:
            if crash.dead:
                await asyncio.Event().wait()
            hit = now == step and not crash.reached.is_set()
            if hit and not after:
                crash.dead = True
                crash.reached.set()
                await asyncio.Event().wait()
            await work  # type: ignore[misc]
            if hit:
                crash.dead = True
                crash.reached.set()
                await asyncio.Event().wait()

        async def _write(self: Journal, row: Row) -> None:
            kind = "commit accepted" if any("Accepted" in line for line in row.lines) else ""
            kind = kind or ("commit asked" if any('"Asked"' in line for line in row.lines) else "")
            await at(kind, write(self, row))

        async def _store(self: Projection, session: AsyncSession, now_ms: int) -> None:
            await at("project", store(self, session, now_ms))

        async def _send(
            self: NatsCallBus, provider: str, verb: str, payload: bytes, reply: str
        ) -> None:
            await at(f"send {verb}", send(self, provider, verb, payload, reply))

        async def _arrive(self: PayingEnd, one: object, frame: object) -> bool:
            taken: list[bool] = []

            async def take() -> None:
                taken.append(await arrive(self, one, frame))  # type: ignore[arg-type]

            await at("receive answer", take())
            return taken[0]

        monkeypatch.setattr(Journal, "_write", _write)
        monkeypatch.setattr(NatsCallBus, "send", _send)
        monkeypatch.setattr(PayingEnd, "_arrive", _arrive)
        monkeypatch.setattr(Projection, "store", _store)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_gateway_that_ends_between_two_steps_loses_and_doubles_nothing(
    market: Market, journal_bodies: list[str], step: str, after: bool
) -> None:
    assert (await market.call(b"0")).status_code == 200
    with pytest.MonkeyPatch.context() as monkeypatch:
        crash = Crash(monkeypatch, step, after=after)
        calling = asyncio.create_task(market.call(b"1", Idempotency_Key="k1"))
        await asyncio.wait_for(crash.reached.wait(), 20)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await market.kill()
    other = await market.reborn()
    await other.start()
    try:
        answer = await other.call(b"1", Idempotency_Key="k1")
        assert (answer.status_code, answer.content) == (200, b"1"), answer.text
        follow = await other.call(b"2")
        assert follow.status_code == 200, follow.text
        # Asked for twice, but paid for once: three calls, each at its price.
        assert [row.charge for row in await other.rows(SpendRow)] == [30]
        completed = [row for row in await other.rows(CallRow) if row.state == "completed"]
        assert sum(row.charge for row in completed) == 30
        await _nothing_signed_twice(other, journal_bodies)
    finally:
        await other.stop()


async def test_an_answer_is_given_again_after_a_restart(market: Market) -> None:
    first = await market.call(b"1", Idempotency_Key="k1")
    await market.kill()
    other = await market.reborn()
    await other.start()
    try:
        again = await other.call(b"1", Idempotency_Key="k1")
        assert (again.content, again.status_code) == (first.content, 200)
        assert again.headers["tallystick-call-id"] == first.headers["tallystick-call-id"]
        assert len(market.provider.ran) == 1
        conflict = await other.call(b"2", Idempotency_Key="k1")
        assert conflict.status_code == 409
    finally:
        await other.stop()


async def test_queued_calls_go_on_after_a_restart(market: Market) -> None:
    entered = asyncio.Event()

    async def hang(content: bytes) -> bytes:
        entered.set()
        await asyncio.sleep(3600)
        return content

    market.provider.handler = hang
    accepted = await market.call(b"1", Prefer="respond-async")
    assert accepted.status_code == 202
    await asyncio.wait_for(entered.wait(), 10)
    await market.kill()
    market.provider.restart()

    async def echo(content: bytes) -> bytes:
        return content

    market.provider.handler = echo
    other = await market.reborn()
    await other.start()
    try:
        call_id = accepted.json()["call_id"]
        live = other.backend.gateway.calls.find(call_id)
        if live is not None:
            await live.wait()
        result = await other.get(f"/v1/calls/{call_id}/result")
        assert (result.status_code, result.content) == (200, b"1"), result.text
        assert [row.charge for row in await other.rows(SpendRow)] == [10]
    finally:
        await other.stop()


async def test_a_second_gateway_waits_for_the_first(market: Market) -> None:
    other = await market.reborn()
    starting = asyncio.create_task(other.start())
    await asyncio.sleep(0)
    assert other.backend.gateway.condition != "ok"
    refused = await other.call()
    assert (refused.status_code, refused.json()["code"]) == (503, "gateway_not_ready")
    await market.stop()
    await starting
    assert (await other.call()).status_code == 200
    await other.stop()


async def test_one_that_was_overtaken_writes_and_signs_nothing(market: Market) -> None:
    await market.call(b"0")
    before = await market.written()
    async with market.database.transaction() as session:
        row = await session.get(GatewayRow, 1)
        assert row is not None
        row.token = "somebody else's"
        session.add(row)
    refused = await market.call(b"1")
    assert refused.status_code == 503, refused.text
    assert await market.written() == before
    assert len(market.provider.ran) == 1
    assert market._running is not None
    with pytest.raises(GatewayNotReady):
        await asyncio.wait_for(market._running, 20)
    market._running = None


async def test_an_entry_without_the_fence_is_not_written(market: Market) -> None:
    fence = Fence(market.database, market.backend.clock, 5)
    journal = Journal(market.database, fence, market.backend.clock)
    stop = asyncio.Event()
    running = asyncio.create_task(journal.run(stop))
    with pytest.raises(GatewayNotReady):
        await journal.write(Entry())
    stop.set()
    await running


async def _nothing_signed_twice(market: Market, journal_bodies: list[str]) -> None:
    places: Counter[tuple[str, int]] = Counter()
    for body in journal_bodies:
        for _, channel_id, record in journal_lines.read(body):
            if isinstance(record, VoucherSigned):
                places[(channel_id, record.signed.voucher.total)] += 1
    assert await market.rows(GatewayJournalRow) == []
    assert max(places.values()) == 1
    for channel, vouchers in market.provider.vouchers.items():
        known: dict[int, str] = {}
        for signed in vouchers:
            assert known.setdefault(signed.voucher.total, signed.signature) == signed.signature
            assert (channel, signed.voucher.total) in places
    channels = await market.channels()
    await until(lambda: all(market.provider.end_of(c.channel_id).unpaid == () for c in channels))
