"""Log-in and tokens: one thing wrong with each, all of it refused; one nonce, many at once; keys
that are over are over at once, and nowhere in the database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from siwe import SiweMessage
from sqlalchemy import text

from tallystick.protocol.signatures import sign_text
from tallystick_backend.store.tables import Table
from tests.backend.api.world import CHAIN_ID, PUBLIC_URL, Consumer
from tests.faults.campaign import Broken
from tests.faults.requests.place import Place
from tests.support.anvil import CONSUMER, STRANGER

AT_ONCE: Final = 100
REVOKED_WITHIN_S: Final = 1.0


def _message(nonce: str, **changes: Any) -> str:
    now = datetime.fromtimestamp(int(time.time()), UTC)
    fields: dict[str, Any] = {
        "domain": "backend.test:8000",
        "address": CONSUMER.address,
        "statement": "Sign in to Tallystick.",
        "uri": PUBLIC_URL,
        "version": "1",
        "chain_id": CHAIN_ID,
        "nonce": nonce,
        "issued_at": _time(now),
    }
    return str(SiweMessage(**(fields | changes)).prepare_message())


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def login_mutations(here: Place) -> int:
    """Each field of the message alone is another's; each form of the signature is not the one."""
    http = here.world.http
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    fields: list[dict[str, Any]] = [
        {"domain": "evil.test"},
        {"domain": "backend.test:8001"},
        {"domain": "backend.test"},
        {"uri": "http://evil.test/"},
        {"uri": "http://backend.test.evil.test:8000/"},
        {"uri": "https://backend.test:8000"},
        {"uri": "http://backend.test:8001"},
        {"chain_id": 1},
        {"chain_id": CHAIN_ID + 1},
        {"address": STRANGER.address},
        {"expiration_time": _time(now - hour)},
        {"not_before": _time(now + hour)},
        {"scheme": "https"},
    ]
    tried = 0
    for changes in fields:
        nonce = await here.world.nonce()
        await _refused(http, _message(nonce, **changes), CONSUMER.key, str(changes))
        tried += 1
    good = _message(await here.world.nonce())
    signature = sign_text(good, CONSUMER.key)
    for name, other in {
        "another's signature": sign_text(good, STRANGER.key),
        "of another text": sign_text(good + " ", CONSUMER.key),
        "cut": signature[:-2],
        "longer": signature + "00",
        "with s in the upper half": _upper(signature),
        "zeros": "0x" + "00" * 65,
        "v of 29": signature[:-2] + "1d",
        "none": "0x",
    }.items():
        answer = await http.post("/v1/auth/login", json={"message": good, "signature": other})
        if answer.status_code not in (401, 422):
            raise Broken(f"a signature, {name}: {answer.status_code} {answer.text[:300]}")
        tried += 1
    for name, nonce in {
        "unknown": "0123456789abcdef",
        "never given": "A" * 17,
    }.items():
        await _refused(http, _message(nonce), CONSUMER.key, f"a nonce {name}")
        tried += 1
    # What was refused has used no nonce up: this one still is good, once.
    answer = await http.post("/v1/auth/login", json={"message": good, "signature": signature})
    if answer.status_code != 200:
        raise Broken(f"a good log-in after refused ones: {answer.status_code} {answer.text[:300]}")
    again = await http.post("/v1/auth/login", json={"message": good, "signature": signature})
    if again.status_code != 401:
        raise Broken(f"the same log-in again: {again.status_code}")
    return tried + 1


async def one_nonce(here: Place) -> int:
    """A hundred at once with one nonce: one session."""
    message = _message(await here.world.nonce())
    body = {"message": message, "signature": sign_text(message, CONSUMER.key)}
    async with httpx.AsyncClient(base_url=here.url, timeout=60) as http:
        answers = await asyncio.gather(
            *(http.post("/v1/auth/login", json=body) for _ in range(AT_ONCE))
        )
    codes = [answer.status_code for answer in answers]
    if codes.count(200) != 1 or codes.count(401) != AT_ONCE - 1:
        raise Broken(f"{AT_ONCE} log-ins with one nonce: {sorted(codes)}")
    return AT_ONCE


