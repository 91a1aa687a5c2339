"""Apps, their prices and channels: what the index wrote, as anybody may read it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tallystick.protocol.apps import app_salt
from tallystick.protocol.messages import Channel
from tallystick.protocol.wire import ChannelView
from tallystick_backend.store.tables import (
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChannelRow,
)
from tests.backend.api.world import World
from tests.support.anvil import APP_OWNER, CONSUMER, PROVIDER, STRANGER, Person

UNKNOWN = "0x" + "99" * 32


def app_id(number: int) -> str:
    return f"0x{number:064x}"


async def publish(
    world: World,
    number: int,
    *,
    publisher: Person = APP_OWNER,
    published_at: int | None = None,
    manifest_uri: str = "https://apps.example/llama.json",
    name: str = "llama",
    **changes: Any,
) -> str:
    """One version at 100, 10 and 7; twice that from an hour later on; a fifth off for a minute."""
    born_s = world.backend.now_s() - 7200 if published_at is None else published_at
    one = app_id(number)
    await world.write(
        AppRow(
            app_id=one,
            publisher=publisher.address.lower(),
            salt=app_salt(name),
            royalty_to=APP_OWNER.address.lower(),
            royalty_bps=250,
            published_at_s=born_s,
            versions=1,
            manifest_uri=manifest_uri,
            **changes,
        ),
        AppVersionRow(
            place=f"{one}/{1:010d}",
            app_id=one,
            version=1,
            image_digest="0x" + "1a" * 32,
            manifest_digest="0x" + "2b" * 32,
            manifest_uri=manifest_uri,
            published_at_s=born_s,
        ),
        *(
            AppPriceRow(
                place=f"{one}/{1:010d}/{from_s:020d}",
                app_id=one,
                version=1,
                from_s=from_s,
                flat=100 * times,
                fee_per_call=10 * times,
                rate_per_gpu_second=7 * times,
            )
            for times, from_s in ((1, born_s), (2, born_s + 3600))
        ),
        AppDiscountRow(
            place=f"{one}/{1:020d}/{0:010d}",
            app_id=one,
            bps=2000,
            start_s=born_s + 60,
            end_s=born_s + 119,
            announced_at_s=born_s,
        ),
    )
    return one


async def listed(world: World, path: str, **params: str | int) -> list[dict[str, Any]]:
    """All pages of one item each; the parameters have to hold for every page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {**params, "limit": 1, **({} if cursor is None else {"cursor": cursor})}
        answer = await world.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


# --- apps -------------------------------------------------------------------------------------


async def test_an_app_says_what_a_call_costs_now(world: World) -> None:
    one = await publish(world, 1)
    body = (await world.http.get(f"/v1/apps/{one}")).json()
    assert (body["id"], body["publisher"], body["versions"]) == (one, APP_OWNER.address, 1)
    assert (body["royalty_to"], body["royalty_bps"]) == (APP_OWNER.address, 250)
    assert body["latest"]["manifest_uri"] == "https://apps.example/llama.json"
    assert body["price"] == {"flat": "200", "fee_per_call": "20", "rate_per_gpu_second": "14"}
    assert (body["retired_at"], body["permanent"], body["discount_bps"]) == (None, False, 0)
    [same] = (await world.http.get("/v1/apps")).json()["items"]
    assert same == body


async def test_apps_are_listed_last_published_first_and_found_again(world: World) -> None:
    """Two of one second among them: a page may end between these."""
    for number, age in ((1, 9000), (2, 8000), (3, 8000), (4, 7500)):
        await publish(world, number, published_at=world.backend.now_s() - age)
    everything = [item["id"] for item in await listed(world, "/v1/apps")]
    assert everything == [app_id(4), app_id(2), app_id(3), app_id(1)]


