"""Addresses and digests as they come in."""

from __future__ import annotations

import pytest

from tallystick.protocol.errors import AddressError, MessageError
from tallystick.protocol.types import to_address, to_digest
from tests.support.anvil import CONSUMER


class TestAddress:
    def test_one_case_is_taken_and_gets_its_checksum(self) -> None:
        digits = CONSUMER.address[2:]
        assert to_address("0x" + digits.lower()) == CONSUMER.address
        assert to_address("0x" + digits.upper()) == CONSUMER.address
        assert to_address(CONSUMER.address) == CONSUMER.address

    def test_a_wrong_checksum_is_refused_with_the_right_one(self) -> None:
        swapped = "0x" + CONSUMER.address[2:].swapcase()
        with pytest.raises(AddressError, match=CONSUMER.address):
            to_address(swapped)

    @pytest.mark.parametrize(
        "text", ["", "0x", "0x12", "12" * 20, "0x" + "zz" * 20, "0x" + "11" * 21, "vitalik.eth"]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(AddressError, match="40 hex digits"):
            to_address(text)


class TestDigest:
    def test_bytes_and_text_become_lower_case(self) -> None:
        assert to_digest(b"\xab" * 32) == "0x" + "ab" * 32 == to_digest("0x" + "AB" * 32)

    @pytest.mark.parametrize("value", ["", "0x", "ab" * 32, "0x" + "ab" * 31, b"", b"\0" * 33])
    def test_anything_else_is_refused(self, value: str | bytes) -> None:
        with pytest.raises(MessageError):
            to_digest(value)
