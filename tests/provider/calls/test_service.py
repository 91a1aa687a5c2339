"""Calls over a real bus, a real chain and workers of the development runtime
├── a call costs what the price says; a cold start is told and not charged
├── the publisher is told how its workers started, and nothing of a caller's
├── a warm call starts a worker and keeps it, without its handler, at the price of its time
├── what comes to nothing is refused with its code, and the channel goes on
├── a repeat gets the same answer, never a second receipt
├── one payer's calls run side by side as far as its credit reaches
├── a caller that leaves costs nothing, and its worker is free again
├── a deposit that runs out pauses, a top-up resumes; a close redeems at once
└── messages that are none are answered, and change nothing
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tallystick.protocol.call_bodies import WARM_MEDIA_TYPE, StartsBody, StartsRequestBody
from tallystick.protocol.call_frames import ANSWER, REQUEST, pack, unpack
from tallystick.protocol.calls import CallId, result_digest
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.contracts import Escrow
from tallystick.protocol.pricing import Price
from tallystick.protocol.web3 import close, connect
from tallystick.protocol.wire import parse
from tests.provider.calls.conftest import World
from tests.provider.calls.payer import ANSWER_S, NO_WEB3, Payer
from tests.provider.waiting import until
from tests.support.anvil import CONSUMER, PROVIDER, TOKEN, deposit, fund, send

ECHO = b'{"what":"hi"}'


async def claimed(world: World, payer: Payer) -> int:
    web3 = connect(world.chain.url)
    try:
        return (await Escrow(web3, world.deployment.escrow).channel(payer.channel)).claimed
    finally:
        await close(web3)


class TestARound:
    async def test_costs_its_fee_and_a_cold_start_costs_nothing(self, world: World) -> None:
        await world.start()
        payer = await world.payer(price=Price(0, 10, 0))
        cold = await payer.call(ECHO)
        assert cold.content == b'{"echo":"hi"}'
        assert cold.answer is not None
        assert 0 < cold.answer.cold_start_ms <= cold.answer.queued_ms
        receipt = cold.answer.signed.receipt
        assert receipt.ended_at_ms - receipt.started_at_ms < cold.answer.cold_start_ms
        assert (receipt.seq, receipt.total) == (1, 10)
        assert cold.answer.balance == TOKEN - 10
        warm = await payer.call(ECHO)
        assert warm.answer is not None
        assert warm.answer.cold_start_ms == 0
        assert warm.answer.signed.receipt.total == 20

    async def test_cards_held_alone_are_named_and_their_time_is_charged(self, world: World) -> None:
        await world.start()
        manifest = world.manifest(
            resources={"gpus": 2, "gpu_class": "gpu1", "cpu_milli": 100, "memory_mib": 1024}
        )
        payer = await world.payer(manifest, price=Price(5, 10, 366))
        reply = await payer.call(b'{"do":"sleep","seconds":0.05}')
        assert reply.answer is not None
        receipt = reply.answer.signed.receipt
        elapsed_ms = receipt.ended_at_ms - receipt.started_at_ms
        assert receipt.gpu_ms == 2 * elapsed_ms >= 100
        assert len(set(reply.answer.gpu_ids)) == 2
        assert receipt.total == 15 + -(-366 * receipt.gpu_ms // 1000)

    async def test_a_streamed_answer_comes_in_pieces_and_is_one_result(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        reply = await payer.call(b'{"do":"stream"}', stream=True)
        assert reply.answer is not None
        assert len(reply.pieces) > 1
        assert reply.answer.media_type == "text/event-stream"
        assert reply.answer.result == result_digest(b"".join(reply.pieces))
        whole = await payer.call(b'{"do":"stream"}')
        assert json.loads(whole.content) == [{"piece": 0}, {"piece": 1}, {"piece": 2}]
        assert whole.pieces == []

    async def test_an_answer_longer_than_a_message_comes_in_pieces_too(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        reply = await payer.call(b'{"do":"big","size":3000000}')
        assert reply.answer is not None
        assert len(reply.content) == 3_000_000
        assert len(reply.pieces) > 2


COUNTING = """
from pathlib import Path
from tallystick.app import handler

CALLS = Path(__file__).with_name("calls")


@handler
def act(what: str = ""):
    CALLS.write_text(CALLS.read_text() + what if CALLS.exists() else what)
    return {"echo": what}
"""


TALKATIVE = """
from tallystick.app import handler

print("loading the weights", flush=True)


@handler
def act(secret: str = ""):
    print("asked for", secret, flush=True)
    return {"echo": secret}
