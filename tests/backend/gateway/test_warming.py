"""warming
├── warm calls are the account's own: paid, within its limits, and counted to the unit
├── none is made that could pass the hour's most, or that a real call made needless
├── money, limits and failures are told, and it goes on when they are past
├── it ends: by its time, by its owner, with its key
└── a restart forgets and doubles nothing; only the process that signs makes calls
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.pricing import Price
from tallystick_backend.gateway import warming
from tallystick_backend.gateway.warming import HOUR_MS, Warming
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    ApiKeyRow,
    CallRow,
    KeepWarmRow,
    SpendLimitRow,
    SpendRow,
)
from tests.backend.gateway.market import APP_ID, MANIFEST, BusServer, Market, make_market, until
from tests.support.anvil import CONSUMER, STRANGER

WARM = MANIFEST.model_copy(
    update={"scaling": MANIFEST.scaling.model_copy(update={"cooldown_s": 60})}
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> object:
    kind: str = request.param
    yield from request.getfixturevalue(f"{kind}_url_of_a_new_database")()


@pytest.fixture
async def market(database: Database, server: BusServer, tmp_path: Path) -> AsyncIterator[Market]:
    market = await make_market(database, server, tmp_path, manifest=WARM)
    await market.joins()
    await market.start()
    yield market
    await market.end()


def wanted(market: Market, **changes: Any) -> dict[str, Any]:
    until_ms = market.backend.clock.now_ms() + 2 * HOUR_MS
    return {"app_id": APP_ID, "until_ms": until_ms, "max_charge_per_hour": "1000"} | changes


async def ask(market: Market, token: str | None = None, **changes: Any) -> dict[str, Any]:
    answer = await market.http.post(
        "/v1/keep-warm",
        json=wanted(market, **changes),
        headers={"Authorization": f"Bearer {token or market.token}"},
    )
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def stop(market: Market, warm_id: str, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token or market.token}"}
    return (await market.http.delete(f"/v1/keep-warm/{warm_id}", headers=headers)).status_code


async def shown(market: Market) -> dict[str, Any]:
    view: dict[str, Any] = (await market.get("/v1/keep-warm")).json()["items"][0]
    return view


async def until_shown(market: Market, **values: Any) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while True:
            view = await shown(market)
            if all(view[name] == value for name, value in values.items()):
                return view
            await asyncio.sleep(0.02)


async def change(market: Market, warm_id: str, **values: Any) -> None:
    """As if time had passed: its next call is due, or what else is named."""
    async with market.database.transaction() as session:
        row = await session.get(KeepWarmRow, warm_id)
        assert row is not None
        for name, value in ({"next_at_ms": 1} | values).items():
            setattr(row, name, value)
        session.add(row)
    market.backend.gateway.warm_due.set()


async def agree_to_the_unit(market: Market) -> None:
    view = await shown(market)
    done = [row for row in await market.rows(CallRow) if row.state == "completed"]
    warm = [row for row in done if row.warm_id == view["id"]]
    assert (int(view["spent"]), view["calls"]) == (sum(row.charge for row in warm), len(warm))
    charges = sum(row.charge for row in done)
    assert sum(row.charge for row in await market.rows(SpendRow)) == charges
    for name, signed in market.provider.vouchers.items():
        assert signed[-1].voucher.total == sum(r.charge for r in done if r.channel_id == name)


async def test_calls_go_to_it_and_are_paid_like_any(market: Market) -> None:
    made = await ask(market)
    assert (made["state"], made["every_seconds"], made["calls_per_hour"]) == ("on", 54, 66)
    assert (made["charge_per_call"], made["most_per_call"]) == ("10", "10")
    assert (made["charge_per_hour"], made["most_per_hour"]) == ("660", "660")
    first = await until_shown(market, calls=1)
    assert first["spent"] == first["spent_this_hour"] == "10"
    assert first["next_at_ms"] > market.backend.clock.now_ms() + 50_000
    await change(market, made["id"])
    await until_shown(market, calls=2, spent="20")
    row = await market.row((await shown(market))["last_call_id"])
    assert (row.account, row.warm_id, row.charge) == (CONSUMER.address.lower(), made["id"], 10)
    receipt = await market.get(f"/v1/calls/{row.call_id}/receipt")
    assert receipt.json()["request"]["max_seconds"] == 2
    assert len(market.provider.warmed) == 2
    assert market.provider.ran == []
    await agree_to_the_unit(market)


async def test_only_the_price_is_asked(market: Market) -> None:
    headers = {"Authorization": f"Bearer {market.token}"}
    body = wanted(market, dry_run=True, max_charge_per_hour="100", every_seconds=30)
    answer = await market.http.post("/v1/keep-warm", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert (view["id"], view["state"], view["calls_per_hour"]) == ("", "quoted", 120)
    assert (view["charge_per_hour"], view["most_per_hour"]) == ("1200", "100")
    assert await market.rows(KeepWarmRow) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"every_seconds": 4}, "takes 5 s or more", id="too often"),
        pytest.param({"every_seconds": 60}, "would be gone", id="too seldom"),
        pytest.param({"until_ms": 1}, "until_ms is 1", id="a time that is past"),
        pytest.param({"until_ms": 2**50}, "within 31 days", id="too long"),
        pytest.param({"max_charge_per_hour": "9"}, "may cost 10", id="a most too low"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(
    market: Market, changes: dict[str, Any], told: str
) -> None:
    headers = {"Authorization": f"Bearer {market.token}"}
    body = wanted(market) | changes
    answer = await market.http.post("/v1/keep-warm", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "keep_warm_refused")
    assert told in answer.json()["detail"]


async def test_there_is_one_of_each(market: Market) -> None:
    made = await ask(market)
    headers = {"Authorization": f"Bearer {market.token}"}
    again = await market.http.post("/v1/keep-warm", json=wanted(market), headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "kept_warm_already")
    assert made["id"] in again.json()["detail"]


async def test_a_real_call_takes_the_place_of_one(market: Market) -> None:
    made = await ask(market)
    await until_shown(market, calls=1)
    assert (await market.call()).status_code == 200
    await change(market, made["id"])
    view = await until_shown(market, skipped=1)
    assert len(market.provider.warmed) == 1
    assert view["next_at_ms"] > market.backend.clock.now_ms() + 50_000
    await agree_to_the_unit(market)


async def test_the_hour_s_most_is_never_passed(market: Market) -> None:
    made = await ask(market, max_charge_per_hour="25")
    await until_shown(market, calls=1)
    await change(market, made["id"])
    await until_shown(market, calls=2)
    await change(market, made["id"])
    view = await until_shown(market, state="hour_spent")
    assert view["spent_this_hour"] == "20"
    assert view["next_at_ms"] % HOUR_MS == 0
    assert len(market.provider.warmed) == 2
    now_hour = market.backend.clock.now_ms() // HOUR_MS
    await change(market, made["id"], hour=now_hour - 1)
    view = await until_shown(market, calls=3, state="on")
    assert (view["spent"], view["spent_this_hour"]) == ("30", "10")
    await agree_to_the_unit(market)


async def test_without_money_it_waits_for_money(market: Market) -> None:
    market.funds.allowed = False
    made = await ask(market)
    view = await until_shown(market, state="paused_funds")
    assert view["failure"]["code"] == "no_allowance"
    assert (view["spent"], view["calls"]) == ("0", 0)
    assert view["next_at_ms"] > market.backend.clock.now_ms() + 30_000
    market.funds.allowed = True
    await change(market, made["id"])
    await until_shown(market, state="on", calls=1)
    await agree_to_the_unit(market)


async def test_a_spend_limit_holds(market: Market) -> None:
    limit = SpendLimitRow(
        id="f" * 16,
        account=CONSUMER.address.lower(),
        scope="app",
        subject=APP_ID,
        period="total",
        limit_units=15,
        created_at_ms=1,
    )
    await market.write(limit)
    made = await ask(market)
    await until_shown(market, calls=1)
    await change(market, made["id"])
    view = await until_shown(market, state="limit_reached")
    assert view["failure"]["code"] == "spend_limit_reached"
    assert len(market.provider.warmed) == 1


async def test_a_failure_costs_nothing_and_is_told(market: Market) -> None:
    market.provider.refuse = [("failed", "http_500: not today")]
    made = await ask(market)
    view = await until_shown(market, state="failing")
    assert view["failure"]["code"] == "handler_failed"
    assert (view["spent"], view["calls"]) == ("0", 0)
    await change(market, made["id"])
    await until_shown(market, state="on", calls=1)
    await agree_to_the_unit(market)


async def test_it_ends_with_its_time(market: Market) -> None:
    made = await ask(market)
    await until_shown(market, calls=1)
    await change(market, made["id"], until_ms=market.backend.clock.now_ms() - 1)
    view = await until_shown(market, state="over")
    assert view["next_at_ms"] is None
    assert len(market.provider.warmed) == 1
    assert (await ask(market))["id"] != made["id"]


async def test_its_owner_stops_it_and_nobody_else(market: Market) -> None:
    made = await ask(market)
    await until_shown(market, calls=1)
    other = await market.logged_in(STRANGER)
    assert await stop(market, made["id"], other) == 404
    assert await stop(market, made["id"]) == 200
    view = await shown(market)
    assert (view["state"], view["next_at_ms"]) == ("stopped", None)
    while (await market.rows(KeepWarmRow))[0].next_at_ms is not None:  # noqa: ASYNC110  # a row
        await asyncio.sleep(0.02)
    assert len(market.provider.warmed) == 1
    assert await stop(market, made["id"]) == 200
    assert await stop(market, "0" * 16) == 404


async def test_a_key_that_is_revoked_takes_it_along(market: Market) -> None:
    secret, key_id = await market.api_key()
    made = await ask(market, secret)
    await until_shown(market, calls=1)
    assert [row.key_id for row in await market.rows(SpendRow)] == [key_id]
    (key,) = await market.rows(ApiKeyRow)
    await market.write(key.model_copy(update={"revoked_at_ms": 2}))
    await change(market, made["id"])
    await until_shown(market, state="stopped")
    assert len(market.provider.warmed) == 1


async def test_a_call_that_was_paid_and_not_counted_is_counted_after_a_restart(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, write = asyncio.Event(), Warming._write

    async def dies(self: Warming, warm_id: str, change: warming.Change) -> KeepWarmRow:
        if market.provider.warmed:
            answered.set()
            await asyncio.Event().wait()
        return await write(self, warm_id, change)

    monkeypatch.setattr(Warming, "_write", dies)
    made = await ask(market)
    await asyncio.wait_for(answered.wait(), 15)
    await market.kill()
    monkeypatch.setattr(Warming, "_write", write)
    other = await market.reborn()
    await other.start()
    try:
        await until_shown(other, calls=2, spent="20")
        assert len(market.provider.warmed) == 2
        await change(other, made["id"])
        await until_shown(other, calls=3)
        await agree_to_the_unit(other)
    finally:
        await other.stop()


async def test_a_call_under_way_at_a_restart_is_paid_once(market: Market) -> None:
    market.provider.lose_answers = 10_000
    await ask(market)
    await until(lambda: len(market.provider.warmed) == 1)
    await market.kill()
    market.provider.lose_answers = 0
    other = await market.reborn()
    await other.start()
    try:
        view = await until_shown(other, state="on", calls=2)
        assert view["spent"] == "20"
        assert len(market.provider.warmed) == 2
        await agree_to_the_unit(other)
    finally:
        await other.stop()


async def test_one_process_makes_the_calls(market: Market) -> None:
    other = await market.reborn()
    starting = asyncio.create_task(other.start())
    await asyncio.sleep(0)
    # Asked for at a process that does not sign; the one that does sees the row.
    made = await ask(other)
    await until_shown(other, calls=1)
    assert len(market.provider.warmed) == 1
    await market.stop()
    await starting
    try:
        await change(other, made["id"])
        await until_shown(other, calls=2)
        await agree_to_the_unit(other)
    finally:
        await other.stop()


def test_a_little_less_than_a_worker_stays() -> None:
    def usual(cooldown_s: int) -> tuple[int, int]:
        scaling = MANIFEST.scaling.model_copy(update={"cooldown_s": cooldown_s})
        manifest: AppManifest = MANIFEST.model_copy(update={"scaling": scaling})
        return warming.usual_every_s(manifest), warming.least_every_s(manifest)

    assert [usual(s) for s in (2, 6, 60, 300, 86_400)] == [
        (1, 1),
        (5, 5),
        (54, 5),
        (270, 5),
        (270, 5),
    ]


async def test_a_price_by_the_second_is_that_of_a_short_run(
    database: Database, server: BusServer, tmp_path: Path
) -> None:
    resources = MANIFEST.resources.model_copy(update={"gpus": 1, "gpu_class": "gpu1"})
    manifest = WARM.model_copy(update={"resources": resources})
    market = await make_market(
        database, server, tmp_path, manifest=manifest, price=Price(0, 0, 366_000)
    )
    headers = {"Authorization": f"Bearer {market.token}"}
    body = wanted(market, dry_run=True, max_charge_per_hour=str(10**9))
    view = (await market.http.post("/v1/keep-warm", json=body, headers=headers)).json()
    assert (view["run_ms"], view["charge_per_call"]) == (10, "3660")
    assert view["most_per_call"] == "732000"
    await market.end()
