"""Prices, totals, earnings, pools and load: sums that pages show without adding up a history."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.call_bodies import (
    AppLoadBody,
    StartBody,
    StartsBody,
    StartsRequestBody,
)
from tallystick.protocol.wire import parse
from tallystick_backend.api.kept import KEPT_S, Kept
from tallystick_backend.gateway.bus import Silent
from tallystick_backend.offer_search import CardOffer
from tallystick_backend.prices import PriceTable, card_offers
from tallystick_backend.store.tables import (
    AccountRow,
    AppRow,
    CallRow,
    DelegationRow,
    EarnedRow,
    PoolRow,
    TaskChainRow,
    TotalsRow,
)
from tests.backend.api.chained import APP
from tests.backend.api.order import RATE
from tests.backend.api.world import World
from tests.support.anvil import CONSUMER, OTHER_PROVIDER, PROVIDER, STRANGER


def _announced(rate: int, *models: str, leased: dict[str, int] | None = None) -> list[CardOffer]:
    gpus = [{"gpu_class": "a", "model": model, "memory_mib": 80} for model in models]
    said = {"rate_per_gpu_second": {"a": str(rate)}, "gpus": gpus}
    return card_offers(PROVIDER.address, "docker", said, leased or {})


def test_prices_are_counted_by_card() -> None:
    table = PriceTable()
    table.add(_announced(10, "H100"))
    table.add(_announced(30, "H100", "H100", "A100", leased={"a": 1}))
    h100, a100 = sorted(table.rows(), key=lambda row: row.model, reverse=True)

    assert (h100.min_rate, h100.median_rate, h100.max_rate) == (10, 30, 30)
    assert (h100.providers, h100.cards, h100.cards_free) == (2, 3, 2)
    assert (a100.cards, a100.cards_free) == (1, 1)


def test_the_middle_of_two_is_the_lower() -> None:
    table = PriceTable()
    for rate in (10, 20):
        table.add(_announced(rate, "H100"))
    assert [row.median_rate for row in table.rows()] == [10]


def test_a_card_without_a_price_is_not_for_rent() -> None:
    card = {"gpu_class": "a", "model": "H100", "memory_mib": 80}
    said = {"rate_per_gpu_second": {"": "1"}, "gpus": [card]}
    assert card_offers(PROVIDER.address, "docker", said, {}) == []


async def test_only_who_is_online_and_takes_work_has_a_price(world: World) -> None:
    await world.has_provider()
    await world.has_provider(OTHER_PROVIDER, last_seen_ms=0)
    task = await world.ordered(await world.consumer())
    await world.leased(task)
    (row,) = (await world.http.get("/v1/market/prices")).json()["items"]

    assert (row["gpu_class"], row["model"], row["simulated"]) == ("gpu1", "Simulated", True)
    assert (row["providers"], row["cards"]) == (1, 2)
    assert row["cards_free"] == 2 - task["terms"]["gpus"]
    assert row["min_rate"] == row["median_rate"] == row["max_rate"] == str(RATE)


async def test_the_whole_market(world: World) -> None:
    await world.is_indexed(block=9)
    await world.has_provider()
    await world.write(
        TotalsRow(name="market", escrowed=500, staked=1000, tasks_settled=3, task_charges=240),
        TaskChainRow(task_id="0x1", state="settled", consumer="0x2"),
        TaskChainRow(task_id="0x3", state="open", consumer="0x2"),
    )
    totals = (await world.http.get("/v1/market/totals")).json()

    assert (totals["block"], totals["escrowed"], totals["staked"]) == (9, "500", "1000")
    assert totals["tasks"] == {"settled": 1, "open": 1}
    assert (totals["tasks_settled"], totals["task_charges"]) == (3, "240")
    assert (totals["providers_online"], totals["cards_online"]) == (1, 2)


async def test_an_empty_market_is_all_zeros(world: World) -> None:
    totals = (await world.http.get("/v1/market/totals")).json()
    assert (totals["escrowed"], totals["tasks"], totals["cards_online"]) == ("0", {}, 0)
    assert (await world.http.get("/v1/market/prices")).json()["items"] == []


async def test_an_answer_is_kept_for_a_moment() -> None:
    now_s, made = 0.0, 0
    kept = Kept(lambda: now_s)

    async def make() -> int:
        nonlocal made
        made += 1
        return made

    assert [await kept.get("a", make), await kept.get("a", make)] == [1, 1]
    assert await kept.get("b", make) == 2
    now_s = KEPT_S
    assert await kept.get("a", make) == 3


# --- providers ----------------------------------------------------------------------------------


async def test_a_provider_with_its_earnings_and_its_pool(world: World) -> None:
    await world.has_provider()
    now_s = world.backend.now_s()
    await world.write(
        AccountRow(address=PROVIDER.address.lower(), credit=33),
        EarnedRow(address=PROVIDER.address.lower(), tasks=70, tasks_settled=2, calls=7),
        PoolRow(
            provider=PROVIDER.address.lower(),
            delegated=40,
            delegators=1,
            commission_bps=2000,
            commission_at_s=now_s + 5,
            commission_before_bps=1000,
        ),
    )
    address = f"/v1/providers/{PROVIDER.address}/summary"
    said = (await world.http.get(address)).json()
    assert said["provider"]["address"] == PROVIDER.address
    assert (said["credit"], said["earned"]["tasks"], said["earned"]["calls"]) == ("33", "70", "7")
    assert said["pool"]["commission_bps"] == 1000
    assert said["pool"]["next_commission_bps"] == 2000

    await world.is_indexed(block_timestamp_s=now_s + 5)
    said = (await world.http.get(address)).json()
    assert (said["pool"]["commission_bps"], said["pool"]["next_commission_bps"]) == (2000, None)
    unknown = await world.http.get(f"/v1/providers/{STRANGER.address}/summary")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_provider")


async def test_what_an_account_earned(world: World) -> None:
    await world.write(EarnedRow(address=CONSUMER.address.lower(), royalties=5))
    earned = (await world.http.get(f"/v1/accounts/{CONSUMER.address}/earned")).json()
    assert (earned["royalties"], earned["tasks"]) == ("5", "0")
    nothing = (await world.http.get(f"/v1/accounts/{STRANGER.address}/earned")).json()
    assert set(nothing.values()) == {"0", 0}


async def test_delegations_by_pool_and_by_delegator(world: World) -> None:
    for provider in (PROVIDER, OTHER_PROVIDER):
        await world.write(PoolRow(provider=provider.address.lower(), generation=1))
        for delegator in (CONSUMER, STRANGER):
            names = (provider.address.lower(), delegator.address.lower())
            await world.write(
                DelegationRow(
                    place="/".join(names),
                    provider=names[0],
                    delegator=names[1],
                    shares=5,
                    generation=int(provider is PROVIDER),
                )
            )

    async def found(**params: Any) -> set[tuple[str, str, bool]]:
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = (
                await world.http.get("/v1/delegations", params={"limit": 1, **params, **cursor})
            ).json()
            items += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        return {(item["provider"], item["delegator"], item["void"]) for item in items}

    assert await found(provider=PROVIDER.address) == {
        (PROVIDER.address, CONSUMER.address, False),
        (PROVIDER.address, STRANGER.address, False),
    }
    assert await found(delegator=CONSUMER.address) == {
        (PROVIDER.address, CONSUMER.address, False),
        (OTHER_PROVIDER.address, CONSUMER.address, True),
    }
    assert len(await found()) == 4


# --- an app's load ------------------------------------------------------------------------------


def _call(number: int, asked_at_ms: int, state: str = "completed", took_ms: int = 5) -> CallRow:
    return CallRow(
        call_id=f"call-{number}",
        account=CONSUMER.address.lower(),
        app_id=APP,
        version=1,
        state=state,
        asked_at_ms=asked_at_ms,
        ended_at_ms=asked_at_ms + took_ms,
        queued_ms=0,
        cold_start_ms=0,
        run_ms=0,
        gpu_ms=0,
        request={},
        result_bytes=0,
    )


async def _has_app(world: World) -> None:
    await world.write(
        AppRow(
            app_id=APP,
            publisher=CONSUMER.address.lower(),
            salt="0x",
            royalty_to=CONSUMER.address.lower(),
            royalty_bps=0,
            published_at_s=1,
            versions=1,
            manifest_uri="https://apps.test",
        )
    )


async def test_calls_of_the_last_quarter_of_an_hour(world: World) -> None:
    await _has_app(world)
    now_ms = world.clock.now_ms()
    for number in range(20):
        await world.write(_call(number, now_ms - 1000 * number, took_ms=number + 1))
    await world.write(_call(20, now_ms, "failed"), _call(21, now_ms - 16 * 60_000))
    load = (await world.http.get(f"/v1/apps/{APP}/load")).json()

    assert load["workers"] == []
    calls = load["calls"]
    assert (calls["calls"], calls["completed"], calls["failed"]) == (21, 20, 1)
    assert (calls["p50_ms"], calls["p95_ms"], calls["complete"]) == (10, 19, True)


async def test_no_calls_have_no_percentiles(world: World) -> None:
    await _has_app(world)
    calls = (await world.http.get(f"/v1/apps/{APP}/load")).json()["calls"]
    assert (calls["calls"], calls["p50_ms"], calls["p95_ms"]) == (0, None, None)
    unknown = await world.http.get(f"/v1/apps/0x{'0' * 64}/load")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_app")


async def test_workers_as_their_providers_said_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tallystick_backend.gateway.fleet import Fleet, Member

    await _has_app(world)
    load = AppLoadBody(
        app_id=APP,
        version=2,
        state="warm",
        workers=3,
        max_workers=4,
        places=6,
        running=2,
        queued=1,
        delay_ms=0,
        cold_start_ms=900,
    )
    fleet = Fleet(world.database, None, world.clock, world.backend.gateway.settings)  # type: ignore[arg-type]
    member = Member(PROVIDER.address)
    member.apps = {(APP, 2): load, ("0xother", 1): load}
    fleet._members = {PROVIDER.address.lower(): member}
    parts = SimpleNamespace(fleet=fleet)
    monkeypatch.setattr(type(world.backend.gateway), "parts", property(lambda _self: parts))
    (worker,) = (await world.http.get(f"/v1/apps/{APP}/load")).json()["workers"]

    assert (worker["provider"], worker["version"], worker["running"]) == (PROVIDER.address, 2, 2)


# --- how workers started, for the publisher -------------------------------------------------------


class _Starts:
    """The bus, with one provider that tells and one that is silent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def ask(self, provider: str, verb: str, payload: bytes, timeout_s: float) -> bytes:
        self.asked.append((provider, verb))
        if provider == OTHER_PROVIDER.address.lower():
            raise Silent(verb, nobody=True)
        assert parse(StartsRequestBody, payload).app_id == APP
        start = StartBody(version=2, at_ms=7, ready=False, why="it ended", text="<b>no module</b>")
        return StartsBody(starts=(start,)).model_dump_json().encode()


