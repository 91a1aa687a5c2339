"""calling
├── a call is answered, charged once and paid for; many at once, too, with credit for one or more
├── a provider that announced itself and is still starting is waited for
├── repairs: a lost answer, a lost voucher, a receipt that came before its predecessor
├── a provider is killed in the middle: repeated elsewhere and charged once; waited for where the
│   version may not run twice; an answer that it gives all the same is not paid twice
├── what a provider refuses: each code comes to its own end
├── a forged answer is not paid for
├── a price that changed is asked for again
└── a call under a key: the same answer, once; another request; in flight; after a failure
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.protocol.call_bodies import RefusalCode
from tallystick.protocol.pricing import Price
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.fleet import HEARD_WITHIN_S
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import SpendRow
from tests.backend.gateway.market import (
    MANIFEST,
    BusServer,
    Market,
    app_history,
    make_market,
    until,
)
from tests.support.anvil import OTHER_OPERATOR, OTHER_PROVIDER
from tests.support.call_provider import HandlerError, TestProvider


async def test_a_call_is_answered_and_paid_for(market: Market) -> None:
    answer = await market.call(b'{"n":1}')
    assert answer.status_code == 200, answer.text
    assert answer.content == b'{"n":1}'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["tallystick-charge"] == "10"
    assert answer.headers["tallystick-total"] == "10"
    assert answer.headers["tallystick-balance"] == str(100 * 10 - 10)
    assert "run;dur=" in answer.headers["server-timing"]
    row = await market.row(answer.headers["tallystick-call-id"])
    assert (row.state, row.charge, row.seq, row.total) == ("completed", 10, 1, 10)
    (channel,) = await market.channels()
    await until(lambda: paid(market.provider, channel.channel_id) == 10)


async def test_a_call_waits_for_a_provider_that_is_still_starting(market: Market) -> None:
    member = market.backend.gateway.parts.fleet.member(market.provider.name)
    market.provider.silent = True
    member.heard, member.apps, member.taken = False, {}, set()
    member.since_s = asyncio.get_running_loop().time()
    calling = asyncio.create_task(market.call())
    await until(lambda: member.silent_polls > 0)
    assert not calling.done()
    market.provider.silent = False
    answer = await calling
    assert answer.status_code == 200, answer.text


async def test_a_call_does_not_wait_for_who_never_answered(market: Market) -> None:
    member = market.backend.gateway.parts.fleet.member(market.provider.name)
    market.provider.silent = True
    member.heard, member.apps, member.taken = False, {}, set()
    member.since_s = asyncio.get_running_loop().time() - HEARD_WITHIN_S
    answer = await market.call()
    assert answer.json()["code"] == "no_provider"
    assert member.silent_polls < 4


@pytest.mark.parametrize("credit_calls", [1, 8])
async def test_many_calls_at_once_are_each_charged_once(market: Market, credit_calls: int) -> None:
    market.provider.credit_calls = credit_calls
    answers = await asyncio.gather(*(market.call(b"%d" % n) for n in range(40)))
    assert [a.content for a in answers] == [b"%d" % n for n in range(40)]
    totals = sorted(int(a.headers["tallystick-total"]) for a in answers)
    assert totals == [10 * n for n in range(1, 41)]
    assert sorted(market.provider.ran) == sorted(a.headers["tallystick-call-id"] for a in answers)
    (channel,) = await market.channels()
    await until(lambda: paid(market.provider, channel.channel_id) == 400)
    signed_once(market.provider)
    spent = await market.rows(SpendRow)
    assert [(row.charge, row.calls) for row in spent] == [(400, 40)]


async def test_a_lost_answer_is_asked_for_again_and_not_run_again(market: Market) -> None:
    market.provider.lose_answers = 1
    answer = await market.call()
    assert answer.status_code == 200
    assert len(market.provider.ran) == 1
    assert market.provider.asked["call"] >= 2


async def test_a_lost_voucher_comes_with_the_next_request(market: Market) -> None:
    market.provider.lose_vouchers = True
    totals = [int((await market.call()).headers["tallystick-total"]) for _ in range(3)]
    assert totals == [10, 20, 30]
    (channel,) = await market.channels()
    assert paid(market.provider, channel.channel_id) == 20


async def test_a_lost_voucher_that_no_request_follows_is_said_until_it_is_heard(
    market: Market,
) -> None:
    """Case 94, found by the campaign of kills: a provider that was away for a moment was never
    paid for the last calls."""
    market.provider.lose_vouchers = True
    await market.call()
    (channel,) = await market.channels()
    await until(lambda: market.provider.asked["voucher"] >= 2)
    assert paid(market.provider, channel.channel_id) == 0
    market.provider.lose_vouchers = False
    await until(lambda: paid(market.provider, channel.channel_id) == 10)
    said = market.provider.asked["voucher"]
    await asyncio.sleep(3 * market.backend.gateway.settings.repeat_s)
    assert market.provider.asked["voucher"] == said


async def test_a_voucher_goes_with_the_next_request(market: Market) -> None:
    vouchers_within(market, 60)
    for _ in range(3):
        await market.call()
    (channel,) = await market.channels()
    assert market.provider.asked["voucher"] == 0
    assert paid(market.provider, channel.channel_id) == 20


async def test_a_voucher_goes_by_itself_where_no_request_follows(market: Market) -> None:
    await market.call()
    (channel,) = await market.channels()
    await until(lambda: paid(market.provider, channel.channel_id) == 10)
    assert market.provider.asked["voucher"] == 1


async def test_a_voucher_that_is_not_written_down_is_not_sent(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed when the row is put together; the disk has the last word."""
    await market.call()
    (channel,) = await market.channels()
    await until(lambda: paid(market.provider, channel.channel_id) == 10)
    rows, let_go, insert = 0, asyncio.Event(), Fence.insert_journal

    async def slow(self: Fence, row: int, body: str) -> None:
        nonlocal rows
        rows += 1
        if rows == 2:  # the first says that the call is asked for
            await let_go.wait()
        await insert(self, row, body)

    monkeypatch.setattr(Fence, "insert_journal", slow)
    vouchers_within(market, 0)
    calling = asyncio.create_task(market.call())
    await until(lambda: len(market.provider.ran) == 2 and rows == 2)
    (paying,) = market.backend.gateway.parts.channels.ends.values()
    assert paying.end.held.total == 20
    await paying.tell_voucher()
    assert paid(market.provider, channel.channel_id) == 10
    let_go.set()
    assert (await calling).status_code == 200
    await until(lambda: paid(market.provider, channel.channel_id) == 20)


