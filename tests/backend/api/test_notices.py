"""What needs a look is told to whom it concerns, and to nobody else, until it is over."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick_backend.store.tables import (
    ChannelRow,
    DelegationRow,
    KeepWarmRow,
    PoolRow,
    ProviderRow,
    SpendLimitRow,
    SpendRow,
)
from tests.backend.api.world import Consumer, World
from tests.support.anvil import CONSUMER, PROVIDER, STRANGER

ME = CONSUMER.address.lower()
DAY_MS = 86_400_000


@pytest.fixture
async def me(world: World) -> Consumer:
    return await world.consumer()


async def told(who: Consumer) -> list[dict[str, Any]]:
    answer = await who.get("/v1/overview")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["notices"]
    return found


async def kinds(who: Consumer) -> list[str]:
    return [notice["kind"] for notice in await told(who)]


async def test_a_failed_task_until_its_ceiling_is_back(world: World, me: Consumer) -> None:
    lost, returned, runs = [await world.ordered(me) for _ in range(3)]
    await world.leased(lost, work_state="failed", lease_state="failed")
    await world.leased(returned, work_state="failed", lease_state="failed")
    await world.leased(runs)
    await world.on_chain(returned, "refunded")
    [notice] = await told(me)
    assert (notice["kind"], notice["subject"]) == ("task_failed", lost["id"])
    assert notice["name"] == lost["name"]
    assert await told(await world.stranger()) == []
    world.clock.set_ms(world.clock.now_ms() + DAY_MS + 1)
    assert await kinds(await world.consumer()) == []


@pytest.mark.parametrize(
    ("period", "scope", "subject", "limit", "is_told"),
    [
        ("day", "workspace", "", 5, True),
        ("day", "workspace", "", 6, False),
        ("total", "workspace", "", 105, True),
        ("total", "workspace", "", 106, False),
        ("total", "key", "ab" * 8, 100, True),
        ("day", "key", "ab" * 8, 100, False),
        ("call", "workspace", "", 0, False),
    ],
)
async def test_a_limit_that_lets_nothing_more_through(
    world: World, me: Consumer, period: str, scope: str, subject: str, limit: int, is_told: bool
) -> None:
    today = world.backend.now_s() // 86_400
    for day, key, charge in ((today, "", 5), (today - 1, "ab" * 8, 100)):
        await world.write(
            SpendRow(account=ME, day=day, key_id=key, app_id="", charge=charge, calls=1)
        )
    row = {"account": ME, "scope": scope, "subject": subject, "period": period}
    await world.write(SpendLimitRow(id="5f" * 8, limit_units=limit, created_at_ms=1, **row))
    found = await told(me)
    assert [notice["kind"] for notice in found] == (["limit_reached"] if is_told else [])
    if is_told:
        assert (found[0]["subject"], found[0]["name"]) == ("5f" * 8, scope)
        assert found[0]["amount"] == str(limit)
    assert await told(await world.stranger()) == []


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("on", []),
        ("paused_funds", ["app_paused_funds"]),
        ("failing", ["app_failing"]),
        ("stopped", []),
    ],
)
async def test_an_app_that_is_not_kept_warm_as_wished(
    world: World, me: Consumer, state: str, expected: list[str]
) -> None:
    app = "0x" + "a9" * 32
    for number, until_ms in enumerate((world.clock.now_ms() + 1000, world.clock.now_ms() - 1)):
        await world.write(
            KeepWarmRow(
                id=f"{number:016x}",
                account=ME,
                app_id=app,
                every_s=60,
                max_per_hour=1,
                until_ms=until_ms,
                created_at_ms=1,
                state=state,
            )
        )
    found = await told(me)
    assert [(notice["kind"], notice["subject"]) for notice in found] == [
        (kind, app) for kind in expected
    ]


async def test_a_channel_that_closes_with_money_in_it(world: World, me: Consumer) -> None:
    for number, (close_at_s, claimed) in enumerate(((None, 1), (900, 1), (800, 30))):
        await world.write(
            ChannelRow(
                channel_id=f"0x{number:064x}",
                payer=ME,
                signer=ME,
                provider=PROVIDER.address.lower(),
                salt=number,
                opened_at_s=1,
                deposited=30,
                claimed=claimed,
                close_at_s=close_at_s,
            )
        )
    [notice] = await told(me)
    assert (notice["kind"], notice["subject"]) == ("channel_closing", f"0x{1:064x}")
    assert (notice["amount"], notice["at"]) == ("29", 900)
    assert await told(await world.stranger()) == []


async def test_my_own_provider_in_jail_or_offline(world: World) -> None:
    await world.has_provider()
    mine = await world.consumer(PROVIDER)
    assert await told(mine) == []
    online_ms = world.backend.dispatch.online_ms
    world.clock.set_ms(world.clock.now_ms() + online_ms + 1)
    [notice] = await told(mine)
    assert (notice["kind"], notice["name"]) == ("provider_offline", "own")
    assert notice["subject"] == PROVIDER.address


async def test_a_provider_that_holds_my_delegation(world: World, me: Consumer) -> None:
    until_s = world.backend.now_s() + 50
    await world.write(
        ProviderRow(address=STRANGER.address.lower(), gpus_registered=1, jailed_until_s=until_s),
        PoolRow(provider=STRANGER.address.lower(), generation=2),
    )
    place = {"provider": STRANGER.address.lower(), "delegator": ME}
    await world.write(
        DelegationRow(place=f"{STRANGER.address.lower()}/{ME}", shares=5, generation=1, **place)
    )
    assert await told(me) == []  # of a pool that was drained since: there is nothing left of it
    other = {"provider": STRANGER.address.lower(), "delegator": PROVIDER.address.lower()}
    await world.write(
        DelegationRow(
            place=f"{other['provider']}/{other['delegator']}", shares=5, generation=2, **other
        )
    )
    [notice] = await told(await world.consumer(PROVIDER))
    assert (notice["kind"], notice["name"], notice["at"]) == (
        "provider_jailed",
        "delegated",
        until_s,
    )
    world.clock.set_ms((until_s + 1) * 1000)
    assert await kinds(await world.consumer(PROVIDER)) == ["provider_offline"]
