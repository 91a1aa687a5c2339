"""The caller's money at a glance, as it is and as it changes; a task's cards over time."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tallystick_backend.api import overview
from tallystick_backend.store.repositories import work
from tallystick_backend.store.tables import AccountRow, ChannelRow, SpendRow
from tests.backend.api.chained import happened, settled
from tests.backend.api.order import RATE
from tests.backend.api.test_analytics import _call
from tests.backend.api.world import World
from tests.support.anvil import CONSUMER, PROVIDER


def _channel(number: int, deposited: int, claimed: int) -> ChannelRow:
    return ChannelRow(
        channel_id=f"0x{number:064x}",
        payer=CONSUMER.address.lower(),
        signer=CONSUMER.address.lower(),
        provider=PROVIDER.address.lower(),
        salt=number,
        opened_at_s=1,
        deposited=deposited,
        claimed=claimed,
    )


async def test_what_there_is_and_what_is_reserved(world: World) -> None:
    await world.is_indexed(block=9)
    await world.write(
        AccountRow(address=CONSUMER.address.lower(), available=100, locked=40, credit=3),
        _channel(1, 30, 10),
        _channel(2, 5, 5),
    )
    mine = (await (await world.consumer()).get("/v1/overview")).json()

    assert (mine["available"], mine["reserved"]) == ("100", "60")
    assert (mine["locked"], mine["in_channels"], mine["credit"]) == ("40", "20", "3")
    assert (mine["pace_per_hour"], mine["lasts_until"], mine["alerts"]) == ("0", None, [])
    other = (await (await world.stranger()).get("/v1/overview")).json()
    assert (other["available"], other["reserved"]) == ("0", "0")
    assert (await world.http.get("/v1/overview")).status_code == 401


async def test_calls_and_running_tasks_make_the_pace(world: World) -> None:
    now_ms, me = world.clock.now_ms(), await world.consumer()
    await world.has_provider()
    task = await world.ordered(me)
    await world.leased(task)
    first, second = _call(1, now_ms - 1000), _call(2, now_ms - 61 * 60_000)
    first.charge, second.charge = 7, 1000
    gpus_per_hour = RATE * task["terms"]["gpus"] * 3600
    await world.write(
        first,
        second,
        AccountRow(address=CONSUMER.address.lower(), available=(gpus_per_hour + 7) * 2),
    )
    mine = (await me.get("/v1/overview")).json()

    assert mine["tasks_running"] == 1
    assert mine["pace_per_hour"] == str(gpus_per_hour + 7)
    assert mine["lasts_until"] == world.backend.now_s() + 2 * 3600
    assert mine["alerts"] == ["runs_out_today"]


async def test_more_calls_than_are_looked_at_give_the_pace_of_their_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_CALLS", 2)
    now_ms, me = world.clock.now_ms(), await world.consumer()
    for number in range(4):
        call = _call(number, now_ms - 1000 * number)
        call.charge = 10
        await world.write(call)
    mine = (await me.get("/v1/overview")).json()
    # 20 units in the second that the last two cover.
    assert mine["pace_per_hour"] == str(20 * 3600)
    assert mine["alerts"] == ["runs_out_today", "nothing_available"]


async def test_spent_since_midnight(world: World) -> None:
    today = world.backend.now_s() // 86_400
    for day, charge in ((today, 5), (today - 1, 100)):
        await world.write(
            SpendRow(
                account=CONSUMER.address.lower(),
                day=day,
                key_id="",
                app_id="",
                charge=charge,
                calls=1,
            )
        )
    await happened(world, "TaskSettled", **settled(charge="80"))
    # Somebody else's task, in which I am the provider.
    await happened(
        world,
        "TaskSettled",
        **settled(charge="9", consumer=PROVIDER.address, provider=CONSUMER.address),
    )
    mine = (await (await world.consumer()).get("/v1/overview")).json()
    assert (mine["spent_today_calls"], mine["spent_today_tasks"]) == ("5", "80")


async def test_an_index_that_stopped_is_an_alert(world: World) -> None:
    await world.is_indexed(degraded="a deep reorganisation")
    mine = (await (await world.consumer()).get("/v1/overview")).json()
    assert mine["alerts"] == ["index_stopped"]


async def test_it_is_told_when_it_changes_and_not_twice(world: World) -> None:
    from tallystick_backend.access import ALL_SCOPES, Caller

    me = Caller(CONSUMER.address, ALL_SCOPES, "session", "")
    account = CONSUMER.address.lower()
    await world.write(AccountRow(address=account, available=1))
    stream = overview.stream_overview(world.backend, me, None)

    async def said(from_stream: Any) -> tuple[str, str]:
        async with asyncio.timeout(20):
            event = await anext(from_stream)
        return str(event.data.available), str(event.id)

    assert (await said(stream))[0] == "1"
    await world.write(AccountRow(address=account, available=2))
    available, last = await said(stream)
    assert available == "2"

    again = overview.stream_overview(world.backend, me, last)
    waiting = asyncio.create_task(said(again))
    await world.write(AccountRow(address=account, available=3))
    assert (await waiting)[0] == "3"
    world.backend.stopping.set()
    assert [event async for event in overview.stream_overview(world.backend, me, None)]
    assert world.backend.streams.open_streams == 0


# --- a task's cards -----------------------------------------------------------------------------


async def test_readings_of_a_task_are_its_consumers(world: World) -> None:
    me = await world.consumer()
    task = await world.ordered(me)
    for number in range(3):
        async with world.database.transaction() as session:
            reading = {"gpu_id": "GPU-0", "utilization_percent": number, "power_mw": 250_000}
            await work.add_sample(session, task["id"], 1, [reading], 1000 * number)
    path = f"/v1/tasks/{task['id']}/samples"
    items = (await me.get(path)).json()["items"]

    assert [item["gpus"][0]["utilization_percent"] for item in items] == [0, 1, 2]
    assert items[0]["gpus"][0]["temperature_c"] is None
    rest = (await me.get(path, params={"cursor": items[1]["id"]})).json()["items"]
    assert [item["at_ms"] for item in rest] == [2000]
    assert (await (await world.stranger()).get(path)).status_code == 404


async def test_a_long_task_keeps_its_beginning_further_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_SAMPLES", 8)
    async with world.database.transaction() as session:
        for number in range(40):
            await work.add_sample(session, "0x1", 1, [{"gpu_id": "a"}], number * 1000)
        await work.add_sample(session, "0x1", 1, [{"gpu_id": "a"}], 39_999)  # within the second
        kept = [row.at_ms for row in await work.samples(session, "0x1")]
    assert len(kept) <= 8
    assert (kept[0], kept[-1]) == (0, 39_000)
    gaps = [later - before for before, later in itertools.pairwise(kept)]
    assert gaps == sorted(gaps, reverse=True)


async def test_what_lasts_for_ever_has_no_end(world: World) -> None:
    """A large account that spends next to nothing: the year would be beyond any number's width."""
    now_ms, me = world.clock.now_ms(), await world.consumer()
    one = _call(1, now_ms - 1000)
    one.charge = 1
    await world.write(
        one,
        SpendRow(call_id=one.call_id, account=one.account, charge=1, at_ms=now_ms - 1000)
        if "call_id" in SpendRow.model_fields
        else one,
        AccountRow(address=CONSUMER.address.lower(), available=500 * 10**18),
    )
    answer = await me.get("/v1/overview")
    assert answer.status_code == 200
    assert (answer.json()["pace_per_hour"], answer.json()["lasts_until"]) == ("1", None)
