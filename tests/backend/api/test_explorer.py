"""What anybody may look up of the chain, once and as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlmodel import col, delete

from tallystick.protocol.hashing import digest_of
from tallystick_backend.explorer import KINDS, explorer_event
from tallystick_backend.index.project import FOLLOWED, args_of
from tallystick_backend.store.tables import (
    AppRow,
    ChainEventRow,
    ChannelRow,
    TaskChainRow,
)
from tests.backend.api.chained import APP, CHANNEL, TASK, happened, redeemed, settled
from tests.backend.api.world import World
from tests.support.anvil import CONSUMER, OTHER_PROVIDER, PROVIDER, STRANGER

EVENTS = "/v1/explorer/events"


async def _names(world: World, **params: Any) -> list[str]:
    page = (await world.http.get(EVENTS, params=params)).json()
    return [item["name"] for item in page["items"]]


async def test_events_are_shown_the_last_first_with_what_they_are_about(world: World) -> None:
    await world.is_indexed(block=9)
    await happened(world, "Staked", provider=PROVIDER.address, amount="100", bonded="100")
    await happened(world, "TaskSettled", **settled())
    page = (await world.http.get(EVENTS)).json()

    assert page["block"] == 9
    task, stake = page["items"]
    assert (task["kind"], task["name"], task["amount"], task["token"]) == (
        "task",
        "TaskSettled",
        "80",
        "payment",
    )
    assert (task["task_id"], task["tx"]) == (TASK, digest_of(b"transaction 2"))
    assert task["parties"]["consumer"] == CONSUMER.address
    assert "royalty_to" not in task["parties"]
    assert task["at"] == world.backend.now_s()
    assert (stake["kind"], stake["token"], stake["task_id"]) == ("stake", "stake", None)


async def test_events_of_one_kind_or_one_account(world: World) -> None:
    await happened(world, "TaskSettled", **settled())
    await happened(world, "VoucherRedeemed", **redeemed())
    await happened(world, "Slashed", provider=OTHER_PROVIDER.address, amount="5")
    await happened(world, "TaskRefunded", task_id=TASK, consumer=CONSUMER.address, amount="20")

    assert await _names(world, kind="task") == ["TaskRefunded", "TaskSettled"]
    assert await _names(world, kind="redemption") == ["VoucherRedeemed"]
    assert await _names(world, kind="slash") == ["Slashed"]
    assert await _names(world, kind="app") == []
    provider = {"address": PROVIDER.address}
    assert await _names(world, **provider) == ["VoucherRedeemed", "TaskSettled"]
    assert await _names(world, **provider, kind="task") == ["TaskSettled"]
    assert await _names(world, address=STRANGER.address) == []


@pytest.mark.parametrize("filters", [{}, {"kind": "task"}, {"address": PROVIDER.address}])
async def test_pages_show_each_event_once(world: World, filters: dict[str, str]) -> None:
    for number in range(7):
        await happened(world, ("TaskSettled", "TaskRefunded")[number % 2], **settled(amount="1"))
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await world.http.get(EVENTS, params={"limit": 3, **filters, **cursor})).json()
        seen += [item["id"] for item in page["items"]]
        # What comes meanwhile moves nothing.
        await happened(world, "Staked", provider=PROVIDER.address, amount="1", bonded="1")
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_a_cursor_is_good_with_the_same_filters_only(world: World) -> None:
    for _ in range(2):
        await happened(world, "TaskSettled", **settled())
    page = (await world.http.get(EVENTS, params={"limit": 1})).json()
    other = await world.http.get(EVENTS, params={"cursor": page["next_cursor"], "kind": "task"})
    assert (other.status_code, other.json()["code"]) == (400, "bad_cursor")
    assert (await world.http.get(EVENTS, params={"kind": "money2"})).status_code == 422


async def test_one_task_with_its_transactions(world: World) -> None:
    await world.is_indexed(block=9)
    await world.write(
        TaskChainRow(
            task_id=TASK,
            state="settled",
            consumer=CONSUMER.address.lower(),
            provider=PROVIDER.address.lower(),
            max_charge=100,
            charge=80,
            end_s=2000,
            settled_tx=digest_of(b"transaction 1"),
        )
    )
    await happened(world, "TaskSettled", entity=f"task:{TASK}", **settled())
    await happened(world, "TaskSettled", **settled(task_id=digest_of(b"another")))
    task = (await world.http.get(f"/v1/explorer/tasks/{TASK}")).json()

    assert (task["state"], task["charge"], task["provider"]) == ("settled", "80", PROVIDER.address)
    assert [event["id"] for event in task["events"]] == [1]
    unknown = await world.http.get(f"/v1/explorer/tasks/{digest_of(b'none')}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_task")


async def test_a_search_finds_what_it_could_be(world: World) -> None:
    await world.has_provider()
    await world.is_indexed(block=9)
    await happened(world, "TaskSettled", **settled())
    await world.write(
        TaskChainRow(task_id=TASK, state="settled", consumer=CONSUMER.address.lower()),
        AppRow(
            app_id=APP,
            publisher=CONSUMER.address.lower(),
            salt="0x",
            royalty_to=CONSUMER.address.lower(),
            royalty_bps=0,
            published_at_s=1,
            versions=1,
            manifest_uri="https://apps.test/Whisper.json",
        ),
        ChannelRow(
            channel_id=CHANNEL,
            payer=CONSUMER.address.lower(),
            signer=CONSUMER.address.lower(),
            provider=PROVIDER.address.lower(),
            salt=0,
            opened_at_s=1,
        ),
    )

    async def found(q: str) -> list[tuple[str, str]]:
        answer = (await world.http.get("/v1/search", params={"q": q})).json()
        return [(hit["kind"], hit["id"]) for hit in answer["items"]]

    assert await found(TASK.upper().replace("0X", "0x")) == [("task", TASK)]
    assert await found(APP) == [("app", APP)]
    assert await found(CHANNEL) == [("channel", CHANNEL)]
    tx = digest_of(b"transaction 1")
    assert await found(tx) == [("transaction", tx)]
    assert await found(PROVIDER.address.lower()) == [("provider", PROVIDER.address)]
    assert await found(CONSUMER.address) == [("account", CONSUMER.address)]
    assert await found(STRANGER.address) == []
    assert await found("9") == [("block", "9")]
    assert await found("10") == []
    assert await found("whisper") == [("app", APP)]
    assert await found("nothing like it") == []


# --- the stream ---------------------------------------------------------------------------------


async def _stream(world: World, last: str | None = None) -> AsyncIterator[tuple[str, str, Any]]:
    from tallystick_backend.api.explorer import stream_events

    async for event in stream_events(world.backend, last):
        data = event.data
        shown = data.model_dump(mode="json") if hasattr(data, "model_dump") else data
        yield str(event.event), str(event.id), shown


async def _next(stream: AsyncIterator[tuple[str, str, Any]], kind: str) -> tuple[str, Any]:
    """The next one of this kind; others before it are passed over."""
    async with asyncio.timeout(20):
        async for event, event_id, data in stream:
            if event == kind:
                return event_id, data
    raise AssertionError(f"no {kind} came")


async def test_a_stream_tells_what_comes_and_goes_on_where_it_was(world: World) -> None:
    await world.is_indexed(block=4)
    await happened(world, "TaskSettled", **settled())
    stream = _stream(world)
    head_id, head = await _next(stream, "head")
    assert head["block"] == 4
    await happened(world, "VoucherRedeemed", block=6, **redeemed(7))
    seen, event = await _next(stream, "event")
    assert (event["name"], event["amount"]) == ("VoucherRedeemed", "7")
    await happened(world, "VoucherRedeemed", block=7, **redeemed(8))
    await happened(world, "VoucherRedeemed", block=7, **redeemed(9))

    again = _stream(world, seen)
    amounts = [(await _next(again, "event"))[1]["amount"] for _ in range(2)]
    assert amounts == ["8", "9"]
    from_before = _stream(world, head_id)
    assert (await _next(from_before, "event"))[1]["amount"] == "7"


async def test_a_reader_is_told_when_the_chain_took_something_back(world: World) -> None:
    await world.is_indexed()
    await happened(world, "VoucherRedeemed", block=6, **redeemed(7))
    stream = _stream(world, f"1-{digest_of(b'block 6')[2:10]}")
    await _next(stream, "head")
    async with world.database.transaction() as session:
        await session.exec(delete(ChainEventRow).where(col(ChainEventRow.id) == 1))
    # The same id again, in another block.
    await happened(world, "VoucherRedeemed", block=66, **redeemed(8))
    await _next(stream, "reset")
    await happened(world, "VoucherRedeemed", block=67, **redeemed(9))
    assert (await _next(stream, "event"))[1]["amount"] == "9"


async def test_a_stream_ends_with_the_process_and_is_counted(world: World) -> None:
    await world.is_indexed()
    world.backend.stopping.set()
    answer = await world.http.get("/v1/explorer/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events == ["event: head"]
    assert world.backend.streams.open_streams == 0
    refused = await world.http.get("/v1/explorer/stream", headers={"Last-Event-ID": "x"})
    assert refused.status_code == 422


# --- every event has its place ------------------------------------------------------------------


def test_every_event_that_is_followed_has_a_kind_or_is_about_nothing() -> None:
    known = {name for names in KINDS.values() for name in names}
    followed = {kind.__name__ for kind in FOLLOWED}
    assert known <= followed
    # About a proof that was not taken: there is no task, account or sum in it.
    assert followed - known == {"ProofSkipped"}


@pytest.mark.parametrize("kind", FOLLOWED, ids=lambda kind: kind.__name__)
def test_every_event_can_be_shown(kind: Any) -> None:
    from dataclasses import fields

    from tests.backend.index.test_project import _sample

    event = kind(**{field.name: _sample(field.name, kind) for field in fields(kind)})
    row = ChainEventRow(
        id=1,
        block_number=7,
        block_hash=digest_of(b"block"),
        log_index=0,
        tx_hash=digest_of(b"transaction"),
        timestamp_s=1,
        contract=kind.CONTRACT,
        name=kind.__name__,
        args=args_of(event),
    )
    shown = explorer_event(row)
    amounts = {"amount", "charge", "paid", "bond", "rest", "slashed"} & set(args_of(event))
    assert (shown.amount is not None) == bool(amounts or kind.__name__ == "TaskCreated")
    assert json.loads(shown.model_dump_json())["name"] == kind.__name__
