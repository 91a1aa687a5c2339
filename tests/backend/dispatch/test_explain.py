"""What people are told about who serves a task, from the rows as they are."""

from __future__ import annotations

from tallystick.protocol.wire import AnnouncementReply, ExplainBody, GpuBody, OfferBody
from tallystick_backend.dispatch import candidates, explain
from tallystick_backend.dispatch.match import Request
from tests.backend.dispatch.market import RATE, UNIT, Market


async def offers(market: Market, request: Request) -> tuple[OfferBody, ...]:
    async with market.database.read() as session:
        return await explain.offers(
            session, request, now_ms=market.clock.now_ms(), settings=market.settings
        )


async def why(market: Market, task_id: str) -> ExplainBody:
    async with market.database.read() as session:
        body = await explain.explain_task(
            session, task_id, now_ms=market.clock.now_ms(), settings=market.settings
        )
    assert body is not None
    return body


async def test_lists_everybody_the_eligible_first(market: Market) -> None:
    busy = await market.provider(1, registered=1)
    free = await market.provider(2)
    poor = await market.provider(3, stake=0)
    await market.provider(4, bound=False)
    await market.order(gpus=4)
    await market.go()
    assert len(free.offers) == 1
    market.clock.advance(seconds=1)
    listed = await offers(market, Request(gpu_class="gpu1", gpus=1))
    assert [one.provider for one in listed if one.eligible] == [busy.id]
    reasons = {one.provider: one.reason for one in listed}
    assert reasons == {busy.id: "", free.id: "gpus_busy", poor.id: "stake_too_low"}
    first = listed[0]
    assert (first.gpus_free, first.gpus_total, first.rate_per_gpu_second) == (1, 1, RATE)
    assert (first.gpu_memory_mib, first.simulated, first.runtime) == (24_000, False, "docker")


async def test_a_listing_needs_no_gpu_and_no_price(market: Market) -> None:
    provider = await market.provider(gpus=(), rate_per_gpu_second={"": 0})
    (one,) = await offers(market, Request())
    assert (one.provider, one.eligible, one.gpus_total) == (provider.id, True, 0)


async def test_stake_set_aside_for_seats_stands_behind_no_gpu(market: Market) -> None:
    await market.provider(1, stake=3 * UNIT, seats=1)
    await market.provider(2, stake=2 * UNIT, seats=1)
    await market.provider(3, stake=UNIT, seats=3)
    listed = await offers(market, Request(gpu_class="gpu1", gpus=2))
    assert [one.reason for one in listed] == ["", "stake_too_low", "stake_too_low"]


async def test_a_jailed_provider_gets_no_new_lease(market: Market) -> None:
    await market.provider(jailed_until_s=1)
    (one,) = await offers(market, Request(gpu_class="gpu1", gpus=1))
    assert one.reason == "jailed"


async def test_the_stake_that_counts_is_what_the_settings_say(market: Market) -> None:
    await market.provider(stake=UNIT)
    asked = Request(gpu_class="gpu1", gpus=2, stake_unit=0)
    (one,) = await offers(market, asked)
    assert one.reason == "stake_too_low"


async def test_free_capacity_is_what_live_leases_leave(market: Market) -> None:
    await market.provider(cpu_milli=3_000, memory_mib=10_000, disk_mib=10_000)
    for _ in range(2):
        await market.order(gpus=1)
    await market.go()
    async with market.database.read() as session:
        (one,) = await candidates.load(
            session, now_ms=market.clock.now_ms(), settings=market.settings
        )
    assert (one.cpu_milli, one.memory_mib, one.disk_mib) == (1_000, 5_904, 7_952)
    assert (one.gpus_free("gpu1"), one.gpus_leased) == (2, 2)


async def test_a_class_is_as_good_as_its_smallest_card(market: Market) -> None:
    cards = tuple(
        GpuBody(gpu_id=str(n), model="M", gpu_class="gpu1", memory_mib=size, simulated=n == 1)
        for n, size in enumerate((24_000, 12_000))
    )
    await market.provider(gpus=cards)
    (one,) = await offers(market, Request(gpu_class="gpu1", gpus=1, gpu_memory_mib=12_001))
    assert (one.reason, one.gpu_memory_mib, one.simulated) == (
        "gpu_memory_too_small",
        12_000,
        True,
    )


async def test_losses_of_the_last_hour_rank_a_provider_behind(market: Market) -> None:
    unsteady = await market.provider(1)
    task = await market.order()
    await market.go()
    await market.fail(unsteady, task, "provider")
    steady = await market.provider(2, registered=1)
    listed = await offers(market, Request(gpu_class="gpu1", gpus=1))
    assert [one.provider for one in listed] == [steady.id, unsteady.id]
    market.clock.advance(seconds=3_601)
    for one in (steady, unsteady):
        await market.say(one, "announce", one.announcement(), AnnouncementReply)
    listed = await offers(market, Request(gpu_class="gpu1", gpus=1))
    assert [one.provider for one in listed] == [unsteady.id, steady.id]


async def test_the_tasks_own_fault_ranks_nobody_behind(market: Market) -> None:
    provider = await market.provider(1)
    task = await market.order()
    await market.go()
    await market.fail(provider, task, "task")
    async with market.database.read() as session:
        (one,) = await candidates.load(
            session, now_ms=market.clock.now_ms(), settings=market.settings
        )
    assert one.recent_losses == 0


async def test_explains_each_stage_of_waiting(market: Market) -> None:
    task = await market.order()
    assert "No provider ever announced" in (await why(market, task)).summary
    provider = await market.provider(1, registered=0)
    body = await why(market, task)
    assert "None of 1 providers can serve" in body.summary
    assert body.offers[0].reason == "gpus_too_few"
    able = await market.provider(2)
    assert (await why(market, task)).summary == f"{able.id} is asked next."
    await market.go()
    assert (await why(market, task)).state == "leased"
    await market.fail(able, task, "provider")
    body = await why(market, task)
    assert (body.state, "may be given in 33 s" in body.summary) == ("funded", True)
    assert {one.reason for one in body.offers} == {"gpus_too_few", "excluded"}
    assert provider.heard == []


async def test_explains_a_missing_creation_key_and_end(market: Market) -> None:
    provider = await market.provider()
    unlocked = await market.order(state=None)
    assert "createTask" in (await why(market, unlocked)).summary
    sealed = await market.order(with_input=True)
    body = await why(market, sealed)
    assert provider.id in body.summary
    assert "not sealed" in body.summary
    await market.withdraw(sealed)
    assert (await why(market, sealed)).summary == (
        "The task is cancelled: the consumer withdrew the order."
    )


async def test_knows_nothing_of_a_task_it_has_no_order_for(market: Market) -> None:
    async with market.database.read() as session:
        assert (
            await explain.explain_task(
                session, "0x" + "00" * 32, now_ms=0, settings=market.settings
            )
            is None
        )
