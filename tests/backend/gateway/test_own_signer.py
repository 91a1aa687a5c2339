"""A consumer that keeps its session key
├── its channel pays: answered unsigned, then signed, journalled, sent; nothing of its key is here
├── the header of the answer, of a stream and of a result says what is to be signed
├── one unpaid call: the next one waits a moment, then is told which voucher comes first
├── a voucher for another total, receipt or channel, by another key, on another chain: refused, and
│   nothing is written
├── the same voucher again, and twice at once: one record
├── which channel: only one with enough, only of providers that have one; told what to open or fill
├── the gateway's own key is not the caller's; somebody else's channel is none
├── later, canceled, under an Idempotency-Key, closed with a call in flight
└── a gateway that ends before or after the voucher is written, and one that has a queued call
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tallystick.protocol.call_journal import VoucherSigned
from tallystick.protocol.messages import channel_id
from tallystick_backend.gateway import journal_lines
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.journal import Journal, Row
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import SessionKeyRow, SpendRow
from tests.backend.gateway.market import DOMAIN, BusServer, Market, make_market, until
from tests.backend.gateway.own_signer import KEY, OwnSigner
from tests.support.anvil import OTHER_OPERATOR, OTHER_PROVIDER, STRANGER


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> object:
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
def signed_records(monkeypatch: pytest.MonkeyPatch) -> list[VoucherSigned]:
    """Every voucher that was ever written down."""
    found: list[VoucherSigned] = []
    insert = Fence.insert_journal

    async def insert_journal(self: Fence, row: int, body: str) -> None:
        await insert(self, row, body)
        found.extend(
            record for _, _, record in journal_lines.read(body) if isinstance(record, VoucherSigned)
        )

    monkeypatch.setattr(Fence, "insert_journal", insert_journal)
    return found


@pytest.fixture
async def market(database: Database, server: BusServer, tmp_path: Path) -> AsyncIterator[Market]:
    market = await make_market(database, server, tmp_path)
    await market.joins()
    await market.start()
    yield market
    await market.end()


@pytest.fixture
def own(market: Market) -> OwnSigner:
    return OwnSigner(market)


async def test_calls_are_paid_by_the_consumer_s_own_signature(
    own: OwnSigner, signed_records: list[VoucherSigned]
) -> None:
    market, channel = own.market, await own.opens()
    name = channel_id(channel)
    for n in (1, 2, 3):
        answer = await own.call(b"%d" % n)
        assert (answer.status_code, answer.content) == (200, b"%d" % n), answer.text
        assert answer.headers["tallystick-total"] == str(10 * n)
        call_id = answer.headers["tallystick-call-id"]
        assert (await market.row(call_id)).voucher is None
        waiting = await own.unsigned(channel)
        assert (waiting.call_id, waiting.seq) == (call_id, n)
        held = await own.signs(channel)
        assert held["total"] == str(10 * n)
        # Written down by the call it pays for, and at the provider before anything else happens.
        assert (await market.row(call_id)).voucher == {
            "voucher": held,
            "signature": signed_records[-1].signed.signature,
        }
        await until(partial(_is_paid, market, name, 10 * n))
    assert len(signed_records) == 3
    assert [row.charge for row in await market.rows(SpendRow)] == [30]
    assert market.funds.sent == []
    assert await market.rows(SessionKeyRow) == []
    assert KEY[2:] not in json.dumps(await market.written(), default=str)
    assert (await own.unsigned(channel)).voucher is None


def _is_paid(market: Market, channel: str, total: int) -> bool:
    return market.provider.end_of(channel).paid.total == total


async def test_the_answer_says_what_is_to_be_signed(own: OwnSigner) -> None:
    channel = await own.opens()
    answer = await own.call()
    due = await own.due(channel)
    text = f"channel={channel_id(channel)}; total=10; receipt={due.receipt}"
    assert answer.headers["tallystick-voucher-due"] == text
    await own.signs(channel)
    # With a key of the gateway's nothing is left to do.
    lent = await own.market.call(b"2")
    assert "tallystick-voucher-due" not in lent.headers


async def test_a_stream_is_signed_for_after_its_end(own: OwnSigner) -> None:
    channel = await own.opens()
    own.market.provider.pieces = [b'{"output":1}\n', b'{"completed":{"pieces":1}}\n']
    answer = await own.call(Accept="application/x-ndjson")
    last = json.loads(answer.content.splitlines()[-1])["charged"]
    due = await own.due(channel)
    assert last["voucher_due"].endswith(f"total=10; receipt={due.receipt}")
    await own.signs(channel)


async def test_the_next_call_waits_for_the_voucher_of_the_one_before(own: OwnSigner) -> None:
    channel = await own.opens()
    first = await own.call()
    refused = await own.call(b"2")
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_due")
    assert first.headers["tallystick-call-id"] in refused.json()["detail"]
    assert channel_id(channel) in refused.json()["next_step"]
    assert len(own.market.provider.ran) == 1
    settings = own.market.backend.gateway.settings
    object.__setattr__(settings, "own_voucher_wait_s", 20.0)
    waiting = asyncio.create_task(own.call(b"3"))
    await until(lambda: own.market.backend.gateway.calls.under_way == 1)
    await own.signs(channel)
    assert (await waiting).status_code == 200
    assert len(own.market.provider.ran) == 2


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("total", {"total": 11}),
        ("total", {"total": 0}),
        ("receipt", {"receipt": "0x" + "77" * 32}),
        ("channel", {"salt": 99}),
        ("channel", {"provider": STRANGER.address}),
    ],
)
async def test_another_voucher_is_refused_and_nothing_is_written(
    own: OwnSigner, signed_records: list[VoucherSigned], field: str, change: dict[str, object]
) -> None:
    channel = await own.opens()
    await own.call()
    voucher = replace(await own.due(channel), **change)  # type: ignore[arg-type]
    before = await own.market.written()
    refused = await own.post(channel, own.signed(voucher))
    assert (refused.status_code, refused.json()["code"]) == (422, "voucher_refused")
    assert f"voucher's {field} is" in refused.json()["detail"]
    assert await own.market.written() == before
    assert signed_records == []
    await own.signs(channel)
    late = await own.post(channel, own.signed(voucher))
    assert late.status_code == 422
    assert len(signed_records) == 1


async def test_a_voucher_by_another_key_or_for_another_chain_is_refused(
    own: OwnSigner, signed_records: list[VoucherSigned]
) -> None:
    channel = await own.opens()
    await own.call()
    due = await own.due(channel)
    elsewhere = replace(DOMAIN, chain_id=DOMAIN.chain_id + 1)
    for body in (
        own.signed(due, key=STRANGER.key),
        own.signed(due, domain=elsewhere),
        own.signed(due).model_copy(update={"signature": "0x" + "00" * 65}),
    ):
        refused = await own.post(channel, body)
        assert (refused.status_code, refused.json()["code"]) == (422, "voucher_refused")
    assert signed_records == []
    assert (await own.unsigned(channel)).voucher == due.to_body()


async def test_the_same_voucher_twice_is_one_record(
    own: OwnSigner, signed_records: list[VoucherSigned]
) -> None:
    channel = await own.opens()
    await own.call()
    body = own.signed(await own.due(channel))
    both = await asyncio.gather(own.post(channel, body), own.post(channel, body))
    again = await own.post(channel, body)
    assert {answer.status_code for answer in (*both, again)} == {200}
    assert {answer.text for answer in (*both, again)} == {body.model_dump_json()}
    assert len(signed_records) == 1
    # The one before, when another is due already.
    await own.call(b"2")
    assert (await own.post(channel, body)).status_code == 200
    assert len(signed_records) == 1
    assert (await own.due(channel)).total == 20


async def test_a_voucher_that_nothing_waits_for_is_refused(own: OwnSigner) -> None:
    channel = await own.opens()
    voucher = channel.voucher(10, channel_id(channel))
    refused = await own.post(channel, own.signed(voucher))
    assert (refused.status_code, refused.json()["code"]) == (422, "voucher_refused")


# --- which channel ----------------------------------------------------------------------------


async def test_without_a_channel_the_caller_is_told_with_whom_to_open_one(own: OwnSigner) -> None:
    await own.market.call(b"0")  # so that the provider has seen the app
    refused = await own.call()
    assert (refused.status_code, refused.json()["code"]) == (402, "no_own_channel")
    assert own.market.provider.name in refused.json()["next_step"]
    await own.opens(STRANGER.address)
    assert (await own.call()).json()["code"] == "no_own_channel"
    assert len(own.market.provider.ran) == 1


async def test_a_channel_that_does_not_cover_the_call_is_named(own: OwnSigner) -> None:
    channel = await own.opens(deposited=15)
    await own.call()
    await own.signs(channel)
    refused = await own.call(b"2")
    assert (refused.status_code, refused.json()["code"]) == (402, "paused_funds")
    assert channel_id(channel) in refused.json()["detail"]
    assert "by 5 or more" in refused.json()["next_step"]
    assert own.market.funds.sent == []
    await own.market.change_channel(channel_id(channel), deposited=20)
    assert (await own.call(b"3")).headers["tallystick-total"] == "20"


async def test_a_call_goes_to_the_provider_whose_channel_waits_for_nothing(own: OwnSigner) -> None:
    other = await own.market.joins(OTHER_PROVIDER, OTHER_OPERATOR)
    await until(lambda: other.asked["load"] > 0)
    first = await own.opens()
    await own.call()
    second = await own.opens(other.name)
    answer = await own.call(b"2")
    assert answer.status_code == 200, answer.text
    assert channel_id(second) in answer.headers["tallystick-voucher-due"]
    await own.signs(first)
    await own.signs(second)


async def test_a_key_that_the_gateway_holds_is_not_the_caller_s_own(own: OwnSigner) -> None:
    await own.market.call(b"0")
    (row,) = await own.market.rows(SessionKeyRow)
    (channel,) = await own.market.channels()
    refused = await own.market.call(b"1", Tallystick_Signer=row.signer)
    assert (refused.status_code, refused.json()["code"]) == (422, "own_signer_refused")
    look = await own.market.get(f"/v1/channels/{channel.channel_id}/unsigned")
    assert (look.status_code, look.json()["code"]) == (404, "unknown_own_channel")
    for wrong in ("0x12", "0x" + "00" * 20):
        unread = await own.market.call(b"1", Tallystick_Signer=wrong)
        assert (unread.status_code, unread.json()["code"]) == (422, "invalid_request")


async def test_a_channel_that_somebody_else_pays_is_none(own: OwnSigner) -> None:
    theirs = await own.opens(payer=STRANGER.address)
    look = await own.market.get(f"/v1/channels/{channel_id(theirs)}/unsigned")
    assert (look.status_code, look.json()["code"]) == (404, "unknown_own_channel")
    body = own.signed(theirs.voucher(10, channel_id(theirs)))
    assert (await own.post(theirs, body)).json()["code"] == "unknown_own_channel"
    assert (await own.call()).json()["code"] == "no_own_channel"


# --- as for lent keys -------------------------------------------------------------------------


async def test_a_call_for_later_is_signed_for_when_its_result_is_fetched(own: OwnSigner) -> None:
    channel = await own.opens()
    accepted = await own.call(Prefer="respond-async")
    call_id = accepted.headers["tallystick-call-id"]
    live = own.market.backend.gateway.calls.find(call_id)
    if live is not None:
        await live.wait()
    result = await own.market.get(f"/v1/calls/{call_id}/result")
    due = await own.due(channel)
    assert result.headers["tallystick-voucher-due"].endswith(f"total=10; receipt={due.receipt}")
    await own.signs(channel)
    result = await own.market.get(f"/v1/calls/{call_id}/result")
    assert "tallystick-voucher-due" not in result.headers


async def test_a_key_that_was_used_pays_once_and_for_the_same_signer(own: OwnSigner) -> None:
    channel = await own.opens()
    first = await own.call(Idempotency_Key="k1")
    again = await own.call(Idempotency_Key="k1")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["tallystick-call-id"] == first.headers["tallystick-call-id"]
    lent = await own.market.call(b"1", Idempotency_Key="k1")
    assert (lent.status_code, lent.json()["code"]) == (409, "idempotency_conflict")
    await own.signs(channel)
    assert len(own.market.provider.ran) == 1


async def test_a_close_with_a_call_in_flight_is_signed_for(own: OwnSigner) -> None:
    channel = await own.opens()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(content: bytes) -> bytes:
        entered.set()
        await go_on.wait()
        return content

    own.market.provider.handler = slow
    calling = asyncio.create_task(own.call())
    await entered.wait()
    name = channel_id(channel)
    paying = own.market.backend.gateway.parts.channels.ends[name]
    close_at_s = own.market.backend.now_s() + 1000
    await own.market.change_channel(name, close_at_s=close_at_s)
    await until(lambda: paying.end.chain.close_at == close_at_s)
    refused = await own.call(b"2")
    assert (refused.status_code, refused.json()["code"]) == (409, "channels_closing")
    go_on.set()
    assert (await calling).status_code == 200
    await own.signs(channel)
    await until(lambda: own.market.provider.end_of(name).paid.total == 10)


# --- a gateway that ends ----------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_gateway_that_ends_around_the_voucher_loses_and_doubles_nothing(
    own: OwnSigner, signed_records: list[VoucherSigned], after: bool
) -> None:
    market, channel = own.market, await own.opens()
    answer = await own.call()
    body = own.signed(await own.due(channel))
    reached = asyncio.Event()
    write = Journal._write

    async def _write(self: Journal, row: Row) -> None:
        hit = any("VoucherSigned" in line for line in row.lines)
        if hit and not after:
            reached.set()
            await asyncio.Event().wait()
        await write(self, row)
        if hit:
            reached.set()
            await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Journal, "_write", _write)
        posting = asyncio.create_task(own.post(channel, body))
        await asyncio.wait_for(reached.wait(), 10)
        await market.kill()
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
    other = await market.reborn()
    await other.start()
    mine = OwnSigner(other)
    try:
        waiting = await mine.unsigned(channel)
        if after:
            assert (waiting.voucher, waiting.last) == (None, body)
        else:
            assert waiting.voucher == body.voucher
            assert waiting.call_id == answer.headers["tallystick-call-id"]
            refused = await mine.call(b"2")
            assert refused.json()["code"] == "voucher_due"
            assert waiting.call_id in refused.json()["detail"]
        assert (await mine.post(channel, body)).status_code == 200
        assert len(signed_records) == 1
        follow = await mine.call(b"3")
        assert (follow.status_code, follow.headers["tallystick-total"]) == (200, "20")
        await mine.signs(channel)
        row = await other.row(answer.headers["tallystick-call-id"])
        assert row.voucher == body.model_dump(mode="json")
    finally:
        await other.stop()


async def test_a_queued_call_is_not_paid_by_another_key_after_a_restart(own: OwnSigner) -> None:
    channel = await own.opens()
    entered = asyncio.Event()

    async def hang(content: bytes) -> bytes:
        entered.set()
        await asyncio.sleep(3600)
        return content

    async def echo(content: bytes) -> bytes:
        return content

    own.market.provider.handler = hang
    accepted = await own.call(Prefer="respond-async")
    await asyncio.wait_for(entered.wait(), 10)
    await own.market.kill()
    own.market.provider.restart()
    own.market.provider.handler = echo
    other = await own.market.reborn()
    await other.start()
    try:
        call_id = accepted.json()["call_id"]
        live = other.backend.gateway.calls.find(call_id)
        if live is not None:
            await live.wait()
        row = await other.row(call_id)
        assert (row.state, row.channel_id, row.signer) == (
            "completed",
            channel_id(channel),
            own.signer,
        )
        assert other.funds.sent == []
        await OwnSigner(other).signs(channel)
    finally:
        await other.stop()
