"""keccak-256, the one hash of the protocol: digests of messages, manifests, sealed bundles."""

from __future__ import annotations

from collections.abc import Callable

from eth_hash.auto import keccak as _keccak

from tallystick.protocol.types import Digest

__all__ = ["StreamDigest", "digest_of", "keccak256"]


def _fastest() -> Callable[[bytes], bytes]:
    """A call takes some twenty short hashes: safe-pysha3, where it is installed, computes each in a
    tenth of the time. Both compute the same, and a test compares them."""
    try:
        from sha3 import keccak_256
    except ModuleNotFoundError:
        return _keccak
    return lambda data: bytes(keccak_256(data).digest())


_hash = _fastest()


def keccak256(data: bytes) -> bytes:
    return _hash(data)


def digest_of(data: bytes) -> Digest:
    """keccak-256 as `0x` hex: what names a sealed bundle."""
    return Digest("0x" + _hash(data).hex())


class StreamDigest:
    """keccak-256 of bytes that arrive in pieces, so that a large bundle is never held in memory."""

    def __init__(self) -> None:
        self._preimage = _keccak.new(b"")
        self.size_bytes = 0

    def update(self, piece: bytes) -> None:
        self._preimage.update(piece)
        self.size_bytes += len(piece)

    def digest(self) -> Digest:
        return Digest("0x" + self._preimage.digest().hex())
