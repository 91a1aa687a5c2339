"""channels and spending
├── opened once for many calls at once; topped up when it runs out
├── topped up beside its calls when it runs low: one at a time, no call waits for it or fails by it
├── paused_funds: told with what to do, and resumed by a top-up without a restart
├── no allowance
├── a close requested: calls in flight are paid, later ones are told; taken back: used again
├── an account without a session key gets one, once, and it is not readable in the rows
└── limits: per call, per day, in total; by workspace, key and app; reserved while calls run
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick.protocol.signatures import address_of
from tallystick_backend.gateway.errors import ChainInDoubt
from tallystick_backend.store.repositories import chain
from tallystick_backend.store.tables import BooksRow, SessionKeyRow, SpendLimitRow, SpendRow
from tests.backend.gateway.market import APP_ID, Market, until
from tests.support.anvil import CONSUMER


async def test_many_first_calls_open_one_channel(market: Market) -> None:
    answers = await asyncio.gather(*(market.call(b"%d" % n) for n in range(10)))
    assert {a.status_code for a in answers} == {200}
    assert market.funds.sent == [(market.provider.name, 1000)]


async def test_a_channel_that_runs_out_is_topped_up(market: Market) -> None:
    market.funds.available = 25
    for total in (10, 20):
        assert (await market.call()).headers["tallystick-total"] == str(total)
    market.funds.available = 500
    answer = await market.call()
    assert answer.headers["tallystick-total"] == "30"
    (channel,) = await market.channels()
    assert channel.deposited == 525


async def refilled(market: Market, deposited: int) -> None:
    (channel,) = await market.channels()
    paying = market.backend.gateway.parts.channels.ends[channel.channel_id]
    await until(lambda: paying.end.chain.deposited == deposited)


async def test_a_channel_that_runs_low_is_topped_up_beside_the_call(market: Market) -> None:
    """A top-up brings 100 calls of 10; a quarter of it is left after 75."""
    blocked, go_on = asyncio.Event(), asyncio.Event()
    fund = market.funds.fund

    async def slow(*args: Any) -> int:
        blocked.set()
        await go_on.wait()
        return await fund(*args)

    for _ in range(75):
        assert (await market.call()).status_code == 200
    market.funds.fund = slow  # type: ignore[method-assign]
    assert not blocked.is_set()
    for total in range(760, 900, 10):
        answer = await market.call()
        assert answer.headers["tallystick-total"] == str(total)
    assert blocked.is_set()
    assert len(market.funds.sent) == 1
    go_on.set()
    await refilled(market, 2000)
    assert (await market.call()).status_code == 200
    assert market.funds.sent == [(market.provider.name, 1000)] * 2


async def test_no_call_fails_because_a_channel_cannot_be_topped_up(
    market: Market,
) -> None:
    market.funds.available = 200
    tries: list[int] = []
    fund = market.funds.fund

    async def counted(key: Any, channel: Any, app_id: str, least: int, wanted: int) -> int:
        tries.append(least)
        if len(tries) == 2:
            raise RuntimeError("the node burns")
        return await fund(key, channel, app_id, least, wanted)

    market.funds.fund = counted  # type: ignore[method-assign]
    answers = [await market.call() for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert tries == [10, 10]  # it is not asked for again at every call
    assert (await market.call()).json()["code"] == "paused_funds"


async def test_a_channel_that_closes_is_not_topped_up(market: Market) -> None:
    market.funds.available = 100
    await market.call()
    (channel,) = await market.channels()
    await asyncio.sleep(0)
    sent = len(market.funds.sent)
    market.funds.available = 1000
    await market.change_channel(channel.channel_id, close_at_s=market.backend.now_s() + 1000)
    paying = market.backend.gateway.parts.channels.ends[channel.channel_id]
    await until(lambda: paying.end.chain.close_at > 0)
    assert (await market.call()).json()["code"] == "channels_closing"
    assert len(market.funds.sent) == sent


async def test_a_deposit_that_runs_out_pauses_and_a_top_up_resumes(market: Market) -> None:
    market.funds.available = 20
    await market.call()
    await market.call()
    paused = await market.call()
    assert (paused.status_code, paused.json()["code"]) == (402, "paused_funds")
    assert "paused_funds" in paused.json()["detail"]
    assert "Deposit" in paused.json()["next_step"]
    # Anybody's deposit into the channel does, and no restart.
    (channel,) = await market.channels()
    await market.change_channel(channel.channel_id, deposited=40)
    answer = await market.call()
    assert answer.status_code == 200, answer.text
    assert answer.headers["tallystick-total"] == "30"


async def test_without_an_allowance_nothing_runs(market: Market) -> None:
    market.funds.allowed = False
    answer = await market.call()
    assert (answer.status_code, answer.json()["code"]) == (402, "no_allowance")
    assert "/v1/allowances" in answer.json()["next_step"]
    assert market.provider.ran == []
    market.funds.allowed = True
    assert (await market.call()).status_code == 200


async def test_a_close_requested_with_calls_in_flight(market: Market) -> None:
    await market.call(b"0")
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(content: bytes) -> bytes:
        entered.set()
        await go_on.wait()
        return content

    market.provider.handler = slow
    calling = asyncio.create_task(market.call(b"1"))
    await entered.wait()
    (channel,) = await market.channels()
    paying = market.backend.gateway.parts.channels.ends[channel.channel_id]
    close_at_s = market.backend.now_s() + 1000
    await market.change_channel(channel.channel_id, close_at_s=close_at_s)
    await until(lambda: paying.end.chain.close_at == close_at_s)
    refused = await market.call(b"2")
    assert (refused.status_code, refused.json()["code"]) == (409, "channels_closing")
    go_on.set()
    answer = await calling
    assert (answer.status_code, answer.headers["tallystick-total"]) == (200, "20")
    await until(lambda: market.provider.end_of(channel.channel_id).paid.total == 20)

    await market.change_channel(channel.channel_id, close_at_s=None)
    await until(lambda: paying.end.chain.close_at == 0)
    assert (await market.call(b"3")).headers["tallystick-total"] == "30"
    assert len(await market.channels()) == 1


async def test_a_session_key_is_made_once_and_sealed(market: Market) -> None:
    keys = await asyncio.gather(
        *(market.backend.gateway.keys.of(CONSUMER.address) for _ in range(5))
    )
    assert len({key.signer for key in keys}) == 1
    (row,) = await market.rows(SessionKeyRow)
    secret = keys[0].private_key
    assert row.signer == address_of(secret).lower()
    assert secret.hex() not in row.sealed
    assert secret.hex() not in repr(keys[0])


# --- limits -----------------------------------------------------------------------------------


def limit(scope: str, period: str, units: int, subject: str = "") -> SpendLimitRow:
    return SpendLimitRow(
        id=f"{scope}-{period}",
        account=CONSUMER.address.lower(),
        scope=scope,
        subject=subject,
        period=period,
        limit_units=units,
        created_at_ms=1,
    )


@pytest.mark.parametrize("period", ["day", "total"])
@pytest.mark.parametrize(("scope", "subject"), [("workspace", ""), ("app", APP_ID)])
async def test_a_limit_stops_the_call_that_would_pass_it(
    market: Market, scope: str, subject: str, period: str
) -> None:
    await market.write(limit(scope, period, 25, subject))
    assert [(await market.call()).status_code for _ in range(2)] == [200, 200]
    refused = await market.call()
    assert (refused.status_code, refused.json()["code"]) == (402, "spend_limit_reached")
    assert len(market.provider.ran) == 2
    assert [row.charge for row in await market.rows(SpendRow)] == [20]


async def test_a_limit_per_call_is_held_against_its_ceiling(market: Market) -> None:
    await market.write(limit("workspace", "call", 9))
    assert (await market.call()).status_code == 402


async def test_a_limit_of_a_key_is_no_other_key_s(market: Market) -> None:
    secret, key_id = await market.api_key()
    await market.write(limit("key", "total", 10, key_id))
    assert (await market.call(token=secret)).status_code == 200
    assert (await market.call(token=secret)).json()["code"] == "spend_limit_reached"
    assert (await market.call()).status_code == 200


async def test_calls_at_once_cannot_pass_a_limit_together(market: Market) -> None:
    market.provider.credit_calls = 16
    await market.write(limit("workspace", "total", 50))
    answers = await asyncio.gather(*(market.call(b"%d" % n) for n in range(16)))
    assert sorted(a.status_code for a in answers) == [200] * 5 + [402] * 11


async def test_a_failure_gives_its_reservation_back(market: Market) -> None:
    await market.write(limit("workspace", "total", 10))
    market.provider.refuse = [("failed", "once")]
    assert (await market.call()).status_code == 502
    assert (await market.call()).status_code == 200


async def test_limits_count_what_was_spent_before_a_restart(market: Market) -> None:
    await market.call()
    await market.write(limit("workspace", "day", 15))
    await market.kill()
    other = await market.reborn()
    await other.start()
    try:
        assert (await other.call()).json()["code"] == "spend_limit_reached"
    finally:
        await other.stop()


async def in_doubt(market: Market, differences: list[dict[str, str]] | None) -> None:
    async with market.database.transaction() as session:
        await session.merge(BooksRow(id=1, block_number=1, at_ms=1, differences=differences))
    channels = market.backend.gateway.parts.channels
    await until(lambda: (channels._doubt is not None) == (differences is not None))


async def test_nothing_begins_while_the_rows_differ_from_the_contracts(market: Market) -> None:
    """Cases 73, 89. The reconciler's alarm, or an index that stopped."""
    assert (await market.call()).status_code == 200
    sent = list(market.funds.sent)
    wrong = {"entity": "account:0x1", "what": "credit", "here": "5", "there": "4"}
    await in_doubt(market, [wrong])
    refused = await market.call()
    assert refused.status_code == 503
    assert "account:0x1 credit is 5 and should be 4" in refused.json()["detail"]
    market.funds.available = 10**9
    [channel] = await market.channels()
    channels = market.backend.gateway.parts.channels
    with pytest.raises(ChainInDoubt):
        await channels.top_up(channels.ends[channel.channel_id], APP_ID, 0, 1)
    assert market.funds.sent == sent
    await in_doubt(market, None)
    assert (await market.call()).status_code == 200


