"""The price of usage, to the wei what the contracts compute. Roundings are in the names.

charge = min(max_charge, flat + fee_per_call * calls + roundUp(rate_per_gpu_second * gpu_ms / 1000))
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

from tallystick.protocol.errors import AmountError
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.money import UINT128_MAX

__all__ = [
    "BPS",
    "Price",
    "Shares",
    "bond_up",
    "charge_up",
    "discounted_price_up",
    "discounted_up",
    "estimate",
    "max_charge_up",
    "price_per_gpu_hour",
    "rate_per_gpu_second_down",
    "split_charge_down",
    "uncapped_charge_up",
]

BPS: Final = 10_000
"""Basis points in the whole."""

CHECKERS: Final = 3
"""How many repeat their share of a disputed task."""

SECONDS_PER_HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Price:
    """A price sheet in the token's smallest unit."""

    flat: int = 0
    fee_per_call: int = 0
    rate_per_gpu_second: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """Who gets what of one charge; the three add up to it."""

    provider: int
    dispatcher: int
    royalty: int


def charge_up(terms: TaskTerms, calls: int, gpu_ms: int) -> int:
    price = Price(terms.flat, terms.fee_per_call, terms.rate_per_gpu_second)
    return min(terms.max_charge, uncapped_charge_up(price, calls, gpu_ms))


def uncapped_charge_up(price: Price, calls: int, gpu_ms: int) -> int:
    _require_count("calls", calls)
    _require_count("gpu_ms", gpu_ms)
    return (
        price.flat
        + price.fee_per_call * calls
        + _divide_up(price.rate_per_gpu_second * gpu_ms, 1000)
    )


def discounted_price_up(price: Price, bps: int) -> Price:
    """Each part of a price after a discount, before the charge is computed."""
    return Price(
        discounted_up(price.flat, bps),
        discounted_up(price.fee_per_call, bps),
        discounted_up(price.rate_per_gpu_second, bps),
    )


def discounted_up(amount: int, bps: int) -> int:
    """What is left of an amount: a started unit counts, as in the charge."""
    _require_count("amount", amount)
    _require_count("bps", bps)
    if bps > BPS:
        raise AmountError(f"a discount of {bps} basis points is more than the whole, {BPS}")
    return _divide_up(amount * (BPS - bps), BPS)


def split_charge_down(terms: TaskTerms, charge: int) -> Shares:
    """Dispatcher's and app owner's shares, each rounded down; the provider has the rest."""
    _require_count("charge", charge)
    dispatcher = charge * terms.dispatcher_bps // BPS
    royalty = charge * terms.royalty_bps // BPS
    return Shares(charge - dispatcher - royalty, dispatcher, royalty)


def bond_up(terms: TaskTerms, charge: int, floor: int) -> int:
    """What the consumer locks to dispute this charge: the share of it that each of three checkers
    repeats, rounded up once, and the deployment's floor."""
    _require_count("charge", charge)
    _require_count("floor", floor)
    bond = _divide_up(CHECKERS * (terms.verification >> 8) * charge, BPS) + floor
    if bond > UINT128_MAX:
        raise AmountError(f"the bond {bond} does not fit an amount: the charge cannot be disputed")
    return bond


def max_charge_up(price: Price, gpus: int, seconds: int, calls: int = 1) -> int:
    """The ceiling that covers `gpus` for `seconds`: what the terms lock."""
    _require_count("gpus", gpus)
    _require_count("seconds", seconds)
    ceiling = uncapped_charge_up(price, calls, gpus * seconds * 1000)
    if ceiling > UINT128_MAX:
        raise AmountError(
            f"the ceiling {ceiling} does not fit an amount: ask for less, or at a lower price"
        )
    return ceiling


def rate_per_gpu_second_down(price_per_gpu_hour: Decimal | int | str, decimals: int) -> int:
    """Smallest units per GPU-second of a price in tokens per GPU-hour; the consumer keeps the
    rest."""
    numerator, denominator = _decimal(price_per_gpu_hour).as_integer_ratio()
    rate: int = numerator * 10**decimals // (denominator * SECONDS_PER_HOUR)
    if not 0 <= rate <= UINT128_MAX:
        raise AmountError(
            f"{price_per_gpu_hour} per GPU-hour is out of range for {decimals} decimals"
        )
    return rate


def price_per_gpu_hour(rate_per_gpu_second: int, decimals: int) -> Decimal:
    """Exact tokens per GPU-hour of a rate, for people."""
    _require_count("rate_per_gpu_second", rate_per_gpu_second)
    with localcontext() as context:
        context.prec = 100
        return (Decimal(rate_per_gpu_second * SECONDS_PER_HOUR).scaleb(-decimals)).normalize() + 0


def estimate(gpus: int, price_per_gpu_hour: Decimal | int | str, seconds: int) -> Decimal:
    """Tokens for `gpus` over `seconds`: 8 GPUs at 0.5 for 4 hours are 16. Exact where a finite
    decimal exists, else to 50 digits."""
    _require_count("gpus", gpus)
    _require_count("seconds", seconds)
    with localcontext() as context:
        context.prec = 50
        return _decimal(price_per_gpu_hour) * (gpus * seconds) / SECONDS_PER_HOUR


def _divide_up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _require_count(name: str, value: int) -> None:
    if type(value) is not int or value < 0:
        raise AmountError(f"{name} is {value!r}: expected a whole number, not negative")


def _decimal(value: object) -> Decimal:
    """A float is refused: 0.1 is not one tenth."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise AmountError(
            f"{value!r} is not exact: write the price as Decimal or text, such as '0.5'"
        )
    try:
        exact = Decimal(value)
    except ArithmeticError:
        raise AmountError(f"{value!r} is not a price: write digits, such as '0.5'") from None
    if not exact.is_finite() or exact < 0:
        raise AmountError(f"{value} is not a price: expected a number, not negative")
    return exact
