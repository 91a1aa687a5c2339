"""What cards cost: those that fit a search, and what tasks paid day by day."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick_backend.prices import Paid, history
from tests.backend.api.chained import happened, settled
from tests.backend.api.order import RATE
from tests.backend.api.world import Consumer, World
from tests.support.anvil import OTHER_PROVIDER, PROVIDER

DAY_S = 86_400


def test_a_day_s_prices_are_by_class_and_the_middle_of_two_is_the_lower() -> None:
    paid = [
        Paid(DAY_S + 1, "a", 100, 1_000),
        Paid(DAY_S + 2, "a", 33, 100),
        Paid(DAY_S - 1, "a", 7, 2_000),  # 3.5 a second
        Paid(DAY_S + 3, "b", 5, 1_000),
        Paid(DAY_S + 4, "a", 5, 0),
    ]
    first, second, other = history(paid)
    assert (first.day, first.start_ms, first.gpu_class) == ("1970-01-01", 0, "a")
    assert (first.min_rate, first.median_rate, first.max_rate) == (3, 3, 3)
    assert (second.day, second.tasks, second.charge, second.gpu_ms) == ("1970-01-02", 2, 133, 1_100)
    assert (second.min_rate, second.median_rate, second.max_rate) == (100, 100, 330)
    assert (other.gpu_class, other.tasks) == ("b", 1)


async def test_history_is_of_what_the_chain_settled(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    receipt = await world.finished(task, total=80)
    digest = (await consumer.get(f"/v1/tasks/{task['id']}/receipt")).json()["digest"]
    await happened(world, "TaskSettled", **settled(task_id=task["id"], receipt=digest))
    now_ms = world.clock.now_ms()
    world.clock.set_ms(now_ms - 40 * DAY_S * 1000)
    await happened(world, "TaskSettled", **settled(task_id="0x" + "77" * 32, receipt=digest))
    world.clock.set_ms(now_ms)

    body = (await world.http.get("/v1/market/prices/history")).json()
    [day] = body["items"]
    assert (day["gpu_class"], day["tasks"], day["charge"]) == ("gpu1", 1, "80")
    assert day["median_rate"] == str(80 * 1000 // receipt.gpu_ms)
    assert day["start_ms"] <= now_ms < day["start_ms"] + DAY_S * 1000
    assert body["complete"] is True
    assert (await world.http.get("/v1/market/prices/history?days=401")).status_code == 422


async def test_cards_are_searched_and_put_in_order(world: World) -> None:
    await world.has_provider()
    await world.has_provider(OTHER_PROVIDER)

    async def found(**params: str) -> dict[str, Any]:
        answer = await world.http.get("/v1/market/search", params=params)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    every = await found()
    assert every["found"] == len(every["items"]) == 2
    assert {item["provider"] for item in every["items"]} == {
        PROVIDER.address,
        OTHER_PROVIDER.address,
    }
    [one] = (await found(where=f"vram>=24 provider={PROVIDER.address}"))["items"]
    assert (one["gpu_class"], one["cards"], one["cards_free"]) == ("gpu1", 2, 2)
    assert one["rate_per_gpu_second"] == str(RATE)
    assert (await found(where="not simulated"))["found"] == 0
    few = await found(where="gpu in (gpu1, h100)", order="-price", limit="1")
    assert (few["found"], len(few["items"])) == (2, 1)


@pytest.mark.parametrize("where", ["vrm>=24", "vram>=", "gpu in (", "and and"])
async def test_a_search_that_is_not_understood_says_where(world: World, where: str) -> None:
    answer = await world.http.get("/v1/market/search", params={"where": where})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "search_refused")
    assert "at character" in problem["detail"]
