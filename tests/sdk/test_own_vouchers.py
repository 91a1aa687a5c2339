"""Signing for calls oneself
├── a call, a stream and a call for later are checked and signed for, each once
├── a program that was killed before it signed, or before the voucher arrived, goes on
├── nothing is signed for: a call that was never made, one that cost more than it may, a receipt in
│   another place, other bytes, another input, a voucher under another key
├── a channel without notes goes by the last voucher with this key's own signature
├── channels are opened and topped up out of the account
└── notes: one file for several programs, nothing of the key in it
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick import (
    AsyncGPUClient,
    CallFailed,
    ConfigurationError,
    InvalidRequest,
    NotFound,
    PaymentNeeded,
    TallystickError,
    VerificationFailed,
)
from tallystick.own_key import AskedCall, Notes, OwnKey
from tallystick.protocol import messages
from tallystick.protocol.calls import Link
from tallystick.protocol.messages import channel_id
from tallystick.protocol.pricing import Price
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import AppId, Digest
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import START_S, Clock

KEY = "0x" + "5e" * 32
PRICE = Price(fee_per_call=10)

Open = Callable[..., AsyncGPUClient]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    place = tmp_path / "own.key"
    place.write_text(KEY)
    place.chmod(0o600)
    return place


@pytest.fixture
async def opened(market: InMemoryMarket, clock: Clock) -> AsyncIterator[Open]:
    clients: list[AsyncGPUClient] = []

    def make(**settings: Any) -> AsyncGPUClient:
        client = AsyncGPUClient(
            "http://market.test",
            private_key=market.consumer_key,
            transport=market,
            chain=market.chain,
            now=clock,
            sleep=clock.sleep,
            **settings,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def own(market: InMemoryMarket, opened: Open, key_file: Path) -> AsyncGPUClient:
    client = opened(own_key_file=key_file)
    await client.open_channel(market.providers[0].address, "1")
    return client


@pytest.fixture
def app(market: InMemoryMarket) -> str:
    return market.calls.publish(lambda input: input, price=PRICE)


class Killed(BaseException):
    """The program ends here."""


def killed_at(path: str) -> Callable[[httpx.Request, httpx.Response], httpx.Response]:
    def kill(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith(path):
            raise Killed
        return answer

    return kill


def totals(market: InMemoryMarket) -> list[int]:
    """What was signed, over all channels."""
    books = market.calls._books.values()
    return [0 if book.voucher is None else book.voucher.voucher.total for book in books]


async def waiting(client: AsyncGPUClient, market: InMemoryMarket) -> str:
    """The call that waits for a signature."""
    (book,) = market.calls._books.values()
    return "" if book.unsigned is None else book.unsigned.id


async def test_each_call_is_signed_for_before_the_next(
    market: InMemoryMarket, own: AsyncGPUClient, app: str
) -> None:
    for n in (1, 2, 3):
        answer = await own.call(app, {"n": n})
        assert (answer.output, answer.total.units) == ({"n": n}, 10 * n)
        assert totals(market) == [10 * n]
        verdict = await own.verify_receipt(answer)
        assert (verdict.wrong, verdict.open) == ((), ("redeemed",))
    assert market.calls._allowances == []
    (channel,) = await own.channels(payer=own.address)
    assert channel.channel.signer == address_of(KEY)


async def test_a_stream_and_a_call_for_later_are_signed_for(
    market: InMemoryMarket, own: AsyncGPUClient
) -> None:
    count = market.calls.publish(lambda n: (str(i) for i in range(n)), price=PRICE)
    made = own.stream_call(count, 3)
    assert [piece async for piece in made] == ["0", "1", "2"]
    assert totals(market) == [10]
    plain = market.calls.publish(lambda input: input, price=PRICE)
    assert [piece async for piece in own.stream_call(plain, {"a": 1})] == [{"a": 1}]
    assert totals(market) == [20]
    later = await own.submit_call(plain, {"n": 2})
    assert (await own.call_result(later.call_id)).output == {"n": 2}
    assert totals(market) == [30]
    # Fetched once more: there is nothing left to sign.
    assert (await own.call_result(later.call_id)).output == {"n": 2}
    assert totals(market) == [30]


@pytest.mark.parametrize("lost", ["receipt", "vouchers"])
async def test_a_program_that_was_killed_before_the_voucher_arrived_goes_on(
    market: InMemoryMarket, own: AsyncGPUClient, opened: Open, key_file: Path, app: str, lost: str
) -> None:
    await own.call(app, {"n": 1})
    market.answer_hook = killed_at(lost)
    if lost == "vouchers":
        # It arrives nowhere: the answer is what is lost, so the book is put back as it was.
        (book,) = market.calls._books.values()
    with pytest.raises(Killed):
        await own.call(app, {"n": 2})
    market.answer_hook = None
    if lost == "vouchers":
        made = list(market.calls.made.values())[-1]
        made.voucher, book.unsigned = None, made
    assert await waiting(own, market) != ""
    other = opened(own_key_file=key_file)
    answer = await other.call(app, {"n": 3})
    assert answer.total.units == 30
    assert totals(market) == [30]
    assert json.loads(key_file.with_name("own.key.notes").read_text())["asked"] == {}


async def test_what_was_left_is_signed_by_hand_too(
    market: InMemoryMarket, own: AsyncGPUClient, app: str
) -> None:
    assert await own.sign_vouchers() == ()
    await unsigned_call(market, own, app)
    (signed,) = await own.sign_vouchers()
    assert (signed.total, totals(market)) == (10, [10])
    assert await own.sign_vouchers() == ()


async def unsigned_call(market: InMemoryMarket, client: AsyncGPUClient, app: str) -> str:
    """Answered, and its program killed then."""

    market.answer_hook = killed_at("/receipt")
    with pytest.raises(Killed):
        await client.call(app, {"n": 0})
    market.answer_hook = None
    return await waiting(client, market)


async def test_a_call_that_the_notes_do_not_know_is_not_signed_for(
    market: InMemoryMarket, own: AsyncGPUClient, opened: Open, app: str
) -> None:
    call_id = await unsigned_call(market, own, app)
    stranger = opened(own_key=KEY)  # the same key, without its notes
    with pytest.raises(VerificationFailed, match="do not know it") as refused:
        await stranger.call(app, {"n": 1})
    assert refused.value.values["call_id"] == call_id
    assert totals(market) == [0]
    assert [one.call_id for one in await stranger.sign_vouchers(unseen=True)] == [call_id]
    # Without notes: by the last voucher that this key signed.
    assert (await stranger.call(app, {"n": 1})).total.units == 20
    assert (await opened(own_key=KEY).call(app, {"n": 2})).total.units == 30
    assert totals(market) == [30]


def forging(
    path: str, *way: str, value: Any
) -> Callable[[httpx.Request, httpx.Response], httpx.Response]:
    """Changes one field of the answers on a path."""

    def forge(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith(path):
            return answer
        document = place = json.loads(answer.content)
        for step in way[:-1]:
            place = place[step]
        place[way[-1]] = value
        content = json.dumps(document).encode()
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
        return httpx.Response(answer.status_code, headers=headers, content=content, request=request)

    return forge


@pytest.mark.parametrize(
    ("way", "value", "named"),
    [
        (("signed", "receipt", "total"), "30", "signature"),
        (("signed", "signature"), "0x" + "11" * 65, "signature"),
        (("request", "input"), "0x" + "22" * 32, "input"),
        (("request", "app_id"), "0x" + "33" * 32, "price"),
        (("request", "price", "fee_per_call"), "11", "price"),
        (("before",), None, "prev"),
        (("channel", "payer"), "0x" + "44" * 20, "payer"),
        (("manifest",), None, "manifest"),
        (("escrow",), "0x" + "55" * 20, "deployment"),
    ],
)
async def test_a_receipt_that_is_not_as_it_must_be_is_not_signed_for(
    market: InMemoryMarket,
    own: AsyncGPUClient,
    app: str,
    way: tuple[str, ...],
    value: Any,
    named: str,
) -> None:
    await own.call(app, {"n": 1})
    market.answer_hook = forging("/receipt", *way, value=value)
    with pytest.raises(VerificationFailed, match=f"not good are: .*{named}"):
        await own.call(app, {"n": 2})
    market.answer_hook = None
    assert totals(market) == [10]


async def test_other_bytes_than_those_signed_for_are_not_paid(
    market: InMemoryMarket, own: AsyncGPUClient, app: str
) -> None:
    market.answer_hook = forging(f"/v1/apps/{app}/calls", "n", value=99)
    with pytest.raises(VerificationFailed, match="result"):
        await own.call(app, {"n": 1})
    assert totals(market) == [0]


async def test_a_receipt_in_another_place_is_not_signed_for(
    market: InMemoryMarket, own: AsyncGPUClient, app: str, key_file: Path
) -> None:
    """A gateway and a provider that agree on a dearer chain of receipts than was signed."""
    await own.call(app, {"n": 1})
    (book,) = market.calls._books.values()
    await forked(market, book)
    with pytest.raises(VerificationFailed, match="it follows receipt"):
        await own.call(app, {"n": 2})
    assert totals(market) == [10]


async def forked(market: InMemoryMarket, book: Any) -> None:
    """The provider signs a second receipt for its first place, a thousand units dearer."""
    body = book.last.model_copy(
        update={"receipt": book.last.receipt.model_copy(update={"total": 1010})}
    )
    receipt = messages.Receipt.from_body(body.receipt)
    key = market.providers[0].operator_key
    signature = messages.sign(market.domain, receipt, key)
    book.last = body.model_copy(update={"signature": signature})
    book.link = Link(1, messages.digest(market.domain, receipt), 1010)


async def test_a_last_voucher_by_somebody_else_counts_for_nothing(
    market: InMemoryMarket, own: AsyncGPUClient, opened: Open, app: str
) -> None:
    await own.call(app, {"n": 1})
    (book,) = market.calls._books.values()
    await forked(market, book)
    (channel,) = market.chain.funded.values()
    voucher = channel.voucher(book.link.total, book.link.digest)
    signature = messages.sign(market.domain, voucher, "0x" + "66" * 32)
    book.voucher = book.voucher.model_copy(  # type: ignore[union-attr]
        update={"voucher": voucher.to_body(), "signature": signature}
    )
    with pytest.raises(VerificationFailed, match="the last voucher is signed by"):
        await opened(own_key=KEY).call(app, {"n": 2})
    book.voucher = None
    with pytest.raises(VerificationFailed, match="none was signed for"):
        await opened(own_key=KEY).sign_vouchers(unseen=True)


async def test_a_call_that_cost_more_than_it_may_is_not_signed_for(
    market: InMemoryMarket, own: AsyncGPUClient, app: str, key_file: Path
) -> None:
    await unsigned_call(market, own, app)
    notes = key_file.with_name("own.key.notes")
    document = json.loads(notes.read_text())
    (call,) = document["asked"].values()
    call["most_units"] = 9
    notes.write_text(json.dumps(document))
    with pytest.raises(VerificationFailed, match="it cost 10 and may cost 9"):
        await own.sign_vouchers()
    call["most_units"], call["version"] = 10, 2
    notes.write_text(json.dumps(document))
    with pytest.raises(VerificationFailed, match="its version is 1"):
        await own.sign_vouchers()
    assert totals(market) == [0]


async def test_time_that_nobody_waited_is_not_signed_for(
    market: InMemoryMarket, own: AsyncGPUClient
) -> None:
    market.calls.gpu_ms = 5_000  # and the clock of the test stands still
    app = market.calls.publish(lambda input: input, price=Price(0, 10, 366))
    with pytest.raises(VerificationFailed, match="it says 5000 ms, and you waited 1000"):
        await own.call(app, {})


async def test_calls_at_once_on_one_channel_go_one_after_the_other(
    market: InMemoryMarket, own: AsyncGPUClient, app: str
) -> None:
    """Whoever is told to sign for another's call first does, and the other finds it done."""
    answers = await asyncio.gather(*(own.call(app, {"n": 1}) for _ in range(4)))
    assert sorted(answer.charge.units for answer in answers) == [10] * 4
    assert totals(market) == [40]