async def test_apps_are_searched_by_publisher_and_text(world: World) -> None:
    await publish(world, 1)
    await publish(world, 2, publisher=STRANGER, manifest_uri="ipfs://BAFY/100%_real.json")
    await publish(world, 0xAB << 248, manifest_uri="https://apps.example/other.json")

    async def found(**params: str) -> set[str]:
        return {item["id"] for item in await listed(world, "/v1/apps", **params)}

    assert await found(publisher=STRANGER.address) == {app_id(2)}
    assert await found(publisher=STRANGER.address.lower(), text="llama") == set()
    assert await found(text="LLAMA") == {app_id(1)}
    assert await found(text="bafy") == {app_id(2)}
    # No pattern: these two characters stand for themselves.
    assert await found(text="100%_") == {app_id(2)}
    assert await found(text="%") == {app_id(2)}
    assert await found(text="_") == {app_id(2)}
    assert await found(text="0xAB") == {app_id(0xAB << 248)}
    assert await found(publisher=PROVIDER.address) == set()


async def test_apps_are_found_by_the_name_that_their_id_was_made_from(world: World) -> None:
    await publish(world, 1)
    await publish(world, 2, publisher=STRANGER)
    await publish(world, 3, name="llama/2 größer", manifest_uri="ipfs://llama")

    async def found(**params: str) -> list[str]:
        return [item["id"] for item in await listed(world, "/v1/apps", **params)]

    assert await found(name="llama") == [app_id(1), app_id(2)]
    assert await found(name="llama", publisher=STRANGER.address) == [app_id(2)]
    assert await found(name="llama/2 größer") == [app_id(3)]
    assert await found(name="llam") == await found(name="LLAMA") == []
    assert (await world.http.get("/v1/apps", params={"name": ""})).status_code == 422
    body = (await world.http.get("/v1/apps", params={"name": "llama", "limit": 1})).json()
    other = {"name": "other", "cursor": body["next_cursor"]}
    assert (await world.http.get("/v1/apps", params=other)).json()["code"] == "bad_cursor"


async def test_a_retired_app_has_no_price_and_can_be_left_out(world: World) -> None:
    now_s = world.backend.now_s()
    await publish(world, 1, retired_at_s=now_s)
    await publish(world, 2, retired_at_s=now_s + 1)
    await publish(world, 3, permanent=True)
    shown = {item["id"]: item for item in await listed(world, "/v1/apps")}
    assert shown[app_id(1)]["price"] is None
    assert shown[app_id(2)]["price"]["fee_per_call"] == "20"
    assert (shown[app_id(2)]["retired_at"], shown[app_id(3)]["permanent"]) == (now_s + 1, True)
    live = {item["id"] for item in await listed(world, "/v1/apps", retired="false")}
    assert live == {app_id(2), app_id(3)}
    gone = await listed(world, "/v1/apps", retired="true")
    assert [item["id"] for item in gone] == [app_id(1)]


async def test_what_the_chain_told_is_not_before_now(world: World) -> None:
    """The chain's clock may be ahead of ours."""
    ahead_s = world.backend.now_s() + 15
    one = await publish(world, 1, published_at=ahead_s)
    assert (await world.http.get(f"/v1/apps/{one}")).json()["price"] is None
    await world.is_indexed(block_timestamp_s=ahead_s)
    assert (await world.http.get(f"/v1/apps/{one}")).json()["price"]["fee_per_call"] == "10"
    assert (await world.http.get(f"/v1/apps/{one}/price")).json()["at"] == ahead_s


# --- prices -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_s", "fee", "discount_bps"),
    [
        pytest.param(0, "10", 0, id="the first second"),
        pytest.param(59, "10", 0, id="before the discount"),
        pytest.param(60, "8", 2000, id="its first second"),
        pytest.param(119, "8", 2000, id="its last second"),
        pytest.param(120, "10", 0, id="behind it"),
        pytest.param(3599, "10", 0, id="before the new price"),
        pytest.param(3600, "20", 0, id="the new price"),
        pytest.param(10**9, "20", 0, id="far ahead"),
    ],
)
async def test_the_price_of_a_second(
    world: World, after_s: int, fee: str, discount_bps: int
) -> None:
    born_s = world.backend.now_s() - 7200
    one = await publish(world, 1)
    at = born_s + after_s
    body = (await world.http.get(f"/v1/apps/{one}/price", params={"at": at})).json()
    assert (body["app_id"], body["version"], body["at"]) == (one, 1, at)
    assert (body["price"]["fee_per_call"], body["discount_bps"]) == (fee, discount_bps)
    assert body["list_price"]["fee_per_call"] == ("20" if after_s >= 3600 else "10")