async def test_nothing_begins_while_the_index_has_stopped(market: Market) -> None:
    """Case 73."""
    assert (await market.call()).status_code == 200
    channels = market.backend.gateway.parts.channels
    for why in ("a reorganisation of 70 blocks", None):
        async with market.database.transaction() as session:
            cursor = await chain.cursor(session)
            assert cursor is not None
            cursor.degraded = why
            session.add(cursor)
        await until(lambda why=why: (channels._doubt is not None) == (why is not None))  # type: ignore[misc]
        answer = await market.call()
        assert answer.status_code == (200 if why is None else 503)
    assert len(market.funds.sent) == 1


async def test_a_gateway_that_ends_leaves_no_message_on_its_way(market: Market) -> None:
    """One that had not begun to leave would be a warning at best; one that had, an error."""
    assert (await market.call()).status_code == 200
    channels = market.backend.gateway.parts.channels
    [paying] = channels.ends.values()
    left: list[str] = []

    async def leave() -> None:
        await asyncio.sleep(3600)
        left.append("late")

    paying._later(leave())
    await asyncio.sleep(0)
    paying._later(leave())
    began = set(paying._leaving)
    await channels.close()
    assert len(began) >= 2
    assert all(message.cancelled() or message.done() for message in began)
    paying._later(leave())
    assert not paying._leaving
    assert not left