async def test_what_failed_leaves_nothing_to_sign(
    market: InMemoryMarket, own: AsyncGPUClient, key_file: Path
) -> None:
    def broken(input: Any) -> Any:
        raise ValueError("no")

    app = market.calls.publish(broken, price=PRICE)
    with pytest.raises(CallFailed):
        await own.call(app, {})
    with pytest.raises(TallystickError, match="ValueError"):
        await anext(own.stream_call(app, {}))
    assert json.loads(key_file.with_name("own.key.notes").read_text())["asked"] == {}


# --- channels ---------------------------------------------------------------------------------


async def test_a_channel_is_opened_and_topped_up_out_of_the_account(
    market: InMemoryMarket, opened: Open
) -> None:
    client = opened(own_key=KEY)
    before = market.chain.held(client.address).available
    name, _ = await client.open_channel(market.providers[0].address, "2")
    await client.fund_channel(name, "1")
    assert (await client.channel(name)).deposited == 3 * 10**18
    assert before - market.chain.held(client.address).available == 3 * 10**18
    with pytest.raises(PaymentNeeded, match="available"):
        await client.fund_channel(name, "1000000")
    with pytest.raises(InvalidRequest, match="provider"):
        await client.open_channel("0x12", "1")
    other, _ = await client.open_channel(market.providers[0].address, "1", signer="0x" + "77" * 20)
    assert (await client.channel(other)).channel.signer == "0x" + "77" * 20
    with pytest.raises(InvalidRequest, match="who signs"):
        await opened().open_channel(market.providers[0].address, "1")