async def test_no_price_before_or_after_an_app_and_of_none_that_is_not(world: World) -> None:
    now_s = world.backend.now_s()
    one = await publish(world, 1, retired_at_s=now_s)
    refusals = [
        (f"/v1/apps/{one}/price", {"at": now_s}, 410, "app_retired"),
        (f"/v1/apps/{one}/price", {}, 410, "app_retired"),
        (f"/v1/apps/{one}/price", {"at": 2**64 - 1}, 410, "app_retired"),
        (f"/v1/apps/{one}/price", {"at": now_s - 7201}, 404, "not_published_yet"),
        (f"/v1/apps/{one}/price", {"at": 0}, 404, "not_published_yet"),
        (f"/v1/apps/{one}/price", {"version": 2, "at": now_s - 1}, 404, "unknown_version"),
        (f"/v1/apps/{one}/prices", {"version": 2}, 404, "unknown_version"),
        (f"/v1/apps/{UNKNOWN}", {}, 404, "unknown_app"),
        (f"/v1/apps/{UNKNOWN}/price", {}, 404, "unknown_app"),
        (f"/v1/apps/{UNKNOWN}/prices", {}, 404, "unknown_app"),
        (f"/v1/apps/{UNKNOWN}/versions", {}, 404, "unknown_app"),
        (f"/v1/apps/{UNKNOWN}/discounts", {}, 404, "unknown_app"),
        (f"/v1/channels/{UNKNOWN}", {}, 404, "unknown_channel"),
    ]
    for path, params, status, code in refusals:
        answer = await world.http.get(path, params=params)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["next_step"]


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/apps/{app_id(1)}/price?at=-1",
        f"/v1/apps/{app_id(1)}/price?at=18446744073709551616",
        f"/v1/apps/{app_id(1)}/price?at=1e9",
        f"/v1/apps/{app_id(1)}/price?at=tomorrow",
        f"/v1/apps/{app_id(1)}/price?at=",
        f"/v1/apps/{app_id(1)}/price?version=0",
        f"/v1/apps/{app_id(1)}/price?version=4294967296",
        f"/v1/apps/{app_id(1)}/price?version=latest",
        f"/v1/apps/{app_id(1)}/price?when=1",
        f"/v1/apps/{app_id(1)}/prices?version=-1",
        "/v1/apps/0x12",
        f"/v1/apps/{app_id(0xAB).upper().replace('0X', '0x')}",
        "/v1/apps?publisher=0x12",
        "/v1/apps?text=",
        "/v1/apps?text=%00",
        f"/v1/apps?text={'x' * 101}",
        "/v1/apps?limit=0",
        "/v1/apps?limit=201",
        "/v1/channels?payer=me",
        "/v1/channels?signer=0x12",
        "/v1/channels/0x12",
    ],
)
async def test_what_does_not_fit_is_refused(world: World, path: str) -> None:
    await publish(world, 1)
    answer = await world.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_versions_prices_and_discounts_are_told_page_by_page(world: World) -> None:
    one = await publish(world, 1)
    born_s = world.backend.now_s() - 7200
    later_s = born_s + 100
    await publish(world, 2)  # another one's must not be among them
    await world.write(
        AppRow(
            app_id=one,
            publisher=APP_OWNER.address.lower(),
            salt="0x" + "5a" * 32,
            royalty_to=APP_OWNER.address.lower(),
            royalty_bps=0,
            published_at_s=born_s,
            versions=2,
            manifest_uri="second",
        ),
        AppVersionRow(
            place=f"{one}/{2:010d}",
            app_id=one,
            version=2,
            image_digest="0x" + "1a" * 32,
            manifest_digest="0x" + "2b" * 32,
            manifest_uri="second",
            published_at_s=later_s,
        ),
        AppPriceRow(
            place=f"{one}/{2:010d}/{later_s:020d}",
            app_id=one,
            version=2,
            from_s=later_s,
            flat=0,
            fee_per_call=2**128 - 1,
            rate_per_gpu_second=0,
        ),
        AppDiscountRow(
            place=f"{one}/{2:020d}/{0:010d}",
            app_id=one,
            bps=10_000,
            start_s=born_s + 90,
            end_s=2**64 - 1,
            announced_at_s=later_s,
        ),
    )
    versions = await listed(world, f"/v1/apps/{one}/versions")
    assert [item["version"] for item in versions] == [1, 2]
    prices = await listed(world, f"/v1/apps/{one}/prices")
    assert [(p["version"], p["takes_effect_at"], p["price"]["fee_per_call"]) for p in prices] == [
        (1, born_s, "10"),
        (1, born_s + 3600, "20"),
        (2, later_s, str(2**128 - 1)),
    ]
    assert await listed(world, f"/v1/apps/{one}/prices", version=2) == prices[2:]
    discounts = await listed(world, f"/v1/apps/{one}/discounts")
    assert [(item["bps"], item["start"], item["end"]) for item in discounts] == [
        (2000, born_s + 60, born_s + 119),
        (10_000, born_s + 90, 2**64 - 1),
    ]
    free = (await world.http.get(f"/v1/apps/{one}/price")).json()
    assert (free["version"], free["discount_bps"]) == (2, 10_000)
    assert (free["price"]["fee_per_call"], free["list_price"]["fee_per_call"]) == (
        "0",
        str(2**128 - 1),
    )


