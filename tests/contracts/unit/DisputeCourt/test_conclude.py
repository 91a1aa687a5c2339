"""commit, reveal and conclude: what two of three say.

commit
├── by a drawn checker or its operator key, once, until the commit ends (case 30)
└── reverts for others, for nothing, out of its time
reveal
├── by anyone who knows the salt, after the commit and until the reveal ends (case 30)
└── reverts for another vote, salt or checker, and for no vote
conclude, by anyone
├── right or no input: settled; the bond pays the two or three who said so
├── wrong or no result: refunded; the provider loses a unit, a fifth of it to those who said so
├── once all three spoke, or the reveal is over
├── no two agree: one more draw, silent seats lose a tenth (case 23)
│   └── again no two: settled, bond back
├── nobody can be drawn any more: settled, bond back (case 25)
└── after the court's time: the market has settled it by itself
every state ends by a call of anyone (case 25)
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.courtroom import SALT, Case, Courtroom, Vote
from tests.contracts.stage import DAY_S, TALLY, UNIT, Stage, at_time, digest_of, reverts_with

CHARGE = 131 * TALLY // 10
SHARE = CHARGE * 500 // 10_000
RIGHT, WRONG = Vote.RIGHT, Vote.WRONG
NO_INPUT, NO_RESULT, SILENT = Vote.NO_INPUT, Vote.NO_RESULT, Vote.NONE


@pytest.fixture
def seats(room: Courtroom) -> list[Any]:
    return room.seated(4)


@pytest.fixture
def case(room: Courtroom, seats: list[Any]) -> Case:
    return room.disputed()


# ---------------------------------------------------------------------- commit


@pytest.mark.parametrize("seconds", [0, 1])
def test_commit_until_its_end(
    room: Courtroom, stage: Stage, case: Case, seconds: int
) -> None:
    checker = room.draw(case)[0]
    ends_at = room.court.timesOf(case.task_id)[1]
    with at_time(stage, ends_at + seconds):
        if seconds == 0:
            sent = room.court.commit(case.task_id, checker, SALT, {"from": checker})
            event = sent.events["VoteCommitted"]
            assert (event["checker"], event["round"], event["commitment"]) == (checker, 1, SALT)
        else:
            with reverts_with("CommitOver", ends_at, ends_at + 1):
                room.court.commit(case.task_id, checker, SALT, {"from": checker})


def test_commit_by_the_operator_key(
    room: Courtroom, stage: Stage, case: Case, stranger: Any
) -> None:
    checker = room.draw(case)[0]
    consent = stage.consent(checker, stranger)
    stage.staking.bindOperatorKey(stranger, consent, {"from": checker})
    room.court.commit(case.task_id, checker, SALT, {"from": stranger})


def test_commit_reverts_for_others(
    room: Courtroom, stage: Stage, case: Case, seats: list[Any], stranger: Any
) -> None:
    with reverts_with("WrongState", 2, 1):
        room.court.commit(case.task_id, seats[0], SALT, {"from": seats[0]})
    drawn = room.draw(case)
    idle = next(seat for seat in seats if seat not in drawn)
    with reverts_with("NotDrawn"):
        room.court.commit(case.task_id, idle, SALT, {"from": idle})
    with reverts_with("OnlyChecker", drawn[0], stranger):
        room.court.commit(case.task_id, drawn[0], SALT, {"from": stranger})
    with reverts_with("OnlyChecker", drawn[0], drawn[1]):
        room.court.commit(case.task_id, drawn[0], SALT, {"from": drawn[1]})
    with reverts_with("EmptyCommitment"):
        room.court.commit(case.task_id, drawn[0], bytes(32), {"from": drawn[0]})
    room.court.commit(case.task_id, drawn[0], SALT, {"from": drawn[0]})
    with reverts_with("AlreadyCommitted", drawn[0]):
        room.court.commit(case.task_id, drawn[0], SALT, {"from": drawn[0]})


# ---------------------------------------------------------------------- reveal


@pytest.mark.parametrize("seconds", [0, 1, DAY_S, DAY_S + 1])
def test_reveal_between_its_ends(
    room: Courtroom, stage: Stage, case: Case, stranger: Any, seconds: int
) -> None:
    """Case 30: nobody shows a vote while another can still copy it."""
    checkers = room.draw(case)
    room.commit(case, checkers[:1], [RIGHT])
    _, commit_ends_at, reveal_ends_at = room.court.timesOf(case.task_id)
    arguments = (case.task_id, checkers[0], RIGHT, SALT, {"from": stranger})
    with at_time(stage, commit_ends_at + seconds):
        if seconds == 0:
            with reverts_with("CommitNotOver", commit_ends_at, commit_ends_at):
                room.court.reveal(*arguments)
        elif seconds <= DAY_S:
            event = room.court.reveal(*arguments).events["VoteRevealed"]
            assert (event["checker"], event["vote"]) == (checkers[0], RIGHT)
        else:
            with reverts_with("RevealOver", reveal_ends_at, reveal_ends_at + 1):
                room.court.reveal(*arguments)


def test_reveal_reverts_for_another_vote(room: Courtroom, case: Case) -> None:
    one, other, third = room.draw(case)
    room.commit(case, [one], [RIGHT])
    # The other saw the commitment and copied it.
    copied = room.court.commitmentOf(RIGHT, SALT, one, case.task_id)
    room.court.commit(case.task_id, other, copied, {"from": other})
    room.later(DAY_S + 1)
    reveal = room.court.reveal
    for checker, vote, salt in (
        (one, WRONG, SALT),
        (one, RIGHT, digest_of("another")),
        (other, RIGHT, SALT),
        (third, RIGHT, SALT),
    ):
        with reverts_with("WrongReveal"):
            reveal(case.task_id, checker, vote, salt)
    with reverts_with("NoVote"):
        reveal(case.task_id, one, SILENT, SALT)
    with reverts_with("NotDrawn"):
        reveal(case.task_id, room.deployer, RIGHT, SALT)
    reveal(case.task_id, one, RIGHT, SALT)


# ---------------------------------------------------------------------- conclude


@pytest.mark.parametrize(
    "votes",
    [
        (RIGHT, RIGHT, RIGHT),
        (RIGHT, NO_INPUT, NO_INPUT),
        (RIGHT, WRONG, RIGHT),
        (NO_INPUT, RIGHT, SILENT),
    ],
)
def test_right_settles_and_pays_who_said_so(
    room: Courtroom, stage: Stage, case: Case, votes: tuple[Vote, ...]
) -> None:
    before = stage.stake_of(stage.provider)
    checkers = room.vote(case, votes)
    sent = room.conclude(case)
    said_so = [
        checker
        for checker, vote in zip(checkers, votes, strict=True)
        if vote in (RIGHT, NO_INPUT)
    ]
    third = case.bond // 3
    for checker in checkers:
        assert stage.payee(checker) == (third if checker in said_so else 0, 0)
        assert sum(stage.stake_of(checker)) == 2 * UNIT
    assert stage.payee(stage.provider) == (
        CHARGE - SHARE + case.bond - third * len(said_so),
        0,
    )
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE - case.bond, 0)
    assert room.lost(stage.provider, before) == 0
    event = sent.events["DisputeConcluded"]
    assert (event["verdict"], event["slashed"]) == (1, 0)
    assert list(event["checkers"]) == said_so
    with reverts_with("UnknownDispute"):
        room.conclude(case)


@pytest.mark.parametrize(
    "votes",
    [
        (WRONG, WRONG, WRONG),
        (NO_RESULT, WRONG, RIGHT),
        (SILENT, NO_RESULT, NO_RESULT),
    ],
)
def test_wrong_refunds_and_slashes(
    room: Courtroom, stage: Stage, case: Case, votes: tuple[Vote, ...]
) -> None:
    """Case 65: a fifth of the unit, shared by the two or three."""
    before = stage.stake_of(stage.provider)
    checkers = room.vote(case, votes)
    sent = room.conclude(case)
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)
    assert stage.payee(stage.provider) == (0, 0)
    assert room.lost(stage.provider, before) == UNIT
    said_so = [
        checker
        for checker, vote in zip(checkers, votes, strict=True)
        if vote in (WRONG, NO_RESULT)
    ]
    event = sent.events["DisputeConcluded"]
    assert (event["verdict"], event["slashed"]) == (2, UNIT)
    assert list(event["checkers"]) == said_so
    for checker in checkers:
        bounty = UNIT // 5 // len(said_so) if checker in said_so else 0
        assert stage.staking.bountyOf(checker) == bounty
        assert sum(stage.stake_of(checker)) == 2 * UNIT
    assert stage.staking.isJailed(stage.provider)


@pytest.mark.parametrize("seconds", [0, 1])
def test_not_before_the_reveal_is_over(
    room: Courtroom, stage: Stage, case: Case, seconds: int
) -> None:
    """Case 30: a third voice may still earn its part."""
    checkers = room.draw(case)
    votes = (RIGHT, RIGHT, SILENT)
    room.commit(case, checkers, votes)
    room.reveal(case, checkers, votes)
    ends_at = room.court.timesOf(case.task_id)[2]
    with at_time(stage, ends_at + seconds):
        if seconds == 0:
            with reverts_with("RevealNotOver", ends_at, ends_at):
                room.conclude(case)
        else:
            room.conclude(case)


def test_reverts_while_a_draw_is_possible(room: Courtroom, stage: Stage, case: Case) -> None:
    last = room.court.timesOf(case.task_id)[0]
    with at_time(stage, last), reverts_with("DrawStillPossible", last, last):
        room.conclude(case)


def test_settles_when_nobody_was_drawn(room: Courtroom, stage: Stage, case: Case) -> None:
    """Case 25."""
    with at_time(stage, room.court.timesOf(case.task_id)[0] + 1):
        sent = room.conclude(case)
    assert sent.events["DisputeConcluded"]["verdict"] == 0
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)


@pytest.mark.parametrize(
    "votes", [(RIGHT, WRONG, SILENT), (SILENT, SILENT, NO_INPUT), (SILENT, SILENT, SILENT)]
)
def test_one_more_draw_when_no_two_agree(
    room: Courtroom, stage: Stage, case: Case, votes: tuple[Vote, ...]
) -> None:
    """Silent seats lose a tenth each, once (case 69)."""
    checkers = room.vote(case, votes)
    sent = room.conclude(case)
    silent = [
        checker for checker, vote in zip(checkers, votes, strict=True) if vote is SILENT
    ]
    assert [event["checker"] for event in sent.events["SilenceShown"]] == silent
    for checker in checkers:
        lost = UNIT // 10 if checker in silent else 0
        assert sum(stage.stake_of(checker)) == 2 * UNIT - lost
    dispute = room.court.disputeOf(case.task_id)
    assert (dispute[2], dispute[3], dispute[5]) == (2, 1, 0)
    assert dispute[4] == sent.block_number + 8
    assert stage.task(case.terms)[0] == 3
    assert stage.account(stage.consumer)[1] == CHARGE + case.bond
    with reverts_with("DrawStillPossible"):
        room.conclude(case)


def test_the_second_round_decides(room: Courtroom, stage: Stage) -> None:
    room.seated(8)
    case = room.disputed()
    room.vote(case, (RIGHT, WRONG, SILENT))
    room.conclude(case)
    before = stage.stake_of(stage.provider)
    checkers = room.vote(case, (WRONG, NO_RESULT, SILENT))
    assert room.court.checkersOf(case.task_id, 2)[0][0] == checkers[0]
    sent = room.conclude(case)
    assert list(sent.events["DisputeConcluded"]["checkers"]) == checkers[:2]
    assert room.lost(stage.provider, before) == UNIT


def test_two_rounds_without_a_word_settle(room: Courtroom, stage: Stage) -> None:
    """Case 25, within the court's time."""
    room.seated(8)
    case = room.disputed()
    for _ in range(2):
        room.vote(case, (RIGHT, WRONG, SILENT))
        sent = room.conclude(case)
    assert sent.events["DisputeConcluded"]["verdict"] == 0
    assert len(sent.events["SilenceShown"]) == 1
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)
    assert stage.now() < stage.chain[-1].timestamp + 1


