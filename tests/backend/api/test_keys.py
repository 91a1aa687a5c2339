"""API keys: shown once, kept as hashes, scoped, revoked at once."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tallystick_backend.__main__ import openapi_text
from tests.backend.api.called import PaidChannel
from tests.backend.api.world import Consumer, World


async def made(consumer: Consumer, **body: Any) -> dict[str, Any]:
    answer = await consumer.post("/v1/keys", json={"name": "ci", **body})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def test_a_key_is_shown_once_and_kept_as_a_hash(world: World, consumer: Consumer) -> None:
    key = await made(consumer)
    assert key["secret"].startswith(key["prefix"] + "_")
    assert key["prefix"] == f"tk_{key['id'][:8]}"
    listed = (await consumer.get("/v1/keys")).json()
    assert [item["id"] for item in listed] == [key["id"]]
    assert listed[0]["secret"] is None
    dump = str(await world.dump())
    assert key["id"] in dump
    assert key["secret"] not in dump
    assert key["secret"].rpartition("_")[2] not in dump


async def test_the_repeat_of_a_request_shows_the_same_secret(
    world: World, consumer: Consumer
) -> None:
    headers = {"Idempotency-Key": "make-my-key"}
    answers = [
        await consumer.post("/v1/keys", json={"name": "ci"}, headers=headers) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert answers[0].json()["secret"] not in str(await world.dump())
    assert len((await consumer.get("/v1/keys")).json()) == 1


async def test_a_key_does_what_its_scopes_say(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    reader = Consumer(consumer.person, world.http, (await made(consumer))["secret"])
    writer = Consumer(
        consumer.person, world.http, (await made(consumer, scopes=["tasks:write"]))["secret"]
    )
    path = f"/v1/tasks/{task['id']}"
    assert (await reader.get(path)).status_code == 200
    refused = await reader.post(f"{path}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert (await writer.get(path)).status_code == 403
    assert (await writer.post(f"{path}/cancel")).status_code == 200


async def test_how_workers_started_is_read_by_a_key_that_may_read(
    world: World, consumer: Consumer
) -> None:
    path = "/v1/apps/0x" + "a9" * 32 + "/starts"
    for scope, status in (("tasks:read", 404), ("calls", 403), ("tasks:write", 403)):
        secret = (await made(consumer, scopes=[scope]))["secret"]
        answer = await Consumer(consumer.person, world.http, secret).get(path)
        assert answer.status_code == status, scope


BOOKS, CALLING, WALLET = {"tasks:read", "calls"}, {"calls"}, set[str]()
ANYBODY = {"tasks:read", "tasks:write", "calls"}
ABOUT_CALLS: dict[str, set[str]] = {
    "GET /v1/calls": BOOKS,
    "GET /v1/calls/call-0001": BOOKS,
    "GET /v1/calls/call-0001/events": BOOKS,
    "GET /v1/calls/call-0001/receipt": BOOKS,
    "GET /v1/summaries": BOOKS,
    "GET /v1/spend-limits": BOOKS,
    "GET /v1/allowances": BOOKS,
    "GET /v1/calls/call-0001/result": CALLING,
    "DELETE /v1/calls/call-0001": CALLING,
    "GET /v1/session-key": CALLING,
    "POST /v1/allowances": CALLING,
    "POST /v1/apps/0x" + "a9" * 32 + "/calls": CALLING,
    "GET /v1/channels/0x" + "c4" * 32 + "/unsigned": CALLING,
    "POST /v1/channels/0x" + "c4" * 32 + "/vouchers": CALLING,
    "GET /v1/keep-warm": CALLING,
    "POST /v1/keep-warm": CALLING,
    "DELETE /v1/keep-warm/5f1d7c20a9b34e68": CALLING,
    "GET /v1/manifests/0x" + "3d" * 32: ANYBODY,
    "PUT /v1/manifests/0x" + "3d" * 32: {"tasks:write"},
    "GET /v1/webhook-secret": WALLET,
    "PUT /v1/spend-limits": WALLET,
    "DELETE /v1/spend-limits/5f1d7c20a9b34e68": WALLET,
}
"""Everything about calls, and the scopes of which one is enough."""


@pytest.mark.parametrize("route", ABOUT_CALLS)
@pytest.mark.parametrize("scope", ["tasks:read", "tasks:write", "calls"])
async def test_what_is_about_calls_wants(
    route: str, scope: str, world: World, consumer: Consumer
) -> None:
    paid = PaidChannel(consumer.address)
    await world.write(paid.call("call-0001", at_ms=world.clock.now_ms()))
    program = Consumer(
        consumer.person, world.http, (await made(consumer, scopes=[scope]))["secret"]
    )
    method, path = route.split()
    body = {"json": {}} if method in ("POST", "PUT") else {}
    answer = await world.http.request(method, path, headers=program.headers, **body)
    refused = answer.status_code == 403 and answer.json()["code"] == "scope_missing"
    assert refused == (scope not in ABOUT_CALLS[route]), answer.text


def test_every_route_about_calls_is_among_them() -> None:
    paths = json.loads(openapi_text())["paths"]
    named = {re.sub("call-0001|0x[0-9a-f]{64}|[0-9a-f]{16}", "*", route) for route in ABOUT_CALLS}
    documented = {
        f"{method.upper()} {re.sub('{[a-z_]+}', '*', path)}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "calls" in operation["tags"]
    }
    assert named == documented


async def test_a_key_manages_no_keys(world: World, consumer: Consumer) -> None:
    key = await made(consumer, scopes=["tasks:read", "tasks:write"])
    program = Consumer(consumer.person, world.http, key["secret"])
    assert (await program.get("/v1/keys")).status_code == 403
    assert (await program.post("/v1/keys", json={"name": "more"})).status_code == 403
    assert (await program.delete(f"/v1/keys/{key['id']}")).status_code == 403


async def test_a_revoked_key_is_refused_by_the_next_request(
    world: World, consumer: Consumer
) -> None:
    key = await made(consumer)
    program = Consumer(consumer.person, world.http, key["secret"])
    assert (await program.get("/v1/tasks")).status_code == 200
    assert (await consumer.delete(f"/v1/keys/{key['id']}")).status_code == 204
    assert (await program.get("/v1/tasks")).status_code == 401
    assert (await consumer.get("/v1/keys")).json() == []
    assert (await consumer.delete(f"/v1/keys/{key['id']}")).status_code == 204


async def test_somebody_elses_key_cannot_be_seen_or_revoked(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    key = await made(consumer)
    answer = await stranger.delete(f"/v1/keys/{key['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_key")
    assert (await stranger.get("/v1/keys")).json() == []
    program = Consumer(consumer.person, world.http, key["secret"])
    assert (await program.get("/v1/tasks")).status_code == 200


async def test_thirty_first_uses_at_once_all_pass(world: World, consumer: Consumer) -> None:
    program = Consumer(consumer.person, world.http, (await made(consumer))["secret"])
    answers = await asyncio.gather(*(program.get("/v1/tasks") for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}


async def test_the_last_use_is_noted_once_a_minute(world: World, consumer: Consumer) -> None:
    key = await made(consumer)
    program = Consumer(consumer.person, world.http, key["secret"])
    for seconds in (0, 30, 40):
        world.clock.advance(seconds=seconds)
        await program.get("/v1/tasks")
    used = (await consumer.get("/v1/keys")).json()[0]["last_used_at_ms"]
    assert used == world.clock.now_ms()


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "x" * 201}, {"name": "x", "scopes": ["account"]}, {"name": "x", "admin": True}],
)
async def test_refuses(consumer: Consumer, body: dict[str, Any]) -> None:
    assert (await consumer.post("/v1/keys", json=body)).status_code == 422
