"""secp256k1 keys and the one canonical form of a signature.

Accepted: 65 bytes r, s, v with v 27 or 28, or 64 bytes EIP-2098; s in the lower half. Anything
else is refused, so that nobody turns one signature into a second one that also counts.
"""

from __future__ import annotations

from collections.abc import Callable

from coincurve import PrivateKey as _PrivateKey
from coincurve import PublicKey as _PublicKey

from tallystick.protocol.errors import SignatureError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.types import Address, Signature, to_address

__all__ = [
    "PrivateKey",
    "address_of",
    "canonical",
    "private_key_bytes",
    "recover_digest",
    "recover_text",
    "sign_digest",
    "sign_text",
    "signer",
    "text_digest",
]

PrivateKey = bytes | str
"""32 bytes, raw or as hex with or without `0x`."""

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = _ORDER // 2
_LOW_255_BITS = 2**255 - 1


def sign_digest(digest: bytes, private_key: PrivateKey) -> Signature:
    """Deterministic (RFC 6979), low s."""
    return signer(private_key)(digest)


def signer(private_key: PrivateKey) -> Callable[[bytes], Signature]:
    """`sign_digest` for many digests: most of a single one's time goes into the key."""
    key = _PrivateKey(private_key_bytes(private_key))

    def sign(digest: bytes) -> Signature:
        signed = key.sign_recoverable(digest, hasher=None)
        return Signature("0x" + signed[:64].hex() + format(27 + signed[64], "02x"))

    return sign


def recover_digest(digest: bytes, signature: str | bytes) -> Address:
    """Who signed. Raises `SignatureError` for every form but the canonical ones."""
    r, s, recovery_id = _split(signature)
    packed = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([recovery_id])
    try:
        public = _PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except Exception as failure:  # coincurve raises bare Exception and ValueError
        raise SignatureError("the signature belongs to no key: sign the message again") from failure
    return _address_of_public(public)


def canonical(signature: str | bytes) -> Signature:
    """The 65-byte form of an accepted signature."""
    r, s, recovery_id = _split(signature)
    return Signature(f"0x{r:064x}{s:064x}{27 + recovery_id:02x}")


def address_of(private_key: PrivateKey) -> Address:
    return _address_of_public(_PrivateKey(private_key_bytes(private_key)).public_key)


def private_key_bytes(private_key: PrivateKey) -> bytes:
    """The error never shows the key."""
    raw = private_key
    if isinstance(raw, str):
        try:
            raw = bytes.fromhex(raw.removeprefix("0x"))
        except ValueError:
            raise SignatureError("the private key is not hex: expected 64 hex digits") from None
    if len(raw) != 32 or not 0 < int.from_bytes(raw, "big") < _ORDER:
        raise SignatureError(
            f"the private key is not one of secp256k1: expected 32 bytes in range, got {len(raw)}"
        )
    return raw


def sign_text(text: str, private_key: PrivateKey) -> Signature:
    """EIP-191 `personal_sign`."""
    return sign_digest(text_digest(text), private_key)


def recover_text(text: str, signature: str | bytes) -> Address:
    return recover_digest(text_digest(text), signature)


def text_digest(text: str) -> bytes:
    data = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def _split(signature: str | bytes) -> tuple[int, int, int]:
    raw = signature
    if isinstance(raw, str):
        try:
            raw = bytes.fromhex(raw.removeprefix("0x"))
        except ValueError:
            raise SignatureError(
                "the signature is not hex: expected 0x and 130 hex digits"
            ) from None
    if len(raw) == 65:
        r, s, v = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
        if v not in (27, 28):
            raise SignatureError(f"v is {v}: expected 27 or 28")
        recovery_id = v - 27
    elif len(raw) == 64:  # EIP-2098: the top bit of s is the recovery id
        r, vs = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        s, recovery_id = vs & _LOW_255_BITS, vs >> 255
    else:
        raise SignatureError(f"a signature has 65 bytes, or 64 in EIP-2098 form; got {len(raw)}")
    if not 0 < r < _ORDER or s == 0:
        raise SignatureError("the signature's r or s is out of range: sign the message again")
    if s > _HALF_ORDER:
        raise SignatureError(
            "the signature has a high s, which a copy could be made of: sign with low s"
        )
    return r, s, recovery_id


def _address_of_public(public: _PublicKey) -> Address:
    return to_address("0x" + keccak256(public.format(compressed=False)[1:])[12:].hex())
