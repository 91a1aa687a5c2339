"""A task goes round: leased, offered, run, finished, and what happens when it does not."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tallystick.protocol import messages, wire
from tallystick.protocol.messages import Assignment
from tallystick.protocol.signatures import address_of
from tallystick.protocol.wire import AcceptanceNotice, Offer
from tallystick_backend.store.tables import BooksRow
from tests.backend.dispatch.market import DOMAIN, RATE, Market, key, signed_assignment


async def test_a_task_goes_round(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()

    offer = provider.offers[task]
    assert offer.assignment.fence == 1
    assert offer.assignment.provider == provider.address
    signed_by = messages.recover(
        DOMAIN, Assignment.from_body(offer.assignment), offer.assignment_signature
    )
    assert signed_by == market.signer.address
    assert offer.result_url.endswith("/{digest}")

    market.clock.advance(seconds=10)
    answer = await market.beat(provider, task, stage="running", percent=5)
    assert answer.verdict == "renewed"
    assert answer.assignment is not None
    assert answer.assignment.lease_until == offer.assignment.lease_until + 10
    assert (await market.work(task)).state == "running"

    assert (await market.finish(provider, task)).ok
    assert (await market.work(task)).state == "finished"
    await market.accept(task)
    await market.go()
    assert provider.heard == ["offer", "acceptance"]
    answer = await market.beat(provider, task, stage="settling")
    assert answer.verdict == "renewed"
    assert answer.acceptance is not None
    assert answer.acceptance.task_id == task

    await market.chain_says(task, state="settled")
    await market.go()
    lease = await market.lease(task)
    assert lease is not None
    assert lease.state == "done"
    assert await market.events(task) == ["leased", "running", "progress", "finished"]


async def test_a_secured_task_waits_for_its_creation_on_chain(market: Market) -> None:
    provider = await market.provider()
    await market.order(state=None, secured=True)
    await market.order(state="orphaned", secured=True)
    await market.go()
    assert provider.heard == []


async def test_no_lease_is_given_while_the_index_stands_still(market: Market) -> None:
    """Case 73: what the rows say may be of a branch that is no more."""
    provider = await market.provider()
    running = await market.order()
    await market.go()
    await market.index_stops("the chain was reorganised 65 blocks deep")
    await market.order()
    await market.go()
    assert list(provider.offers) == [running]
    assert (await market.beat(provider, running)).verdict == "renewed", "work in hand goes on"
    await market.index_stops(None)
    await market.go()
    assert len(provider.offers) == 2


async def test_nothing_is_leased_while_the_rows_differ_from_the_contracts(market: Market) -> None:
    """Case 89."""
    provider = await market.provider()
    wrong = {"entity": "account:0x1", "what": "credit", "here": "5", "there": "4"}
    for differences in ([wrong], None):
        async with market.database.transaction() as session:
            await session.merge(BooksRow(id=1, block_number=1, at_ms=1, differences=differences))
        await market.order()
        await market.go()
        assert bool(provider.offers) == (differences is None)


async def test_signed_orders_are_given_out_as_far_as_the_account_reaches(market: Market) -> None:
    provider = await market.provider()
    orders = [await market.order(state=None, secured=False) for _ in range(3)]
    price = 5 + RATE * 3600
    await market.go()
    assert provider.heard == []
    await market.deposit(2 * price)
    await market.go()
    assert sorted(provider.offers) == sorted(orders[:2])
    await market.go()
    assert len(provider.heard) == 2


async def test_a_signed_order_past_its_deadline_is_put_away(market: Market) -> None:
    provider = await market.provider()
    end_s = market.clock.now_ms() // 1000 + 60
    task = await market.order(state=None, secured=False, deadline_s=end_s)
    market.clock.advance(seconds=60 + 121)
    await market.go()
    assert (await market.work(task)).state == "stopped"
    assert provider.heard == []


async def test_one_consumers_flood_keeps_nobody_waiting(market: Market) -> None:
    """Case 99: two places, ten tasks of one consumer and one of another."""
    provider = await market.provider(registered=2)
    for _ in range(10):
        await market.order()
    other = address_of(key(77))
    late = await market.order(consumer=other)
    await market.go()
    assert late in provider.offers
    assert len(provider.offers) == 2


async def test_never_leases_more_gpus_than_are_registered(market: Market) -> None:
    provider = await market.provider(registered=3)
    for _ in range(5):
        await market.order(gpus=2)
    await market.go()
    await market.go(market.new_dispatcher())
    assert len(provider.offers) == 1


async def test_a_silent_provider_loses_the_lease_and_another_one_gets_the_next_fence(
    market: Market,
) -> None:
    first = await market.provider(1)
    task = await market.order()
    await market.go()
    await market.beat(first, task)
    second = await market.provider(2)
    market.clock.advance(seconds=market.settings.lease_seconds + 2)
    await market.say(second, "announce", second.announcement(), wire.AnnouncementReply)
    await market.go()
    assert task not in second.offers, "the margin is not over"
    market.clock.advance(seconds=1)
    await market.go()
    await market.go()
    assert second.offers[task].assignment.fence == 2
    lost = await market.lease(task, 1)
    assert lost is not None
    assert lost.state == "lost"
    assert second.offers[task].assignment.lease_from > lost.lease_until_s
    assert (await market.work(task)).attempts == 1


async def test_the_next_fence_waits_out_a_declined_assignment(market: Market) -> None:
    """The one who declined could still prove with it (law L11)."""
    first = await market.provider(1)
    first.accepts = False
    task = await market.order()
    await market.go()
    second = await market.provider(2)
    await market.go()
    assert second.heard == []
    declined = await market.lease(task)
    assert declined is not None
    assert declined.state == "declined"
    await market.run_out()
    await market.say(second, "announce", second.announcement(), wire.AnnouncementReply)
    await market.go()
    assert second.offers[task].assignment.lease_from > declined.lease_until_s
    assert (await market.work(task)).attempts == 0


async def test_an_offer_that_reached_nobody_frees_the_task_at_once(market: Market) -> None:
    first = await market.provider(1)
    del market.bus.listeners[first.id]
    task = await market.order()
    await market.go()
    second = await market.provider(2)
    await market.go()
    assert second.offers[task].assignment.fence == 2


async def test_an_offer_that_may_have_arrived_is_repeated_and_not_superseded(
    market: Market,
) -> None:
    """Case 94: the reply is lost; a later process does not know whether it was sent."""
    first = await market.provider(1)
    first.accepts = None
    task = await market.order()
    await market.go()
    del market.bus.listeners[first.id]
    await market.provider(2)
    restarted = market.new_dispatcher()
    await market.go(restarted)
    assert (await market.work(task)).fence == 1
    first.accepts = True
    market.bus.listeners[first.id] = first.listen
    market.clock.advance(seconds=3)
    await market.go(restarted)
    lease = await market.lease(task)
    assert lease is not None
    assert (lease.fence, lease.state) == (1, "accepted")


async def test_a_task_that_breaks_every_provider_fails_after_three(market: Market) -> None:
    """Case 97."""
    providers = [await market.provider(n) for n in range(1, 6)]
    task = await market.order()
    for _ in range(20):
        await market.go()
        holder = next((one for one in providers if task in one.offers), None)
        if holder is not None:
            fence = holder.offers.pop(task).assignment.fence
            assert (await market.fail(holder, task, "task", fence)).ok
        await market.run_out()
        for one in providers:
            await market.say(one, "announce", one.announcement(), wire.AnnouncementReply)
    row = await market.work(task)
    assert (row.state, row.attempts, row.fence) == ("failed", 3, 3)
    assert row.failure is not None
    assert "it broke" in row.failure
    assert (await market.events(task))[-1] == "failed"


async def test_a_provider_alone_is_asked_again_after_a_pause(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.fail(provider, task, "provider")
    fences = {1}
    for _ in range(40):
        market.clock.advance(seconds=5)
        await market.say(provider, "announce", provider.announcement(), wire.AnnouncementReply)
        await market.go()
        fences.add(provider.offers[task].assignment.fence)
        if 2 in fences:
            break
    assert fences == {1, 2}
    row = await market.work(task)
    assert row.attempts == 0, "the provider's fault is not the task's"


async def test_gives_up_after_eight_leases_of_any_ending(market: Market) -> None:
    provider = await market.provider()
    provider.accepts = False
    task = await market.order()
    for _ in range(200):
        await market.go()
        market.clock.advance(seconds=20)
        await market.say(provider, "announce", provider.announcement(), wire.AnnouncementReply)
    row = await market.work(task)
    assert (row.state, row.fence) == ("failed", 8)


async def test_withdrawn_while_it_runs_stops_and_keeps_what_was_used(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    market.clock.advance(seconds=5)
    await market.beat(provider, task)
    await market.withdraw(task)
    await market.go()
    assert provider.heard == ["offer", "stop"]
    assert (await market.beat(provider, task)).verdict == "stop"
    assert (await market.finish(provider, task, exit_code=143)).ok
    assert (await market.work(task)).state == "finished"
    assert (await market.beat(provider, task, stage="settling")).verdict == "renewed"
    assert (await market.events(task)).count("stopping") == 1


async def test_withdrawn_and_then_silent_is_stopped_for_good(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.withdraw(task)
    await market.run_out()
    await market.go()
    lease = await market.lease(task)
    assert lease is not None
    assert (lease.state, (await market.work(task)).state) == ("stopped", "stopped")
    await market.say(provider, "announce", provider.announcement(), wire.AnnouncementReply)
    await market.go()
    assert (await market.work(task)).fence == 1


async def test_a_stopped_task_cannot_hold_its_lease_by_beating(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.withdraw(task)
    verdicts = []
    for _ in range(20):
        await market.go()
        verdicts.append((await market.beat(provider, task)).verdict)
        market.clock.advance(seconds=10)
    assert verdicts[0] == "stop"
    assert verdicts[-1] == "lost"


async def test_a_cancel_on_chain_stops_as_well(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.chain_says(task, cancelled_at_s=market.clock.now_ms() // 1000)
    await market.go()
    assert provider.heard == ["offer", "stop"]


async def test_an_orphaned_task_stops_and_runs_again_when_its_creation_comes_back(
    market: Market,
) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.chain_says(task, state="orphaned", orphaned_at_ms=market.clock.now_ms())
    await market.go()
    assert provider.heard == ["offer"]
    assert (await market.beat(provider, task)).verdict == "renewed"
    market.clock.advance(seconds=market.settings.orphan_grace_seconds)
    await market.go()
    assert provider.heard == ["offer", "stop"]
    await market.run_out()
    await market.go()
    assert (await market.work(task)).state == "waiting"
    await market.chain_says(task, state="open")
    await market.say(provider, "announce", provider.announcement(), wire.AnnouncementReply)
    await market.go()
    row = await market.work(task)
    assert (row.state, row.fence, row.attempts) == ("leased", 2, 0)


async def test_a_creation_that_comes_back_with_the_next_block_disturbs_nobody(
    market: Market,
) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.chain_says(task, state="orphaned", orphaned_at_ms=market.clock.now_ms())
    await market.go()
    await market.chain_says(task, state="open", orphaned_at_ms=None)
    market.clock.advance(seconds=2)
    await market.go()
    assert provider.heard == ["offer"]
    assert (await market.beat(provider, task)).verdict == "renewed"


async def test_a_lease_never_reaches_beyond_the_end_of_the_task(market: Market) -> None:
    provider = await market.provider()
    end_s = market.clock.now_ms() // 1000 + 12
    task = await market.order(deadline_s=end_s)
    await market.go()
    assert provider.offers[task].assignment.lease_until == end_s
    market.clock.advance(seconds=5)
    answer = await market.beat(provider, task)
    assert answer.assignment is not None
    assert answer.assignment.lease_until == end_s


async def test_nobody_holds_a_task_by_beating_alone(market: Market) -> None:
    """Case 98: the lease is renewed for the task's own time and a grace, no longer."""
    provider = await market.provider()
    task = await market.order(max_seconds=60)
    await market.go()
    for _ in range(200):
        answer = await market.beat(provider, task, stage="fetching")
        if answer.verdict == "lost":
            break
        market.clock.advance(seconds=10)
        await market.go()
    assert answer.verdict == "lost"
    lease = await market.lease(task, 1)
    assert lease is not None
    granted = market.settings.start_grace_seconds + 60
    assert lease.lease_until_s == lease.lease_from_s + granted


