"""Shares of stake and streams of fees, to the unit what ProviderStaking computes.

`Pot` is the library SharePot, `Stream` is FeeStream, `slash_of` says who loses what. Everything is
a value: each step answers the next one. Conversions round down, against who asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tallystick.protocol.pricing import BPS

__all__ = [
    "BOUNTY_LIMIT_BPS",
    "Pot",
    "Slash",
    "Stream",
    "bounty_each_down",
    "commission_down",
    "earned_down",
    "slash_of",
]

BOUNTY_LIMIT_BPS: Final = 2_000
"""At most this part of a slash is for those who proved the offence."""

_DUST_BITS: Final = 32
_TIME_BITS: Final = 32
_SHARE_BITS: Final = 96
_WORD: Final = 2**256


@dataclass(frozen=True, slots=True)
class Pot:
    """Tokens held in shares. A virtual share and a virtual token stand behind them."""

    tokens: int = 0
    shares: int = 0
    generation: int = 0

    def shares_down(self, amount: int) -> int:
        return amount * (self.shares + 1) // (self.tokens + 1)

    def tokens_down(self, held: int) -> int:
        """All the tokens for all the shares."""
        if held == self.shares:
            return self.tokens
        return held * (self.tokens + 1) // (self.shares + 1)

    def is_spent(self) -> bool:
        """Whether slashes left so little that the pot takes no newcomers: a share is worth less
        than 2^-32 tokens."""
        return self.shares + 1 > (self.tokens + 1) << _DUST_BITS

    def add(self, amount: int) -> tuple[Pot, int]:
        """The pot after it, and the shares."""
        held = self.shares_down(amount)
        return replace(self, tokens=self.tokens + amount, shares=self.shares + held), held

    def remove(self, held: int) -> tuple[Pot, int]:
        """The pot after it, and the tokens."""
        amount = self.tokens_down(held)
        return replace(self, tokens=self.tokens - amount, shares=self.shares - held), amount

    def slash(self, amount: int) -> tuple[Pot, int]:
        """The pot after it, and what is nobody's: a slash that takes all but a 2^32nd voids it."""
        rest = self.tokens - amount
        if rest > self.tokens >> _DUST_BITS:
            return replace(self, tokens=rest), 0
        return Pot(generation=self.generation + 1), rest


@dataclass(frozen=True, slots=True)
class Stream:
    """Fees that reach the shares of a pool little by little.

    Time left is in 2^-32 seconds; `per_share` and `carry` are in 2^-96 of the token's smallest
    unit, and `per_share` wraps as a word of the chain does.
    """

    per_share: int = 0
    carry: int = 0
    remaining: int = 0
    time_left: int = 0
    updated_at_s: int = 0

    def advanced(self, shares: int, now_s: int) -> Stream:
        if self.updated_at_s == now_s or shares == 0:
            return replace(self, updated_at_s=now_s)
        elapsed = (now_s - self.updated_at_s) << _TIME_BITS
        released, time_left = self.remaining, 0
        if elapsed < self.time_left:
            released = self.remaining * elapsed // self.time_left
            time_left = self.time_left - elapsed
        divided, carry = divmod((released << _SHARE_BITS) + self.carry, shares)
        return Stream(
            per_share=(self.per_share + divided) % _WORD,
            carry=carry,
            remaining=self.remaining - released,
            time_left=time_left,
            updated_at_s=now_s,
        )

    def add(self, amount: int, stream_seconds: int) -> Stream:
        """On a stream just advanced: the whole ends at the mean of both ends, weighted by the
        amounts and rounded up."""
        total = self.remaining + amount
        if total == 0:
            return self
        weighted = self.remaining * self.time_left + amount * (stream_seconds << _TIME_BITS)
        return replace(self, time_left=-(-weighted // total), remaining=total)

    def drain(self) -> tuple[Stream, int]:
        """Nobody holds a share any more: the stream without it, and what is left in whole units."""
        rest = self.remaining + (self.carry >> _SHARE_BITS)
        carry = self.carry % 2**_SHARE_BITS
        return replace(self, remaining=0, time_left=0, carry=carry), rest

    @property
    def ends_at_s(self) -> int:
        """Rounded up."""
        return self.updated_at_s + -(-self.time_left >> _TIME_BITS)


def earned_down(shares: int, from_per_share: int, to_per_share: int, carry: int) -> tuple[int, int]:
    """Whole units that a position earned between two `per_share`, and what it carries on."""
    total = shares * ((to_per_share - from_per_share) % _WORD) + carry
    return total >> _SHARE_BITS, total % 2**_SHARE_BITS


def commission_down(amount: int, bps: int) -> int:
    """The provider's part of fees; its pool has the rest."""
    return amount * bps // BPS


@dataclass(frozen=True, slots=True)
class Slash:
    """What a verdict takes from each pot."""

    bonded: int
    unbonding: int
    delegated: int
    undelegating: int

    @property
    def total(self) -> int:
        return self.bonded + self.unbonding + self.delegated + self.undelegating


def slash_of(
    asked: int, *, bonded: int, unbonding: int, delegated: int, undelegating: int
) -> Slash:
    """min(asked, there): own bonded, own unbonding, then both of the delegators' in proportion,
    the rounded unit from what is leaving."""
    from_bonded = min(asked, bonded)
    from_unbonding = min(asked - from_bonded, unbonding)
    both = delegated + undelegating
    rest = min(asked - from_bonded - from_unbonding, both)
    from_delegated = rest * delegated // both if both else 0
    return Slash(from_bonded, from_unbonding, from_delegated, rest - from_delegated)


def bounty_each_down(slashed: int, beneficiaries: int) -> int:
    return slashed * BOUNTY_LIMIT_BPS // BPS // beneficiaries if beneficiaries else 0
