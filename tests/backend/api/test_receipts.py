"""Calls afterwards: the list, and receipts that verify without the backend's word."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.app_manifest import read_app_manifest
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory
from tallystick.protocol.call_views import CallReceiptView
from tallystick.protocol.calls import CallAnswer, CallLimits, CallRequest
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId, Digest
from tallystick.protocol.verifying import ShownCall, verify_call
from tallystick_backend.store.tables import AppPriceRow, AppRow, AppVersionRow, OperatorKeyRow
from tests.backend.api.called import (
    APP,
    DOMAIN,
    PRICE,
    PaidChannel,
    manifest_kept,
    pages,
    unpaid_call,
)
from tests.backend.api.world import Consumer, World
from tests.support.anvil import APP_OWNER, OPERATOR, PROVIDER, STRANGER


async def published(world: World, app_id: str = APP) -> None:
    """At the price of `called`, with the manifest handed in."""
    digest = await manifest_kept(world)
    born_s = world.backend.now_s() - 1000
    await world.write(
        AppRow(
            app_id=app_id,
            publisher=APP_OWNER.address.lower(),
            salt="0x" + "5a" * 32,
            royalty_to=APP_OWNER.address.lower(),
            royalty_bps=0,
            published_at_s=born_s,
            versions=1,
            manifest_uri="ipfs://m",
        ),
        AppVersionRow(
            place=f"{app_id}/{1:010d}",
            app_id=app_id,
            version=1,
            image_digest="0x" + "1a" * 32,
            manifest_digest=digest,
            manifest_uri="ipfs://m",
            published_at_s=born_s,
        ),
        AppPriceRow(
            place=f"{app_id}/{1:010d}/{born_s:020d}",
            app_id=app_id,
            version=1,
            from_s=born_s,
            flat=PRICE.flat,
            fee_per_call=PRICE.fee_per_call,
            rate_per_gpu_second=PRICE.rate_per_gpu_second,
        ),
        OperatorKeyRow(key=OPERATOR.address.lower(), provider=PROVIDER.address.lower()),
    )


def shown(body: dict[str, Any], result: bytes | None = None) -> ShownCall:
    """As the SDK reads it; here the chain's part comes from the index, too."""
    view = CallReceiptView.model_validate(body)
    assert view.app is not None
    assert view.manifest is not None
    assert view.on_chain is not None
    manifest = read_app_manifest(
        view.manifest.encode(), expected=Digest(view.app.version.manifest_digest)
    )
    points = tuple(
        PricePoint(
            point.takes_effect_at,
            Price(point.price.flat, point.price.fee_per_call, point.price.rate_per_gpu_second),
        )
        for point in view.app.prices
    )
    version = VersionHistory(
        Digest(view.app.version.image_digest),
        Digest(view.app.version.manifest_digest),
        view.app.version.manifest_uri,
        points,
    )
    return ShownCall(
        domain=DOMAIN,
        channel=Channel.from_body(view.channel),
        request=CallRequest.from_body(view.request),
        answer=CallAnswer(SignedReceipt.from_body(view.signed), view.gpu_ids),
        limits=CallLimits.of(manifest),
        app=AppHistory(AppId(Digest(APP)), APP_OWNER.address, ZERO_ADDRESS, 0, (version,)),
        operator_keys=frozenset({OPERATOR.address}),
        result=None if result is None else digest_of(result),
        before=None if view.before is None else SignedReceipt.from_body(view.before),
        later=tuple(map(SignedReceipt.from_body, view.later)),
        voucher=None if view.voucher is None else SignedVoucher.from_body(view.voucher),
        chain=ChannelState(view.on_chain.deposited, view.on_chain.claimed, 0),
    )


async def receipt(consumer: Consumer, call_id: str) -> dict[str, Any]:
    answer = await consumer.get(f"/v1/calls/{call_id}/receipt")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_receipt_shows_all_that_a_check_needs(world: World, consumer: Consumer) -> None:
    await published(world)
    paid, now_ms = PaidChannel(consumer.address), world.clock.now_ms()
    rows = [paid.call(f"call-000{n}", at_ms=now_ms + n * 20_000) for n in (1, 2, 3)]
    await world.write(*rows, paid.row(deposited=10**9, claimed=paid.link.total))
    for n in (1, 2, 3):
        body = await receipt(consumer, f"call-000{n}")
        checks = verify_call(shown(body, b'"hello"'))
        assert {check.name: check for check in checks if check.ok is not True} == {}
        assert body["charge"] == "3675"
        assert (body["before"] is None) == (n == 1)


