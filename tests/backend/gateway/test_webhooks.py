"""webhooks
├── addresses that are never connected to, as they are written and as names resolve
├── what is sent: signed, once, with the call's view; redirects are not followed
└── tried again with longer pauses, and given up
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tallystick_backend.access import Seals
from tallystick_backend.clock import ManualClock
from tallystick_backend.gateway.errors import WebhookRefused
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.webhooks import Webhooks, is_public, pause_ms, read_url
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow
from tests.backend.gateway.market import Market, until


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:0a00:0001::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://172.16.5.4/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://255.255.255.255/",
        "https://224.0.0.1/",
        "https://user@example.org/",
        "https://user:pass@example.org/",
        "https://example.org:22/",
        "https://example.org/#part",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/a b",
        "https://",
        "ftp://example.org/",
        "https://exa\r\nmple.org/",
        "https://" + "a" * 3000 + ".org/",
    ],
)
def test_an_address_that_is_not_a_public_one_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        read_url(url, loopback=False)


@pytest.mark.parametrize(
    "url", ["https://example.org/hook?a=1", "https://93.184.215.14/", "https://example.org:8443/"]
)
def test_a_public_address_is_taken(url: str) -> None:
    assert read_url(url, loopback=False).scheme == "https"


@pytest.mark.parametrize(
    ("ip", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("192.0.0.8", False),
        ("198.18.0.1", False),
    ],
)
def test_what_a_public_address_is(ip: str, public: bool) -> None:
    assert is_public(ip, loopback=False) is public


def test_loopback_only_where_a_setting_says_so() -> None:
    assert read_url("http://127.0.0.1:9000/x", loopback=True).port == 9000
    with pytest.raises(WebhookRefused):
        read_url("http://10.0.0.1:9000/x", loopback=True)


async def test_a_name_that_leads_inside_is_not_connected_to(
    database: Database, clock: ManualClock
) -> None:
    """Each time anew: what a name means may have changed since it was taken (rebinding)."""
    asked: list[str] = []

    async def resolve(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["93.184.215.14", "169.254.169.254"]

    hooks = Webhooks(database, Seals(b"k" * 32), clock, GatewaySettings(), resolve)
    with pytest.raises(WebhookRefused, match=r"169\.254"):
        await hooks._checked(read_url("https://example.org/", loopback=False))
    assert asked == ["example.org"]


def test_pauses_grow_to_an_hour() -> None:
    pauses = [pause_ms(n) for n in range(1, 9)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (5_000, 3_600_000)


@dataclass
class Receiver:
    port: int
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    hears = Receiver(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        hears.got.append((headers, body))
        where = f"Location: http://127.0.0.1:{hears.port}/elsewhere\r\n"
        writer.write(f"HTTP/1.1 {hears.status} x\r\n{where}\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hears.port = server.sockets[0].getsockname()[1]
    async with server:
        yield hears


async def test_a_webhook_is_signed_and_delivered_once(market: Market) -> None:
    async with receiver() as hears:
        answer = await market.call(Tallystick_Webhook=f"http://127.0.0.1:{hears.port}/hook")
        assert answer.status_code == 202
        call_id = answer.json()["call_id"]
        await until(lambda: bool(hears.got))
        headers, body = hears.got[0]
        said = json.loads(body)
        assert said["type"] == "call.completed"
        assert said["data"]["call_id"] == call_id == headers["webhook-id"]
        secret = market.backend.gateway.webhooks.secret((await market.row(call_id)).account)
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{call_id}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == "v1," + expected
        await _until_state(market, call_id, "delivered")
        assert len(hears.got) == 1


async def test_a_webhook_that_comes_twice_has_one_id(market: Market) -> None:
    """Case 106: a receiver that fails after it has read it can tell that it is the same one."""
    async with receiver() as hears:
        hears.status = 500
        answer = await market.call(Tallystick_Webhook=f"http://127.0.0.1:{hears.port}/hook")
        call_id = answer.json()["call_id"]
        await _until(market, call_id, lambda row: row.webhook_attempts == 1)
        hears.status = 200
        async with market.database.transaction() as session:
            row = await session.get(CallRow, call_id)
            assert row is not None
            row.webhook_at_ms = 0
            session.add(row)
        await _until_state(market, call_id, "delivered")
        (first, body), (second, again) = hears.got
        assert first["webhook-id"] == second["webhook-id"] == call_id
        assert json.loads(body) == json.loads(again)


async def test_a_redirect_is_not_followed_and_the_webhook_tried_again(market: Market) -> None:
    async with receiver() as hears:
        hears.status = 302
        answer = await market.call(Tallystick_Webhook=f"http://127.0.0.1:{hears.port}/hook")
        call_id = answer.json()["call_id"]
        await until(lambda: bool(hears.got))
        row = await _until(market, call_id, lambda row: row.webhook_attempts > 0)
        assert (row.webhook_state, row.webhook_attempts, len(hears.got)) == ("due", 1, 1)
        assert row.webhook_at_ms is not None
        assert row.webhook_at_ms > row.asked_at_ms


async def test_a_webhook_is_given_up(market: Market, tmp_path: Path) -> None:
    settings = replace(market.backend.gateway.settings, webhook_tries=1)
    hooks = market.backend.gateway.webhooks
    hooks._settings = settings
    answer = await market.call(Tallystick_Webhook="http://127.0.0.1:1/hook")
    await _until_state(market, answer.json()["call_id"], "given_up")


async def test_a_private_webhook_is_refused_before_anything_runs(market: Market) -> None:
    answer = await market.call(Tallystick_Webhook="https://10.0.0.1/hook")
    assert (answer.status_code, answer.json()["code"]) == (422, "webhook_refused")
    assert market.provider.ran == []


async def _until_state(market: Market, call_id: str, state: str) -> None:
    await _until(market, call_id, lambda row: row.webhook_state == state)


async def _until(market: Market, call_id: str, done: Callable[[CallRow], bool]) -> CallRow:
    async with asyncio.timeout(10):
        while not done(row := await market.row(call_id)):  # noqa: ASYNC110 - rows have no event
            await asyncio.sleep(0.01)
    return row


# --- case 131, the whole way to the connection -----------------------------------------------


class Names:
    """A name server that changes its mind."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def __call__(self, name: str, port: int) -> list[str]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every connection that is asked for; none is made."""
    asked: list[tuple[str, int]] = []

    async def open_connection(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise OSError("no way out")

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    return asked


def due(url: str) -> CallRow:
    return CallRow(call_id="call-0001", account="0x" + "11" * 20, webhook_url=url)


async def test_the_address_that_was_checked_is_the_one_connected_to(
    database: Database, clock: ManualClock, opened: list[tuple[str, int]]
) -> None:
    """A name that leads outwards once and inwards ever after: looked up once each time, and the
    name itself is never handed on to be looked up again."""
    names = Names(["93.184.215.14"], ["127.0.0.1"])
    hooks = Webhooks(database, Seals(b"k" * 32), clock, GatewaySettings(), names)
    with pytest.raises(OSError, match="no way out"):
        await hooks._post(due("https://rebinds.example.org/"))
    assert opened == [("93.184.215.14", 443)]
    with pytest.raises(WebhookRefused, match="not public"):
        await hooks._post(due("https://rebinds.example.org/"))
    assert len(opened) == 1


@pytest.mark.parametrize(
    "inward",
    [
        "127.0.0.1",
        "10.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1%lo",
    ],
)
async def test_nothing_is_opened_to_an_inward_address(
    database: Database, clock: ManualClock, opened: list[tuple[str, int]], inward: str
) -> None:
    for found in ([inward], ["93.184.215.14", inward]):
        hooks = Webhooks(database, Seals(b"k" * 32), clock, GatewaySettings(), Names(found))
        with pytest.raises(WebhookRefused):
            await hooks._post(due("https://inward.example.org/"))
    assert opened == []
