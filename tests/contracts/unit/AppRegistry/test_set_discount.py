"""setDiscount

├── takes its basis points off every version from start to end, both included (case 30)
├── 1 and 10,000 basis points; 0 and 10,001 revert (case 32)
├── begins in the next second at the earliest, ends within 366 days, not before it begins
├── while announced: more, sooner and longer; never less, later or shorter (case 24)
├── while running: what is new holds from the next second on, what was stays
└── once over: a new one
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.pricing import Price, discounted_price_up
from tests.contracts.apps import DEARER, PRICE, Apps
from tests.contracts.stage import DAY_S, reverts_with

YEAR_S = 366 * DAY_S


def test_holds_from_start_to_end(apps: Apps, app_id: str) -> None:
    apps.add_version(app_id)
    start, end = apps.now() + 100, apps.now() + 200
    event = apps.set_discount(app_id, 2_500, start, end).events["DiscountAnnounced"]
    assert [event[name] for name in ("bps", "start", "end")] == [2_500, start, end]
    off = {time: int(apps.registry.discountAt(app_id, time)) for time in edges(start, end)}
    assert off == {start - 1: 0, start: 2_500, end: 2_500, end + 1: 0}
    for version, price in ((1, PRICE), (2, DEARER)):
        reduced = discounted_price_up(price, 2_500)
        assert apps.price_at(app_id, start - 1, version) == price
        assert apps.price_at(app_id, start, version) == reduced
        assert apps.price_at(app_id, end, version) == reduced
        assert apps.price_at(app_id, end + 1, version) == price
    assert apps.discount(app_id) == (2_500, start, end)


def edges(start: int, end: int) -> tuple[int, ...]:
    return start - 1, start, end, end + 1


@pytest.mark.parametrize("bps", [0, 10_001, 2**16 - 1])
def test_reverts_outside_1_to_10000(apps: Apps, app_id: str, bps: int) -> None:
    """Case 32."""
    with reverts_with("DiscountOutOfRange", 10_000, bps):
        apps.set_discount(app_id, bps, apps.now() + 10, apps.now() + 20)


@pytest.mark.parametrize(("bps", "left"), [(1, Price(10, 7, 1)), (10_000, Price(0, 0, 0))])
def test_a_started_unit_stays(apps: Apps, bps: int, left: Price) -> None:
    """Rounding favours who is paid: one basis point off 10 takes nothing."""
    app_id = apps.publish("cheap", price=Price(10, 7, 1))
    start = apps.now() + 10
    apps.set_discount(app_id, bps, start, start)
    assert apps.price_at(app_id, start) == left
    assert apps.price_at(app_id, start + 1) == Price(10, 7, 1)


def test_begins_in_the_next_second_at_the_earliest(apps: Apps, app_id: str) -> None:
    """No quote up to now changes."""
    present = apps.now() + 1_000
    for start in (0, present - 1, present):
        with apps.at(present), reverts_with("DiscountTooSoon", present + 1, start):
            apps.set_discount(app_id, 100, start, present + 50)
        present += 10
    with apps.at(present):
        apps.set_discount(app_id, 100, present + 1, present + 50)
    assert apps.price_at(app_id, present) == PRICE
    assert apps.price_at(app_id, present + 1) != PRICE


def test_ends_within_a_year_and_not_before_it_begins(apps: Apps, app_id: str) -> None:
    present = apps.now() + 1_000
    with apps.at(present), reverts_with("DiscountTooLate", present + YEAR_S, present + YEAR_S + 1):
        apps.set_discount(app_id, 100, present + 1, present + YEAR_S + 1)
    present += 10
    with apps.at(present), reverts_with("DiscountTooLate"):
        apps.set_discount(app_id, 100, present + 1, present * 1_000)  # milliseconds by mistake
    present += 10
    with (
        apps.at(present),
        reverts_with("DiscountEndsBeforeStart", present + 20, present + 19),
    ):
        apps.set_discount(app_id, 100, present + 20, present + 19)
    present += 10
    with apps.at(present):
        apps.set_discount(app_id, 100, present + 1, present + YEAR_S)


@pytest.mark.parametrize(
    ("bps", "start", "end"),
    [(1_999, 0, 0), (2_000, 1, 0), (2_000, 0, -1), (10_000, 1, 1), (1_999, -1, 1)],
)
def test_once_announced_it_is_never_reduced(
    apps: Apps, app_id: str, bps: int, start: int, end: int
) -> None:
    """Case 24: not in its basis points, not at its start, not at its end, nor by more elsewhere."""
    first, last = apps.now() + DAY_S, apps.now() + 2 * DAY_S
    apps.set_discount(app_id, 2_000, first, last)
    with reverts_with("DiscountReduced", 2_000, first, last):
        apps.set_discount(app_id, bps, first + start, last + end)
    assert apps.discount(app_id) == (2_000, first, last)


def test_before_it_begins_it_can_be_bettered(apps: Apps, app_id: str) -> None:
    first, last = apps.now() + DAY_S, apps.now() + 2 * DAY_S
    apps.set_discount(app_id, 2_000, first, last)
    apps.set_discount(app_id, 3_000, first - 100, last + 100)
    assert apps.discount(app_id) == (3_000, first - 100, last + 100)
    off = [int(apps.registry.discountAt(app_id, t)) for t in edges(first - 100, last + 100)]
    assert off == [0, 3_000, 3_000, 0]
    present = apps.now() + 10
    with apps.at(present), reverts_with("DiscountTooSoon", present + 1, present):
        apps.set_discount(app_id, 3_000, present, last + 100)


def test_while_it_runs_more_holds_from_the_next_second_on(apps: Apps, app_id: str) -> None:
    first, last = apps.now() + 100, apps.now() + 1_000
    apps.set_discount(app_id, 2_000, first, last)
    present = first + 50
    with apps.at(present):
        event = apps.set_discount(app_id, 3_000, first, last).events["DiscountAnnounced"]
    assert (event["start"], event["end"]) == (present + 1, last)
    off = [
        int(apps.registry.discountAt(app_id, time))
        for time in (first - 1, first, present, present + 1, last, last + 1)
    ]
    assert off == [0, 2_000, 2_000, 3_000, 3_000, 0]
    with reverts_with("DiscountReduced", 3_000, present + 1, last):
        apps.set_discount(app_id, 2_999, first, last)


@pytest.mark.parametrize("start", [-50, 0])
def test_while_it_runs_it_can_last_longer(apps: Apps, app_id: str, start: int) -> None:
    first, last = apps.now() + 100, apps.now() + 1_000
    apps.set_discount(app_id, 2_000, first, last)
    with apps.at(last):  # the last second that it holds
        apps.set_discount(app_id, 2_000, first + start, last + 500)
    off = [int(apps.registry.discountAt(app_id, t)) for t in (first, last, last + 1, last + 500)]
    assert off == [2_000] * 4
    assert int(apps.registry.discountAt(app_id, last + 501)) == 0
    with reverts_with("DiscountReduced"):
        apps.set_discount(app_id, 2_000, last + 2, last + 600)  # later than it runs


def test_in_its_last_second_there_is_nothing_left_to_raise(apps: Apps, app_id: str) -> None:
    first, last = apps.now() + 100, apps.now() + 1_000
    apps.set_discount(app_id, 2_000, first, last)
    with apps.at(last), reverts_with("DiscountEndsBeforeStart", last + 1, last):
        apps.set_discount(app_id, 3_000, first, last)


def test_once_over_there_can_be_another(apps: Apps, app_id: str) -> None:
    first, last = apps.now() + 100, apps.now() + 1_000
    apps.set_discount(app_id, 2_000, first, last)
    with apps.at(last + 1):
        apps.set_discount(app_id, 100, last + 50, last + 60)
    off = [
        int(apps.registry.discountAt(app_id, time))
        for time in (first, last, last + 1, last + 49, last + 50, last + 60, last + 61)
    ]
    assert off == [2_000, 2_000, 0, 0, 100, 100, 0]


def test_comes_off_the_price_of_the_day(apps: Apps, app_id: str) -> None:
    changed = apps.set_price(app_id, DEARER).return_value
    apps.set_discount(app_id, 1_000, changed - 10, changed + 10)
    assert apps.price_at(app_id, changed - 1) == discounted_price_up(PRICE, 1_000)
    assert apps.price_at(app_id, changed) == discounted_price_up(DEARER, 1_000)


def test_one_apps_discount_is_no_others(apps: Apps, app_id: str, stranger: Any) -> None:
    other = apps.publish("other")
    theirs = apps.publish(by=stranger)
    start = apps.now() + 10
    apps.set_discount(app_id, 5_000, start, start + 10)
    assert apps.price_at(other, start) == apps.price_at(theirs, start) == PRICE
