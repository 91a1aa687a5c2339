"""The price, to the unit what the compiled contract computes."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import pricing
from tallystick.protocol.contracts import Market
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import AmountError
from tallystick.protocol.money import UINT128_MAX
from tallystick.protocol.pricing import Price, Shares
from tests.protocol.examples import terms_at
from tests.support.anvil import LocalChain

BASE = terms_at(1_800_000_000)


def spread(chance: random.Random, bits: int) -> int:
    """Small, large and edge values alike."""
    largest: int = 2**bits - 1
    values = [0, 1, 999, 1000, 1001, largest, chance.getrandbits(chance.randint(1, bits))]
    return min(chance.choice(values), largest)


class TestCharge:
    async def test_equals_the_contract_on_random_cases(
        self, chain: LocalChain, deployment: Deployment, web3: Any
    ) -> None:
        market = Market(web3, deployment.market)
        chance = random.Random(6)
        for _ in range(400):
            terms = replace(
                BASE,
                flat=spread(chance, 128),
                fee_per_call=spread(chance, 128),
                rate_per_gpu_second=spread(chance, 128),
                max_charge=spread(chance, 128),
            )
            calls, gpu_ms = spread(chance, 64), spread(chance, 64)
            expected = await market.charge(terms, calls, gpu_ms)
            assert pricing.charge_up(terms, calls, gpu_ms) == expected, (terms, calls, gpu_ms)

    @pytest.mark.parametrize(
        ("rate", "gpu_ms", "charge"),
        [(1000, 0, 0), (1000, 1, 1), (1, 1, 1), (1, 1000, 1), (1, 1001, 2), (999, 1, 1)],
    )
    def test_a_started_unit_of_gpu_time_counts(self, rate: int, gpu_ms: int, charge: int) -> None:
        assert pricing.uncapped_charge_up(Price(rate_per_gpu_second=rate), 0, gpu_ms) == charge

    @pytest.mark.parametrize(("calls", "gpu_ms"), [(-1, 0), (0, -1), (1.0, 0), (True, 0)])
    def test_refuses_what_is_no_count(self, calls: Any, gpu_ms: Any) -> None:
        with pytest.raises(AmountError):
            pricing.uncapped_charge_up(Price(), calls, gpu_ms)


class TestSplit:
    @settings(max_examples=300, deadline=None)
    @given(
        charge=st.integers(0, UINT128_MAX), dispatcher=st.integers(0, 3000), royalty=st.integers(0)
    )
    def test_adds_up_and_rounds_for_the_provider(
        self, charge: int, dispatcher: int, royalty: int
    ) -> None:
        terms = replace(BASE, dispatcher_bps=dispatcher, royalty_bps=royalty % (3001 - dispatcher))
        shares = pricing.split_charge_down(terms, charge)
        assert shares.provider + shares.dispatcher + shares.royalty == charge
        assert shares.dispatcher * 10_000 <= charge * terms.dispatcher_bps
        assert (shares.dispatcher + 1) * 10_000 > charge * terms.dispatcher_bps
        assert shares.royalty * 10_000 <= charge * terms.royalty_bps

    def test_one_unit_stays_whole(self) -> None:
        terms = replace(BASE, dispatcher_bps=500, royalty_bps=500)
        assert pricing.split_charge_down(terms, 1) == Shares(1, 0, 0)


class TestDiscount:
    @settings(max_examples=300, deadline=None)
    @given(amount=st.integers(0, UINT128_MAX), bps=st.integers(0, 10_000))
    def test_leaves_a_started_unit(self, amount: int, bps: int) -> None:
        left = pricing.discounted_up(amount, bps)
        assert 0 <= left <= amount
        assert left * 10_000 >= amount * (10_000 - bps) > (left - 1) * 10_000

    def test_is_taken_off_each_part(self) -> None:
        assert pricing.discounted_price_up(Price(10, 11, 0), 5_000) == Price(5, 6, 0)
        assert pricing.discounted_price_up(Price(1, 2, 3), 10_000) == Price()

    @pytest.mark.parametrize(("amount", "bps"), [(-1, 0), (1, -1), (1, 10_001), (1.0, 1)])
    def test_refuses_what_is_no_discount(self, amount: Any, bps: Any) -> None:
        with pytest.raises(AmountError):
            pricing.discounted_up(amount, bps)


class TestEstimate:
    def test_the_example_of_the_readme(self) -> None:
        assert pricing.estimate(8, Decimal("0.5"), 4 * 3600) == 16

    def test_is_exact_for_text_and_whole_numbers(self) -> None:
        assert pricing.estimate(3, "0.1", 3600) == Decimal("0.3")
        assert pricing.estimate(1, 2, 1800) == 1

    @pytest.mark.parametrize("price", [0.5, "-1", "NaN", "Infinity", "half", True, ""])
    def test_refuses_floats_and_what_is_no_price(self, price: Any) -> None:
        with pytest.raises(AmountError):
            pricing.estimate(1, price, 1)


class TestRates:
    def test_half_a_token_an_hour(self) -> None:
        assert pricing.rate_per_gpu_second_down("0.5", 18) == 138_888_888_888_888
        assert pricing.rate_per_gpu_second_down("0.5", 6) == 138

    @settings(max_examples=200, deadline=None)
    @given(rate=st.integers(0, 2**100), decimals=st.sampled_from([0, 6, 18, 27]))
    def test_a_rate_comes_back_from_its_price(self, rate: int, decimals: int) -> None:
        price = pricing.price_per_gpu_hour(rate, decimals)
        assert pricing.rate_per_gpu_second_down(price, decimals) == rate

    def test_the_ceiling_covers_every_gpu_for_the_whole_time(self) -> None:
        price = Price(flat=7, fee_per_call=3, rate_per_gpu_second=10)
        assert pricing.max_charge_up(price, gpus=8, seconds=60) == 7 + 3 + 8 * 60 * 10

    def test_a_price_sheet_is_empty_until_something_is_asked(self) -> None:
        assert pricing.uncapped_charge_up(Price(), 10**6, 10**9) == 0

    def test_rates_and_ceilings_go_up_to_uint128(self) -> None:
        price = Price(rate_per_gpu_second=UINT128_MAX)
        assert pricing.max_charge_up(price, 1, 1) == UINT128_MAX
        largest = pricing.price_per_gpu_hour(UINT128_MAX, 0)
        assert pricing.rate_per_gpu_second_down(largest, 0) == UINT128_MAX
        with pytest.raises(AmountError, match="out of range"):
            pricing.rate_per_gpu_second_down(largest + 3600, 0)

    def test_prices_are_written_without_exponent(self) -> None:
        assert str(pricing.price_per_gpu_hour(10**18, 18)) == "3600"
        assert str(pricing.price_per_gpu_hour(0, 18)) == "0"

    def test_a_ceiling_beyond_uint128_is_refused(self) -> None:
        with pytest.raises(AmountError, match="ceiling"):
            pricing.max_charge_up(Price(rate_per_gpu_second=UINT128_MAX), 2, 1)
