"""What calls cost, by a reference that shares no code with ours: on a table of cases the kernel,
the prices that the API quotes, its receipts and its sums all say the same.

Reference: every part of the price is first reduced by the discount of the second in which the call
started, a started unit counting; then flat + fee + rate * GPU-seconds, its last part rounded up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest

from tallystick.protocol.apps import (
    AppHistory,
    DiscountWindow,
    PricePoint,
    VersionHistory,
    with_discount,
)
from tallystick.protocol.calls import call_charge_up
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, AppId, Digest
from tallystick_backend.store.tables import AppDiscountRow, AppPriceRow, AppRow, AppVersionRow
from tests.backend.api.called import PaidChannel
from tests.backend.api.world import Consumer, World
from tests.support.anvil import APP_OWNER

BORN_S = 1_699_000_000
DAY_S = 86_400
APP = "0x" + "c1" * 32


@dataclass(frozen=True)
class Case:
    flat: int = 0
    fee: int = 0
    rate: int = 0
    """A GPU-second."""
    calls: tuple[tuple[int, int], ...] = ()
    """Second in which each started, after publication, and its GPU-milliseconds."""
    discounts: tuple[tuple[int, int, int], ...] = ()
    """First and last second, and basis points."""
    charged: int = 0
    """All calls together, worked out by hand."""


CASES = [
    pytest.param(Case(fee=10, rate=366, flat=5), id="thirty days without a call cost nothing"),
    pytest.param(Case(fee=10, calls=((60, 0),), charged=10), id="one call at a fee of 10 costs 10"),
    pytest.param(
        Case(rate=366, calls=((60, 10_000),), charged=3_660),
        id="ten seconds at 366 millionths cost 3,660 millionths",
    ),
    pytest.param(
        Case(fee=10, calls=tuple((n, 5_000) for n in range(7)), charged=70),
        id="a fee per call does not ask how long it took",
    ),
    pytest.param(
        Case(rate=7, calls=((0, 1), (1, 142), (2, 143), (3, 1_000), (4, 0)), charged=1 + 1 + 2 + 7),
        id="a started unit of GPU time counts, of none nothing",
    ),
    pytest.param(
        Case(fee=10, rate=366, calls=((0, 10_000), (1, 500)), charged=10 + 3_660 + 10 + 183),
        id="hybrid adds both",
    ),
    pytest.param(
        Case(flat=1_000, calls=((0, 9_999), (1, 0)), charged=2_000), id="flat is owed each time"
    ),
    pytest.param(
        Case(flat=3, fee=10, rate=366, calls=((0, 1_500),), charged=3 + 10 + 549),
        id="all three together",
    ),
    pytest.param(
        Case(
            flat=100,
            fee=10,
            rate=7,
            discounts=((100, 199, 2_000),),
            calls=((99, 1_000), (100, 1_000), (199, 1_000), (200, 1_000)),
            # 7 less a fifth is 5.6: a started unit counts, 6.
            charged=117 + (80 + 8 + 6) + (80 + 8 + 6) + 117,
        ),
        id="a discount holds from its first second to its last",
    ),
    pytest.param(
        Case(fee=3, discounts=((0, 10, 9_999),), calls=((5, 0),), charged=1),
        id="what is left of an amount is never nothing",
    ),
    pytest.param(
        Case(fee=3, rate=9, discounts=((0, 10, 10_000),), calls=((5, 60_000),), charged=0),
        id="all of it off",
    ),
    pytest.param(
        Case(
            fee=1_000,
            discounts=((100, 300, 1_000), (200, 250, 5_000)),
            calls=((150, 0), (200, 0), (250, 0), (280, 0)),
            # The later one takes the place of the earlier from its start on, for good.
            charged=900 + 500 + 500 + 1_000,
        ),
        id="a later discount takes the place of an earlier one",
    ),
    pytest.param(
        Case(rate=2**64, calls=((0, 3_599_999),), charged=-(-(2**64) * 3_599_999 // 1000)),
        id="beyond what a float holds",
    ),
]


def reference(case: Case) -> list[int]:
    """Each call's charge."""
    charges = []
    for at_s, gpu_ms in case.calls:
        bps, until = 0, -1
        for start, end, off in case.discounts:
            if start <= at_s:
                bps, until = off, end
        kept = Fraction(10_000 - (bps if at_s <= until else 0), 10_000)
        flat, fee, rate = (math.ceil(part * kept) for part in (case.flat, case.fee, case.rate))
        charges.append(flat + fee + math.ceil(Fraction(rate * gpu_ms, 1000)))
    return charges


