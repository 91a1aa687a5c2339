"""The words of the protocol as types: a function that takes two plain strings in a row is a bug
waiting."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType

from eth_utils.address import to_checksum_address

from tallystick.protocol.errors import AddressError, MessageError

__all__ = [
    "ZERO_ADDRESS",
    "ZERO_DIGEST",
    "Address",
    "AppId",
    "BlockNumber",
    "Digest",
    "Fence",
    "Signature",
    "TaskId",
    "to_address",
    "to_digest",
]

Address = NewType("Address", str)
"""EIP-55 checksummed account or contract address, `0x` and 40 digits."""

Digest = NewType("Digest", str)
"""32 bytes as lower-case hex with `0x`: an EIP-712 digest, a block hash, a Merkle root."""

TaskId = NewType("TaskId", Digest)
"""EIP-712 digest of the task's `TaskTerms`."""

Signature = NewType("Signature", str)
"""65 bytes (r, s, v) as hex with `0x`, low s."""

AppId = NewType("AppId", Digest)
"""Hash of chain, registry, publisher and the publisher's salt."""

BlockNumber = NewType("BlockNumber", int)

Fence = NewType("Fence", int)
"""Fencing token of a lease: counts from 1, and only the highest one given may settle alone."""

ZERO_ADDRESS = Address("0x0000000000000000000000000000000000000000")
ZERO_DIGEST = Digest("0x" + "00" * 32)

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DIGEST = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)


@lru_cache(maxsize=4096)
def to_address(text: str) -> Address:
    """One-case hex is taken as it is; mixed case must carry the right EIP-55 checksum."""
    if not _ADDRESS.fullmatch(text):
        raise AddressError(f"{text!r} is not an address: expected 0x and 40 hex digits")
    address = to_checksum_address(text)
    digits = text[2:]
    if text != address and digits not in (digits.lower(), digits.upper()):
        raise AddressError(
            f"{text} has a wrong checksum: check it against its source, or write it {address}"
        )
    return Address(address)


def to_digest(value: str | bytes) -> Digest:
    if isinstance(value, bytes):
        if len(value) != 32:
            raise MessageError(f"a digest has 32 bytes, got {len(value)}")
        return Digest("0x" + value.hex())
    if not _DIGEST.fullmatch(value):
        raise MessageError(f"{value!r} is not a digest: expected 0x and 64 hex digits")
    return Digest(value.lower())