async def test_without_a_channel_it_is_said_with_whom_to_open_one(
    market: InMemoryMarket, opened: Open, app: str
) -> None:
    client = opened(own_key=KEY)
    with pytest.raises(PaymentNeeded, match=market.providers[0].address):
        await client.call(app, {})
    with pytest.raises(ConfigurationError, match="session key of your own"):
        await opened().sign_vouchers()


async def test_a_result_that_nobody_has_any_more_is_signed_for_by_hand_only(
    market: InMemoryMarket, own: AsyncGPUClient, app: str
) -> None:
    call_id = await unsigned_call(market, own, app)
    market.calls.made[call_id].kept = False
    with pytest.raises(NotFound):
        await own.sign_vouchers()
    assert [one.call_id for one in await own.sign_vouchers(unseen=True)] == [call_id]


# --- notes ------------------------------------------------------------------------------------


def asked(name: str, at_ms: int = 1) -> AskedCall:
    return AskedCall(name, AppId(Digest("0x" + "01" * 32)), None, Digest("0x02"), None, at_ms)


@pytest.mark.parametrize("kept", [True, False])
def test_notes_let_each_call_be_signed_for_once(tmp_path: Path, kept: bool) -> None:
    notes = Notes(tmp_path / "k.notes" if kept else None)
    notes.asked(asked("b", 2))
    notes.asked(asked("a", 1))
    first = notes.find(asked("a").app_id, asked("a").input)
    assert first == asked("a", 1)
    link = Link(1, Digest("0x11"), 10)
    notes.sign("0xc", Link(), link, first)
    notes.sign("0xc", Link(), link, None)  # the same again is the same
    assert notes.last("0xc") == link
    # Another program was quicker with the name: the other call with this input stands in, once.
    notes.sign("0xc", link, Link(2, Digest("0x22"), 20), first)
    link = Link(2, Digest("0x22"), 20)
    with pytest.raises(VerificationFailed, match="signed for before"):
        notes.sign("0xc", link, Link(3, Digest("0x33"), 30), first)
    with pytest.raises(VerificationFailed, match="up to receipt 2"):
        notes.sign("0xc", Link(), Link(1, Digest("0x12"), 11), None)
    assert notes.last("0xc") == link
    notes.asked(asked("d", 3))
    assert notes.find(asked("d").app_id, asked("d").input) == asked("d", 3)
    notes.failed(asked("d"))
    assert notes.find(asked("d").app_id, asked("d").input) is None


