"""Order nonces: never guessed by others, never used twice, and cheap on chain.

The contract marks a used nonce with one bit of a 256-bit word. A fresh word costs 17,100 gas more
than one in use, so each client draws a random word and counts its orders through it.
"""

from __future__ import annotations

import secrets

_PER_WORD = 256


class Nonces:
    """One client's nonces. Two clients of one wallet draw different words."""

    def __init__(self) -> None:
        self._word = 0
        self._left = 0

    def next(self) -> int:
        """A uint256 that no order of this wallet has carried."""
        if self._left == 0:
            self._word, self._left = secrets.randbits(248), _PER_WORD
        self._left -= 1
        return self._word * _PER_WORD + (_PER_WORD - 1 - self._left)
