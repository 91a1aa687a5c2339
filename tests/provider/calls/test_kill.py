"""The agent is killed in the middle and started again, each time as a process of its own
├── before its answer reached anybody: the answer is the same, no place is signed twice
├── in the middle of a run: its worker is gone, the call runs once more, one receipt
└── between calls: the chain of receipts goes on, and what was redeemed is not redeemed twice
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tallystick.protocol.contracts import Escrow
from tests.provider.calls.conftest import World
from tests.provider.calls.payer import NO_WEB3, Payer
from tests.provider.calls.test_service import claimed
from tests.provider.test_start import agent_of
from tests.provider.waiting import until
from tests.support.anvil import CONSUMER, TOKEN, send

ECHO = b'{"what":"hi"}'
PID = b'{"do":"pid"}'


@asynccontextmanager
async def killed_at_the_end(world: World, **settings: object) -> AsyncIterator[None]:
    """Reads its log away, so that it never waits for us."""
    async with agent_of(world.given(**settings)) as agent:
        assert agent.stderr is not None
        reading = asyncio.create_task(agent.stderr.read())
        try:
            await world.until_there()
            await world.until_journal_is_old()
            yield
        finally:
            with suppress(ProcessLookupError):
                agent.kill()
            await agent.wait()
            await reading


async def test_an_answer_that_nobody_got_is_the_same_again(world: World) -> None:
    async with killed_at_the_end(world):
        payer = await world.payer()
        ask = payer.begin(PID)
        lost = await payer.send(ask, PID)
        assert lost.answer is not None
    async with killed_at_the_end(world):
        again = await payer.send(ask, PID)
        assert (again.answer, again.content) == (lost.answer, lost.content)
        await payer.pay(payer.take(again))
        after = await payer.call(PID)
        assert after.answer is not None
        assert after.answer.signed.receipt.seq == 2
        assert after.content != lost.content  # another worker: nothing was run for the repeat


async def test_in_the_middle_of_a_run(world: World) -> None:
    manifest = world.manifest()
    content = b'{"do":"sleep","seconds":1}'
    async with killed_at_the_end(world):
        payer = await world.payer(manifest)
        first = await payer.call(PID)
        worker = json.loads(first.content)["pid"]
        ask = payer.begin(content)
        waiting = asyncio.create_task(payer.send(ask, content))
        await until(lambda: _running(payer), what="the run")
    waiting.cancel()
    assert Path(f"/proc/{worker}").exists()  # nobody ended it yet
    async with killed_at_the_end(world):
        await until(lambda: not _alive(worker), what="the end of the old worker")
        reply = await payer.send(ask, content)
        assert reply.answer is not None, reply.refusal
        assert reply.answer.signed.receipt.seq == 2
        assert reply.answer.cold_start_ms > 0
        await payer.pay(payer.take(reply))


async def test_money_goes_on_where_it_was(world: World) -> None:
    settings = {"redeem_cost": 1, "redeem_at": 25}
    async with killed_at_the_end(world, **settings):
        payer = await world.payer()
        for _ in range(2):
            await payer.call(ECHO)
    async with killed_at_the_end(world, **settings):
        third = await payer.call(ECHO)
        assert third.answer is not None
        assert third.answer.signed.receipt.total == 30
        assert third.answer.balance == TOKEN - 30
        await until(lambda: _claimed(world, payer, 30), what="the redemption")
    async with killed_at_the_end(world, **settings):
        assert (await payer.call(ECHO)).answer is not None
        assert await claimed(world, payer) == 30


async def test_a_close_requested_while_it_was_dead(world: World) -> None:
    settings = {"redeem_cost": TOKEN}
    async with killed_at_the_end(world, **settings):
        payer = await world.payer()
        await payer.call(ECHO)
    escrow = Escrow(NO_WEB3, world.deployment.escrow)
    send(world.chain, CONSUMER, escrow.request_close(payer.channel))
    async with killed_at_the_end(world, **settings):
        await until(lambda: _claimed(world, payer, 10), what="the redemption")


async def _claimed(world: World, payer: Payer, total: int) -> bool:
    return await claimed(world, payer) == total


async def _running(payer: Payer) -> bool:
    return any(app.running for app in (await payer.load()).apps)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X") and os.path.exists(f"/proc/{pid}")
