"""Calling an app: answers, money, retries, streams, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tallystick import (
    AsyncGPUClient,
    CallFailed,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    PaymentNeeded,
    Refused,
    ServiceError,
    TimedOut,
)
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, Address, to_address
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock

PRICE = Price(fee_per_call=10)


def greet(input: Any) -> Any:
    return {"hello": input["name"]}


def count(input: Any) -> Iterator[int]:
    yield from range(input)


@pytest.fixture
async def app(market: InMemoryMarket, client: AsyncGPUClient) -> str:
    """One at a fee of ten units, and an allowance to pay for it."""
    await client.grant_allowance("1", "30d")
    return market.calls.publish(greet, price=PRICE)


async def test_a_call_answers_and_says_what_it_cost(client: AsyncGPUClient, app: str) -> None:
    answer = await client.call(app, {"name": "world"})
    assert answer.output == {"hello": "world"}
    assert answer.content == b'{"hello":"world"}'
    assert (answer.charge.units, answer.total.units) == (10, 10)
    assert answer.balance is not None
    assert answer.balance.units == 10**18 - 10
    assert (answer.times.queued_ms, answer.times.run_ms) == (1, 2.5)
    again = await client.call(app, {"name": "you"})
    assert (again.charge.units, again.total.units) == (10, 20)
    assert [call.call_id for call in await client.calls()] == [again.call_id, answer.call_id]
    info = await client.call_info(answer.call_id)
    assert (info.state, info.charge, info.seq) == ("completed", 10, 1)


async def test_input_goes_as_it_is(market: InMemoryMarket, client: AsyncGPUClient) -> None:
    await client.grant_allowance("1")
    app = market.calls.publish(lambda input: input)
    for value in (None, [1, "é"], {"a": {"b": 1.5}}, True):
        assert (await client.call(app, value)).output == value
    assert (await client.call(app, b'{"raw": 1}')).output == {"raw": 1}
    with pytest.raises(InvalidRequest, match="no JSON"):
        await client.call(app, {"x": float("nan")})


async def test_an_app_is_called_by_its_name(market: InMemoryMarket, client: AsyncGPUClient) -> None:
    await client.grant_allowance("1")
    mine, other = to_address(client.address), Address("0x" + "0b" * 20)
    made = {
        (name, publisher): market.calls.publish(greet, name=name, publisher=publisher)
        for name, publisher in (
            ("hello", other),
            ("hello", mine),
            ("hello", ZERO_ADDRESS),
            ("only", other),
            ("two", other),
            ("two", ZERO_ADDRESS),
        )
    }
    assert (await client.call("hello", {"name": "me"})).output == {"hello": "me"}
    assert await client.find_app("hello") == made["hello", mine]
    assert await client.find_app(f"{other}/hello") == made["hello", other]
    assert await client.find_app("only") == made["only", other]
    assert await client.find_app(made["two", other]) == made["two", other]
    with pytest.raises(Conflict, match="several apps") as ambiguous:
        await client.call("two", {"name": "me"})
    for publisher in (other, ZERO_ADDRESS):
        assert made["two", publisher] in ambiguous.value.sentence
        assert publisher in ambiguous.value.sentence
    for unknown in ("nobody's", f"{mine}/two"):
        with pytest.raises(NotFound, match="is published"):
            await client.call(unknown, {})
    for no_id in ("", "0x12", "x" * 201):
        with pytest.raises(InvalidRequest, match="is no id"):
            await client.call(no_id, {})
    [first] = await client.calls()
    assert first.app_id == made["hello", mine]


async def test_a_name_is_looked_up_once(market: InMemoryMarket, client: AsyncGPUClient) -> None:
    await client.grant_allowance("1")
    market.calls.publish(greet, name="hello")
    for _ in range(3):
        await client.call("hello", {"name": "me"})
    assert [path for _, path in market.requests].count("/v1/apps") == 2  # mine, then anybody's


@pytest.mark.parametrize("trouble", ["drop", "lose_answers", "fail"])
async def test_a_lost_answer_is_fetched_again_and_charged_once(
    market: InMemoryMarket, client: AsyncGPUClient, app: str, trouble: str
) -> None:
    """The SDK repeats the request under the same key."""
    await client.login()
    await client.deployment()
    getattr(market, trouble)(3)
    answer = await client.call(app, {"name": "world"})
    assert answer.output == {"hello": "world"}
    assert len(market.calls.made) == 1
    assert (await client.call(app, {"name": "world"})).total.units == 20


async def test_without_an_allowance_nothing_is_called(
    market: InMemoryMarket, client: AsyncGPUClient
) -> None:
    app = market.calls.publish(greet)
    with pytest.raises(PaymentNeeded) as refused:
        await client.call(app, {"name": "world"})
    assert refused.value.values["problem"] == "no_allowance"
    assert market.calls.made == {}


async def test_what_the_app_does_wrong_is_told_once_and_costs_nothing(
    market: InMemoryMarket, client: AsyncGPUClient, app: str, clock: Clock
) -> None:
    with pytest.raises(CallFailed, match="KeyError") as failed:
        await client.call(app, {})
    assert failed.value.values["problem"] == "handler_failed"
    assert clock.slept == []  # not asked again: it would fail again
    [call] = await client.calls()
    assert (call.state, call.charge) == ("failed", 0)
    assert (await client.call(app, {"name": "x"})).total.units == 10
    with pytest.raises(NotFound):
        await client.call_receipt(call.call_id)


async def test_a_limit_that_is_reached_is_a_refusal(
    market: InMemoryMarket, client: AsyncGPUClient, app: str
) -> None:
    """Not a want of money, although it has its status."""
    problem = {
        "type": "x",
        "title": "Spend limit reached",
        "status": 402,
        "detail": "The workspace's limit per day is 5.",
        "code": "spend_limit_reached",
    }
    await client.login()
    market.answer_hook = lambda request, answer: httpx.Response(402, json=problem, request=request)
    with pytest.raises(Refused, match="limit per day is 5"):
        await client.call(app, {"name": "x"})


async def test_the_most_to_pay_is_sent_in_units(
    market: InMemoryMarket, client: AsyncGPUClient, app: str
) -> None:
    with pytest.raises(InvalidRequest, match="may cost 10"):
        await client.call(app, {"name": "x"}, max_charge="0.000000000000000009")
    await client.call(app, {"name": "x"}, max_charge="0.00000000000000001")
    with pytest.raises(InvalidRequest):
        await client.call(app, {"name": "x"}, max_charge="0.0000000000000000001")


async def test_a_call_may_be_answered_later(client: AsyncGPUClient, app: str) -> None:
    call = await client.submit_call(app, {"name": "later"})
    assert call.state == "queued"
    answer = await client.call_result(call.call_id)
    assert answer.output == {"hello": "later"}
    assert answer.charge.units == 10
    assert (await client.call_result(call.call_id)).content == answer.content


async def test_waiting_has_an_end_and_the_call_goes_on(
    market: InMemoryMarket, client: AsyncGPUClient, app: str
) -> None:
    call = await client.submit_call(app, {"name": "later"})
    with pytest.raises(TimedOut, match="is queued"):
        await client.call_result(call.call_id, timeout=0)
    assert (await client.call_result(call.call_id)).output == {"hello": "later"}


async def test_a_call_that_waits_can_be_canceled(client: AsyncGPUClient, app: str) -> None:
    call = await client.submit_call(app, {"name": "never"})
    assert (await client.cancel_call(call.call_id)).state == "canceled"
    with pytest.raises(CallFailed, match="canceled"):
        await client.call_result(call.call_id)
    with pytest.raises(InvalidRequest):
        await client.cancel_call("../../keys")


async def test_a_stream_gives_pieces_and_an_end(
    market: InMemoryMarket, client: AsyncGPUClient, app: str
) -> None:
    counting = market.calls.publish(count)
    stream = client.stream_call(counting, 4)
    assert [piece async for piece in stream] == [0, 1, 2, 3]
    assert (await client.call_info(stream.call_id)).charge == 10
    # What yields nothing is one piece; what fails, fails.
    assert [piece async for piece in client.stream_call(app, {"name": "x"})] == [{"hello": "x"}]
    with pytest.raises(ServiceError):
        _ = [piece async for piece in client.stream_call(app, {})]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b"", "has no end"),
        (b'event: error\ndata: {"detail": "Out of memory", "code": "x"}\n\n', "Out of memory"),
    ],
    ids=["cut off", "an error in its middle"],
)
async def test_a_stream_that_breaks_says_so(
    market: InMemoryMarket, client: AsyncGPUClient, app: str, end: bytes, expected: str
) -> None:
    content = b"event: output\ndata: 1\n\n" + end

    def cut(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        headers = {"Content-Type": "text/event-stream", "Tallystick-Call-Id": "c_12345678"}
        return httpx.Response(200, headers=headers, content=content, request=request)

    await client.login()
    market.answer_hook = cut
    stream = client.stream_call(app, {"name": "x"})
    assert await anext(stream) == 1
    with pytest.raises(CallFailed, match=expected):
        await anext(stream)


async def test_an_answer_without_its_figures_is_no_answer(
    market: InMemoryMarket, client: AsyncGPUClient, app: str
) -> None:
    await client.login()
    market.answer_hook = lambda request, answer: httpx.Response(
        200, headers={"Tallystick-Call-Id": "c_1", "Tallystick-Charge": "1e3"}, request=request
    )
    with pytest.raises(ServiceError, match="Tallystick-Charge"):
        await client.call(app, {"name": "x"})


# --- who pays ---------------------------------------------------------------------------------


async def test_an_allowance_is_signed_for_the_session_key(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock
) -> None:
    granted = await client.grant_allowance("2.5", "10d")
    key = await client.session_key()
    assert granted.allowance.signer == key.signer
    assert granted.allowance.cap == 25 * 10**17
    assert granted.expires_at == int(clock.now_s) + 10 * 86_400
    assert [one.digest for one in await client.allowances()] == [granted.digest]
    await client.revoke_allowance(granted.digest)
    assert (await client.allowances())[0].revoked
    with pytest.raises(InvalidRequest):
        await client.grant_allowance("0")
    with pytest.raises(InvalidRequest):
        await client.revoke_allowance("0x12")


async def test_a_channel_is_closed_in_two_steps(
    market: InMemoryMarket, client: AsyncGPUClient, app: str, clock: Clock
) -> None:
    from tallystick import spending

    await client.call(app, {"name": "x"})
    market.calls.redeem()
    before = (await client.balance()).available.units
    channel, session = market.calls.channel, client._session
    _, close_at = await spending.close_channel(session, channel)
    assert close_at == int(clock.now_s) + 3 * 86_400
    with pytest.raises(InvalidRequest, match="requested before"):
        await spending.close_channel(session, channel)
    clock.now_s = float(close_at)
    _, again = await spending.close_channel(session, channel)
    assert again == 0
    assert (await client.balance()).available.units == before + 10**18 - 10


async def test_a_manifest_is_handed_in(market: InMemoryMarket, client: AsyncGPUClient) -> None:
    digest = await client.upload_manifest(b'{"a":1}')
    assert market.calls.manifests == {digest: b'{"a":1}'}


def test_without_await_it_is_the_same(market: InMemoryMarket, clock: Clock) -> None:
    with market.client(sleep=clock.sleep) as client:
        client.grant_allowance("1")
        app, counting = market.calls.publish(greet), market.calls.publish(count)
        assert client.call(app, {"name": "you"}).output == {"hello": "you"}
        stream = client.stream_call(counting, 3)
        assert list(stream) == [0, 1, 2]
        assert stream.call_id.startswith("c_")
        assert client.verify_receipt(client.call(app, {"name": "you"})).ok


async def test_an_api_key_calls_too(market: InMemoryMarket, client: AsyncGPUClient) -> None:
    await client.grant_allowance("1")
    app = market.calls.publish(greet)
    key = await client.create_api_key("bot", ("tasks:read", "tasks:write", "calls"))
    async with market.async_client(api_key=key.secret, private_key=None) as program:
        assert (await program.call(app, {"name": "bot"})).output == {"hello": "bot"}
        with pytest.raises(ConfigurationError):
            await program.grant_allowance("1")
