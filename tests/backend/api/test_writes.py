"""Idempotency-Key: the same request does it once, another one is refused."""

from __future__ import annotations

import asyncio

import pytest

from tests.backend.api.world import Consumer, World


async def test_the_same_request_answers_the_same(world: World, consumer: Consumer) -> None:
    body, headers = world.order(), {"Idempotency-Key": "order-1"}
    first = await consumer.post("/v1/tasks", json=body, headers=headers)
    again = await consumer.post("/v1/tasks", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_another_request_with_the_same_key_is_refused(
    world: World, consumer: Consumer
) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = await consumer.post("/v1/tasks", json=world.order(), headers=headers)
    other = await consumer.post("/v1/tasks", json=world.order(), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    cancel = await consumer.post(f"/v1/tasks/{first.json()['id']}/cancel", headers=headers)
    assert cancel.status_code == 409
    assert len((await consumer.get("/v1/tasks")).json()["items"]) == 1


async def test_of_twenty_at_once_one_has_an_effect(world: World, consumer: Consumer) -> None:
    body, headers = world.order(), {"Idempotency-Key": "order-1"}
    answers = await asyncio.gather(
        *(consumer.post("/v1/tasks", json=body, headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    events = await consumer.post(f"/v1/tasks/{answers[0].json()['id']}/cancel")
    assert events.status_code == 200
    steps = await consumer.get(f"/v1/tasks/{answers[0].json()['id']}/events")
    assert steps.text.count("event: ordered") == 1


async def test_a_refusal_is_not_remembered(world: World, consumer: Consumer) -> None:
    from tallystick.protocol.hashing import digest_of

    content = b"comes later"
    body = world.order(input_digest=digest_of(content))
    headers = {"Idempotency-Key": "order-1"}
    assert (await consumer.post("/v1/tasks", json=body, headers=headers)).status_code == 422
    await world.uploaded(consumer, content)
    assert (await consumer.post("/v1/tasks", json=body, headers=headers)).status_code == 201


async def test_keys_of_two_wallets_do_not_meet(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    headers = {"Idempotency-Key": "order-1"}
    for who in (consumer, stranger):
        body = world.order(who.person)
        assert (await who.post("/v1/tasks", json=body, headers=headers)).status_code == 201


async def test_an_upload_has_one_too(world: World, consumer: Consumer) -> None:
    from tallystick.protocol.hashing import digest_of

    headers = {"Idempotency-Key": "upload"}
    for content, status in ((b"a", 201), (b"a", 201), (b"b", 409)):
        answer = await consumer.put(
            f"/v1/blobs/{digest_of(content)}", content=content, headers=headers
        )
        assert answer.status_code == status


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", "tab\tbed"])
async def test_refuses_a_key_like(consumer: Consumer, key: str) -> None:
    answer = await consumer.post("/v1/keys", json={"name": "x"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
