"""EIP-2612: a signature instead of an approving transaction."""

from __future__ import annotations

from typing import Final

from eth_abi.abi import encode

from tallystick.protocol.hashing import keccak256
from tallystick.protocol.signatures import PrivateKey, sign_digest
from tallystick.protocol.types import Address, Digest, Signature

__all__ = ["permit_digest", "sign_permit"]

_TYPE_HASH: Final = keccak256(
    b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)


def permit_digest(
    separator: Digest, owner: Address, spender: Address, value: int, nonce: int, deadline: int
) -> bytes:
    """`separator` is the token's own, read from its `DOMAIN_SEPARATOR`."""
    struct = keccak256(
        _TYPE_HASH
        + encode(
            ["address", "address", "uint256", "uint256", "uint256"],
            [owner, spender, value, nonce, deadline],
        )
    )
    return keccak256(b"\x19\x01" + bytes.fromhex(separator[2:]) + struct)


def sign_permit(
    separator: Digest,
    owner: Address,
    spender: Address,
    value: int,
    nonce: int,
    deadline: int,
    private_key: PrivateKey,
) -> Signature:
    return sign_digest(
        permit_digest(separator, owner, spender, value, nonce, deadline), private_key
    )