async def test_asks_for_a_key_when_only_that_is_missing(market: Market) -> None:
    provider = await market.provider()
    task = await market.order(with_input=True)
    await market.go()
    await market.go()
    assert (await market.work(task)).needs_key_provider == provider.id
    assert await market.events(task) == ["needs_key"]
    sealed = await market.order(with_input=True, sealed_to=((provider, 1),))
    await market.go()
    offer = provider.offers[sealed]
    assert offer.sealed_key == "0x0102"
    assert offer.input_url is not None
    assert task not in provider.offers


async def test_a_finished_task_without_acceptance_is_renewed_so_that_it_can_be_proven_alone(
    market: Market,
) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    assert (await market.finish(provider, task)).ok
    for _ in range(10):
        await market.run_out()
        await market.go()
        answer = await market.beat(provider, task, stage="settling")
        assert answer.verdict == "renewed"
        assert answer.assignment is not None
        assert answer.assignment.lease_until > market.clock.now_ms() // 1000
    lease = await market.lease(task)
    assert lease is not None
    assert signed_assignment(lease) == market.signer.address


async def test_the_acceptance_is_told_again_until_it_is_heard(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    await market.go()
    await market.finish(provider, task)
    await market.accept(task)
    listen = market.bus.listeners.pop(provider.id)
    await market.go()
    market.bus.listeners[provider.id] = listen
    market.clock.advance(seconds=3)
    await market.go()
    await market.go()
    notices = [body for subject, body in market.bus.sent if subject.endswith(".acceptance")]
    assert provider.heard == ["offer", "acceptance"]
    assert wire.parse(AcceptanceNotice, notices[-1]).acceptance.task_id == task


async def test_tasks_nobody_can_take_do_not_hide_those_behind_them(market: Market) -> None:
    market.settings = dataclasses.replace(market.settings, batch=4)
    market.dispatcher = market.new_dispatcher()
    provider = await market.provider()
    for _ in range(8):
        await market.order(gpus=9)
    possible = await market.order()
    for _ in range(4):
        await market.go()
    assert possible in provider.offers


async def test_runs_until_it_is_stopped(market: Market) -> None:
    provider = await market.provider()
    task = await market.order()
    stop = asyncio.Event()
    running = asyncio.create_task(market.dispatcher.run(stop))
    await asyncio.wait_for(provider.offered.wait(), 10)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert isinstance(provider.offers[task], Offer)


@pytest.mark.parametrize("step", range(14))
async def test_a_process_that_dies_at_any_step_loses_nothing(market: Market, step: int) -> None:
    """Case 93: the n-th transaction, or its answer, never happens; a new process goes on."""
    provider = await market.provider()
    tasks = [await market.order() for _ in range(3)]
    dying = market.new_dispatcher()
    killed = _Kill(market, step)
    with killed:
        try:
            for _ in range(3):
                await market.go(dying)
        except _Dead:
            pass
    market.dispatcher = market.new_dispatcher()
    for _ in range(60):
        await market.go()
        for task in tasks:
            offer = provider.offers.get(task)
            if offer is not None and await market.receipt(task) is None:
                await market.finish(provider, task)
        market.clock.advance(seconds=3)
        await market.say(provider, "announce", provider.announcement(), wire.AnnouncementReply)
    for task in tasks:
        row = await market.work(task)
        assert (row.state, row.fence) == ("finished", 1)


class _Dead(BaseException):
    """The end of a process; nothing catches it."""


class _Kill:
    """Lets `steps` transactions and messages happen, and then none any more."""

    def __init__(self, market: Market, steps: int) -> None:
        self._market = market
        self._steps = steps

    def __enter__(self) -> None:
        database, bus = self._market.database, self._market.bus
        begin, request = database.transaction, bus.request

        def counted() -> None:
            self._steps -= 1
            if self._steps < 0:
                raise _Dead

        def transaction() -> object:
            counted()
            return begin()

        async def send(subject: str, payload: bytes, timeout_s: float) -> bytes:
            counted()
            reply = await request(subject, payload, timeout_s)
            counted()
            return reply

        database.transaction = transaction  # type: ignore[method-assign,assignment]
        bus.request = send  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._market.database.transaction
        del self._market.bus.request


async def test_gpus_given_away_meanwhile_are_not_given_twice(market: Market) -> None:
    """Another dispatcher on the same database was faster, with another task."""
    provider = await market.provider(registered=1)
    slow_task = await market.order()
    slow, fast = market.new_dispatcher(), market.new_dispatcher()
    (plan,) = await slow._plans(market.clock.now_ms())
    await market.chain_says(slow_task, state="orphaned")
    fast_task = await market.order()
    await market.go(fast)
    await market.chain_says(slow_task, state="open")
    assert plan.result.choice is not None
    await slow._grant(plan, plan.result.choice, market.clock.now_ms())
    await market.go(slow)
    assert list(provider.offers) == [fast_task]
    assert await market.lease(slow_task) is None