"""


class TestStarts:
    async def test_the_publisher_is_told_what_was_said_before_any_call(self, world: World) -> None:
        await world.start()
        manifest = world.manifest()
        (world.apps / "acts" / "handler.py").write_text(TALKATIVE)
        payer = await world.payer(manifest)
        reply = await payer.call(b'{"secret":"of the caller"}')
        assert reply.answer is not None
        (start,) = (await self.told(world, payer.app.app_id)).starts
        assert start.ready
        assert start.version == 1
        assert "loading the weights" in start.text
        assert "secret" not in start.text
        assert "of the caller" not in start.text
        assert (await self.told(world, "0x" + "00" * 32)).starts == ()

    async def told(self, world: World, app_id: str) -> StartsBody:
        subject = f"tallystick.provider.{PROVIDER.address.lower()}.starts"
        asked = StartsRequestBody(app_id=app_id).model_dump_json().encode()
        return parse(StartsBody, (await world.line.request(subject, asked, timeout=ANSWER_S)).data)


class TestAWarmCall:
    async def test_starts_a_worker_and_asks_its_ready_path(self, world: World) -> None:
        await world.start()
        manifest = world.manifest(
            resources={"gpus": 1, "gpu_class": "gpu1", "cpu_milli": 100, "memory_mib": 1024}
        )
        (world.apps / "acts" / "handler.py").write_text(COUNTING)
        payer = await world.payer(manifest, price=Price(5, 10, 366_000))
        warm = await payer.call(b"", media_type=WARM_MEDIA_TYPE)
        assert warm.answer is not None, warm.refusal
        assert "running" in json.loads(warm.content)
        assert 0 < warm.answer.cold_start_ms <= warm.answer.queued_ms
        receipt = warm.answer.signed.receipt
        assert receipt.gpu_ms == receipt.ended_at_ms - receipt.started_at_ms
        assert receipt.gpu_ms < warm.answer.cold_start_ms
        assert receipt.total == 15 + 366 * receipt.gpu_ms
        assert not (world.apps / "acts" / "calls").exists()
        real = await payer.call(ECHO)
        assert real.answer is not None, real.refusal
        assert real.answer.cold_start_ms == 0
        assert (world.apps / "acts" / "calls").read_text() == "hi"

    async def test_a_worker_stays_while_it_is_asked(self, world: World) -> None:
        await world.start()
        cooldown_s = 3
        manifest = world.manifest(scaling={"max_workers": 1, "cooldown_s": cooldown_s})
        payer = await world.payer(manifest, price=Price(0, 10, 0))
        first = await payer.call(b'{"do":"pid"}')
        until_s = time.monotonic() + cooldown_s + 1.5
        while time.monotonic() < until_s:
            asked = await payer.call(b"", media_type=WARM_MEDIA_TYPE)
            assert asked.answer is not None, asked.refusal
            assert asked.answer.cold_start_ms == 0
            await asyncio.sleep(0.5)
        assert (await payer.call(b'{"do":"pid"}')).content == first.content
        await until(lambda: _workers(payer, 0), 20, "the worker's end")

    async def test_an_input_is_no_part_of_one(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        reply = await payer.call(ECHO, media_type=WARM_MEDIA_TYPE)
        assert reply.code == "failed"
        assert reply.refusal is not None
        assert "a warm call has no input" in reply.refusal.detail

    async def test_a_worker_that_does_not_come_up_costs_nothing(self, world: World) -> None:
        await world.start()
        manifest = world.manifest()
        (world.apps / "acts" / "handler.py").write_text("raise SystemExit('no')\n")
        payer = await world.payer(manifest)
        reply = await payer.call(b"", media_type=WARM_MEDIA_TYPE)
        assert reply.code == "no_worker"
        assert payer.end.held.total == 0


async def _workers(payer: Payer, count: int) -> bool:
    return (await payer.load()).apps[0].workers == count


class TestWhatComesToNothing:
    @pytest.mark.parametrize(
        ("content", "code", "detail"),
        [
            pytest.param(b'{"do":"fail"}', "failed", "handler_failed:", id="the handler raises"),
            pytest.param(b'{"do":"refuse"}', "failed", "input_refused: not this one", id="refuses"),
            pytest.param(b'{"nothing":1}', "failed", "invalid_input:", id="input does not fit"),
            pytest.param(b"[", "failed", "malformed_body:", id="input is no JSON"),
            pytest.param(b'{"do":"die"}', "no_worker", "hung up", id="the worker dies"),
            pytest.param(
                b'{"do":"big","size":5000}', "too_large", "response_too_large:", id="a long answer"
            ),
            pytest.param(b'{"what":"' + b"x" * 999 + b'"}', "too_large", "bytes", id="long input"),
            pytest.param(b'{"do":"sleep","seconds":60}', "timed_out", "", id="takes too long"),
            pytest.param(
                b'{"do":"block","seconds":60}', "timed_out", "", id="cannot be stopped from outside"
            ),
        ],
    )
    async def test_is_typed_costs_nothing_and_the_next_call_works(
        self, world: World, content: bytes, code: str, detail: str
    ) -> None:
        await world.start()
        manifest = world.manifest(timeout_s=1, max_request_bytes=500, max_response_bytes=2000)
        payer = await world.payer(manifest)
        reply = await payer.call(content)
        assert reply.refusal is not None, reply.answer
        assert reply.code == code
        assert detail in reply.refusal.detail
        assert "secret" not in reply.refusal.detail
        after = await payer.call(ECHO)
        assert after.content == b'{"echo":"hi"}', after.refusal
        assert after.answer is not None
        assert after.answer.signed.receipt.total == 10  # of this one call

    async def test_a_stream_that_breaks_off_is_not_charged(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        reply = await payer.call(b'{"do":"broken stream"}', stream=True)
        assert reply.code == "failed"
        assert b"".join(reply.pieces).startswith(b'event: output\ndata: {"piece":0}')

    async def test_an_app_that_never_comes_up(self, world: World) -> None:
        await world.start()
        manifest = world.manifest()
        (world.apps / "acts" / "handler.py").write_text("raise SystemExit('no')\n")
        payer = await world.payer(manifest)
        reply = await payer.call(ECHO)
        assert reply.code == "no_worker"
        assert reply.refusal is not None
        assert "ended before it was ready" in reply.refusal.detail
        (app,) = (await payer.load()).apps
        assert (app.state, app.workers) == ("failed", 0)
        assert "ended" in app.problem

    async def test_an_app_that_nobody_brought(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        payer.app = type(payer.app)(
            "0x" + "77" * 32, payer.app.publisher, payer.app.royalty_to, 0, payer.app.versions
        )
        assert (await payer.call(ECHO)).code == "unknown_app"


class TestSaidTwice:
    async def test_the_same_answer(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        content = b'{"do":"pid"}'
        ask = payer.begin(content)
        first, second = await payer.send(ask, content), await payer.send(ask, content)
        assert first.answer == second.answer
        assert first.content == second.content
        voucher = payer.take(first)
        assert await payer.pay(voucher) == await payer.pay(voucher)
        third = await payer.send(ask, content)  # lost on its way, and asked for once more
        assert third.answer == first.answer
        after = await payer.call(content)
        assert after.answer is not None
        assert after.answer.signed.receipt.seq == 2

    async def test_while_it_runs(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        content = b'{"do":"sleep","seconds":0.5}'
        ask = payer.begin(content)
        first = asyncio.create_task(payer.send(ask, content))
        await until(lambda: _running(payer), what="the run")
        assert (await payer.send(ask, content)).code == "in_flight"
        payer.take(await first)


class TestCredit:
    async def test_one_call_without_a_voucher(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        ask = payer.begin(ECHO)
        reply = await payer.send(ask, ECHO)
        voucher = payer.take(reply)
        second = payer.begin(ECHO)
        refused = await payer.send(
            type(second)(second.number, second.request, second.held, None), ECHO
        )
        assert refused.code == "unpaid"
        assert refused.refusal is not None
        assert refused.refusal.receipt == reply.answer.signed if reply.answer else None
        again = await payer.send(second, ECHO)  # its own voucher comes with it
        assert again.answer is not None
        assert second.voucher == voucher

    async def test_calls_side_by_side(self, world: World) -> None:
        await world.start(credit_calls=4)
        manifest = world.manifest(concurrency=4)
        payer = await world.payer(manifest, credit_calls=4)
        content = b'{"do":"sleep","seconds":0.3}'
        asks = [payer.begin(content) for _ in range(4)]
        replies = await asyncio.gather(*(payer.send(ask, content) for ask in asks))
        seqs = sorted(r.answer.signed.receipt.seq for r in replies if r.answer)
        assert seqs == [1, 2, 3, 4]
        (app,) = (await payer.load()).apps
        assert (app.workers, app.places) == (1, 4)


class TestLeaving:
    async def test_a_cancelled_call_costs_nothing(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        await payer.call(ECHO)
        content = b'{"do":"sleep","seconds":15}'
        ask = payer.begin(content)
        waiting = asyncio.create_task(payer.send(ask, content))
        await until(lambda: _running(payer), what="the run")
        assert (await payer.cancel(ask)).ok
        assert (await waiting).code == "failed"
        payer.end = payer.end.give_up(ask.number).channel
        assert (await payer.call(ECHO)).content == b'{"echo":"hi"}'
        assert not (await payer.cancel(ask)).ok

    async def test_a_call_that_waits_for_a_worker_can_be_cancelled(self, world: World) -> None:
        await world.start()
        payer = await world.payer(world.manifest(scaling={"max_workers": 1}))
        other = world.another(payer)
        content = b'{"do":"sleep","seconds":15}'
        first, second = payer.begin(content), other.begin(content)
        running = asyncio.create_task(payer.send(first, content))
        await until(lambda: _running(payer), what="the run")
        waiting = asyncio.create_task(other.send(second, content))
        await until(lambda: _queued(payer), what="the queue")
        assert (await other.cancel(second)).ok
        assert (await waiting).code == "failed"
        assert (await payer.cancel(first)).ok
        assert (await running).code == "failed"


class TestMoney:
    async def test_runs_out_and_is_topped_up(self, world: World) -> None:
        await world.start()
        payer = await world.payer(amount=15, price=Price(0, 10, 0))
        assert (await payer.call(ECHO)).answer is not None
        # The payer's own end would not even ask.
        payer.end = payer.end.observe(ChannelState(1000, 0, 0)).channel
        assert (await payer.call(ECHO)).code == "paused_funds"
        fund(world.chain, world.deployment, CONSUMER, 100)
        deposit(world.chain, world.deployment, CONSUMER, 100)
        escrow = Escrow(NO_WEB3, world.deployment.escrow)
        send(world.chain, CONSUMER, escrow.fund(payer.channel, 100))
        assert (await payer.call(ECHO)).answer is not None

    async def test_a_close_is_answered_by_redeeming_at_once(self, world: World) -> None:
        await world.start(redeem_cost=TOKEN)  # so that nothing else is a reason
        payer = await world.payer()
        for _ in range(3):
            await payer.call(ECHO)
        assert await claimed(world, payer) == 0
        escrow = Escrow(NO_WEB3, world.deployment.escrow)
        send(world.chain, CONSUMER, escrow.request_close(payer.channel))

        async def redeemed() -> bool:
            return await claimed(world, payer) == 30

        await until(redeemed, what="the redemption")
        assert (await payer.call(ECHO)).code == "closing"

    async def test_enough_is_owed(self, world: World) -> None:
        await world.start(redeem_cost=1, redeem_at=25)
        payer = await world.payer(price=Price(0, 10, 0))
        for _ in range(2):
            await payer.call(ECHO)
        assert await claimed(world, payer) == 0
        await payer.call(ECHO)

        async def redeemed() -> bool:
            return await claimed(world, payer) == 30

        await until(redeemed, what="the redemption")
        assert (await payer.call(ECHO)).answer is not None

    async def test_a_channel_without_a_deposit(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        stranger = world.payer_of(
            type(payer.channel)(CONSUMER.address, payer.channel.signer, PROVIDER.address, 1),
            payer.app,
            payer.manifest,
        )
        assert (await stranger.call(ECHO)).code == "paused_funds"


class TestMessagesThatAreNone:
    async def test_are_answered(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        for data in (b"", b"Q", b"Q\xff\xff\xff\xff{}", pack(ANSWER, None, b"x"), pack(REQUEST)):
            message = await world.line.request(payer.subject("call"), data, timeout=ANSWER_S)
            frame = unpack(message.data)
            assert frame.kind == b"R"
            assert json.loads(frame.body)["code"] == "failed"
        for verb in ("voucher", "cancel", "app", "load"):
            for data in (b"", b"[]", b'{"number":"' + b"9" * 5000):
                told = json.loads(
                    (await world.line.request(payer.subject(verb), data, timeout=ANSWER_S)).data
                )
                assert told.get("code") or told.get("reason"), (verb, told)
        assert (await payer.call(ECHO)).answer is not None

    async def test_an_input_that_is_not_the_one_named(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        ask = payer.begin(ECHO)
        assert (await payer.send(ask, b'{"what":"ho"}')).code == "failed"
        assert (await payer.send(ask, ECHO)).answer is not None  # nothing was begun

    async def test_a_strangers_voucher(self, world: World) -> None:
        await world.start()
        payer = await world.payer()
        reply = await payer.call(ECHO)
        assert reply.answer is not None
        other = world.another(payer)
        ask = other.begin(ECHO, call_id=CallId("somebodys"))
        voucher = other.take(await other.send(ask, ECHO))
        told = await payer.pay(type(voucher)(voucher.voucher, "0x" + "11" * 65))
        assert getattr(told, "code", "") == "voucher"


async def _running(payer: Payer) -> bool:
    return any(app.running for app in (await payer.load()).apps)


async def _queued(payer: Payer) -> bool:
    return any(app.queued for app in (await payer.load()).apps)
