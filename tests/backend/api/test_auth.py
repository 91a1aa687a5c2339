"""Log-in
├── the right message opens a session, once
├── one part changed at a time: refused, naming the part
├── the nonce: unknown, expired, used, used a hundred times at once
├── a contract wallet says on chain
└── the session: expires, ends at log-out, is kept as a hash
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick.protocol.signatures import sign_text
from tallystick.protocol.types import Address
from tests.backend.api.world import CHAIN_ID, PUBLIC_URL, Consumer, World
from tests.support.anvil import CONSUMER, STRANGER


async def test_a_signed_message_opens_a_session(world: World) -> None:
    answer = await world.login(CONSUMER, world.message(CONSUMER, await world.nonce()))
    assert answer.status_code == 200
    assert answer.json()["address"] == CONSUMER.address
    me = await Consumer(CONSUMER, world.http, answer.json()["token"]).get("/v1/auth/me")
    assert me.json() == {
        "address": CONSUMER.address,
        "via": "session",
        "scopes": ["account", "calls", "tasks:read", "tasks:write"],
    }


MUTATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("another site", {"domain": "evil.test"}, "domain"),
    ("the same site on another port", {"domain": "backend.test"}, "domain"),
    ("another scheme", {"scheme": "https"}, "domain"),
    ("another address to log in to", {"uri": "http://evil.test"}, "uri"),
    ("an address that only begins like ours", {"uri": PUBLIC_URL + "1"}, "uri"),
    ("another chain", {"chain_id": CHAIN_ID + 1}, "chain_id"),
    ("somebody else's address", {"address": STRANGER.address}, "signature"),
    ("not valid before the future", {"not_before": "2100-01-01T00:00:00Z"}, "not_before"),
    ("expired long ago", {"expiration_time": "2001-01-01T00:00:00Z"}, "expiration_time"),
]


@pytest.mark.parametrize(
    ("changes", "field"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS]
)
async def test_refuses_a_message_with(world: World, changes: dict[str, Any], field: str) -> None:
    answer = await world.login(CONSUMER, world.message(CONSUMER, await world.nonce(), **changes))
    assert answer.status_code == 401
    assert answer.json()["code"] == "login_refused"
    assert answer.json()["errors"][0]["field"] == field


TEXTS = {
    "another version": ("Version: 1", "Version: 2"),
    "a trailing space": ("Issued At", "Issued At "),
    "no chain": (f"Chain ID: {CHAIN_ID}\n", ""),
    "a chain that is no number": (f"Chain ID: {CHAIN_ID}", "Chain ID: many"),
    "a huge chain": (f"Chain ID: {CHAIN_ID}", "Chain ID: " + "9" * 200),
    "a date that is none": ("-11-", "-13-"),
    "a year beyond the calendar": ("Issued At: 2", "Issued At: 02"),
    "a checksum that is wrong": (CONSUMER.address, CONSUMER.address.swapcase().replace("X", "x")),
    "two thousand characters": ("Sign in", "Sign in" * 400),
    "a line more": ("Version", "Role: admin\nVersion"),
}


@pytest.mark.parametrize(("old", "new"), TEXTS.values(), ids=TEXTS.keys())
async def test_refuses_a_text_with(world: World, old: str, new: str) -> None:
    text = world.message(CONSUMER, await world.nonce())
    assert old in text
    answer = await world.login(CONSUMER, text.replace(old, new))
    assert answer.status_code == 401, answer.text


async def test_refuses_a_nonce_of_its_own_making(world: World) -> None:
    answer = await world.login(CONSUMER, world.message(CONSUMER, "abcdefgh12345678"))
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["field"] == "nonce"


async def test_refuses_a_signature_under_other_words(world: World) -> None:
    text = world.message(CONSUMER, await world.nonce())
    body = {"message": text, "signature": sign_text(text + " ", CONSUMER.key)}
    answer = await world.http.post("/v1/auth/login", json=body)
    assert answer.json()["errors"][0]["field"] == "signature"


async def test_refuses_the_mirror_image_of_a_signature(world: World) -> None:
    """The other s of the same curve point: one message, one signature."""
    text = world.message(CONSUMER, await world.nonce())
    raw = bytes.fromhex(sign_text(text, CONSUMER.key)[2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    other = order - int.from_bytes(raw[32:64])
    mirrored = "0x" + (raw[:32] + other.to_bytes(32) + bytes([55 - raw[64]])).hex()
    body = {"message": text, "signature": mirrored}
    answer = await world.http.post("/v1/auth/login", json=body)
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["field"] == "signature"


async def test_a_nonce_is_good_once(world: World) -> None:
    text = world.message(CONSUMER, await world.nonce())
    assert (await world.login(CONSUMER, text)).status_code == 200
    again = await world.login(CONSUMER, text)
    assert again.status_code == 401
    assert again.json()["errors"][0]["field"] == "nonce"


async def test_an_idempotency_key_does_not_open_a_second_session(world: World) -> None:
    text = world.message(CONSUMER, await world.nonce())
    body = {"message": text, "signature": sign_text(text, CONSUMER.key)}
    answers = [
        await world.http.post("/v1/auth/login", json=body, headers={"Idempotency-Key": "one"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 401]


async def test_of_a_hundred_uses_at_once_one_succeeds(world: World) -> None:
    text = world.message(CONSUMER, await world.nonce())
    answers = await asyncio.gather(*(world.login(CONSUMER, text) for _ in range(100)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] + [401] * 99


async def test_a_nonce_expires(world: World) -> None:
    nonce = await world.nonce()
    world.clock.advance(seconds=world.backend.settings.nonce_seconds)
    answer = await world.login(CONSUMER, world.message(CONSUMER, nonce))
    assert answer.status_code == 401


async def test_a_refused_message_does_not_use_the_nonce_up(world: World) -> None:
    nonce = await world.nonce()
    await world.login(STRANGER, world.message(CONSUMER, nonce))
    assert (await world.login(CONSUMER, world.message(CONSUMER, nonce))).status_code == 200


async def test_a_session_ends_by_itself(world: World, consumer: Consumer) -> None:
    world.clock.advance(seconds=world.backend.settings.session_hours * 3600)
    answer = await consumer.get("/v1/auth/me")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_session_ends_at_log_out(consumer: Consumer) -> None:
    assert (await consumer.post("/v1/auth/logout")).status_code == 204
    assert (await consumer.get("/v1/auth/me")).status_code == 401


async def test_only_a_hash_of_the_session_is_kept(world: World, consumer: Consumer) -> None:
    dump = await world.dump()
    assert CONSUMER.address.lower() in dump["session"]
    assert consumer.token not in str(dump)


class _Wallet:
    """A contract wallet that knows one digest."""

    def __init__(self, address: Address, digest: bytes) -> None:
        self.known = (address, digest)

    async def accepts(self, wallet: Address, digest: bytes, signature: str) -> bool:
        return (wallet, digest) == self.known


async def test_a_contract_wallet_logs_in(world: World) -> None:
    from tallystick.protocol.signatures import text_digest

    text = world.message(STRANGER, await world.nonce())
    wallet = _Wallet(STRANGER.address, text_digest(text))
    object.__setattr__(world.backend, "wallets", wallet)
    body = {"message": text, "signature": "0x" + "42" * 96}
    answer = await world.http.post("/v1/auth/login", json=body)
    assert answer.status_code == 200
    assert answer.json()["address"] == STRANGER.address


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ts_unknown",
        "Bearer tk_12345678_" + "0" * 64,
        "Bearer " + "a" * 5000,
        "Basic dXNlcjpwYXNz",
        # a JWT without signature: nothing of ours
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIweDAifQ.",
    ],
)
async def test_refuses_credentials(world: World, header: str) -> None:
    answer = await world.http.get("/v1/auth/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["code"] == "not_logged_in"
