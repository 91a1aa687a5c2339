"""Who may read what: inputs only the assigned provider, results only the consumer.

An input bundle is encrypted once with the task's content key (AES-256-GCM); that key is sealed by
HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) to each provider that may get the task, bound to
task id and fence. A result bundle is sealed by HPKE to the consumer, bound the same way. Nothing
here is stored: the consumer's key follows from its wallet, the content key from that key and the
terms' nonce."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.protocol.errors import SealError
from tallystick.protocol.signatures import PrivateKey, canonical, sign_text
from tallystick.protocol.types import Digest

__all__ = [
    "WALLET_TEXT",
    "SealingKey",
    "consumer_key_from_signature",
    "consumer_key_from_wallet",
    "content_key",
    "decrypt_bundle",
    "encrypt_bundle",
    "generate_key",
    "key_from_seed",
    "open_input_key",
    "open_result",
    "seal_input_key",
    "seal_result",
]

WALLET_TEXT: Final = (
    "Tallystick: open my results\n\n"
    "This signature makes the key that reads the inputs and results of my tasks.\n"
    "Sign it only in software you trust with them. It moves no money.\n\n"
    "Version: 1"
)
"""Signed once by the consumer's wallet; the same wallet always makes the same key of it."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INPUT: Final = b"tallystick/v1/input-key"
_RESULT: Final = b"tallystick/v1/result"
_BUNDLE: Final = b"tallystick/v1/bundle"
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class SealingKey:
    """An X25519 key pair. Its repr shows only the public half."""

    __slots__ = ("_private",)

    def __init__(self, private: bytes) -> None:
        if len(private) != _KEY_BYTES:
            raise SealError(f"a sealing key has 32 bytes, got {len(private)}")
        self._private = private

    @property
    def public(self) -> str:
        """`0x` and 64 hex digits, as it is announced."""
        return (
            "0x"
            + X25519PrivateKey.from_private_bytes(self._private)
            .public_key()
            .public_bytes_raw()
            .hex()
        )

    def private_bytes(self) -> bytes:
        """For a key file of mode 0600, and for nothing else."""
        return self._private

    def __repr__(self) -> str:
        return f"SealingKey(public={self.public})"


def generate_key() -> SealingKey:
    return SealingKey(X25519PrivateKey.generate().private_bytes_raw())


def key_from_seed(seed: bytes) -> SealingKey:
    """The same key for the same seed; the seed needs the strength of a key (16 bytes at least)."""
    if len(seed) < 16:
        raise SealError(f"a seed of {len(seed)} bytes can be guessed: give at least 16")
    return SealingKey(_derive(seed, salt=None, info=b"tallystick/v1/sealing-key"))


def consumer_key_from_wallet(private_key: PrivateKey) -> SealingKey:
    return consumer_key_from_signature(sign_text(WALLET_TEXT, private_key))


def consumer_key_from_signature(signature: str) -> SealingKey:
    """For wallets that only sign: `signature` is theirs (EIP-191) over `WALLET_TEXT`. The compact
    form of the same signature makes the same key."""
    return key_from_seed(bytes.fromhex(canonical(signature)[2:]))


def content_key(consumer_key: SealingKey, nonce: int) -> bytes:
    """The key of one task's input bundle; `nonce` is the terms' and used for one task only."""
    return _derive(
        consumer_key.private_bytes(),
        salt=nonce.to_bytes(32, "big"),
        info=b"tallystick/v1/content-key",
    )


def seal_input_key(
    hpke_public: str | bytes, task_id: Digest, fence: int, content_key: bytes
) -> bytes:
    return _seal(hpke_public, _INPUT, task_id, fence, content_key)


def open_input_key(key: SealingKey, task_id: Digest, fence: int, sealed: bytes) -> bytes:
    opened = _open(key, _INPUT, task_id, fence, sealed)
    if len(opened) != _KEY_BYTES:
        raise SealError(f"the sealed content key has {len(opened)} bytes: expected 32")
    return opened


def encrypt_bundle(content_key: bytes, bundle: bytes) -> bytes:
    """A fresh random nonce, then the sealed bytes."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(content_key).encrypt(nonce, bundle, _BUNDLE)


def decrypt_bundle(content_key: bytes, sealed: bytes) -> bytes:
    try:
        return _cipher(content_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _BUNDLE)
    except (InvalidTag, ValueError):
        raise SealError(
            "the bundle does not open: it was changed, or sealed with another key; fetch it again"
        ) from None


def seal_result(consumer_public: str | bytes, task_id: Digest, fence: int, bundle: bytes) -> bytes:
    return _seal(consumer_public, _RESULT, task_id, fence, bundle)


def open_result(key: SealingKey, task_id: Digest, fence: int, sealed: bytes) -> bytes:
    return _open(key, _RESULT, task_id, fence, sealed)


def _seal(public: str | bytes, role: bytes, task_id: Digest, fence: int, content: bytes) -> bytes:
    return _SUITE.encrypt(content, _public(public), info=_info(role, task_id, fence))


def _open(key: SealingKey, role: bytes, task_id: Digest, fence: int, sealed: bytes) -> bytes:
    private = X25519PrivateKey.from_private_bytes(key.private_bytes())
    try:
        return _SUITE.decrypt(sealed, private, info=_info(role, task_id, fence))
    except Exception:  # the library has several classes for "not yours"; they mean one thing
        raise SealError(
            f"the sealed bytes do not open with this key for task {task_id} and fence {fence}: "
            "they were changed or meant for another key, task or fence"
        ) from None


def _info(role: bytes, task_id: Digest, fence: int) -> bytes:
    return role + b"\0" + bytes.fromhex(task_id[2:]) + fence.to_bytes(8, "big")


def _public(public: str | bytes) -> X25519PublicKey:
    try:
        raw = bytes.fromhex(public.removeprefix("0x")) if isinstance(public, str) else public
        return X25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise SealError(f"{public!r} is not an X25519 public key: expected 32 bytes") from None


def _cipher(content_key: bytes) -> AESGCM:
    if len(content_key) != _KEY_BYTES:
        raise SealError(f"a content key has 32 bytes, got {len(content_key)}")
    return AESGCM(content_key)


def _derive(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=salt, info=info).derive(secret)
