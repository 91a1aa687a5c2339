"""Amounts and durations as people write them: exact, or refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import AmountError, DurationError
from tallystick.protocol.money import (
    UINT128_MAX,
    format_amount,
    format_duration,
    parse_amount,
    parse_duration,
)


class TestAmounts:
    def test_the_largest_is_soliditys(self) -> None:
        assert UINT128_MAX == 340282366920938463463374607431768211455

    @pytest.mark.parametrize(
        ("text", "decimals", "amount"),
        [
            ("0", 18, 0),
            ("1", 18, 10**18),
            ("0.5", 6, 500_000),
            ("12.000001", 6, 12_000_001),
            ("007", 0, 7),
            ("0.000000000000000001", 18, 1),
            (str(UINT128_MAX), 0, UINT128_MAX),
        ],
    )
    def test_are_read_exactly(self, text: str, decimals: int, amount: int) -> None:
        assert parse_amount(text, decimals) == amount

    @pytest.mark.parametrize(
        "text",
        [
            *("", " ", ".", ".5", "5.", "1.2.3", "-1", "+1", "1e18", "1E3", "0x10", "1_000"),
            *("1,000", "1 000", " 1", "1\n", "NaN", "Infinity", "١", "½", "1" * 100),
        ],
    )
    def test_anything_but_digits_and_one_point_is_refused(self, text: str) -> None:
        with pytest.raises(AmountError, match=r"not an amount"):
            parse_amount(text, 18)

    @pytest.mark.parametrize("value", [1.5, 1, None, True, b"1"])
    def test_only_text_is_read(self, value: Any) -> None:
        with pytest.raises(AmountError, match="not text"):
            parse_amount(value, 18)

    def test_more_decimals_than_the_token_has_are_refused_not_rounded(self) -> None:
        with pytest.raises(AmountError, match="7 decimals and the token has 6"):
            parse_amount("0.1234567", 6)

    def test_more_than_any_amount_is_refused(self) -> None:
        with pytest.raises(AmountError, match="more than any amount"):
            parse_amount(str(UINT128_MAX + 1), 0)

    @given(amount=st.integers(0, UINT128_MAX), decimals=st.sampled_from([0, 1, 6, 18, 27]))
    def test_survive_being_written_and_read(self, amount: int, decimals: int) -> None:
        assert parse_amount(format_amount(amount, decimals), decimals) == amount

    @pytest.mark.parametrize(
        ("amount", "text"),
        [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (10_000_000, "10"), (12, "0.000012")],
    )
    def test_are_written_short(self, amount: int, text: str) -> None:
        assert format_amount(amount, 6) == text

    @pytest.mark.parametrize("amount", [-1, 1.0, True])
    def test_nothing_but_an_amount_is_written(self, amount: Any) -> None:
        with pytest.raises(AmountError):
            format_amount(amount, 6)


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("8h", 28_800),
            ("30m", 1_800),
            ("90s", 90),
            ("1h30m", 5_400),
            ("2d", 172_800),
            ("1d2h3m4s", 93_784),
            ("0h5m", 300),
        ],
    )
    def test_are_read(self, text: str, seconds: int) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize(
        "text",
        ["", "8", "h", "8 h", "30m1h", "1h1h", "1.5h", "-1h", "1w", "1H", "8h ", "1e3s", "٣h"],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(DurationError, match="not a duration"):
            parse_duration(text)

    def test_a_bare_number_is_told_its_unit_is_missing(self) -> None:
        with pytest.raises(DurationError, match="'3600s' for seconds"):
            parse_duration("3600")
        with pytest.raises(DurationError) as caught:
            parse_duration("٣")
        assert "for seconds" not in str(caught.value)

    def test_no_time_at_all_is_refused(self) -> None:
        with pytest.raises(DurationError, match="no time"):
            parse_duration("0h0m")

    @pytest.mark.parametrize("value", [5, 5.0, None])
    def test_only_text_is_read(self, value: Any) -> None:
        with pytest.raises(DurationError, match="not text"):
            parse_duration(value)

    @given(seconds=st.integers(1, 10**9))
    def test_survive_being_written_and_read(self, seconds: int) -> None:
        assert parse_duration(format_duration(seconds)) == seconds

    def test_nothing_is_written_as_such_and_less_not_at_all(self) -> None:
        assert format_duration(0) == "0s"
        with pytest.raises(DurationError, match="0 or more"):
            format_duration(-1)
