"""Apps and channels through the client, against the real backend's HTTP."""

from __future__ import annotations

import pytest

from tallystick import AsyncGPUClient, Config, InvalidRequest, NotFound
from tallystick.protocol.apps import DiscountWindow, PricePoint
from tallystick.protocol.pricing import Price
from tests.backend.api.test_apps import MINE, app_id, has_channel, publish
from tests.backend.api.world import PUBLIC_URL
from tests.sdk.test_real_backend import Market, migrated, opened, real
from tests.support.anvil import APP_OWNER, CONSUMER, PROVIDER, STRANGER

__all__ = ["migrated", "opened", "real"]

UNKNOWN = "0x" + "99" * 32


async def test_apps_are_found_and_priced(real: Market, opened: AsyncGPUClient) -> None:
    for number in (1, 2, 3):
        await publish(real.world, number, publisher=STRANGER if number == 2 else APP_OWNER)
    assert [app.id for app in await opened.apps()] == [app_id(1), app_id(2), app_id(3)]
    assert [app.id for app in await opened.apps(limit=2)] == [app_id(1), app_id(2)]
    assert [app.id for app in await opened.apps(publisher=STRANGER.address)] == [app_id(2)]
    assert await opened.apps(text="no such", retired=False) == ()

    one = await opened.app(app_id(1))
    assert one.price is not None
    assert (one.versions, one.price.fee_per_call) == (1, 20)
    born_s = one.published_at
    then = await opened.app_price(app_id(1), version=1, at=born_s + 60)
    assert (then.price.fee_per_call, then.list_price.fee_per_call) == (8, 10)
    assert [v.version for v in await opened.app_versions(app_id(1))] == [1]


async def test_a_history_gives_the_prices_that_the_backend_quotes(
    real: Market, opened: AsyncGPUClient
) -> None:
    born_s = real.world.backend.now_s() - 7200
    await publish(real.world, 1, retired_at_s=born_s + 9000)
    known = await opened.app_history(app_id(1))
    assert (known.publisher, known.royalty_bps) == (APP_OWNER.address, 250)
    [only] = known.versions
    assert only.prices == (
        PricePoint(born_s, Price(100, 10, 7)),
        PricePoint(born_s + 3600, Price(200, 20, 14)),
    )
    assert known.discounts == (DiscountWindow(born_s + 60, born_s + 119, 2000),)
    for at in (born_s, born_s + 60, born_s + 3600, born_s + 8999):
        quote = await opened.app_price(app_id(1), at=at)
        price = known.price_at(at, version=1)
        assert (price.flat, price.fee_per_call, price.rate_per_gpu_second) == (
            quote.price.flat,
            quote.price.fee_per_call,
            quote.price.rate_per_gpu_second,
        )


async def test_channels_are_found(real: Market, opened: AsyncGPUClient) -> None:
    one = await has_channel(real.world, MINE, 1)
    assert [c.id for c in await opened.channels(payer=CONSUMER.address)] == [one]
    assert await opened.channels(provider=STRANGER.address) == ()
    assert [c.id for c in await opened.channels(provider=PROVIDER.address)] == [one]
    found = await opened.channel(one)
    assert (found.deposited, found.claimed, found.channel.salt) == (100, 40, 2**96 - 1)


async def test_what_is_not_there_says_so(real: Market, opened: AsyncGPUClient) -> None:
    await publish(real.world, 1, retired_at_s=1)
    for asked, what in (
        (opened.app(UNKNOWN), "no app 0x99"),
        (opened.app_history(UNKNOWN), "no app 0x99"),
        (opened.channel(UNKNOWN), "no money ever came"),
        (opened.app_price(app_id(1)), "retired since 1"),
    ):
        with pytest.raises(NotFound, match=f"(?i){what}") as refused:
            await asked
        assert refused.value.next_step
    for an_id in ("", "../keys", "0x12", app_id(1).upper()):
        with pytest.raises(InvalidRequest, match="is no id"):
            await opened.app(an_id)


async def test_reading_needs_no_key(real: Market) -> None:
    await publish(real.world, 1)
    one = await has_channel(real.world, MINE, 1)
    async with real.client(config=Config(url=PUBLIC_URL)) as nobody:
        assert len(await nobody.apps()) == 1
        assert (await nobody.app_price(app_id(1))).version == 1
        assert (await nobody.app_history(app_id(1))).app_id == app_id(1)
        assert (await nobody.channel(one)).id == one
