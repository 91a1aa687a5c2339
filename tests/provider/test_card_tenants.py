"""agent and cards: two tenants on one card, and what is left in its memory (security case 118)
├── a second task never starts on a card before it is cleared; the simulated card refuses to be lent
├── a card that somebody else uses: its task fails and this provider is to blame, nothing starts,
│   the card leaves the announcement and gets no work, and is back when it is clear
├── a task that ends leaves a clean card, however it ends
└── an agent that starts clears what it finds, and leaves the cards of running tasks alone
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol import wire
from tallystick.protocol.deployments import Deployment
from tallystick_provider import agent as agent_module
from tallystick_provider.clock import SystemClock
from tests.provider.settling import open_market
from tests.provider.test_agent import HELLO, LONG, Office, Stand
from tests.provider.waiting import until
from tests.support.anvil import LocalChain


@pytest.fixture
async def stand(
    chain: LocalChain, deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    monkeypatch.setattr(agent_module, "CLEAR_MS", 50)
    with suppress(Exception):
        chain.set_time(SystemClock().now_ms() // 1000)
    open_market(chain, deployment)
    stand = Stand(chain, deployment, tmp_path, Office(deployment.domain))
    await stand.open()
    yield stand
    assert stand.agent is not None
    runtime = stand.agent.tools.runtime
    await stand.die()
    for ref in await runtime.own():
        await runtime.remove(ref)


def order_all(stand: Stand, script: str, *, fence: int = 1, **changes: Any) -> wire.Offer:
    """All cards of the provider at once, so that the next task meets the same ones."""
    wanted = wire.Resources(gpu_class="gpu1", gpus=4, cpu_milli=500, memory_mib=512, disk_mib=64)
    _, offer = stand.order(script, fence=fence, max_seconds=250, resources=wanted, **changes)
    return offer


def announced(stand: Stand) -> set[str]:
    return {gpu.gpu_id for gpu in stand.office.announced[-1].gpus}


async def test_the_next_task_gets_the_same_cards_only_after_they_were_cleared(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = stand.agent
    assert agent is not None
    seen: list[tuple[str, str]] = []
    clear, lend = stand.gpus.clear, stand.gpus.lend

    def note_clear(gpu_id: str) -> None:
        seen.append(("clear", gpu_id))
        clear(gpu_id)

    def note_lend(gpu_id: str) -> None:
        seen.append(("lend", gpu_id))
        lend(gpu_id)  # raises when something is left there

    monkeypatch.setattr(stand.gpus, "clear", note_clear)
    monkeypatch.setattr(stand.gpus, "lend", note_lend)
    for n in range(2):
        offer = order_all(stand, HELLO)
        assert (await agent.on_offer(offer)).accepted
        await until(lambda: len(stand.office.done) > n, what="the report")  # noqa: B023
    assert stand.office.failures == []
    card = stand.gpus.read()[0].gpu_id
    story = [verb for verb, gpu_id in seen if gpu_id == card]
    assert story == ["clear", "lend", "clear"] * 2


async def test_without_clearing_the_second_tenant_would_not_start(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the test above mean something: the residue is there and is noticed."""
    agent = stand.agent
    assert agent is not None
    monkeypatch.setattr(stand.gpus, "clear", lambda _: None)
    first = order_all(stand, HELLO)
    await agent.on_offer(first)
    await until(lambda: bool(stand.office.done))
    second = order_all(stand, HELLO)
    await agent.on_offer(second)
    await until(lambda: bool(stand.office.failures))
    (failed,) = stand.office.failures
    assert failed.blame == "provider"
    assert "what another task left" in failed.reason
    assert stand.lease(second).handle is None


