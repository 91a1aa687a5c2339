"""Limits on spending: set by the wallet, seen with what was spent of them."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick_backend.store.tables import SpendRow
from tests.backend.api.called import APP
from tests.backend.api.test_apps import publish
from tests.backend.api.world import Consumer, World

DAY_MS = 86_400_000


def wanted(limit: int = 500, **changes: Any) -> dict[str, Any]:
    return {"scope": "workspace", "period": "day", "limit": str(limit)} | changes


async def set_limit(consumer: Consumer, body: dict[str, Any]) -> dict[str, Any]:
    answer = await consumer.put("/v1/spend-limits", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def limits(consumer: Consumer) -> list[dict[str, Any]]:
    answer = await consumer.get("/v1/spend-limits")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def key_of(consumer: Consumer, *scopes: str) -> dict[str, Any]:
    answer = await consumer.post("/v1/keys", json={"name": "ci", "scopes": list(scopes)})
    key: dict[str, Any] = answer.json()
    return key


async def test_a_limit_is_set_changed_and_removed(consumer: Consumer) -> None:
    first = await set_limit(consumer, wanted(500))
    again = await set_limit(consumer, wanted(700))
    assert again["id"] == first["id"]
    await set_limit(consumer, wanted(9, period="call"))
    shown = {item["period"]: (item["limit"], item["spent"]) for item in await limits(consumer)}
    assert shown == {"call": ("9", None), "day": ("700", "0")}
    assert (await consumer.delete(f"/v1/spend-limits/{first['id']}")).status_code == 204
    assert [item["period"] for item in await limits(consumer)] == ["call"]
    assert (await consumer.delete(f"/v1/spend-limits/{first['id']}")).status_code == 404


async def test_what_was_spent_is_of_the_day_the_key_and_the_app(
    world: World, consumer: Consumer
) -> None:
    app = await publish(world, 1)
    key = await key_of(consumer, "tasks:write")
    today = world.clock.now_ms() // DAY_MS

    def spent(day: int, charge: int, *, key_id: str = "", app_id: str = APP) -> SpendRow:
        account = consumer.address.lower()
        fields = {"account": account, "key_id": key_id, "app_id": app_id, "calls": 1}
        return SpendRow(day=day, charge=charge, **fields)

    await world.write(
        spent(today - 1, 1),
        spent(today, 10, key_id=key["id"]),
        spent(today, 100, app_id=app),
    )
    for scope, subject in (("workspace", ""), ("key", key["id"]), ("app", app)):
        for period in ("day", "total"):
            body = wanted(scope=scope, subject=subject, period=period)
            await set_limit(consumer, body)
    shown = {(i["scope"], i["period"]): i["spent"] for i in await limits(consumer)}
    assert shown == {
        ("workspace", "day"): "110",
        ("workspace", "total"): "111",
        ("key", "day"): "10",
        ("key", "total"): "10",
        ("app", "day"): "100",
        ("app", "total"): "100",
    }


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"scope": "workspace", "subject": "x"}, 422, "limit_subject_refused"),
        ({"scope": "key", "subject": "00" * 8}, 404, "unknown_key"),
        ({"scope": "app", "subject": APP}, 404, "unknown_app"),
        ({"scope": "planet"}, 422, "invalid_request"),
        ({"period": "week"}, 422, "invalid_request"),
        ({"limit": "-1"}, 422, "invalid_request"),
        ({"limit": 1.5}, 422, "invalid_request"),
        ({"colour": "red"}, 422, "invalid_request"),
    ],
)
async def test_a_limit_on_nothing_is_refused(
    consumer: Consumer, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await consumer.put("/v1/spend-limits", json=wanted(**changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await limits(consumer) == []


async def test_a_key_sees_the_limits_and_cannot_change_them(
    world: World, consumer: Consumer
) -> None:
    """It could raise what it may spend."""
    mine = await set_limit(consumer, wanted())
    key = await key_of(consumer, "tasks:read", "tasks:write")
    program = Consumer(consumer.person, consumer.http, key["secret"])
    assert len(await limits(program)) == 1
    assert (await program.put("/v1/spend-limits", json=wanted(10**9))).status_code == 403
    assert (await program.delete(f"/v1/spend-limits/{mine['id']}")).status_code == 403


async def test_limits_are_their_owners(consumer: Consumer, stranger: Consumer) -> None:
    mine = await set_limit(consumer, wanted())
    assert await limits(stranger) == []
    assert (await stranger.delete(f"/v1/spend-limits/{mine['id']}")).status_code == 404
    theirs = await set_limit(stranger, wanted(1))
    assert theirs["id"] != mine["id"]
    assert [item["limit"] for item in await limits(consumer)] == ["500"]


async def test_the_same_request_twice_sets_it_once(consumer: Consumer) -> None:
    headers = {"Idempotency-Key": "a"}
    first = await consumer.put("/v1/spend-limits", json=wanted(), headers=headers)
    again = await consumer.put("/v1/spend-limits", json=wanted(), headers=headers)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