async def test_a_voucher_that_pays_for_several_comes_with_those_between(
    world: World, consumer: Consumer
) -> None:
    await published(world)
    paid, now_ms = PaidChannel(consumer.address), world.clock.now_ms()
    rows = [paid.call(f"call-000{n}", at_ms=now_ms + n * 20_000) for n in (1, 2, 3)]
    assert paid.voucher is not None
    for row in rows:
        row.voucher = paid.voucher.to_body().model_dump(mode="json")
    await world.write(*rows, paid.row(deposited=10**9))
    body = await receipt(consumer, "call-0001")
    assert len(body["later"]) == 2
    assert [c.name for c in verify_call(shown(body)) if c.ok is False] == []
    open_checks = {c.name for c in verify_call(shown(body)) if c.ok is None}
    assert open_checks == {"result", "redeemed"}


async def test_before_the_index_saw_the_channel_its_signer_stands_in_the_voucher(
    world: World, consumer: Consumer
) -> None:
    paid = PaidChannel(consumer.address)
    await world.write(paid.call("call-0001", at_ms=world.clock.now_ms()))
    body = await receipt(consumer, "call-0001")
    assert body["channel"] == paid.channel.to_body().model_dump(mode="json")
    assert (body["on_chain"], body["app"], body["manifest"]) == (None, None, None)


async def test_a_call_that_failed_has_no_receipt(world: World, consumer: Consumer) -> None:
    await world.write(unpaid_call(consumer.address, "call-0001", at_ms=1))
    answer = await consumer.get("/v1/calls/call-0001/receipt")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_receipt")


async def test_somebody_elses_call_does_not_exist(
    world: World, consumer: Consumer, stranger: Consumer
) -> None:
    paid = PaidChannel(consumer.address)
    await world.write(paid.call("call-0001", at_ms=1), paid.row(deposited=10**9))
    answer = await stranger.get("/v1/calls/call-0001/receipt")
    unknown = await stranger.get("/v1/calls/call-0002/receipt")
    assert answer.status_code == unknown.status_code == 404
    assert answer.json()["code"] == unknown.json()["code"] == "unknown_call"
    assert await pages(stranger, "/v1/calls") == []
    assert (await world.nobody().get("/v1/calls")).status_code == 401


async def test_calls_that_kept_an_app_warm_say_so(world: World, consumer: Consumer) -> None:
    paid = PaidChannel(consumer.address)
    await world.write(
        paid.call("call-0001", at_ms=10_000, warm_id="ab" * 8), paid.call("call-0002", at_ms=90_000)
    )
    listed = (await consumer.get("/v1/calls")).json()["items"]
    assert [(one["call_id"], one["warm"]) for one in listed] == [
        ("call-0002", False),
        ("call-0001", True),
    ]


async def test_calls_are_listed_newest_first_and_filtered(world: World, consumer: Consumer) -> None:
    paid = PaidChannel(consumer.address)
    other = PaidChannel(consumer.address, provider=STRANGER)
    await world.write(
        paid.call("call-0001", at_ms=1_000),
        paid.call("call-0002", at_ms=2_000, key_id="ab" * 8),
        other.call("call-0003", at_ms=2_000, app_id="0x" + "b0" * 32),
        unpaid_call(consumer.address, "call-0004", at_ms=3_000),
        unpaid_call(consumer.address, "call-0005", at_ms=4_000, state="running"),
    )

    async def found(**params: str | int) -> list[str]:
        return [item["call_id"][-1] for item in await pages(consumer, "/v1/calls", **params)]

    assert await found() == ["5", "4", "2", "3", "1"]
    assert await found(state="completed") == ["2", "3", "1"]
    assert await found(state="failed") == ["4"]
    assert await found(app=APP, state="completed") == ["2", "1"]
    assert await found(provider=STRANGER.address) == ["3"]
    assert await found(key="ab" * 8) == ["2"]
    assert await found(key="", provider=PROVIDER.address) == ["1"]
    assert await found(from_ms=2_000, until_ms=3_000) == ["2", "3"]
    [failed] = [i for i in await pages(consumer, "/v1/calls") if i["call_id"] == "call-0004"]
    assert (failed["charge"], failed["provider"], failed["problem"]["code"]) == (
        "0",
        "",
        "no_worker",
    )


@pytest.mark.parametrize(
    "query", ["state=paid", "app=0x1", "key=XYZ", "from_ms=-1", "colour=red", "cursor=abc"]
)
async def test_filters_that_mean_nothing_are_refused(
    world: World, consumer: Consumer, query: str
) -> None:
    answer = await consumer.get(f"/v1/calls?{query}")
    assert answer.status_code in (400, 422)