async def test_a_cursor_is_good_for_its_own_list_only(world: World) -> None:
    one, other = await publish(world, 1), await publish(world, 2)
    page = {"limit": 1}
    of_apps = (await world.http.get("/v1/apps", params=page)).json()["next_cursor"]
    of_one = (await world.http.get(f"/v1/apps/{one}/prices", params=page)).json()["next_cursor"]
    for path, cursor in (
        ("/v1/apps?retired=false", of_apps),
        ("/v1/channels", of_apps),
        (f"/v1/apps/{other}/prices", of_one),
        (f"/v1/apps/{one}/prices?version=1", of_one),
        (f"/v1/apps/{one}/versions", of_one),
    ):
        url = httpx.URL(path).copy_merge_params({"cursor": cursor})
        answer = await world.http.get(url)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), path


# --- channels ---------------------------------------------------------------------------------


async def has_channel(world: World, channel: Channel, number: int, **changes: Any) -> str:
    one = app_id(number)
    fields: dict[str, Any] = {
        "channel_id": one,
        "payer": channel.payer.lower(),
        "signer": channel.signer.lower(),
        "provider": channel.provider.lower(),
        "salt": channel.salt,
        "opened_at_s": 1000 + number,
        "deposited": 100,
        "claimed": 40,
    }
    await world.write(ChannelRow(**(fields | changes)))
    return one


MINE = Channel(CONSUMER.address, STRANGER.address, PROVIDER.address, 2**96 - 1)


async def test_a_channel_is_shown_with_the_fields_its_vouchers_need(world: World) -> None:
    await world.is_indexed(block=7)
    one = await has_channel(
        world, MINE, 1, deposited=2**128 - 1, receipt_digest="0x" + "3f" * 32, redeemed_at_s=1010
    )
    body = ChannelView.model_validate((await world.http.get(f"/v1/channels/{one}")).json())
    assert Channel.from_body(body.channel) == MINE
    assert (body.deposited, body.claimed, body.block) == (2**128 - 1, 40, 7)
    assert (body.state, body.receipt, body.redeemed_at) == ("open", "0x" + "3f" * 32, 1010)


async def test_channels_are_listed_by_payer_and_provider(world: World) -> None:
    theirs = Channel(STRANGER.address, STRANGER.address, PROVIDER.address, 0)
    await has_channel(world, MINE, 1)
    await has_channel(world, theirs, 2, close_at_s=2**64 - 1)
    await has_channel(world, MINE, 3, claimed=100)
    await has_channel(world, MINE, 4, opened_at_s=1003)

    async def found(**params: str) -> list[str]:
        return [item["id"] for item in await listed(world, "/v1/channels", **params)]

    assert await found() == [app_id(3), app_id(4), app_id(2), app_id(1)]
    assert await found(payer=CONSUMER.address) == [app_id(3), app_id(4), app_id(1)]
    assert await found(provider=PROVIDER.address, payer=STRANGER.address.lower()) == [app_id(2)]
    assert await found(provider=STRANGER.address) == []
    states = {item["id"]: item["state"] for item in await listed(world, "/v1/channels")}
    assert states == {
        app_id(1): "open",
        app_id(2): "closing",
        app_id(3): "empty",
        app_id(4): "open",
    }