def history(case: Case) -> AppHistory:
    list_price = Price(case.flat, case.fee, case.rate)
    windows: tuple[DiscountWindow, ...] = ()

    for start, end, bps in case.discounts:
        windows = with_discount(windows, DiscountWindow(BORN_S + start, BORN_S + end, bps))
    point = (PricePoint(BORN_S, list_price),)
    version = VersionHistory(ZERO_DIGEST, ZERO_DIGEST, "", point)
    return AppHistory(AppId(Digest(APP)), APP_OWNER.address, ZERO_ADDRESS, 0, (version,), windows)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_charges_what_the_reference_says(case: Case) -> None:
    app = history(case)
    charges = [
        call_charge_up(app.price_for((BORN_S + at_s) * 1000, version=1), 1, gpu_ms)
        for at_s, gpu_ms in case.calls
    ]
    assert charges == reference(case)
    assert sum(charges) == case.charged


@pytest.mark.parametrize("case", CASES)
async def test_quotes_receipts_and_sums_of_the_api_say_the_same(
    world: World, consumer: Consumer, case: Case
) -> None:
    await publish(world, case)
    app, paid = history(case), PaidChannel(consumer.address)
    for number, (at_s, gpu_ms) in enumerate(case.calls):
        at_ms = (BORN_S + at_s) * 1000 + 999
        quoted = await world.http.get(
            f"/v1/apps/{APP}/price", params={"version": 1, "at": at_ms // 1000}
        )
        price = Price(**{part: int(units) for part, units in quoted.json()["price"].items()})
        assert price == app.price_for(at_ms, version=1)
        row = paid.call(f"call-{number:04}", at_ms=at_ms, price=price, gpu_ms=gpu_ms, app_id=APP)
        await world.write(row)
    charges = [
        int((await consumer.get(f"/v1/calls/call-{number:04}/receipt")).json()["charge"])
        for number in range(len(case.calls))
    ]
    assert charges == reference(case)
    query = f"/v1/summaries?from_ms={BORN_S * 1000}&until_ms={(BORN_S + 30 * DAY_S) * 1000}"
    sums = (await consumer.get(query)).json()["sums"]
    assert (int(sums["charge"]), sums["calls"]) == (case.charged, len(case.calls))
    assert paid.link.total == case.charged


async def publish(world: World, case: Case) -> None:
    await world.write(
        AppRow(
            app_id=APP,
            publisher=APP_OWNER.address.lower(),
            salt="0x" + "5a" * 32,
            royalty_to=APP_OWNER.address.lower(),
            royalty_bps=0,
            published_at_s=BORN_S,
            versions=1,
            manifest_uri="",
        ),
        AppVersionRow(
            place=f"{APP}/{1:010d}",
            app_id=APP,
            version=1,
            image_digest="0x" + "1a" * 32,
            manifest_digest="0x" + "2b" * 32,
            manifest_uri="",
            published_at_s=BORN_S,
        ),
        AppPriceRow(
            place=f"{APP}/{1:010d}/{BORN_S:020d}",
            app_id=APP,
            version=1,
            from_s=BORN_S,
            flat=case.flat,
            fee_per_call=case.fee,
            rate_per_gpu_second=case.rate,
        ),
        *(
            AppDiscountRow(
                place=f"{APP}/{block:020d}/{0:010d}",
                app_id=APP,
                bps=bps,
                start_s=BORN_S + start,
                end_s=BORN_S + end,
                announced_at_s=BORN_S,
            )
            for block, (start, end, bps) in enumerate(case.discounts, 1)
        ),
    )
