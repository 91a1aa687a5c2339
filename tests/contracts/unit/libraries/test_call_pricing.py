"""CallPricing equals `tallystick.protocol.pricing` to the unit (case 6), rounding where it says so
(case 7)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tallystick.protocol.errors import AmountError
from tallystick.protocol.messages import as_tuple
from tallystick.protocol.money import UINT128_MAX
from tallystick.protocol.pricing import Price, bond_up, charge_up, uncapped_charge_up
from tests.contracts.stage import Stage, reverts_with

ROWS = 2_000
AMOUNTS = (0, 1, 999, 1_000, 10**6, 10**18, 2**64, 2**128 - 1)
COUNTS = (0, 1, 999, 1_000, 1_001, 3_600_000, 2**63, 2**64 - 1)


def rows() -> list[list[int]]:
    """flat, feePerCall, ratePerGpuSecond, maxCharge, calls, gpuMs: edges and everything between."""
    chance = random.Random(6)

    def amount() -> int:
        return chance.choice((chance.choice(AMOUNTS), chance.getrandbits(chance.randint(1, 128))))

    def count() -> int:
        return chance.choice((chance.choice(COUNTS), chance.getrandbits(chance.randint(1, 64))))

    return [[amount(), amount(), amount(), amount(), count(), count()] for _ in range(ROWS)]


def test_charges_equal_the_kernel(harness: Any) -> None:
    cases = rows()
    for start in range(0, ROWS, 250):
        part = cases[start : start + 250]
        charged = [int(charge) for charge in harness.chargesUp(part)]
        assert charged == [expected(row) for row in part]


def expected(row: list[int]) -> int:
    flat, fee, rate, most, calls, gpu_ms = row
    return min(most, uncapped_charge_up(Price(flat, fee, rate), calls, gpu_ms))


def test_the_market_charges_what_the_kernel_says(stage: Stage) -> None:
    terms = stage.terms(max_charge=2**128 - 1)
    for calls, gpu_ms in ((0, 0), (1, 1), (3, 999), (2**64 - 1, 2**64 - 1)):
        assert stage.market.chargeOf(as_tuple(terms), calls, gpu_ms) == charge_up(
            terms, calls, gpu_ms
        )


def test_splitting_one_call_in_many_never_costs_less(harness: Any) -> None:
    """Case 7: rounding up once for each part."""
    chance = random.Random(7)
    whole, parts = [], []
    for _ in range(100):
        rate, gpu_ms = chance.getrandbits(60), chance.randint(2, 10**7)
        cut = chance.randint(1, gpu_ms - 1)
        whole.append([0, 0, rate, 2**127, 0, gpu_ms])
        parts += [[0, 0, rate, 2**127, 0, cut], [0, 0, rate, 2**127, 0, gpu_ms - cut]]
    one = [int(charge) for charge in harness.chargesUp(whole)]
    two = [int(charge) for charge in harness.chargesUp(parts)]
    for at, charge in enumerate(one):
        assert 0 <= two[2 * at] + two[2 * at + 1] - charge <= 1


def test_shares_round_down(harness: Any) -> None:
    chance = random.Random(8)
    cases = [
        [chance.getrandbits(chance.randint(1, 128)), chance.randint(0, 3_000)] for _ in range(ROWS)
    ]
    cases += [[0, 3_000], [1, 3_000], [9_999, 1], [10_000, 1], [2**128 - 1, 10_000]]
    for start in range(0, len(cases), 250):
        part = cases[start : start + 250]
        shares = [int(share) for share in harness.sharesDown(part)]
        assert shares == [amount * bps // 10_000 for amount, bps in part]


def test_bonds_equal_the_kernel(harness: Any, stage: Stage) -> None:
    """2,000 of any size; those that are no amount the kernel refuses."""
    chance = random.Random(9)
    cases = []
    while len(cases) < ROWS:
        charge = chance.choice((chance.choice(AMOUNTS), chance.getrandbits(chance.randint(1, 128))))
        floor = chance.choice((0, 1, 3 * 10**18, chance.getrandbits(100)))
        cases.append(
            [charge, chance.choice((0, 1, 9_999, 10_000, chance.randint(0, 10_000))), floor]
        )
    refused = 0
    for start in range(0, ROWS, 250):
        part = cases[start : start + 250]
        for (charge, share_bps, floor), bond in zip(part, harness.bondsUp(part), strict=True):
            terms = stage.terms(verification=1 + 256 * share_bps)
            if bond > UINT128_MAX:
                refused += 1
                with pytest.raises(AmountError):
                    bond_up(terms, charge, floor)
            else:
                assert bond_up(terms, charge, floor) == bond
    assert 0 < refused < ROWS // 10


def test_a_price_outside_its_width_is_refused(stage: Stage) -> None:
    data = bytearray(
        bytes.fromhex(stage.market.chargeOf.encode_input(as_tuple(stage.terms()), 0, 0)[2:])
    )
    data[4 + 6 * 32] = 1
    with reverts_with("FieldTooWide"):
        stage.consumer.transfer(stage.market, data="0x" + bytes(data).hex())
