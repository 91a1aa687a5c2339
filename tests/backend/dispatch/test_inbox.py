"""What providers may say, and what is done about the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from tallystick.protocol import wire
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.types import ZERO_DIGEST
from tallystick.protocol.wire import (
    Ack,
    AnnouncementReply,
    GpuBody,
    Heartbeat,
    HeartbeatReply,
    LeaseBeat,
)
from tallystick_backend.store.repositories import work
from tallystick_backend.store.tables import OperatorKeyRow
from tests.backend.dispatch.market import DOMAIN, UNIT, Market, TestProvider, key


@pytest.fixture
async def running(market: Market) -> tuple[Market, TestProvider, str]:
    """A provider ten seconds into a task."""
    provider = await market.provider()
    task = await market.order(gpus=2)
    await market.go()
    market.clock.advance(seconds=10)
    await market.beat(provider, task)
    return market, provider, task


# --- who speaks -------------------------------------------------------------------------------


async def test_a_provider_cannot_announce_for_another(market: Market) -> None:
    """Case 129."""
    honest, thief = await market.provider(1), await market.provider(2)
    reply = await market.say(thief, "announce", honest.announcement(), AnnouncementReply)
    assert reply.problem is not None
    assert "cannot speak for" in reply.problem


async def test_a_provider_cannot_touch_anothers_lease(
    running: tuple[Market, TestProvider, str],
) -> None:
    """Case 129: heartbeat, log, result and failure of somebody else's lease."""
    market, provider, task = running
    thief = await market.provider(2)
    before = await market.lease(task)
    assert (await market.beat(thief, task, percent=99)).verdict == "lost"
    assert not (await market.fail(thief, task, "provider")).ok
    assert not (await market.log(thief, task, "mine")).ok
    stolen = provider.finished(provider.offers[task])
    assert not (await market.say(thief, "finished", stolen, Ack)).ok
    thief.offers = provider.offers
    assert not (await market.finish(thief, task)).ok
    after = await market.lease(task)
    assert before is not None
    assert after is not None
    assert before.model_dump() == after.model_dump()
    assert await market.receipt(task) is None


async def test_an_unbound_or_retired_key_announces_nothing(market: Market) -> None:
    provider = await market.provider(bound=False)
    async with market.database.read() as session:
        assert await work.announcement(session, provider.id) is None
    async with market.database.transaction() as session:
        session.add(
            OperatorKeyRow(key=provider.operator.lower(), provider=provider.id, retired_at_s=1)
        )
    reply = await market.say(provider, "announce", provider.announcement(), AnnouncementReply)
    assert reply.problem is not None
    assert "retired" in reply.problem


async def test_a_sealing_key_that_the_provider_did_not_sign_is_not_kept(market: Market) -> None:
    """What consumers seal to is shown with a signature of the provider or its announced key, for
    this chain, escrow and provider."""
    one, other = await market.provider(1), await market.provider(2)
    key = one.hpke_key
    refused = {
        "another provider's": sign_hpke_key(DOMAIN, other.address, key, one.operator_key),
        "another chain's": sign_hpke_key(
            dataclasses.replace(DOMAIN, chain_id=1), one.address, key, one.operator_key
        ),
        "another key's": sign_hpke_key(DOMAIN, one.address, other.hpke_key, one.operator_key),
        "a stranger's": sign_hpke_key(DOMAIN, one.address, key, other.operator_key),
        "nobody's": "0x" + "00" * 65,
    }
    before = await announced_at(market, one)
    market.clock.advance(seconds=20)
    for whose, signature in refused.items():
        said = one.announcement(hpke_signature=signature)
        reply = await market.say(one, "announce", said, AnnouncementReply)
        assert reply.problem is not None, whose
        assert "hpke_key is" in reply.problem, whose
    assert await announced_at(market, one) == before
    market.clock.advance(seconds=20)
    signed_cold = sign_hpke_key(DOMAIN, one.address, key, one.key)
    said = one.announcement(hpke_signature=signed_cold)
    reply = await market.say(one, "announce", said, AnnouncementReply)
    assert reply.problem is None
    assert await announced_at(market, one) > before


