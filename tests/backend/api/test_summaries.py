"""Sums: rows equal receipts equal vouchers equal chain, to the unit; and as CSV."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest

from tallystick.protocol.call_views import SummaryPage, SummaryRow, SummarySums
from tallystick.protocol.pricing import Price
from tallystick_backend.api.summaries import csv_text, inert
from tallystick_backend.store.tables import CallRow
from tests.backend.api.called import APP, PaidChannel, pages, unpaid_call
from tests.backend.api.chained import happened, settled
from tests.backend.api.world import Consumer, World
from tests.support.anvil import CONSUMER, PROVIDER, STRANGER

NOW_MS = 1_774_789_200_000
"""2026-03-29, 13:00 UTC: the day on which Europe's clocks go forward."""
DAY_MS = 86_400_000
GROUPS = ("app", "provider", "gpu", "key", "channel")


@pytest.fixture
async def consumer(world: World) -> Consumer:
    """Logged in on that day."""
    world.clock.set_ms(NOW_MS)
    return await world.consumer()


async def summary(consumer: Consumer, query: str = "") -> dict[str, Any]:
    answer = await consumer.get(f"/v1/summaries?{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("seed", range(4))
async def test_rows_receipts_vouchers_and_chain_say_the_same(
    world: World, consumer: Consumer, seed: int
) -> None:
    """Calls at random prices, times, apps and keys on three channels, failures among them; the
    chain has redeemed the last vouchers of all of them."""
    draw = random.Random(seed)
    channels = [
        PaidChannel(consumer.address, PROVIDER, salt=1),
        PaidChannel(consumer.address, PROVIDER, salt=2),
        PaidChannel(consumer.address, STRANGER, salt=3),
    ]
    rows: list[CallRow] = []
    for n in range(60):
        at_ms = NOW_MS - draw.randrange(20 * DAY_MS)
        call_id = f"call-{n:04}"
        if draw.random() < 0.2:
            state = draw.choice(["failed", "canceled"])
            rows.append(unpaid_call(consumer.address, call_id, at_ms=at_ms, state=state))
            continue
        price = Price(*(draw.choice([0, 1, 7, 366, 10**18, 2**64 + 1]) for _ in range(3)))
        rows.append(
            draw.choice(channels).call(
                call_id,
                at_ms=at_ms,
                price=price,
                gpu_ms=draw.choice([0, 1, 999, 1_001, 59_999]),
                app_id=draw.choice([APP, "0x" + "b0" * 32]),
                key_id=draw.choice(["", "ab" * 8]),
            )
        )
    on_chain = [c.row(deposited=2**100, claimed=c.link.total) for c in channels if c.voucher]
    await world.write(*rows, *on_chain, paid_by_a_stranger(world))

    claimed = sum(row.claimed for row in on_chain)
    vouchers = sum(c.voucher.voucher.total for c in channels if c.voucher)
    calls = await pages(consumer, "/v1/calls")
    listed = sum(int(call["charge"]) for call in calls)
    receipts = 0
    for call in calls:
        if call["state"] == "completed":
            answer = await consumer.get(f"/v1/calls/{call['call_id']}/receipt")
            receipts += int(answer.json()["charge"])
    assert claimed == vouchers == listed == receipts

    for by, zone, group in (
        ("day", "UTC", ()),
        ("day", "Europe/Berlin", ("app", "gpu")),
        ("hour", "Australia/Lord_Howe", ("provider", "key")),
        ("day", "America/New_York", GROUPS),
    ):
        query = f"by={by}&time_zone={zone}&from_ms={NOW_MS - 21 * DAY_MS}"
        body = await summary(consumer, query + "".join(f"&group={name}" for name in group))
        assert sum(int(item["charge"]) for item in body["items"]) == claimed
        assert int(body["sums"]["charge"]) == claimed
        assert sum(item["calls"] for item in body["items"]) == body["sums"]["calls"] == 60
        assert body["sums"]["completed"] == sum(c["state"] == "completed" for c in calls)

    body = await summary(consumer, f"group=channel&from_ms={NOW_MS - 21 * DAY_MS}")
    for channel in on_chain:
        charged = [i["charge"] for i in body["items"] if i["channel_id"] == channel.channel_id]
        assert sum(map(int, charged)) == channel.claimed


def paid_by_a_stranger(world: World) -> CallRow:
    """Is in nobody else's sums."""
    return PaidChannel(STRANGER.address, salt=9).call("call-zzzz", at_ms=NOW_MS)


async def test_a_day_of_another_time_zone_is_its_own(world: World, consumer: Consumer) -> None:
    paid = PaidChannel(consumer.address)
    midnight_ms = 1_774_738_800_000  # 2026-03-28T23:00Z: in Berlin the 29th begins
    await world.write(
        paid.call("call-0001", at_ms=midnight_ms - 1), paid.call("call-0002", at_ms=midnight_ms)
    )
    body = await summary(consumer, "time_zone=Europe/Berlin")
    assert [(i["start"], i["calls"], i["end_ms"] - i["start_ms"]) for i in body["items"]] == [
        ("2026-03-28T00:00:00+01:00", 1, DAY_MS),
        ("2026-03-29T00:00:00+01:00", 1, 23 * 3_600_000),
    ]
    [one] = (await summary(consumer, "time_zone=UTC"))["items"]
    assert (one["start"], one["calls"], one["charge"]) == ("2026-03-28T00:00:00+00:00", 2, "7350")


async def test_sums_may_be_of_one_app_provider_or_key(world: World, consumer: Consumer) -> None:
    paid, other = PaidChannel(consumer.address), PaidChannel(consumer.address, STRANGER)
    await world.write(
        paid.call("call-0001", at_ms=NOW_MS, key_id="ab" * 8, price=Price(1)),
        other.call("call-0002", at_ms=NOW_MS, app_id="0x" + "b0" * 32, price=Price(20)),
    )
    for query, charge in (
        ("", "21"),
        (f"app={APP}", "1"),
        (f"provider={STRANGER.address}", "20"),
        (f"key={'ab' * 8}", "1"),
        ("key=", "20"),
    ):
        assert (await summary(consumer, query))["sums"]["charge"] == charge, query


async def test_csv_has_the_same_figures_and_whole_numbers(world: World, consumer: Consumer) -> None:
    paid = PaidChannel(consumer.address)
    await world.write(
        paid.call("call-0001", at_ms=NOW_MS, price=Price(2**127), gpu_class="=1+1"),
        unpaid_call(consumer.address, "call-0002", at_ms=NOW_MS),
    )
    query = "/v1/summaries?group=gpu&group=provider"
    by_format = await consumer.get(query + "&format=csv")
    by_accept = await consumer.get(query, headers={"Accept": "text/csv"})
    assert by_format.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_format.text == by_accept.text
    assert "attachment" in by_format.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(by_format.text)))
    assert [row["gpu_class"] for row in found] == ["", "'=1+1"]
    assert [row["charge_units"] for row in found] == ["0", str(2**127)]
    assert found[1]["provider"] == PROVIDER.address
    as_json = await consumer.get(query + "&format=json", headers={"Accept": "text/csv"})
    assert as_json.json()["sums"]["charge"] == str(2**127)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_no_cell_begins_like_a_formula(text: str) -> None:
    assert inert(text) == "'" + text
    nothing = dict.fromkeys(SummarySums.model_fields, 0)
    row = SummaryRow(start="s", start_ms=0, end_ms=1, gpu_class=text, **nothing)
    page = SummaryPage(
        by="day",
        time_zone="UTC",
        group=("gpu",),
        from_ms=0,
        until_ms=1,
        items=(row,),
        sums=SummarySums(**nothing),
    )
    [_, line] = csv.reader(io.StringIO(csv_text(page), newline=""))
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in line)
    assert inert("gpu1") == "gpu1"
    assert inert("") == ""


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("time_zone=Mars/Olympus", "unknown_time_zone"),
        ("time_zone=..%2F..%2Fetc%2Fpasswd", "unknown_time_zone"),
        ("by=hour&from_ms=0&until_ms=4000000000", "range_too_long"),
        ("from_ms=5&until_ms=5", "range_empty"),
        ("by=week", "invalid_request"),
        ("group=colour", "invalid_request"),
        ("from_ms=99999999999999", "invalid_request"),
    ],
)
async def test_sums_that_cannot_be_made_are_refused(
    consumer: Consumer, query: str, code: str
) -> None:
    answer = await consumer.get(f"/v1/summaries?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_nothing_called_costs_nothing(world: World, consumer: Consumer) -> None:
    """Thirty days of it."""
    body = await summary(consumer, f"from_ms={NOW_MS - 30 * DAY_MS}")
    assert body["items"] == []
    assert body["sums"]["charge"] == "0"


# --- tasks ------------------------------------------------------------------------------------

BOTH = "kind=call&kind=task"


async def happened_at(world: World, at_ms: int, name: str, **args: Any) -> None:
    world.clock.set_ms(at_ms)
    await happened(world, name, **args)
    world.clock.set_ms(NOW_MS)


@pytest.mark.parametrize("seed", range(3))
async def test_sums_of_tasks_are_what_the_chain_settled(
    world: World, consumer: Consumer, seed: int
) -> None:
    """More of them than are read at once, at random times; the consumer provides some itself, and
    others are paid beside it."""
    draw = random.Random(seed)
    charges: dict[int, int] = {}
    times = sorted(NOW_MS - draw.randrange(20 * DAY_MS) for _ in range(270))
    for number, at_ms in enumerate(times):
        task_id, charge = f"0x{number:064x}", draw.choice([0, 1, 7_777, 2**100 + 1])
        if draw.random() < 0.1:
            await happened_at(
                world, at_ms, "TaskRefunded", task_id=task_id, consumer=CONSUMER.address, amount="9"
            )
        elif draw.random() < 0.1:
            others = settled(
                task_id=task_id, consumer=STRANGER.address, provider=CONSUMER.address, charge="5"
            )
            await happened_at(world, at_ms, "TaskSettled", **others)
        else:
            charges[at_ms] = charges.get(at_ms, 0) + charge
            await happened_at(
                world, at_ms, "TaskSettled", **settled(task_id=task_id, charge=str(charge))
            )
    paid = PaidChannel(consumer.address)
    await world.write(paid.call("call-0001", at_ms=NOW_MS, price=Price(11)))

    total, since = sum(charges.values()), f"from_ms={NOW_MS - 21 * DAY_MS}"
    for by, zone in (("day", "UTC"), ("hour", "Australia/Lord_Howe")):
        body = await summary(consumer, f"kind=task&by={by}&time_zone={zone}&{since}")
        assert int(body["sums"]["charge"]) == total
        assert sum(int(item["charge"]) for item in body["items"]) == total
        assert {item["kind"] for item in body["items"]} == {"task"}
        assert body["sums"]["calls"] == 0
        for item in body["items"]:
            here = [c for at, c in charges.items() if item["start_ms"] <= at < item["end_ms"]]
            assert int(item["charge"]) == sum(here)
    together = await summary(consumer, f"{BOTH}&{since}&group=app&group=key")
    assert int(together["sums"]["charge"]) == total + 11
    assert together["kinds"] == ["call", "task"]
    calls_alone = await summary(consumer, since)
    assert (calls_alone["sums"]["charge"], calls_alone["sums"]["tasks"]) == ("11", 0)
    recent = f"kind=task&by=day&from_ms={NOW_MS - 3 * DAY_MS}&until_ms={NOW_MS}"
    body = await summary(consumer, recent)
    in_range = [c for at, c in charges.items() if body["from_ms"] <= at < body["until_ms"]]
    assert int(body["sums"]["charge"]) == sum(in_range)


async def test_a_task_has_its_provider_gpu_and_time(world: World, consumer: Consumer) -> None:
    task = await world.ordered(consumer)
    receipt = await world.finished(task, total=80)
    digest = (await consumer.get(f"/v1/tasks/{task['id']}/receipt")).json()["digest"]
    await happened(world, "TaskSettled", **settled(task_id=task["id"], receipt=digest))
    groups = "".join(f"&group={name}" for name in GROUPS)
    [row] = (await summary(consumer, f"kind=task{groups}"))["items"]
    assert (row["provider"], row["gpu_class"]) == (PROVIDER.address, "gpu1")
    assert (row["app_id"], row["key_id"], row["channel_id"]) == ("", "", "")
    assert (row["gpu_ms"], row["run_ms"], row["charge"]) == (receipt.gpu_ms, 5000, "80")
    assert (row["tasks"], row["completed"]) == (1, 1)

    for query, tasks in (
        (f"provider={PROVIDER.address}", 1),
        (f"provider={STRANGER.address}", 0),
        (f"app={APP}", 0),
        (f"key={'ab' * 8}", 0),
        ("key=", 1),
    ):
        assert (await summary(consumer, f"kind=task&{query}"))["sums"]["tasks"] == tasks, query


async def test_a_refunded_task_was_cancelled_or_failed(world: World, consumer: Consumer) -> None:
    for changes in ({"cancelled_at_s": 5}, {}):
        task = await world.ordered(consumer)
        await world.on_chain(task, "refunded", **changes)
        refund = {"task_id": task["id"], "consumer": CONSUMER.address, "amount": "9"}
        await happened(world, "TaskRefunded", **refund)
    sums = (await summary(consumer, "kind=task"))["sums"]
    assert (sums["tasks"], sums["canceled"], sums["failed"], sums["charge"]) == (2, 1, 1, "0")


async def test_tasks_are_in_the_csv_and_nobody_elses(world: World, consumer: Consumer) -> None:
    await happened(world, "TaskSettled", **settled())
    answer = await consumer.get(f"/v1/summaries?{BOTH}&group=provider&format=csv")
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["kind"], row["tasks"], row["charge_units"]) == ("task", "1", "80")
    other = await summary(await world.stranger(), BOTH)
    assert (other["items"], other["sums"]["charge"]) == ([], "0")


async def test_sums_of_tasks_need_the_scope_to_read_them(world: World, consumer: Consumer) -> None:
    made = await consumer.post("/v1/keys", json={"name": "calls", "scopes": ["calls"]})
    caller = Consumer(consumer.person, world.http, made.json()["secret"])
    assert (await caller.get("/v1/summaries")).status_code == 200
    for query in ("kind=task", BOTH):
        refused = await caller.get(f"/v1/summaries?{query}")
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
