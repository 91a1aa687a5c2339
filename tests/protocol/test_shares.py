"""Shares and streams against exact rationals: what rounding may take, and that it makes nothing.

That the contract computes the same is told in tests/contracts/unit/libraries/test_shares.py.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallystick.protocol.shares import (
    Pot,
    Stream,
    bounty_each_down,
    commission_down,
    earned_down,
    slash_of,
)

AMOUNT = st.one_of(st.integers(1, 10), st.integers(1, 10**27), st.integers(1, 2**128 - 1))
BPS = st.integers(0, 10_000)


@st.composite
def pots(draw: st.DrawFn) -> Pot:
    """As they come about: somebody put tokens in, and a slash left some of them."""
    pot, _ = Pot().add(draw(st.integers(1, 2**126)))
    left, _ = pot.slash(draw(st.integers(0, pot.tokens - 1)))
    return left if left.tokens else pot


class TestPot:
    @given(pots(), AMOUNT)
    def test_in_and_out_again_is_no_profit(self, pot: Pot, amount: int) -> None:
        """Law 8; and no loss of a token either, while a share is worth less than one."""
        after, held = pot.add(amount)
        rest, back = after.remove(held)
        assert amount - 1 <= back <= amount
        assert rest.tokens >= pot.tokens
        assert rest.shares == pot.shares

    @given(pots(), AMOUNT, st.integers(1, 20))
    def test_splitting_an_entry_gains_nothing(self, pot: Pot, amount: int, parts: int) -> None:
        _, whole = pot.add(amount * parts)
        split = 0
        for _ in range(parts):
            pot, held = pot.add(amount)
            split += held
        assert split <= whole

    @given(pots(), AMOUNT)
    def test_nobody_elses_part_falls_when_somebody_comes(self, pot: Pot, amount: int) -> None:
        after, _ = pot.add(amount)
        for held in {1, pot.shares // 3 or 1, pot.shares - 1 or 1}:
            before = Fraction(held * (pot.tokens + 1), pot.shares + 1)
            assert Fraction(held * (after.tokens + 1), after.shares + 1) >= before

    @settings(max_examples=300)
    @given(
        st.lists(st.integers(1, 10**24), min_size=1, max_size=8),
        st.lists(st.integers(0, 999), max_size=6),
    )
    @example([10**18 + 1, 1], [0])
    def test_slashes_reach_everybody_alike_and_all_of_it_leaves(
        self, amounts: list[int], thousandths: list[int]
    ) -> None:
        """Cases 59 and 66: each slash costs each holder its exact part, to a unit for each step;
        what is paid out and what was taken add up to the unit, the last one out included."""
        pot, shares = Pot(), []
        for amount in amounts:
            pot, held = pot.add(amount)
            shares.append(held)
        there, exact = pot.tokens, [Fraction(amount) for amount in amounts]
        taken = 0
        for part in thousandths:
            amount = pot.tokens * part // 1000 or 1
            if pot.tokens - amount <= len(amounts):
                continue
            left = Fraction(pot.tokens - amount, pot.tokens)
            exact = [value * left for value in exact]
            pot, rest = pot.slash(amount)
            assert rest == 0
            taken += amount
        paid = []
        for held, value in zip(shares, exact, strict=True):
            pot, amount = pot.remove(held)
            assert abs(amount - value) <= len(amounts)
            paid.append(amount)
        assert sum(paid) + taken == there
        assert (pot.tokens, pot.shares) == (0, 0)

    @given(
        st.integers(1, 2**90),
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2**90)), max_size=30),
    )
    def test_shares_fit_for_whoever_came_in(self, first: int, steps: list[tuple[int, int]]) -> None:
        """A pool and the pot of those who leave it: a slash takes the same part of both, newcomers
        are turned away from a spent one, and whoever is in gets out again in 160 bits."""
        pool, leaving = Pot().add(first)[0], Pot()
        for kind, number in steps:
            if kind == 0 and not pool.is_spent() and not leaving.is_spent():
                pool, held = pool.add(number)
                assert held < 2**160
            elif kind == 1 and pool.shares:
                pool, amount = pool.remove(number % pool.shares + 1)
                if amount:
                    leaving, held = leaving.add(amount)
                    assert held < 2**160
            elif kind == 2 and leaving.shares:
                leaving, _ = leaving.remove(number % leaving.shares + 1)
            elif kind == 3 and pool.tokens + leaving.tokens:
                there = pool.tokens + leaving.tokens
                asked = there - there // number if number % 2 else number % there + 1
                lost = slash_of(
                    asked,
                    bonded=0,
                    unbonding=0,
                    delegated=pool.tokens,
                    undelegating=leaving.tokens,
                )
                pool, _ = pool.slash(lost.delegated)
                leaving, _ = leaving.slash(lost.undelegating)

    def test_a_pot_of_which_dust_is_left_is_void(self) -> None:
        pot, _ = Pot().add(2**100)
        kept, rest = pot.slash(2**100 - 2**68 - 1)
        assert (kept.generation, rest) == (0, 0)
        void, rest = pot.slash(2**100 - 2**68)
        assert void == Pot(generation=1)
        assert rest == 2**68

    @given(st.integers(2**40, 2**100), st.integers(2**40, 2**100), st.integers(1, 2**100))
    def test_a_small_slash_voids_no_pot_whose_shares_are_dear(
        self, first: int, second: int, asked: int
    ) -> None:
        """Case 59: a slash had left a share just worth enough, then somebody joined; the next
        slash, however small, made the pot void and took all of it."""
        pot, _ = Pot().add(first)
        pot, _ = pot.slash(first - (first >> 32) - 1)
        assert not pot.is_spent()
        pot, held = pot.add(second)
        asked = asked % (pot.tokens // 2) + 1
        pot, rest = pot.slash(asked)
        assert rest == 0
        assert pot.tokens_down(held) >= second - asked - 2


class TestSlash:
    @given(*[st.integers(0, 2**100)] * 5)
    def test_takes_what_is_there_in_order(
        self, asked: int, bonded: int, unbonding: int, delegated: int, undelegating: int
    ) -> None:
        lost = slash_of(
            asked,
            bonded=bonded,
            unbonding=unbonding,
            delegated=delegated,
            undelegating=undelegating,
        )
        assert lost.total == min(asked, bonded + unbonding + delegated + undelegating)
        assert lost.unbonding == 0 or lost.bonded == bonded
        delegators = lost.delegated + lost.undelegating
        assert delegators == 0 or (lost.bonded, lost.unbonding) == (bonded, unbonding)
        assert 0 <= lost.undelegating <= undelegating
        if delegators:
            exact = Fraction(delegators * delegated, delegated + undelegating)
            assert exact - 1 < lost.delegated <= exact

    @given(AMOUNT, st.integers(0, 9))
    def test_a_fifth_at_most_is_for_who_proved_it(self, slashed: int, count: int) -> None:
        each = bounty_each_down(slashed, count)
        assert count * each <= Fraction(slashed, 5)
        assert count == 0 or count * (each + 1) > Fraction(slashed, 5) - 1


class TestStream:
    @settings(max_examples=300)
    @given(
        st.lists(
            st.tuples(st.integers(0, 800_000), st.integers(0, 10**22), st.integers(1, 10**27)),
            min_size=1,
            max_size=12,
        ),
        st.integers(1, 604_800),
    )
    def test_nothing_is_lost_and_nothing_made(
        self, steps: list[tuple[int, int, int]], stream_seconds: int
    ) -> None:
        """Law 2: what was added is what shares earned, what is carried and what has not flowed."""
        stream, now, added, earned = Stream(updated_at_s=1), 1, 0, 0
        for wait, amount, shares in steps:
            now += wait
            before = stream.per_share
            stream = stream.advanced(shares, now)
            earned += shares * (stream.per_share - before)
            stream = stream.add(amount, stream_seconds)
            added += amount
            assert earned + stream.carry + (stream.remaining << 96) == added << 96
            assert stream.carry < max(step[2] for step in steps)
            assert stream.time_left <= stream_seconds << 32
        stream, rest = stream.drain()
        assert earned + stream.carry + (rest << 96) == added << 96
        assert stream.carry < 2**96

    @given(st.integers(1, 10**24), st.integers(0, 604_800))
    def test_flows_evenly(self, amount: int, seconds: int) -> None:
        """Less than a unit behind the exact line, however often it is looked at."""
        stream = Stream(updated_at_s=1).add(amount, 604_800)
        once = stream.advanced(1, 1 + seconds)
        exact = Fraction(amount * seconds, 604_800)
        assert exact - 1 < amount - once.remaining <= exact
        often = stream
        for part in range(1, 8):
            often = often.advanced(1, 1 + seconds * part // 7)
        assert exact - 8 < amount - often.remaining <= exact

    @given(st.integers(10**6, 10**24), st.integers(1, 604_799), st.integers(1, 50))
    def test_dust_holds_nothing_up(self, amount: int, passed: int, times: int) -> None:
        stream = Stream(updated_at_s=1).add(amount, 604_800).advanced(1, 1 + passed)
        end = stream.ends_at_s
        for _ in range(times):
            stream = stream.add(1, 604_800)
        weight = Fraction(times, stream.remaining)
        assert stream.ends_at_s - end <= weight * 604_800 + 1
        assert stream.ends_at_s >= end

    @given(st.integers(1, 10**24), st.integers(1, 10**24), st.integers(0, 604_800))
    def test_two_streams_end_at_their_weighted_mean(self, a: int, b: int, passed: int) -> None:
        first = Stream(updated_at_s=1).add(a, 604_800).advanced(1, 1 + passed)
        both = first.add(b, 604_800)
        exact = Fraction(
            first.remaining * first.time_left + b * (604_800 << 32), first.remaining + b
        )
        assert exact <= both.time_left < exact + 1

    @given(st.lists(st.integers(1, 10**24), min_size=1, max_size=6), st.integers(1, 10**20), BPS)
    def test_each_part_is_its_exact_part_less_a_unit(
        self, shares: list[int], amount: int, bps: int
    ) -> None:
        commission = commission_down(amount, bps)
        stream = Stream(updated_at_s=1).add(amount - commission, 604_800)
        stream = stream.advanced(sum(shares), 604_801)
        paid = carried = 0
        for held in shares:
            earned, carry = earned_down(held, 0, stream.per_share, 0)
            exact = Fraction((amount - commission) * held, sum(shares))
            assert exact - 2 < earned <= exact
            paid += earned
            carried += carry
        assert (paid << 96) + carried + stream.carry == amount - commission << 96
