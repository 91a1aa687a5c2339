"""Amounts and lengths of time as people write them. Integers inside; no float comes near."""

from __future__ import annotations

import re
from typing import Final

from tallystick.protocol.errors import AmountError, DurationError

__all__ = ["UINT128_MAX", "format_amount", "format_duration", "parse_amount", "parse_duration"]

UINT128_MAX: Final = 2**128 - 1

_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,60})(?:\.(?P<part>[0-9]{1,80}))?", re.ASCII)
_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,9})d)?(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m)?(?:(?P<s>[0-9]{1,9})s)?",
    re.ASCII,
)
_UNIT_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_amount(text: str, decimals: int) -> int:
    """Tokens as text ("12", "0.25") to the smallest unit, exactly or not at all."""
    if not isinstance(text, str):
        raise AmountError(f"{text!r} is not text: write an amount as a string, such as '12.5'")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise AmountError(
            f"{text[:80]!r} is not an amount: write digits with at most one point, such as '12.5', "
            "without sign, exponent, space or thousands separator"
        )
    part = match["part"] or ""
    if len(part) > decimals:
        raise AmountError(
            f"{text} has {len(part)} decimals and the token has {decimals}: write fewer digits"
        )
    amount = int(match["whole"] + part.ljust(decimals, "0"))
    if amount > UINT128_MAX:
        raise AmountError(f"{text} is more than any amount can be (2^128 - 1 of the smallest unit)")
    return amount


def format_amount(amount: int, decimals: int) -> str:
    """The shortest text that `parse_amount` reads back as the same integer."""
    if type(amount) is not int or amount < 0:
        raise AmountError(f"{amount!r} is not an amount: expected a whole number, not negative")
    if decimals == 0:
        return str(amount)
    digits = str(amount).rjust(decimals + 1, "0")
    part = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{part}" if part else digits[:-decimals]


def parse_duration(text: str) -> int:
    """ "8h", "30m", "90s", "1h30m", "2d" to seconds; units in that order, each at most once."""
    if not isinstance(text, str):
        raise DurationError(f"{text!r} is not text: write a duration such as '8h' or '1h30m'")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        hint = f", such as '{text}s' for seconds" if text.isascii() and text.isdigit() else ""
        raise DurationError(
            f"{text[:80]!r} is not a duration: write whole days, hours, minutes and seconds in "
            f"that order, such as '2d', '8h', '1h30m' or '90s'{hint}"
        )
    seconds = sum(int(match[unit] or 0) * size for unit, size in _UNIT_SECONDS.items())
    if seconds == 0:
        raise DurationError(f"{text!r} is no time at all: write at least '1s'")
    return seconds


def format_duration(seconds: int) -> str:
    """What `parse_duration` reads back: 5400 is "1h30m"."""
    if seconds < 0:
        raise DurationError(f"{seconds} seconds is not a duration: expected 0 or more")
    parts = []
    for unit, size in _UNIT_SECONDS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
