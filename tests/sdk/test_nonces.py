from __future__ import annotations

from tallystick.nonces import Nonces


def test_256_orders_share_a_word_and_the_next_one_starts_another() -> None:
    nonces = Nonces()
    drawn = [nonces.next() for _ in range(600)]
    assert len(set(drawn)) == 600
    assert all(0 <= nonce < 2**256 for nonce in drawn)
    words = [nonce >> 8 for nonce in drawn]
    assert len(set(words[:256])) == 1
    assert len(set(words)) == 3


def test_two_clients_of_one_wallet_do_not_meet() -> None:
    first, second = Nonces(), Nonces()
    assert {first.next() for _ in range(256)}.isdisjoint(second.next() for _ in range(256))
