"""Signatures instead of transactions: EIP-2612 approves, EIP-3009 pays in."""

from __future__ import annotations

from typing import Final

from eth_abi.abi import encode

from tallystick.protocol.hashing import keccak256
from tallystick.protocol.signatures import PrivateKey, sign_digest
from tallystick.protocol.types import Address, Digest, Signature

__all__ = [
    "AUTHORIZATION_TYPE",
    "PERMIT_TYPE",
    "authorization_digest",
    "permit_digest",
    "sign_authorization",
    "sign_permit",
]

PERMIT_TYPE: Final = (
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
AUTHORIZATION_TYPE: Final = (
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
    "uint256 validBefore,bytes32 nonce)"
)
_TYPE_HASH: Final = keccak256(PERMIT_TYPE.encode())
_AUTHORIZATION_TYPE_HASH: Final = keccak256(AUTHORIZATION_TYPE.encode())


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


def authorization_digest(
    separator: Digest,
    owner: Address,
    escrow: Address,
    value: int,
    valid_after: int,
    valid_before: int,
    nonce: Digest,
) -> bytes:
    """`nonce` is `Escrow.authorization_nonce` or `Escrow.channel_authorization_nonce`: it says
    where the money goes. Good strictly between the two times, unix seconds."""
    struct = keccak256(
        _AUTHORIZATION_TYPE_HASH
        + encode(
            ["address", "address", "uint256", "uint256", "uint256", "bytes32"],
            [owner, escrow, value, valid_after, valid_before, bytes.fromhex(nonce[2:])],
        )
    )
    return keccak256(b"\x19\x01" + bytes.fromhex(separator[2:]) + struct)


def sign_authorization(
    separator: Digest,
    owner: Address,
    escrow: Address,
    value: int,
    valid_after: int,
    valid_before: int,
    nonce: Digest,
    private_key: PrivateKey,
) -> Signature:
    digest = authorization_digest(separator, owner, escrow, value, valid_after, valid_before, nonce)
    return sign_digest(digest, private_key)