async def test_a_sealing_key_has_32_bytes(market: Market) -> None:
    one = await market.provider()
    said = one.announcement(hpke_key=one.hpke_key[:-2])
    reply = await market.say(one, "announce", said, AnnouncementReply)
    assert reply.problem is not None
    assert "64 hex digits" in reply.problem


async def announced_at(market: Market, provider: TestProvider) -> int:
    async with market.database.read() as session:
        row = await work.announcement(session, provider.id)
    assert row is not None
    return row.last_seen_ms


async def test_says_why_there_will_be_no_work(market: Market) -> None:
    poor = await market.provider(1, stake=UNIT - 1)
    reply = await market.say(poor, "announce", poor.announcement(), AnnouncementReply)
    assert reply.problem is not None
    assert "stake 1 more" in reply.problem
    unregistered = await market.provider(2, registered=1)
    reply = await market.say(
        unregistered, "announce", unregistered.announcement(), AnnouncementReply
    )
    assert reply.problem is not None
    assert "1 registered" in reply.problem
    jailed = await market.provider(4, jailed_until_s=77)
    reply = await market.say(jailed, "announce", jailed.announcement(), AnnouncementReply)
    assert reply.problem is not None
    assert "unjail" in reply.problem
    assert "77" in reply.problem
    fine = await market.provider(3)
    reply = await market.say(fine, "announce", fine.announcement(), AnnouncementReply)
    assert reply == AnnouncementReply(lease_seconds=30, heartbeat_seconds=10.0, problem=None)


@pytest.mark.parametrize(
    "subject",
    [
        "tallystick.backend.0xabc.announce",
        "tallystick.backend." + "0x" + "AB" * 20 + ".announce",
        "tallystick.backend." + "0x" + "ab" * 20 + ".shutdown",
        "tallystick.backend." + "0x" + "ab" * 20 + ".log.more",
        "tallystick.provider." + "0x" + "ab" * 20 + ".offer",
        "",
    ],
)
async def test_answers_nothing_on_a_subject_that_is_none_of_ours(
    market: Market, subject: str
) -> None:
    assert await market.inbox.handle(subject, b"{}") is None


# --- too much, too often, nonsense ------------------------------------------------------------

KINDS = ["announce", "heartbeat", "log", "finished", "failed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"leases": 1}',
        b'{"a":' * 5_000,
        b'{"leases":[],"leases":[]}',
        b"9" * 600_000,
    ],
    ids=["empty", "not UTF-8", "list", "null", "wrong kind", "deep", "a name twice", "huge"],
)
async def test_refuses_nonsense_in_words(market: Market, kind: str, payload: bytes) -> None:
    """Case 104."""
    provider = await market.provider()
    answer = await market.inbox.handle(f"tallystick.backend.{provider.id}.{kind}", payload)
    assert answer is not None
    said = json.loads(answer)
    words = said.get("reason") or said.get("problem")
    assert words or (kind == "heartbeat" and payload == b'{"leases":[],"leases":[]}')
    assert len(answer) < 1_000


async def test_a_flood_is_refused_and_delays_nobody_else(market: Market) -> None:
    """Case 104: a hundred times the rate; the neighbour's beats all count."""
    loud, quiet = await market.provider(1), await market.provider(2)
    body = Heartbeat(leases=())
    counts = {"heard": 0, "refused": 0}
    for n in range(1000):
        market.clock.advance(ms=2)
        answer = await market.inbox.handle(
            f"tallystick.backend.{loud.id}.heartbeat", body.model_dump_json().encode()
        )
        assert answer is not None
        counts["refused" if b"send fewer" in answer else "heard"] += 1
        if n % 250 == 0:
            assert (await market.say(quiet, "heartbeat", body, HeartbeatReply)).leases == ()
    assert 20 <= counts["heard"] <= 40


async def test_numbers_no_machine_has_are_refused(
    running: tuple[Market, TestProvider, str],
) -> None:
    market, provider, task = running
    said = provider.finished(provider.offers[task])
    for changes in (
        {"exit_code": 2**40},
        {"energy_mj": -1},
        {"energy_mj": 2**70},
        {"result_bytes": 2**64},
        {"peak_gpu_memory_mib": 2**31},
    ):
        wrong = said.model_copy(update=changes)
        assert not (await market.say(provider, "finished", wrong, Ack)).ok
    for fence in (2**31, 2**63 - 1):
        assert (await market.beat(provider, task, fence=fence)).verdict == "lost"
        assert not (await market.fail(provider, task, "task", fence)).ok
    assert not (await market.log(provider, task, "x", seq=2**40)).ok
    answer = await market.beat(provider, task, eta_seconds=2**60, energy_mj=2**62)
    assert answer.verdict == "renewed"


