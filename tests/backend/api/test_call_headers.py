"""Headers of a call: whatever cannot be read is refused or left alone, and never a fault."""

from __future__ import annotations

import pytest

from tallystick_backend.api.call_door import read_headers


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (b"wait=5", 5),
        (b"respond-async, wait=7", 7),
        (b"wait=\xb2", None),  # a superscript two is a digit to Python, and no number
        (b"wait=", None),
        (b"wait=-1", None),
        (b"wait=1.5", None),
        (b"wait=" + "\u0661".encode(), None),
    ],
)
def test_prefer_says_how_long_to_wait(value: bytes, wait_s: int | None) -> None:
    assert read_headers([(b"prefer", value)]).wait_s == wait_s
