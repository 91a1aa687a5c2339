"""The search language: what it finds, and what it says of what it does not understand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_backend.offer_search import CardOffer, SearchRefused, in_order, parse

DECIMALS = 18
HOUR = 10**18
"""A token."""

SMALL = CardOffer(
    provider="0xAa" + "00" * 19,
    gpu_class="rtx3090",
    model="NVIDIA GeForce RTX 3090",
    memory_mib=24 * 1024,
    simulated=False,
    runtime="docker",
    rate_per_gpu_second=HOUR // 3600 // 5,  # 0.2 tokens an hour
    cards=4,
    free=1,
)
LARGE = replace(
    SMALL,
    gpu_class="h100",
    model="NVIDIA H100 80GB HBM3",
    memory_mib=81_559,
    rate_per_gpu_second=HOUR // 3600 * 2,
    cards=8,
    free=0,
)
PRETENDED = replace(SMALL, gpu_class="gpu1", model="simulated", simulated=True, runtime="process")
OFFERS = (SMALL, LARGE, PRETENDED)


def found(text: str) -> set[str]:
    holds = parse(text, DECIMALS)
    return {offer.gpu_class for offer in OFFERS if holds(offer)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"rtx3090", "h100", "gpu1"}),
        ("vram>=24", {"rtx3090", "h100", "gpu1"}),
        ("vram > 24", {"h100"}),
        ("vram=24 not simulated", {"rtx3090"}),
        ("gpu in (rtx3090, H100)", {"rtx3090", "h100"}),
        ("gpu in (rtx3090,h100) and price<0.5", {"rtx3090"}),
        ("gpu not in (rtx3090)", {"h100", "gpu1"}),
        ("price<=0.2 and simulated", {"gpu1"}),
        ("price=2", set()),  # a rate is whole in the smallest unit: 1.9999... an hour
        ("price>1.9 price<2", {"h100"}),
        ('model ~ "80gb"', {"h100"}),
        ("model ~ geforce free>0", {"rtx3090"}),
        ("free>=1 cards!=8", {"rtx3090", "gpu1"}),
        ("runtime=docker", {"rtx3090", "h100"}),
        ("provider=0xaa" + "00" * 19 + " runtime!=docker", {"gpu1"}),
        ("SIMULATED AND FREE > 0", {"gpu1"}),
    ],
)
def test_what_is_found(text: str, expected: set[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vrm>=24", "no field 'vrm'; fields are gpu, model"),
        ("vram", "expected one of = != < <= > >= or `in`, at character 5"),
        ("vram>=", "expected a value, at character 7"),
        ("vram>=lots", "expected a number, at character 7: 'lots'"),
        ("vram>=1e9", "expected a number"),
        ("vram>=-1", "expected a number"),
        ("gpu>=h100", "expected one of = != ~ or `in`"),
        ("gpu in h100", "expected '(', at character 8"),
        ("gpu in ()", "expected a value"),
        ("gpu in (a b)", "expected ')'"),
        ("gpu in (a", "expected ')'"),
        ("not vram>3", "`not` stands before"),
        ("gpu not h100", "expected 'in'"),
        ("and", "no field 'and'"),
        ('model = "half', "expected a value"),
        ("(vram>=24)", "expected a field"),
        ("x" * 501, "at most 500 characters"),
    ],
)
def test_what_is_refused_is_said_with_its_place(text: str, why: str) -> None:
    with pytest.raises(SearchRefused) as refused:
        parse(text, DECIMALS)
    assert why in str(refused.value)


@given(st.text(max_size=600))
def test_any_text_is_a_search_or_a_refusal(text: str) -> None:
    try:
        holds = parse(text, DECIMALS)
    except SearchRefused:
        return
    for offer in OFFERS:
        assert isinstance(holds(offer), bool)


def test_orders() -> None:
    def names(order: str) -> list[str]:
        return [offer.gpu_class for offer in in_order(OFFERS, order)]  # type: ignore[arg-type]

    assert names("price") == ["gpu1", "rtx3090", "h100"]
    assert names("-price") == ["h100", "gpu1", "rtx3090"]
    assert names("-vram") == ["h100", "gpu1", "rtx3090"]
    assert names("-free") == ["gpu1", "rtx3090", "h100"]
    assert names("cards") == ["gpu1", "rtx3090", "h100"]
