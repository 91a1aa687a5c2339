"""Disputes with any votes, at any pace: what a model says they come to.

Each story draws at random how much of the work is repeated, what each checker says or whether it is
silent, whether anybody draws at all, and who ends it. After each, the escrow holds to the wei what
its accounts say (laws 1 and 2), nothing of the task is locked any more, and payees, stakes and
verdict are those of a few lines of Python (cases 23, 25, 28 and 31).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tallystick.protocol.pricing import bond_up, split_charge_down
from tests.contracts.courtroom import Case, Courtroom, Verdict, Vote
from tests.contracts.stage import BOND_FLOOR, DAY_S, TALLY, UNIT, Stage

VOTES = (Vote.RIGHT, Vote.WRONG, Vote.NO_INPUT, Vote.NO_RESULT, Vote.NONE, Vote.NONE)


def verdict_of(votes: Sequence[Vote]) -> Verdict:
    right = sum(vote in (Vote.RIGHT, Vote.NO_INPUT) for vote in votes)
    wrong = sum(vote in (Vote.WRONG, Vote.NO_RESULT) for vote in votes)
    if right >= 2:
        return Verdict.RIGHT
    return Verdict.WRONG if wrong >= 2 else Verdict.UNDECIDED


class Story:
    """One dispute, told by chance."""

    def __init__(self, room: Courtroom, seats: list[Any], seed: int) -> None:
        self.room = room
        self.stage = room.stage
        self.chance = random.Random(seed)
        self.seats = seats
        self.silent: dict[str, int] = {}
        self.majority: list[Any] = []

    def told(self, case: Case) -> Verdict:
        for _ in range(2):
            if self.chance.random() < 0.15:
                return self.forgotten(case)
            checkers = self.room.draw(case)
            votes = [self.chance.choice(VOTES) for _ in checkers]
            self.room.commit(case, checkers, votes)
            self.room.reveal(case, checkers, votes)
            if Vote.NONE in votes:
                self.room.later(DAY_S + 1)
            verdict = verdict_of(votes)
            self.room.conclude(case)
            if verdict is not Verdict.UNDECIDED:
                self.majority = [
                    checker
                    for checker, vote in zip(checkers, votes, strict=True)
                    if verdict_of([vote, vote]) is verdict
                ]
                return verdict
            for checker, vote in zip(checkers, votes, strict=True):
                if vote is Vote.NONE:
                    self.silent[str(checker)] = self.silent.get(str(checker), 0) + 1
        return Verdict.UNDECIDED

    def forgotten(self, case: Case) -> Verdict:
        """Nobody draws. Somebody tells the court so, or the market, which does not ask it."""
        if self.chance.random() < 0.5:
            self.room.later(3 * DAY_S + 1)
            self.room.conclude(case)
        else:
            self.room.later(6 * DAY_S + 1)
            self.stage.market.endDispute(case.row, case.proven, {"from": self.room.deployer})
        return Verdict.UNDECIDED


@pytest.mark.parametrize("seed", range(8))
def test_a_dispute_comes_to_what_its_votes_say(
    stage: Stage, court: Any, deployer: Any, treasury: Any, seed: int
) -> None:
    room = Courtroom(stage, court, deployer)
    seats = room.seated(9)
    share_bps = random.Random(seed).choice([0, 1, 777, 3_333, 10_000])
    case = room.disputed(share_bps=share_bps)
    assert case.bond == bond_up(case.terms, case.charge, BOND_FLOOR)
    stake_before = stage.stake_of(stage.provider)

    story = Story(room, seats, seed)
    verdict = story.told(case)

    shares = split_charge_down(case.terms, case.charge)
    third = case.bond // 3 if verdict is Verdict.RIGHT else 0
    rest = case.bond - third * len(story.majority) if verdict is Verdict.RIGHT else 0
    paid = verdict is not Verdict.WRONG
    assert stage.payee(stage.provider) == (shares.provider + rest if paid else 0, 0)
    assert stage.payee(stage.dispatcher) == (shares.dispatcher if paid else 0, 0)
    spent = (case.charge if paid else 0) + (case.bond if verdict is Verdict.RIGHT else 0)
    assert stage.account(stage.consumer) == (1_000 * TALLY - spent, 0)
    assert stage.task(case.terms) == (0, 0)

    lost = UNIT if verdict is Verdict.WRONG else 0
    assert room.lost(stage.provider, stake_before) == lost
    bounty = UNIT // 5 // len(story.majority) if verdict is Verdict.WRONG else 0
    for seat in seats:
        in_majority = seat in story.majority
        assert stage.payee(seat) == (third if in_majority else 0, 0)
        assert stage.staking.bountyOf(seat) == (bounty if in_majority else 0)
        silences = story.silent.get(str(seat), 0)
        assert sum(stage.stake_of(seat)) == 2 * UNIT - silences * UNIT // 10

    people = [stage.consumer, stage.provider, stage.dispatcher, treasury, *seats]
    held = sum(sum(stage.account(person)) + sum(stage.payee(person)) for person in people)
    assert stage.token.balanceOf(stage.escrow) == held
    staked = sum(sum(stage.stake_of(person)) for person in people)
    bounties = sum(int(stage.staking.bountyOf(person)) for person in people)
    unburned = int(stage.staking.unburned())
    assert stage.token.balanceOf(stage.staking) == staked + bounties + unburned