def test_no_second_round_that_could_not_be_heard(
    room: Courtroom, stage: Stage, case: Case
) -> None:
    """Who was drawn late and concluded late: settled, and the silent lose their tenth."""
    room.vote(case, (RIGHT, WRONG, SILENT))
    with at_time(stage, room.court.timesOf(case.task_id)[0] + 1):
        sent = room.conclude(case)
    assert sent.events["DisputeConcluded"]["verdict"] == 0
    assert sent.events["SilenceShown"]["slashed"] == UNIT // 10


def test_a_verdict_of_the_last_possible_round_is_in_time(
    room: Courtroom, stage: Stage, case: Case
) -> None:
    """A day is left to bring it to the market, until the court's time is over."""
    disputed_at = stage.task(case.terms)[1]
    room.mine(9)
    with at_time(stage, disputed_at + 3 * DAY_S):
        sent = room.court.draw(case.row)
    from brownie import accounts

    checkers = [accounts.at(who) for who in sent.events["CheckersDrawn"]["checkers"]]
    votes = (WRONG, WRONG, SILENT)
    room.commit(case, checkers, votes)
    room.reveal(case, checkers, votes)
    with at_time(stage, disputed_at + 6 * DAY_S):
        room.conclude(case)
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)


def test_after_its_time_the_court_says_nothing(
    room: Courtroom, stage: Stage, case: Case, stranger: Any
) -> None:
    """Case 24: the time of a dispute is that of its first day."""
    before = stage.stake_of(stage.provider)
    room.vote(case, (WRONG, WRONG, WRONG))
    ends_at = stage.task(case.terms)[1] + 6 * DAY_S
    with at_time(stage, ends_at + 1), reverts_with("CourtOver", ends_at, ends_at + 1):
        room.conclude(case)
    stage.market.endDispute(case.row, case.proven, {"from": stranger})
    with reverts_with("WrongStatus", 3, 0):
        room.conclude(case)
    assert room.lost(stage.provider, before) == 0


def test_reverts_with_another_proof(room: Courtroom, case: Case) -> None:
    room.vote(case, (RIGHT, RIGHT, RIGHT))
    who, charge, receipt = case.proven
    with reverts_with("WrongProof"):
        room.court.conclude(case.row, (who, charge + 1, receipt))
    room.conclude(case)


def test_stake_is_there_when_the_verdict_comes(
    room: Courtroom, stage: Stage, case: Case
) -> None:
    """Cases 55 and 58: unbonding asked for before the proof is reached by the slash."""
    stage.staking.requestUnbond(4 * UNIT, {"from": stage.provider})
    room.vote(case, (WRONG, WRONG, WRONG))
    sent = room.conclude(case)
    assert sent.events["DisputeConcluded"]["slashed"] == UNIT
    assert stage.stake_of(stage.provider) == (0, 3 * UNIT)