async def forged_tokens(here: Place, chance: random.Random) -> int:
    """JWTs of every kind, ours with one letter changed, prefixes swapped, hashes as tokens."""
    token = here.tokens["consumer"]
    claims = {"sub": CONSUMER.address, "exp": int(time.time()) + 3600, "aud": PUBLIC_URL}
    forged = [
        _jwt({"alg": "none"}, claims, b""),
        _jwt({"alg": "None"}, claims, b""),
        _jwt({"alg": "HS256"}, claims, b"secret"),
        _jwt({"alg": "HS256", "kid": "../../dev/null"}, claims, b""),
        _jwt({"alg": "RS256", "jwk": {"kty": "oct"}}, claims, b"x"),
        _jwt({"alg": "HS256", "jku": "http://127.0.0.1:1/"}, claims, CONSUMER.address.encode()),
        hashlib.sha256(token.encode()).hexdigest(),
        "ts_" + hashlib.sha256(token.encode()).hexdigest(),
        token.replace("ts_", "tk_"),
        token.upper(),
        token[:-1],
        token + "A",
        token + "\u00b2",
        "ts_",
        "tk_",
        "ts_%",
        "ts_' OR '1'='1",
        "ts_" + "A" * 150,
        "ts_" + "A" * 5_000,
    ]
    for _ in range(40):
        at = chance.randrange(3, len(token))
        other = chance.choice("ABCDEFabcdef0123-_")
        if other != token[at]:
            forged.append(token[:at] + other + token[at + 1 :])
    for one in forged:
        # RFC 4648 leaves bits of the last letter open; ours are compared as text.
        headers = {b"Authorization": b"Bearer " + one.encode("latin-1")}
        answer = await here.world.http.get("/v1/auth/me", headers=headers)
        if answer.status_code != 401:
            raise Broken(f"the token {one!r}: {answer.status_code} {answer.text[:200]}")
    return len(forged)


async def revoked_keys(here: Place, times: int) -> int:
    """Refused within a second, also where callers are remembered."""
    owner = Consumer(CONSUMER, here.world.http, here.tokens["consumer"])
    for _ in range(times):
        made = (
            await owner.post(
                "/v1/keys", json={"name": "soon over", "scopes": ["tasks:read", "calls"]}
            )
        ).json()
        headers = {"Authorization": f"Bearer {made['secret']}", "Content-Type": "application/json"}
        call = f"/v1/apps/{here.ids['app']}/calls"
        for path, method in (("/v1/tasks", "GET"), (call, "POST")):
            answer = await here.world.http.request(method, path, headers=headers, content=b"1")
            if answer.status_code in (401, 403):
                raise Broken(f"a new key on {path}: {answer.status_code}")
        await owner.delete(f"/v1/keys/{made['id']}")
        over_s = time.monotonic()
        answer = await here.world.http.get("/v1/tasks", headers=headers)
        if answer.status_code != 401:
            raise Broken(f"a revoked key reads: {answer.status_code}")
        while True:
            answer = await here.world.http.post(call, headers=headers, content=b"1")
            took_s = time.monotonic() - over_s
            if answer.status_code == 401:
                break
            if took_s > REVOKED_WITHIN_S:
                raise Broken(f"a revoked key still calls after {took_s:.2f} s")
            await asyncio.sleep(0.05)
        await _nowhere(here, made["secret"])
    return times


async def _nowhere(here: Place, secret: str) -> None:
    """In no column of any table, whole or its secret part."""
    part = secret.rpartition("_")[2]
    async with here.world.database.engine.connect() as connection:
        for table in Table.metadata.sorted_tables:
            rows = (await connection.execute(text(f"SELECT * FROM {table.name}"))).all()
            if part in repr(rows) or secret in repr(rows):
                raise Broken(f"the table {table.name} has a key as it was shown")


async def _refused(http: httpx.AsyncClient, message: str, key: str, what: str) -> None:
    body = {"message": message, "signature": sign_text(message, key)}
    answer = await http.post("/v1/auth/login", json=body)
    if answer.status_code != 401:
        raise Broken(f"a log-in with {what}: {answer.status_code} {answer.text[:300]}")


def _upper(signature: str) -> str:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    raw = bytes.fromhex(signature[2:])
    s = order - int.from_bytes(raw[32:64])
    return "0x" + (raw[:32] + s.to_bytes(32) + bytes([55 - raw[64]])).hex()


def _jwt(head: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in (head, claims)]
    signed = b".".join(parts)
    mac = hmac.digest(key, signed, "sha256") if key or head["alg"] == "HS256" else b""
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
