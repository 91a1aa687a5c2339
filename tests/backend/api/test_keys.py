"""API keys: shown once, kept as hashes, scoped, revoked at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