def test_two_programs_share_one_file_of_notes(tmp_path: Path) -> None:
    place = tmp_path / "own.key.notes"
    one, other = OwnKey(KEY, place), OwnKey(KEY, place)
    one.notes.asked(asked("a"))
    found = other.notes.find(asked("a").app_id, asked("a").input)
    assert found is not None
    other.notes.sign("0xc", Link(), Link(1, Digest("0x11"), 10), found)
    assert one.notes.last("0xc") == Link(1, Digest("0x11"), 10)
    assert KEY[2:] not in place.read_text() + repr(one)
    assert place.stat().st_mode & 0o077 == 0
    # A call of long ago is forgotten.
    one.notes.asked(asked("b", 1))
    one.notes.asked(asked("c", int(START_S * 1000)))
    assert set(json.loads(place.read_text())["asked"]) == {"c"}


def test_notes_that_cannot_be_read_or_kept_are_named(tmp_path: Path) -> None:
    place = tmp_path / "k.notes"
    place.write_text("[1]")
    with pytest.raises(ConfigurationError, match=r"k\.notes"):
        Notes(place).last("0xc")
    with pytest.raises(TallystickError, match="cannot be kept"):
        Notes(tmp_path / "nowhere" / "k.notes").last("0xc")


async def test_the_key_is_read_from_the_environment_and_never_shown(
    market: InMemoryMarket, opened: Open, monkeypatch: pytest.MonkeyPatch, key_file: Path
) -> None:
    monkeypatch.setenv("TALLYSTICK_OWN_KEY_FILE", str(key_file))
    client = opened()
    name, _ = await client.open_channel(market.providers[0].address, "1")
    assert (await client.channel(name)).channel.signer == address_of(KEY)
    assert KEY[2:] not in repr(client.config)
    assert name == channel_id(next(iter(market.chain.funded.values())))
