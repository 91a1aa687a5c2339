"""Logs and steps: each once and in order, resumed after the last one seen, ended by themselves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tallystick_backend.clock import ManualClock
from tallystick_backend.store.repositories import events
from tallystick_backend.store.session import Database
from tests.backend.api.world import Consumer, World, make_world


def parsed(text: str) -> list[tuple[str, str, Any]]:
    """(id, event, data) of each event of a whole stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            data = json.loads(fields["data"])
            found.append((fields.get("id", ""), fields["event"], data))
    return found


async def _over(world: World, consumer: Consumer) -> dict[str, Any]:
    task = await world.ordered(consumer)
    await world.finished(task)
    await world.on_chain(task, "settled")
    return task


async def test_a_log_is_paged_and_streamed_alike(world: World, consumer: Consumer) -> None:
    task = await _over(world, consumer)
    lines = [f"line {number}\r\nwith: colons\n\nand blanks" for number in range(450)]
    await world.wrote(task, *lines)
    path = f"/v1/tasks/{task['id']}/logs"
    seen, cursor = [], None
    while True:
        params: dict[str, Any] = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        page = (await consumer.get(path, params=params)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [line["text"] for line in seen] == lines
    streamed = parsed((await consumer.get(f"{path}/stream")).text)
    assert [data for _, event, data in streamed if event == "log"] == seen
    assert streamed[-1][1] == "end"


async def test_a_stream_goes_on_after_the_last_event_seen(world: World, consumer: Consumer) -> None:
    """Case 106: ids rise, so whoever reads twice knows what it has seen."""
    task = await _over(world, consumer)
    await world.wrote(task, *"abcdef")
    path = f"/v1/tasks/{task['id']}/logs/stream"
    whole = parsed((await consumer.get(path)).text)
    for position, (event_id, event, _) in enumerate(whole):
        if event == "end":
            continue
        rest = parsed((await consumer.get(path, headers={"Last-Event-ID": event_id})).text)
        assert rest == whole[position + 1 :]


async def test_steps_are_named_after_their_kind(world: World, consumer: Consumer) -> None:
    task = await _over(world, consumer)
    async with world.database.transaction() as session:
        for kind in ("funded", "leased", "finished", "settled"):
            await events.append(session, task["id"], kind, {"fence": 1}, 5)  # type: ignore[arg-type]
    path = f"/v1/tasks/{task['id']}/events"
    whole = parsed((await consumer.get(path)).text)
    assert [event for _, event, _ in whole] == [
        "ordered",
        "funded",
        "leased",
        "finished",
        "settled",
        "end",
    ]
    resumed = parsed((await consumer.get(path, headers={"Last-Event-ID": whole[2][0]})).text)
    assert resumed == whole[3:]
    beyond = parsed((await consumer.get(path, headers={"Last-Event-ID": "999999"})).text)
    assert [event for _, event, _ in beyond] == ["end"]


async def test_an_open_stream_sees_what_comes_and_its_end(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    await world.leased(task)
    reading = asyncio.create_task(consumer.get(f"/v1/tasks/{task['id']}/logs/stream"))
    for number in range(5):
        await world.wrote(task, f"line {number}", first=number)
        await asyncio.sleep(0.02)
    assert not reading.done()
    await world.finished(task)
    found = parsed((await reading).text)
    assert [data["text"] for _, event, data in found if event == "log"] == [
        f"line {number}" for number in range(5)
    ]


async def test_streams_end_when_the_process_does(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    reading = asyncio.create_task(consumer.get(f"/v1/tasks/{task['id']}/events"))
    await asyncio.sleep(0.1)
    assert world.backend.streams.open_streams == 1
    world.backend.stopping.set()
    assert [event for _, event, _ in parsed((await reading).text)] == ["ordered"]
    assert world.backend.streams.open_streams == 0


@pytest.mark.parametrize("last", ["-1", "abc", "1" * 30, "1.5", "٣"])
async def test_refuses_an_event_id_like(world: World, consumer: Consumer, last: str) -> None:
    task = await _over(world, consumer)
    answer = await consumer.get(
        f"/v1/tasks/{task['id']}/events", headers={"Last-Event-ID": last.encode()}
    )
    assert answer.status_code == 422


async def test_streams_are_counted(database: Database, clock: ManualClock, tmp_path: Path) -> None:
    world = await make_world(database, clock, tmp_path, max_streams=3, max_streams_per_caller=2)
    consumer, stranger = await world.consumer(), await world.stranger()
    task, theirs = await world.ordered(consumer), await world.ordered(stranger)
    path = f"/v1/tasks/{task['id']}/events"
    open_ones = [asyncio.create_task(consumer.get(path)) for _ in range(2)]
    await asyncio.sleep(0.1)
    third = await consumer.get(path)
    assert (third.status_code, third.json()["code"]) == (429, "too_many_streams")
    open_ones.append(asyncio.create_task(stranger.get(f"/v1/tasks/{theirs['id']}/events")))
    await asyncio.sleep(0.1)
    assert (await stranger.get(f"/v1/tasks/{theirs['id']}/events")).status_code == 429
    world.backend.stopping.set()
    await asyncio.gather(*open_ones)
    await world.http.aclose()