async def test_a_card_that_somebody_else_uses_gets_no_task_until_it_is_clear(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    await until(lambda: bool(stand.office.announced))  # what `on_connected` asks for in life
    cards = [gpu.gpu_id for gpu in stand.gpus.read()]
    stand.gpus.foreign[cards[0]] = "process 77"
    offer = order_all(stand, HELLO)
    assert (await agent.on_offer(offer)).accepted  # nobody has noticed yet
    await until(lambda: bool(stand.office.failures), what="the failure")
    (failed,) = stand.office.failures
    assert failed.blame == "provider"
    assert "process 77" in failed.reason
    assert stand.lease(offer).handle is None
    assert list(await agent.tools.runtime.own()) == []

    await until(lambda: announced(stand) == set(cards[1:]), what="the announcement without it")
    assert "process 77" in agent.tools.cards.problem
    again = order_all(stand, HELLO, fence=2)
    refused = await agent.on_offer(again)
    assert not refused.accepted
    assert "4 free GPUs" in refused.reason

    del stand.gpus.foreign[cards[0]]
    await until(lambda: announced(stand) == set(cards), what="the announcement with it")
    assert agent.tools.cards.problem == ""
    last = order_all(stand, HELLO, fence=3)
    assert (await agent.on_offer(last)).accepted
    await until(lambda: bool(stand.office.done), what="the report")


async def test_a_card_that_is_not_clear_after_its_task_is_kept_back(stand: Stand) -> None:
    """The receipt stands all the same: the work was done."""
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, env={"NAP": "0.5"})
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    card = stand.lease(offer).gpu_ids[0]
    stand.gpus.foreign[card] = "process 77"
    await until(lambda: bool(stand.office.done), what="the report")
    assert stand.office.done[0].exit_code == 0
    await until(lambda: card not in announced(stand), what="the announcement without it")


@pytest.mark.parametrize("ending", ["cancelled", "lost", "failed"])
async def test_however_a_task_ends_its_cards_are_cleared_and_free(
    ending: str, stand: Stand
) -> None:
    agent = stand.agent
    assert agent is not None
    too_much = "open(os.environ['TALLYSTICK_OUTPUT'] + '/x', 'wb').write(bytes(6 << 20))\n"
    script = LONG.replace("print('woke'", too_much + "print('woke'") if ending == "failed" else LONG
    nap = {"NAP": "0.1"} if ending == "failed" else {}
    offer = order_all(stand, script, env=nap, max_output_mib=4)
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    assert agent.tools.cards.free() == ()
    if ending == "lost":
        stand.office.verdict = "lost"
    elif ending == "cancelled":
        await agent.on_stop(
            wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="cancelled")
        )
    await until(lambda: len(agent.tools.cards.free()) == 4, what="four free cards")
    for card in stand.gpus.read():
        stand.gpus.lend(card.gpu_id)  # raises when something is left there


async def test_the_next_agent_leaves_the_cards_of_a_running_task_alone(stand: Stand) -> None:
    agent = stand.agent
    assert agent is not None
    _, offer = stand.order(LONG, env={"NAP": "2"})
    await agent.on_offer(offer)
    await until(lambda: stand.lease(offer).started_ms is not None)
    await stand.die()
    again = await stand.open()
    busy = set(stand.lease(offer).gpu_ids)
    free = {gpu.gpu_id for gpu in again.tools.cards.free()}
    assert not busy & free
    for card in free:
        stand.gpus.lend(card)
    for card in busy:
        with pytest.raises(Exception, match="what another task left"):
            stand.gpus.lend(card)
    await until(lambda: bool(stand.office.done), what="the report")
    assert stand.office.done[0].exit_code == 0
    assert stand.office.failures == []
    await until(lambda: len(again.tools.cards.free()) == 4, what="four free cards")


async def test_a_container_nobody_noted_keeps_the_cards_it_was_made_on(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent dies between starting it and writing that down: clearing now would end it."""
    agent = stand.agent
    assert agent is not None
    started = asyncio.Event()
    start = agent.tools.runtime.start

    async def start_and_hang(spec: object) -> object:
        await start(spec)  # type: ignore[arg-type]
        started.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(agent.tools.runtime, "start", start_and_hang)
    _, offer = stand.order(LONG, env={"NAP": "1"})
    await agent.on_offer(offer)
    await asyncio.wait_for(started.wait(), 20)
    assert stand.lease(offer).handle is None
    await stand.die()
    await stand.open()
    for card in stand.lease(offer).gpu_ids:
        stand.gpus.foreign[card] = "the task itself"  # as NVML sees it
    await until(lambda: stand.lease(offer).reached("started"), what="the start")
    stand.gpus.foreign.clear()
    await until(lambda: bool(stand.office.done), what="the report")
    assert stand.office.failures == []
