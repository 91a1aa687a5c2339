"""Tasks over HTTP
├── order: taken, shown, remembered; each rule that refuses one
├── list: newest first, pages, filters, cursors that were touched
├── cancel · keys · acceptance · receipt · result · progress · explain
└── what is somebody else's does not exist
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Acceptance, Receipt
from tallystick.protocol.types import Digest, TaskId
from tallystick_backend.access import CapabilityUrls
from tests.backend.api.order import RATE
from tests.backend.api.world import DEPLOYMENT, HPKE_KEY, Consumer, World, hpke_signature
from tests.faults.specs import ASKED, BODY_FIELDS, HOST_FIELDS
from tests.support.anvil import CONSUMER, DISPATCHER, PROVIDER, STRANGER, Person


async def test_an_order_is_taken_and_shown(world: World, consumer: Consumer) -> None:
    digest = await world.uploaded(consumer)
    await world.has_provider()
    body = world.order(input_digest=digest)
    body["sealed_keys"] = [{"provider": PROVIDER.address, "fence": 1, "sealed": "0x" + "9a" * 80}]
    answer = await consumer.post("/v1/tasks", json=body)
    assert answer.status_code == 201, answer.text
    task = answer.json()
    assert task["state"] == "ordered"
    assert task["terms"] == body["terms"]
    assert task["manifest"] == body["manifest"]
    assert (await consumer.get(f"/v1/tasks/{task['id']}")).json() == task
    assert world.backend.wake_dispatch.is_set()


async def test_the_id_is_the_digest_of_the_terms(world: World, consumer: Consumer) -> None:
    from tallystick.protocol.messages import TaskTerms
    from tallystick.protocol.wire import TaskTermsBody

    task = await world.ordered(consumer)
    terms = TaskTerms.from_body(TaskTermsBody.model_validate(task["terms"]))
    assert task["id"] == messages.task_id(DEPLOYMENT.domain, terms)


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("the digest of another manifest", {"spec": Digest("0x" + "00" * 32)}, 422, "spec_mismatch"),
    ("another number of GPUs", {"gpus": 2}, 422, "gpus_mismatch"),
    ("another dispatcher", {"dispatcher": STRANGER.address}, 422, "wrong_dispatcher"),
    ("another share", {"dispatcher_bps": 499}, 422, "wrong_dispatcher"),
    ("shares above the limit", {"royalty_bps": 2501}, 422, "shares_out_of_range"),
    ("a royalty for nobody", {"royalty_bps": 1}, 422, "shares_out_of_range"),
    ("no time to run", {"max_seconds": 0}, 422, "deadline_out_of_range"),
    ("a run beyond reason", {"max_seconds": 31 * 86_400}, 422, "deadline_out_of_range"),
    ("a deadline that is over", {"deadline": 1}, 422, "deadline_out_of_range"),
    ("a deadline in a thousand years", {"deadline": 2**63}, 422, "deadline_out_of_range"),
    ("a ceiling one unit too low", {"max_charge": RATE * 3600 - 1}, 422, "ceiling_too_low"),
    (
        "a window below the contract's",
        {"challenge_window": 1},
        422,
        "challenge_window_out_of_range",
    ),
    ("a window above it", {"challenge_window": 2**31}, 422, "challenge_window_out_of_range"),
    ("a rule that needs a court", {"verification": 1}, 422, "verification_unsupported"),
    ("another consumer", {"consumer": STRANGER.address}, 403, "not_your_order"),
    ("a price no ceiling can hold", {"rate_per_gpu_second": 2**128 - 1}, 422, "amount_error"),
]


@pytest.mark.parametrize(
    ("changes", "status", "code"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
async def test_refuses_an_order_with(
    world: World, consumer: Consumer, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await consumer.post("/v1/tasks", json=world.order(**changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["detail"]


async def test_refuses_the_signature_of_somebody_else(world: World, consumer: Consumer) -> None:
    body = world.order(STRANGER, consumer=CONSUMER.address)
    answer = await consumer.post("/v1/tasks", json=body)
    assert answer.json()["code"] == "wrong_signer"
    assert STRANGER.address in answer.json()["detail"]


async def test_refuses_a_signature_that_is_none(world: World, consumer: Consumer) -> None:
    body = world.order() | {"signature": "0x" + "ff" * 65}
    answer = await consumer.post("/v1/tasks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "signature_error")


@pytest.mark.parametrize("way", [(), ("manifest",), ("manifest", "resources")], ids=len)
async def test_refuses_a_wish_for_more_than_a_container_may_have(
    world: World, consumer: Consumer, way: tuple[str, ...]
) -> None:
    """Case 107: each field that the engine knows, and what people call it, by its name."""
    for name in (*HOST_FIELDS, *BODY_FIELDS, *ASKED):
        body = world.order()
        place = body
        for step in way:
            place = place[step]
        place[name] = ASKED.get(name, True)
        answer = await consumer.post("/v1/tasks", json=body)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "invalid_request"), answer.text
        assert name in str(problem["errors"]), answer.text


@pytest.mark.parametrize("network", ["host", "bridge", "container:other", "", None, True])
async def test_refuses_any_network(world: World, consumer: Consumer, network: Any) -> None:
    body = world.order()
    body["manifest"]["network"] = network
    answer = await consumer.post("/v1/tasks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert "network" in str(answer.json()["errors"])


async def test_refuses_an_input_that_was_not_uploaded(world: World, consumer: Consumer) -> None:
    body = world.order(input_digest="0x" + "c5" * 32)
    answer = await consumer.post("/v1/tasks", json=body)
    assert answer.json()["code"] == "input_missing"


async def test_refuses_the_input_of_somebody_else(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    body = world.order(input_digest=await world.uploaded(stranger, b"theirs"))
    answer = await consumer.post("/v1/tasks", json=body)
    assert answer.json()["code"] == "input_missing"


@pytest.mark.parametrize(
    "keys",
    [
        [{"provider": STRANGER.address, "fence": 1, "sealed": "0x00"}],
        [{"provider": PROVIDER.address, "fence": 2**40, "sealed": "0x00"}],
        [{"provider": PROVIDER.address, "fence": 1, "sealed": "0x00"}] * 2,
    ],
    ids=["for nobody known", "for a fence that never comes", "twice"],
)
async def test_refuses_a_sealed_key(
    world: World, consumer: Consumer, keys: list[dict[str, Any]]
) -> None:
    await world.has_provider()
    answer = await consumer.post("/v1/tasks", json=world.order() | {"sealed_keys": keys})
    assert (answer.status_code, answer.json()["code"]) == (422, "sealed_key_refused")


async def test_refuses_the_same_order_again(world: World, consumer: Consumer) -> None:
    body = world.order()
    assert (await consumer.post("/v1/tasks", json=body)).status_code == 201
    again = await consumer.post("/v1/tasks", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "task_exists")


@pytest.mark.parametrize("extra", ["owner", "state", "charge", "created_at_ms"])
async def test_refuses_fields_that_are_not_the_callers(
    world: World, consumer: Consumer, extra: str
) -> None:
    answer = await consumer.post("/v1/tasks", json=world.order() | {extra: "1"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"body.{extra}"


# --- list -------------------------------------------------------------------------------------


async def test_lists_newest_first_page_by_page(world: World, consumer: Consumer) -> None:
    ids = []
    for number in range(7):
        world.clock.advance(ms=number % 2)  # some in the same millisecond
        ids.append((await world.ordered(consumer, name=f"run-{number}"))["id"])
    seen, cursor = [], None
    while True:
        params: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await consumer.get("/v1/tasks", params=params)).json()
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == 7
    assert set(seen) == set(ids)
    assert seen[0] == ids[-1] or seen[1] == ids[-1]


async def test_filters_by_name_state_and_time(world: World, consumer: Consumer) -> None:
    first = await world.ordered(consumer, name="train_a")
    world.clock.advance(seconds=10)
    second = await world.ordered(consumer, name="train%b")
    await world.on_chain(first)

    async def ids(**params: Any) -> list[str]:
        answer = await consumer.get("/v1/tasks", params=params)
        assert answer.status_code == 200, answer.text
        return [task["id"] for task in answer.json()["items"]]

    assert await ids(state="funded") == [first["id"]]
    assert await ids(state="ordered") == [second["id"]]
    assert await ids(name="train") == [second["id"], first["id"]]
    assert await ids(name="train_") == [first["id"]]
    assert await ids(name="train%") == [second["id"]]
    assert await ids(name="'; DROP TABLE task_order; --") == []
    assert await ids(created_from_ms=second["created_at_ms"]) == [second["id"]]
    assert await ids(created_until_ms=second["created_at_ms"]) == [first["id"]]


async def test_pages_through_a_state_that_is_rare(world: World, consumer: Consumer) -> None:
    wanted = []
    for number in range(12):
        world.clock.advance(ms=1)
        task = await world.ordered(consumer)
        if number % 3 == 0:
            await world.on_chain(task)
            wanted.insert(0, task["id"])
    seen, cursor = [], ""
    while cursor is not None:
        params = {"state": "funded", "limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await consumer.get("/v1/tasks", params=params)).json()
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
    assert seen == wanted


async def test_refuses_a_cursor_that_was_touched_or_borrowed(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    for _ in range(2):
        await world.ordered(consumer)
    page = (await consumer.get("/v1/tasks", params={"limit": 1})).json()
    cursor = page["next_cursor"]
    for reader, params in (
        (consumer, {"cursor": ("A" if cursor[0] != "A" else "B") + cursor[1:]}),
        (consumer, {"cursor": cursor, "state": "funded"}),
        (consumer, {"cursor": "!!!"}),
        (consumer, {"cursor": "AAAA"}),
        (consumer, {"cursor": "é" * 40}),
        (stranger, {"cursor": cursor}),
    ):
        answer = await reader.get("/v1/tasks", params=params)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), params
    assert (await consumer.get("/v1/tasks", params={"cursor": cursor})).status_code == 200


# --- cancel -----------------------------------------------------------------------------------


async def test_an_order_nobody_runs_is_cancelled_at_once(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    answer = await consumer.post(f"/v1/tasks/{task['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert await _kinds(world, consumer, task) == ["ordered", "cancelled", "end"]
    again = await consumer.post(f"/v1/tasks/{task['id']}/cancel")
    assert again.status_code == 200
    assert await _kinds(world, consumer, task) == ["ordered", "cancelled", "end"]


async def test_what_runs_goes_on_until_dispatch_stopped_it(
    world: World, consumer: Consumer
) -> None:
    task = await world.ordered(consumer)
    await world.on_chain(task)
    await world.leased(task)
    answer = await consumer.post(f"/v1/tasks/{task['id']}/cancel")
    assert answer.json()["state"] == "running"
    assert world.backend.wake_dispatch.is_set()


@pytest.mark.parametrize("state", ["settled", "refunded", "proven"])
async def test_what_is_over_cannot_be_cancelled(
    world: World, consumer: Consumer, state: str
) -> None:
    task = await world.ordered(consumer)
    await world.on_chain(task, state)
    answer = await consumer.post(f"/v1/tasks/{task['id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "task_is_over")


# --- keys -------------------------------------------------------------------------------------


async def test_a_missing_key_is_named_and_supplied(world: World, consumer: Consumer) -> None:
    from tallystick_backend.store.tables import TaskWorkRow

    await world.has_provider()
    task = await world.ordered(consumer, input_digest=await world.uploaded(consumer))
    await world.on_chain(task)
    await world.write(
        TaskWorkRow(
            task_id=task["id"],
            state="waiting",
            fence=2,
            excluded=[],
            not_before_ms=0,
            needs_key_provider=PROVIDER.address.lower(),
        )
    )
    asked = (await consumer.get(f"/v1/tasks/{task['id']}")).json()["needs_key"]
    assert asked == {
        "provider": PROVIDER.address,
        "hpke_key": HPKE_KEY,
        "hpke_signature": hpke_signature(),
        "fence": 3,
    }
    path = f"/v1/tasks/{task['id']}/keys"
    key = {"provider": PROVIDER.address, "fence": 3, "sealed": "0xabcd"}
    assert (await consumer.post(path, json=key)).status_code == 200
    assert (await consumer.post(path, json=[key | {"fence": 4}, key])).status_code == 200
    late = await consumer.post(path, json=key | {"fence": 2})
    assert (late.status_code, late.json()["code"]) == (409, "fence_given")


# --- receipt, acceptance, result --------------------------------------------------------------


def _acceptance(task: dict[str, Any], of: Receipt, person: Person, **changes: Any) -> Any:
    fields = {
        "task_id": TaskId(task["id"]),
        "total": of.total,
        "receipt": messages.digest(DEPLOYMENT.domain, of),
    } | changes
    acceptance = Acceptance(**fields)
    return {
        "acceptance": acceptance.to_body().model_dump(mode="json"),
        "signature": messages.sign(DEPLOYMENT.domain, acceptance, person.key),
    }


async def test_a_receipt_is_shown_and_accepted_once(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    await world.on_chain(task)
    path = f"/v1/tasks/{task['id']}"
    early = await consumer.get(f"{path}/receipt")
    assert (early.status_code, early.json()["code"]) == (404, "not_there_yet")

    receipt = await world.finished(task)
    shown = (await consumer.get(f"{path}/receipt")).json()
    assert shown["receipt"] == receipt.to_body().model_dump(mode="json")
    assert shown["accepted"] is False

    body = _acceptance(task, receipt, CONSUMER)
    answers = await asyncio.gather(
        *(consumer.post(f"{path}/acceptance", json=body) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["accepted"] for answer in answers)
    await world.on_chain(task, "settled", charge=receipt.total)
    assert await _kinds(world, consumer, task) == ["ordered", "accepted", "end"]
    assert (await consumer.get(path)).json()["charge"] == str(receipt.total)


async def test_the_terms_signer_may_accept(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer, signer=STRANGER.address)
    receipt = await world.finished(task)
    body = _acceptance(task, receipt, STRANGER)
    answer = await consumer.post(f"/v1/tasks/{task['id']}/acceptance", json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("changes", "person", "code"),
    [
        ({"total": 4999}, CONSUMER, "acceptance_mismatch"),
        ({"receipt": Digest("0x" + "01" * 32)}, CONSUMER, "acceptance_mismatch"),
        ({"task_id": TaskId(Digest("0x" + "01" * 32))}, CONSUMER, "acceptance_mismatch"),
        ({}, STRANGER, "wrong_signer"),
        ({}, DISPATCHER, "wrong_signer"),
    ],
    ids=["a lower total", "another receipt", "another task", "a stranger", "the dispatcher"],
)
async def test_refuses_an_acceptance_with(
    world: World, consumer: Consumer, changes: dict[str, Any], person: Person, code: str
) -> None:
    task = await world.ordered(consumer)
    receipt = await world.finished(task)
    body = _acceptance(task, receipt, person, **changes)
    answer = await consumer.post(f"/v1/tasks/{task['id']}/acceptance", json=body)
    assert answer.json()["code"] == code


async def test_nothing_can_be_accepted_before_the_receipt(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    body = {
        "acceptance": {"task_id": task["id"], "total": "1", "receipt": "0x" + "01" * 32},
        "signature": "0x" + "1b" * 65,
    }
    answer = await consumer.post(f"/v1/tasks/{task['id']}/acceptance", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_accept")


async def test_the_result_is_fetched_by_the_consumer(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    await world.leased(task)
    urls = CapabilityUrls(world.backend.seals, "http://backend.test:8000", world.clock)
    url = urls.result_url(task["id"], 1).format(digest=digest_of(b"result"))
    assert (await world.http.put(url, content=b"result")).status_code == 201
    path = f"/v1/tasks/{task['id']}/result"
    assert (await consumer.get(path)).json()["code"] == "not_there_yet"
    await world.finished(task)
    answer = await consumer.get(path, headers={"Range": "bytes=1-2"})
    assert (answer.status_code, answer.content) == (200, b"result")


async def test_progress_and_explanation(world: World, consumer: Consumer) -> None:
    await world.has_provider()
    task = await world.ordered(consumer)
    path = f"/v1/tasks/{task['id']}"
    explained = (await consumer.get(f"{path}/explain")).json()
    assert "createTask" in explained["summary"]
    assert [offer["eligible"] for offer in explained["offers"]] == [True]
    await world.leased(task)
    progress = (await consumer.get(f"{path}/progress")).json()
    assert (progress["state"], progress["stage"], progress["percent"]) == ("running", "running", 40)
    lease = (await consumer.get(path)).json()["lease"]
    assert (lease["runtime"], lease["simulated"]) == ("process", True)


async def _kinds(world: World, consumer: Consumer, task: dict[str, Any]) -> list[str]:
    answer = await consumer.get(f"/v1/tasks/{task['id']}/events")
    return [
        line.removeprefix("event: ")
        for line in answer.text.splitlines()
        if line.startswith("event")
    ]