@pytest.mark.parametrize(
    "beat",
    [
        {"fence": -1},
        {"fence": 2**64},
        {"gpu_ms": 10**30},
        {"gpu_ms": -1},
        {"percent": 101},
        {"eta_seconds": -1},
        {"stage": "resting"},
        {"message": "\ud800"},
    ],
    ids=str,
)
async def test_a_beat_out_of_range_is_refused_in_words(
    running: tuple[Market, TestProvider, str], beat: dict[str, Any]
) -> None:
    market, provider, task = running
    said = {"leases": [{"task_id": task, "fence": 1, "stage": "running", **beat}]}
    answer = await market.inbox.handle(
        f"tallystick.backend.{provider.id}.heartbeat", json.dumps(said).encode()
    )
    assert answer is not None
    assert not wire.parse(Ack, answer).ok


async def test_text_is_kept_whatever_is_in_it(running: tuple[Market, TestProvider, str]) -> None:
    market, provider, task = running
    assert (await market.log(provider, task, "zero \x00, ß, \U0001f600")).ok
    assert (await market.beat(provider, task, message="nul \x00")).verdict == "renewed"
    async with market.database.read() as session:
        (line,) = await work.logs(session, task)
    assert line.text == "zero \ufffd, ß, \U0001f600"


# --- logs -------------------------------------------------------------------------------------


async def test_a_log_chunk_is_kept_once_and_in_order(
    running: tuple[Market, TestProvider, str],
) -> None:
    market, provider, task = running
    for seq in (0, 1, 1, 0, 2):
        assert (await market.log(provider, task, f"chunk {seq}", seq=seq)).ok
    async with market.database.read() as session:
        lines = await work.logs(session, task)
        assert [line.text for line in lines] == ["chunk 0", "chunk 1", "chunk 2"]
        assert [line.seq for line in await work.logs(session, task, lines[0].id or 0, 1)] == [1]


async def test_a_log_has_an_end(running: tuple[Market, TestProvider, str]) -> None:
    market, provider, task = running
    market.settings = dataclasses.replace(market.settings, max_log_bytes=100)
    market.dispatcher = market.new_dispatcher()
    assert (await market.log(provider, task, "x" * 60)).ok
    full = await market.log(provider, task, "x" * 41, seq=1)
    assert not full.ok
    assert "log is full" in full.reason
    market.dispatcher = market.new_dispatcher()
    assert not (await market.log(provider, task, "x" * 41, seq=1)).ok
    assert (await market.log(provider, task, "x" * 40, seq=1)).ok


async def test_only_our_clock_counts(running: tuple[Market, TestProvider, str]) -> None:
    """Case 102: a provider whose clock is off by years says nothing that matters."""
    market, provider, task = running
    offer = provider.offers[task]
    for seq, at_ms in enumerate((0, 2**62, 1, market.clock.now_ms())):
        assert (await market.log(provider, task, "x", seq=seq, at_ms=at_ms)).ok
    async with market.database.read() as session:
        for line in await work.logs(session, task):
            assert offer.assignment.lease_from * 1000 <= line.at_ms <= market.clock.now_ms()
    fast = provider.receipt(offer)
    later = fast.ended_at_ms + 600_000
    refusal = await market.finish(provider, task, ended_at_ms=later)
    assert not refusal.ok
    assert "clock" in refusal.reason
    assert (await market.beat(provider, task)).verdict == "renewed"
    assert (await market.finish(provider, task)).ok


# --- heartbeats -------------------------------------------------------------------------------