async def test_a_channel_that_is_read_anew_tells_the_voucher_that_waited(market: Market) -> None:
    """As after a row that could not be written: nobody may ever call on it again."""
    vouchers_within(market, 60)
    await market.call()
    channels = market.backend.gateway.parts.channels
    (row,) = await market.channels()
    (paying,) = list(channels.ends.values())
    paying.stream.broken = True
    channels.drop(paying)
    assert paid(market.provider, row.channel_id) == 0
    vouchers_within(market, 0.01)
    assert await channels.from_row(row, None) is not None
    await until(lambda: paid(market.provider, row.channel_id) == 10)


async def test_a_gateway_that_stops_tells_the_vouchers_that_waited(market: Market) -> None:
    vouchers_within(market, 60)
    await market.call()
    (channel,) = await market.channels()
    assert paid(market.provider, channel.channel_id) == 0
    await market.stop()
    assert paid(market.provider, channel.channel_id) == 10


async def test_a_receipt_waits_for_the_one_before_it(market: Market) -> None:
    market.provider.credit_calls = 4
    await market.call()
    await until_credit(market, 4)
    market.provider.lose_answers = 1
    answers = await asyncio.gather(*(market.call(b"%d" % n) for n in range(4)))
    assert [a.status_code for a in answers] == [200] * 4
    assert len(market.provider.ran) == 5
    signed_once(market.provider)


async def test_a_killed_provider_s_call_is_repeated_elsewhere_and_charged_once(
    market: Market,
) -> None:
    entered = asyncio.Event()

    async def hang(content: bytes) -> bytes:
        entered.set()
        await asyncio.sleep(3600)
        return content

    market.provider.handler = hang
    other = await market.joins(OTHER_PROVIDER, OTHER_OPERATOR)
    other.serves = False
    calling = asyncio.create_task(market.call())
    await asyncio.wait_for(entered.wait(), 10)
    other.serves = True
    forget_refusals(market)
    market.provider.silent = True
    answer = await calling
    assert answer.status_code == 200, answer.text
    assert other.ran == [answer.headers["tallystick-call-id"]]
    row = await market.row(answer.headers["tallystick-call-id"])
    assert (row.provider, row.charge, row.attempts) == (other.name, 10, 2)
    assert [row.charge for row in await market.rows(SpendRow)] == [10]


