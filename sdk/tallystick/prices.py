"""Prices as people give them, and the one rate that goes into the order.

Amounts are text, int or Decimal in whole tokens; a float is refused, because 0.1 + 0.2 is not 0.3
and a bill has to be.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from decimal import Decimal

from tallystick.errors import InvalidRequest, NoProvider, PriceAboveCeiling
from tallystick.jobs import MarketOffer
from tallystick.protocol import money, pricing

Price = str | int | Decimal
Duration = str | int | datetime.timedelta
LONGEST_TASK_SECONDS = 30 * 24 * 3600
LONGEST_ESTIMATE_SECONDS = 100 * 366 * 24 * 3600


def estimate(gpus: int, price_per_gpu_hour: Price, time: Duration) -> Decimal:
    """C = n x p x t, exact: `estimate(8, "0.5", "4h") == Decimal(16)`. In tokens."""
    price = checked_price(price_per_gpu_hour, "price_per_gpu_hour")
    return pricing.estimate(
        checked_count(gpus), price, duration_seconds(time, LONGEST_ESTIMATE_SECONDS)
    )


def checked_price(price: Price, name: str) -> Decimal:
    """A finite amount that is not negative, as an exact Decimal."""
    if not _is_exact(price):
        raise InvalidRequest(
            f"{name} is {price!r} ({type(price).__name__}); money is never a float.",
            next_step=f"Write it as text or Decimal: {name}='{price}'.",
        )
    text = format(price, "f") if isinstance(price, Decimal) else str(price)
    if not _PLAIN_NUMBER.fullmatch(text):
        raise InvalidRequest(
            f"{name} is {price!r}, which is no amount of tokens.",
            next_step="Write a plain number such as '0.5': no exponent, no sign, no NaN.",
        )
    return Decimal(text)


def _is_exact(price: object) -> bool:
    return isinstance(price, str | int | Decimal) and not isinstance(price, bool)


_PLAIN_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?", re.ASCII)


def checked_count(gpus: int) -> int:
    if not is_whole_number(gpus, 1, 64):
        raise InvalidRequest(
            f"The GPU count is {gpus!r}.",
            next_step="Give a whole number from 1 to 64; without a GPU, leave class and count out.",
        )
    return gpus


def is_whole_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def duration_seconds(time: object, longest_s: int = LONGEST_TASK_SECONDS) -> int:
    """Whole seconds from '8h', '90m', '1d12h', a timedelta, or a number of seconds."""
    try:
        if isinstance(time, bool):
            raise ValueError
        if isinstance(time, datetime.timedelta):
            if time.microseconds:
                raise ValueError
            seconds = time.days * 86_400 + time.seconds
        elif isinstance(time, str):
            seconds = money.parse_duration(time)
        elif isinstance(time, int):
            seconds = time
        else:
            raise ValueError
    except ValueError:
        raise InvalidRequest(
            f"The time is {time!r}, which is no duration.",
            next_step="Write it as '8h', '90m', '30s', '1d12h' or a whole number of seconds.",
        ) from None
    if not 1 <= seconds <= longest_s:
        raise InvalidRequest(
            f"The time is {time!r}; it can be from 1 second to {longest_s // 86_400} days.",
            next_step="Choose a time in between; a longer run saves its state and is continued.",
        )
    return seconds


def choose_rate(offers: Sequence[MarketOffer], ceiling: int | None, ceiling_text: str = "") -> int:
    """The rate per GPU-second to sign: the lowest that two eligible providers meet, or the only
    one's, never above the ceiling. A second taker is worth a little: it can take over when the
    first one fails. When all who could do it are busy, the task waits in line at their price."""
    able = [o for o in offers if o.eligible]
    priced_out = [o for o in offers if o.reason == PRICE_REASON]
    asks = sorted(o.rate_per_gpu_second for o in able or filter(takes_or_queues, offers))
    if not asks:
        if priced_out and ceiling is not None:
            raise _too_dear(priced_out, ceiling_text)
        raise _nobody(offers)
    if ceiling is not None and asks[0] > ceiling:
        raise _too_dear(able, ceiling_text)
    rate = asks[min(1, len(asks) - 1)]
    return rate if ceiling is None else min(rate, ceiling)


PRICE_REASON = "price_above_ceiling"


def takes_or_queues(offer: MarketOffer) -> bool:
    """Eligible, or passed over only because its cards are taken now."""
    return offer.eligible or offer.reason == "gpus_busy"


def _too_dear(offers: Sequence[MarketOffer], ceiling_text: str) -> PriceAboveCeiling:
    cheapest = min(offers, key=lambda o: o.rate_per_gpu_second)
    asked = f"{cheapest.price_per_gpu_hour:f}"
    return PriceAboveCeiling(
        f"The cheapest provider asks {asked} per GPU-hour; your highest price is {ceiling_text}.",
        next_step=f"Raise max_price to {asked}, or wait for a cheaper offer.",
        asked=asked,
        max_price=ceiling_text,
    )


def _nobody(offers: Sequence[MarketOffer]) -> NoProvider:
    reasons = {offer.provider: offer.detail or offer.reason for offer in offers}
    if not offers:
        return NoProvider(
            "No provider on the market offers this GPU class now.",
            next_step="List what is there with `client.offers()` or `tallystick market gpus`.",
            reasons=reasons,
        )
    first = next(iter(reasons.values()))
    others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return NoProvider(
        f"None of {len(reasons)} providers can take it: {first.rstrip('.')}{others}.",
        next_step="See each one with `tallystick market offers`, then ask for less or wait.",
        reasons=reasons,
    )