async def test_usage_shown_is_never_more_than_our_clock_allows(
    running: tuple[Market, TestProvider, str],
) -> None:
    """Case 105: two GPUs for ten seconds."""
    market, provider, task = running

    async def shown(reported: int) -> int:
        await market.beat(provider, task, gpu_ms=reported)
        lease = await market.lease(task)
        assert lease is not None
        return lease.gpu_ms

    assert await shown(5_000) == 5_000
    assert await shown(4_000) == 5_000, "never backwards"
    assert await shown(2**62) == 20_000, "capped"
    assert await shown(0) == 20_000


async def test_a_heartbeat_answers_each_lease_once(market: Market) -> None:
    provider = await market.provider()
    tasks = [await market.order() for _ in range(3)]
    await market.go()
    unknown = digest_of(b"unknown")
    beats = tuple(
        LeaseBeat(task_id=task, fence=1, stage="running") for task in (*tasks, unknown, tasks[0])
    )
    reply = await market.say(provider, "heartbeat", Heartbeat(leases=beats), HeartbeatReply)
    assert [answer.verdict for answer in reply.leases] == ["renewed"] * 3 + ["lost"]


async def test_readings_of_a_leases_own_cards_are_kept_while_it_runs(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    cards = tuple(
        GpuBody(
            gpu_id=f"{provider.id}-{number}",
            model="M",
            gpu_class="gpu1",
            memory_mib=24_000,
            utilization_percent=90 - number,
            driver="not kept",
        )
        for number in range(3)
    )
    for stage, fence in (("starting", 1), ("running", 1), ("running", 9)):
        market.clock.advance(seconds=2)
        beat = LeaseBeat(task_id=task, fence=fence, stage=stage, gpu_ids=(cards[1].gpu_id, "gone"))
        said = Heartbeat(leases=(beat,), gpus=cards)
        await market.say(provider, "heartbeat", said, HeartbeatReply)
    async with market.database.read() as session:
        rows = await work.samples(session, task)
    assert [row.fence for row in rows] == [1]
    (shown,) = rows[0].gpus
    assert (shown["gpu_id"], shown["utilization_percent"]) == (f"{provider.id}-1", 89)
    assert "driver" not in shown


async def test_readings_are_refreshed_and_cards_are_not(market: Market) -> None:
    provider = await market.provider()
    said = Heartbeat(
        leases=(),
        gpus=(
            GpuBody(
                gpu_id=f"{provider.id}-0",
                model="Better",
                gpu_class="gpu9",
                memory_mib=10**6,
                temperature_c=61,
            ),
            GpuBody(gpu_id="new", model="M", gpu_class="gpu1", memory_mib=24_000),
        ),
    )
    market.clock.advance(seconds=40)
    await market.say(provider, "heartbeat", said, HeartbeatReply)
    async with market.database.read() as session:
        row = await work.announcement(session, provider.id)
    assert row is not None
    assert row.last_seen_ms == market.clock.now_ms()
    first = row.body["gpus"][0]
    assert (first["temperature_c"], first["gpu_class"], first["model"]) == (61, "gpu1", "M")
    assert len(row.body["gpus"]) == 4


# --- results ----------------------------------------------------------------------------------


async def test_fifty_deliveries_of_one_result_are_one_receipt(
    running: tuple[Market, TestProvider, str],
) -> None:
    """Case 95."""
    market, provider, task = running
    answers = await asyncio.gather(*[market.finish(provider, task) for _ in range(50)])
    assert all(answer.ok for answer in answers)
    assert (await market.events(task)).count("finished") == 1
    market.clock.advance(seconds=100)
    again = provider.finished(provider.offers[task])
    other = await market.say(provider, "finished", again, Ack)
    assert not other.ok
    assert "the first one stays" in other.reason


async def test_a_result_behind_the_fence_is_recorded_and_unpaid(market: Market) -> None:
    """Case 92 and 96: stopped past its lease, back, and posts."""
    first = await market.provider(1)
    task = await market.order()
    await market.go()
    await market.beat(first, task)
    await market.run_out()
    second = await market.provider(2)
    await market.go()
    await market.go()
    assert task in second.offers
    for _ in range(2):
        late = await market.finish(first, task)
        assert not late.ok
        assert "too late" in late.reason
    assert (await market.events(task)).count("late_result") == 1
    assert (await market.beat(first, task)).verdict == "lost"
    assert await market.receipt(task) is None
    assert (await market.finish(second, task)).ok
    receipt = await market.receipt(task)
    assert receipt is not None
    assert (receipt.fence, receipt.provider) == (2, second.id)


async def test_a_result_after_the_lease_was_given_up_is_late_even_with_no_successor(
    running: tuple[Market, TestProvider, str],
) -> None:
    market, provider, task = running
    await market.run_out()
    await market.go()
    assert not (await market.finish(provider, task)).ok
    assert (await market.events(task))[-1] == "late_result"


async def test_a_result_counts_while_the_lease_was_not_given_up(
    running: tuple[Market, TestProvider, str],
) -> None:
    """Case 94: its heartbeats were lost, its result was not."""
    market, provider, task = running
    await market.run_out()
    assert (await market.finish(provider, task)).ok
    await market.go()
    assert (await market.work(task)).state == "finished"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"route": digest_of(b"x")}, "route", id="another task's"),
        pytest.param({"seq": 2}, "seq", id="another fence's"),
        pytest.param({"prev": digest_of(b"x")}, "prev", id="a chain of receipts"),
        pytest.param({"request": digest_of(b"x")}, "request", id="another spec"),
        pytest.param({"total": 1}, "total", id="too cheap"),
        pytest.param({"total": 10**30}, "total", id="too dear"),
        pytest.param({"calls": 2}, "2 calls", id="two calls for one task"),
        pytest.param({"gpu_ms": 20_001}, "GPU-ms", id="more GPU time than time"),
        pytest.param({"gpu_set": ZERO_DIGEST}, "gpuSet", id="no GPU named"),
        pytest.param({"started_at_ms": 0}, "before the lease", id="began before its lease"),
        pytest.param({"ended_at_ms": 0}, "after it ended", id="ended before it began"),
        pytest.param({"ended_at_ms": 2**63}, "clock", id="ended in the future"),
        pytest.param({"gpu_ms": -1}, "gpu_ms", id="negative usage"),
        pytest.param({"signed_by": key(666)}, "no key in use", id="a stranger's signature"),
        pytest.param({"signed_by": key(2)}, "no key in use", id="the consumer's own"),
    ],
)
async def test_a_receipt_the_contract_would_not_pay_is_refused(
    running: tuple[Market, TestProvider, str], changes: dict[str, Any], words: str
) -> None:
    """Cases 105, 119, 120."""
    market, provider, task = running
    said: dict[str, Any] = provider.finished(provider.offers[task]).model_dump(mode="json")
    if "signed_by" in changes:
        said = provider.finished(provider.offers[task], **changes).model_dump(mode="json")
    else:
        said["receipt"] |= changes
    answer = await market.inbox.handle(
        f"tallystick.backend.{provider.id}.finished", json.dumps(said).encode()
    )
    assert answer is not None
    ack = wire.parse(Ack, answer)
    assert not ack.ok
    assert words in ack.reason
    assert await market.receipt(task) is None
    assert (await market.finish(provider, task)).ok, "an honest one still counts"