async def test_how_workers_started_is_told_to_the_publisher(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tallystick_backend.gateway.fleet import Fleet, Member

    await _has_app(world)
    publisher = await world.consumer()
    path = f"/v1/apps/{APP}/starts"
    assert (await publisher.get(path)).json() == {"app_id": APP, "items": []}

    bus = _Starts()
    fleet = Fleet(world.database, bus, world.clock, world.backend.gateway.settings)  # type: ignore[arg-type]
    for provider in (PROVIDER, OTHER_PROVIDER):
        member = Member(provider.address)
        member.taken = {(APP, 2)}
        fleet._members[provider.address.lower()] = member
    elsewhere = Member(STRANGER.address)
    elsewhere.taken = {("0x" + "00" * 32, 1)}
    fleet._members[STRANGER.address.lower()] = elsewhere
    parts = SimpleNamespace(fleet=fleet)
    monkeypatch.setattr(type(world.backend.gateway), "parts", property(lambda _self: parts))
    (start,) = (await publisher.get(path)).json()["items"]

    assert start == {
        "provider": PROVIDER.address,
        "version": 2,
        "at_ms": 7,
        "ready": False,
        "why": "it ended",
        "text": "<b>no module</b>",
    }
    assert {name for name, _ in bus.asked} == {
        PROVIDER.address.lower(),
        OTHER_PROVIDER.address.lower(),
    }

    stranger = await world.consumer(STRANGER)
    refused = await stranger.get(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_the_publisher")
    assert len(bus.asked) == 2
    unknown = await publisher.get(f"/v1/apps/0x{'0' * 64}/starts")
    assert unknown.status_code == 404


# --- for pages of others ------------------------------------------------------------------------


async def test_what_a_page_elsewhere_may_show(world: World) -> None:
    await world.has_provider()
    await world.write(
        TaskChainRow(
            task_id="0x" + "5a" * 32,
            state="open",
            consumer=CONSUMER.address.lower(),
            max_charge=9,
        )
    )
    elsewhere = {"Origin": "https://blog.test"}
    task = await world.http.get(f"/v1/embed/tasks/0x{'5a' * 32}", headers=elsewhere)
    assert task.headers["access-control-allow-origin"] == "*"
    assert task.headers["cross-origin-resource-policy"] == "cross-origin"
    assert (task.json()["max_charge"], task.json()["token_symbol"]) == ("9", "TALLY")
    assert "consumer" not in task.json()
    gpus = (await world.http.get("/v1/embed/gpus", params={"gpu_class": "gpu1"})).json()
    assert [row["cards"] for row in gpus["items"]] == [2]
    none = (await world.http.get("/v1/embed/gpus", params={"gpu_class": "gpu2"})).json()
    assert none["items"] == []


async def test_a_page_elsewhere_may_ask_first(world: World) -> None:
    answer = await world.http.options("/v1/embed/gpus", headers={"Origin": "https://blog.test"})
    assert (answer.status_code, answer.headers["access-control-allow-methods"]) == (204, "GET")
    refused = await world.http.get(f"/v1/embed/tasks/0x{'00' * 32}")
    assert refused.status_code == 404
    assert refused.headers["access-control-allow-origin"] == "*"