async def test_a_killed_provider_that_ran_it_all_the_same_is_not_paid_for_it(
    market: Market,
) -> None:
    """The receipt that it holds back costs it the channel, and its next call goes over another."""
    market.provider.lose_answers = 1000
    answer = asyncio.create_task(market.call())
    await until(lambda: bool(market.provider.ran))
    market.provider.silent = True
    assert (await answer).json()["code"] == "provider_lost"
    market.provider.silent = False
    market.provider.lose_answers = 0
    member = market.backend.gateway.parts.fleet.member(market.provider.name)
    await until(lambda: member.silent_polls == 0)
    again = await market.call()
    assert again.status_code == 200, again.text
    assert again.headers["tallystick-total"] == "10"
    assert len(await market.channels()) == 2
    assert [row.charge for row in await market.rows(SpendRow)] == [10]


async def test_a_call_that_may_not_run_twice_waits_for_its_provider(
    database: Database, server: BusServer, tmp_path: Path
) -> None:
    careful = MANIFEST.model_copy(update={"safe_to_repeat": False})
    market = await make_market(database, server, tmp_path, manifest=careful)
    try:
        provider = await market.joins()
        other = await market.joins(OTHER_PROVIDER, OTHER_OPERATOR, serves=False)
        await market.start()
        provider.lose_answers = 1
        calling = asyncio.create_task(market.call())
        await until(lambda: bool(provider.ran))
        provider.silent = True
        other.serves = True
        forget_refusals(market)
        member = market.backend.gateway.parts.fleet.member(provider.name)
        await until(lambda: member.silent_polls > 4)
        provider.silent = False
        answer = await calling
        assert answer.status_code == 200, answer.text
        assert (len(provider.ran), other.ran) == (1, [])
    finally:
        await market.end()


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        # what the provider says of the call itself is final
        ("failed", 502, "handler_failed"),
        ("timed_out", 504, "call_timed_out"),
        ("too_large", 502, "result_too_large"),
        # nobody else is there
        ("no_worker", 503, "no_provider"),
        ("too_long", 503, "no_provider"),
        ("voucher", 503, "no_provider"),
        ("closing", 409, "channels_closing"),
        # and what is only a matter of trying again
        ("unpaid", 200, ""),
        ("in_flight", 200, ""),
        ("stale", 200, ""),
        ("paused_funds", 200, ""),
        ("price_changed", 200, ""),
        ("unknown_app", 200, ""),
        ("new_salt", 200, ""),
    ],
)
async def test_each_refusal_comes_to_its_end(
    market: Market, code: RefusalCode, status: int, told: str
) -> None:
    await market.call()
    market.provider.refuse = [(code, "said by a test")]
    answer = await market.call(b"2")
    assert answer.status_code == status, answer.text
    channels = await market.channels()
    assert len(channels) == (2 if code == "new_salt" else 1)
    if told:
        assert answer.json()["code"] == told
        row = await market.row(answer.headers["tallystick-call-id"])
        assert (row.state, row.charge) == ("failed", 0)
        assert row.problem is not None
        assert row.problem["code"] == told
        assert [row.charge for row in await market.rows(SpendRow)] == [10]
        if code != "closing":
            assert (await market.call(b"3")).headers["tallystick-total"] == "20"


async def test_a_provider_that_refuses_is_followed_by_another(market: Market) -> None:
    await market.call()
    other = await market.joins(OTHER_PROVIDER, OTHER_OPERATOR)
    await until(lambda: other.asked["load"] > 0)
    market.provider.refuse = [("no_worker", "full")]
    answer = await market.call()
    assert answer.status_code == 200
    assert other.ran == [answer.headers["tallystick-call-id"]]