async def test_a_receipt_may_not_run_longer_than_the_terms(market: Market) -> None:
    provider = await market.provider()
    task = await market.order(max_seconds=5)
    await market.go()
    market.clock.advance(seconds=9)
    now = market.clock.now_ms()
    refused = await market.finish(provider, task, ended_at_ms=now)
    assert not refused.ok
    assert "the terms allow 5000 ms" in refused.reason


async def test_the_providers_own_key_signs_as_well(
    running: tuple[Market, TestProvider, str],
) -> None:
    market, provider, task = running
    assert (await market.finish(provider, task, signed_by=provider.key)).ok


async def test_a_retired_key_proves_nothing_new(
    running: tuple[Market, TestProvider, str],
) -> None:
    market, provider, task = running
    async with market.database.transaction() as session:
        row = await session.get(OperatorKeyRow, provider.operator.lower())
        assert row is not None
        row.retired_at_s = 1
        session.add(row)
    assert not (await market.finish(provider, task)).ok


async def test_failing_twice_counts_once(running: tuple[Market, TestProvider, str]) -> None:
    market, provider, task = running
    assert (await market.fail(provider, task, "task")).ok
    assert (await market.fail(provider, task, "task")).ok
    assert (await market.work(task)).attempts == 1
    assert not (await market.finish(provider, task)).ok
