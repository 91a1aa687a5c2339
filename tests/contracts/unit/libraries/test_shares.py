"""SharePot and FeeStream equal `tallystick.protocol.shares`, step by step, on random cases
(cases 59 and 66)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tallystick.protocol.shares import Pot, Stream, earned_down

POTS, POT_STEPS = 30, 100
STREAMS, STREAM_STEPS = 25, 60
DRAIN = 2**256 - 1


@pytest.fixture(scope="module")
def shares(deployer: Any) -> Any:
    from brownie import ShareHarness

    return deployer.deploy(ShareHarness)


def test_pots_equal_the_kernel(shares: Any) -> None:
    """3,000 steps on 30 pots: small and huge amounts, slashes to dust and to nothing."""
    for seed in range(POTS):
        chance = random.Random(seed)
        largest = chance.choice((8, 10**18, 10**27, 2**126 // POT_STEPS))
        pot, held, steps, expected = Pot(), [], [], []
        while len(steps) < POT_STEPS:
            kind = chance.choice((0, 0, 0, 1, 1, 2))
            if kind == 0:
                number = chance.randint(1, largest)
                pot, answer = pot.add(number)
                held.append(answer)
            elif kind == 1 and held:
                number = held.pop(chance.randrange(len(held)))
                if chance.random() < 0.3 and number > 1:
                    held.append(number // 2)
                    number -= number // 2
                pot, answer = pot.remove(number)
            elif kind == 2 and pot.tokens:
                left = chance.choice((pot.tokens >> 33, 0, pot.tokens // 2, pot.tokens - 1))
                number, generation = pot.tokens - left, pot.generation
                pot, answer = pot.slash(number)
                if pot.generation != generation:
                    held = []
            else:
                continue
            steps.append([kind, number])
            expected.append([answer, pot.tokens, pot.shares, pot.generation])
        rows = shares.runPot.call(steps)
        assert [[int(word) for word in row] for row in rows] == expected


def test_streams_equal_the_kernel(shares: Any) -> None:
    """1,500 steps on 25 streams, `perShare` wrapping included."""
    for seed in range(STREAMS):
        chance = random.Random(seed)
        seconds = chance.choice((0, 1, 604_800, 2**32 - 1))
        largest = chance.choice((3, 10**6, 10**24, 2**126 // STREAM_STEPS))
        now, stream, steps, expected = 1_700_000_000, Stream(), [], []
        for _ in range(STREAM_STEPS):
            now += chance.choice((0, 1, chance.randint(1, 900_000)))
            pool = chance.choice((1, chance.randint(1, 10**27), 2**160 - 1))
            amount = chance.choice((0, 1, chance.randint(1, largest)))
            drained = 0
            stream = stream.advanced(pool, now)
            if chance.random() < 0.05:
                stream, drained = stream.drain()
                amount = DRAIN
            else:
                stream = stream.add(amount, seconds)
            steps.append([pool, now, amount, seconds])
            expected.append(
                [stream.per_share, stream.carry, stream.remaining, stream.time_left, drained]
            )
        rows = shares.runStream(steps)
        assert [[int(word) for word in row] for row in rows] == expected


def test_parts_equal_the_kernel(shares: Any) -> None:
    """1,000 positions, also over the end of the word."""
    chance = random.Random(96)
    rows = []
    for _ in range(1_000):
        held = chance.randint(0, 2 ** chance.randint(1, 160) - 1)
        earned = chance.randint(0, (2**224 - 1) // max(1, held))
        begun = chance.choice((0, 2**256 - 1 - chance.randint(0, 2**80), chance.getrandbits(255)))
        rows.append([held, begun, (begun + earned) % 2**256, chance.getrandbits(96)])
    for start in range(0, len(rows), 250):
        part = rows[start : start + 250]
        told = [(int(row[0]), int(row[1])) for row in shares.earned(part)]
        assert told == [earned_down(*row) for row in part]