async def test_a_failing_handler_is_not_charged(market: Market) -> None:
    async def fail(_content: bytes) -> bytes:
        raise HandlerError("failed", "division by zero")

    market.provider.handler = fail
    answer = await market.call()
    assert (answer.status_code, answer.json()["code"]) == (502, "handler_failed")
    assert "division by zero" in answer.json()["detail"].lower()
    assert await market.rows(SpendRow) == []


async def test_a_forged_answer_is_not_paid_for(market: Market) -> None:
    market.provider.forge = lambda content: content + b" "
    answer = await market.call()
    assert (answer.status_code, answer.json()["code"]) == (503, "no_provider")
    assert market.provider.vouchers == {}
    assert await market.rows(SpendRow) == []


async def test_a_call_pays_the_price_of_its_second(market: Market) -> None:
    await market.call()
    dearer = Price(flat=0, fee_per_call=25, rate_per_gpu_second=0)
    await market.set_price(dearer)
    history = market.provider.app
    market.provider.app = replace(app_history(dearer, MANIFEST), publisher=history.publisher)
    answer = await market.call()
    assert answer.status_code == 200, answer.text
    assert answer.headers["tallystick-charge"] == "25"
    assert answer.headers["tallystick-total"] == "35"


async def test_the_longest_run_follows_from_the_maximum_charge(
    database: Database, server: BusServer, tmp_path: Path
) -> None:
    by_time = Price(flat=0, fee_per_call=7, rate_per_gpu_second=100)
    with_card = MANIFEST.model_copy(
        update={
            "resources": MANIFEST.resources.model_copy(update={"gpus": 1, "gpu_class": "gpu1"}),
            "concurrency": 2,
        }
    )
    market = await make_market(database, server, tmp_path, manifest=with_card, price=by_time)
    try:
        await market.joins()
        await market.start()
        answer = await market.call(Tallystick_Max_Charge="307")
        assert answer.status_code == 200, answer.text
        row = await market.row(answer.headers["tallystick-call-id"])
        assert row.request["max_seconds"] == 3
        refused = await market.call(Tallystick_Max_Charge="106")
        assert (refused.status_code, refused.json()["code"]) == (422, "max_charge_too_low")
    finally:
        await market.end()


# --- one call for one key ---------------------------------------------------------------------


async def test_the_same_key_answers_the_same_and_runs_once(market: Market) -> None:
    first = await market.call(Idempotency_Key="k1")
    again = await market.call(Idempotency_Key="k1")
    assert (first.content, again.status_code) == (again.content, 200)
    for name in ("tallystick-call-id", "tallystick-charge", "tallystick-total"):
        assert first.headers[name] == again.headers[name]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(market.provider.ran) == 1


async def test_a_key_used_for_another_request_is_refused(market: Market) -> None:
    await market.call(Idempotency_Key="k1")
    answer = await market.call(b'{"n":2}', Idempotency_Key="k1")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


async def test_two_at_once_under_one_key_are_one_call(market: Market) -> None:
    answers = await asyncio.gather(*(market.call(Idempotency_Key="k1") for _ in range(5)))
    assert {a.headers["tallystick-call-id"] for a in answers} == {market.provider.ran[0]}
    assert len(market.provider.ran) == 1


async def test_a_key_whose_call_failed_may_be_used_again(market: Market) -> None:
    market.provider.refuse = [("failed", "once")]
    assert (await market.call(Idempotency_Key="k1")).status_code == 502
    assert (await market.call(Idempotency_Key="k1")).status_code == 200


def paid(provider: TestProvider, channel: str) -> int:
    return provider.end_of(channel).paid.total


def vouchers_within(market: Market, seconds: float) -> None:
    object.__setattr__(market.backend.gateway.settings, "voucher_within_s", seconds)


def signed_once(provider: TestProvider) -> None:
    """No place in a chain of receipts has two vouchers."""
    for vouchers in provider.vouchers.values():
        by_total: dict[int, str] = {}
        for signed in vouchers:
            receipt = by_total.setdefault(signed.voucher.total, signed.voucher.receipt)
            assert receipt == signed.voucher.receipt


def forget_refusals(market: Market) -> None:
    for provider in market.providers:
        market.backend.gateway.parts.fleet.member(provider.name).refused.clear()


async def until_credit(market: Market, credit_calls: int) -> None:
    member = market.backend.gateway.parts.fleet.member(market.provider.name)
    await until(lambda: member.credit_calls == credit_calls)
