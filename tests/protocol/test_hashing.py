from __future__ import annotations

from eth_hash.auto import keccak

from tallystick.protocol.hashing import StreamDigest, digest_of, keccak256


def test_keccak_is_ethereums() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty
    assert digest_of(b"") == "0x" + empty


def test_every_way_of_computing_it_is_the_same() -> None:
    """Which one is used depends on what is installed."""
    for length in (0, 1, 31, 32, 135, 136, 137, 5000):
        data = bytes(range(256)) * 20
        assert keccak256(data[:length]) == keccak(data[:length])


def test_in_pieces_it_is_the_same() -> None:
    stream = StreamDigest()
    for piece in (b"tally", b"", b"stick"):
        stream.update(piece)
    assert stream.digest() == digest_of(b"tallystick")
    assert stream.size_bytes == 10
