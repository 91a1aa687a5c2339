"""Signatures.recover accepts what OpenZeppelin's ECDSA accepts, and EIP-2098 (cases 35, 36)."""

from __future__ import annotations

import random
from typing import Any

from tests.contracts.stage import ZERO, Stage, digest_of, two_words

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_accepts_what_openzeppelin_accepts(stage: Stage, harness: Any, stranger: Any) -> None:
    chance = random.Random(35)
    digest = digest_of("message")
    good = bytes.fromhex(stage.signed_digest(digest, stranger)[2:])
    assert harness.recover(digest, good) == stranger
    high_s = (ORDER - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    forms = [
        good,
        good[:64] + bytes([55 - good[64]]),
        good[:32] + high_s + bytes([55 - good[64]]),
        *(good[:64] + bytes([v]) for v in (0, 1, 26, 29, 35, 255)),
        bytes(65),
        b"",
        good + b"\0",
        b"\xff" * 65,
        bytes(32) + good[32:],
        good[:32] + bytes(32) + good[64:],
        *(chance.randbytes(65) for _ in range(20)),
    ]
    for form in forms:
        assert harness.recover(digest, form) == harness.recoverByOpenZeppelin(digest, form)


def test_accepts_the_compact_form(stage: Stage, harness: Any, people: list[Any]) -> None:
    for person in people:
        digest = digest_of(person.address)
        r, vs = two_words(stage.signed_digest(digest, person))
        assert harness.recover(digest, r + vs) == person
        assert harness.recoverWords(digest, r, vs) == person


def test_garbage_is_nobodys(harness: Any) -> None:
    """Case 36."""
    digest = digest_of("message")
    assert harness.recoverWords(digest, bytes(32), bytes(32)) == ZERO
    assert harness.recover(digest, b"\xff" * 64) == ZERO
