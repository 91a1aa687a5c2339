"""Column types that hold whole numbers no database integer can.

SQLite's integers end at 63 bits and its NUMERIC turns larger ones into floats; PostgreSQL's BIGINT
ends there too. Text of a fixed width, padded with zeros, is exact on both and sorts like the
number.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

WEI_DIGITS = 78
"""Digits of 2^256 - 1."""

UINT64_DIGITS = 20
"""Digits of 2^64 - 1."""

UINT96_DIGITS = 29
"""Digits of 2^96 - 1."""


class PaddedInteger(TypeDecorator[int]):
    """A whole number from zero up as text of `digits` digits; equality, order, min and max work in
    SQL, sums do not (add in Python)."""

    impl = String
    cache_ok = True

    def __init__(self, digits: int) -> None:
        super().__init__(length=digits, collation=None)
        self.digits = digits

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # Byte order, whatever the language of the database: a collation of its own may skip digits.
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(self.digits, collation=collation))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"expected a whole number, got {value!r}")
        if value < 0 or value >= 10**self.digits:
            raise ValueError(f"{value} does not fit a column of {self.digits} digits from 0 up")
        return str(value).zfill(self.digits)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class WeiColumn(PaddedInteger):
    """An amount in the token's smallest unit; wide enough for uint256."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(WEI_DIGITS)


class Uint64Column(PaddedInteger):
    """A uint64 that a stranger chose on chain (a deadline, a fence): 2^63 must not stop us."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(UINT64_DIGITS)


class Uint96Column(PaddedInteger):
    """A channel's salt."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(UINT96_DIGITS)
