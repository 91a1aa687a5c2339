"""dispute, resolve and endDispute: the money of a doubted result.

dispute
├── locks the bond beside the charge and asks the court
├── the bond is three checkers' share of the charge, rounded up, and the floor (case 23)
├── until the challenge window ends (cases 22 and 30), by the consumer only
├── reverts for terms without verification, for another proof, for too little available
├── reverts for too few seats: then the proof stands
└── reverts twice; the word of the court cannot be hurried
    ├── neither finalize nor an acceptance settles a disputed task (case 31)
    └── neither cancel, reclaim nor another proof moves it
resolve
├── by the court only, and only while its time lasts
├── right: the bond pays the checkers a third each and the provider the rest, to the wei (law 2)
├── wrong: charge and bond are the consumer's
└── undecided: settled, the bond is the consumer's
endDispute
├── by anyone after the court's time (case 25), not within it (case 30)
├── without a word of the court
└── pays once (case 28)
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.courtroom import Case, Courtroom, Verdict, verification
from tests.contracts.stage import (
    BOND_FLOOR,
    DAY_S,
    TALLY,
    Stage,
    at_time,
    digest_of,
    reverts_with,
)

CHARGE = 131 * TALLY // 10
SHARE = CHARGE * 500 // 10_000
COURT_S = 6 * DAY_S


@pytest.fixture
def room(stage: Stage, court: Any, deployer: Any) -> Courtroom:
    room = Courtroom(stage, court, deployer)
    room.seated(3)
    return room


@pytest.fixture
def proven(room: Courtroom) -> Case:
    return room.proven()


@pytest.fixture
def disputed(room: Courtroom) -> Case:
    return room.disputed()


def end(stage: Stage, case: Case, by: Any) -> Any:
    return stage.market.endDispute(case.row, case.proven, {"from": by})


# ---------------------------------------------------------------------- dispute


def test_locks_the_bond_beside_the_charge(room: Courtroom, stage: Stage, proven: Case) -> None:
    sent = room.dispute(proven)
    bond = 3 * CHARGE // 10 + BOND_FLOOR
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE - bond, CHARGE + bond)
    assert stage.task(proven.terms) == (3, sent.timestamp)
    event = sent.events["TaskDisputed"]
    assert (event["consumer"], event["provider"]) == (stage.consumer, stage.provider)
    assert (event["bond"], event["courtEndsAt"]) == (bond, sent.timestamp + COURT_S)
    assert sent.events["DrawCalled"]["taskId"] == proven.task_id


@pytest.mark.parametrize(
    ("share_bps", "charge", "bond"),
    [
        (0, 10**18, 0),
        (1, 1, 1),
        (1, 3_333, 1),
        (1, 3_334, 2),
        (10_000, 7, 21),
        (10_000, 2**128 // 3 - BOND_FLOOR, 3 * (2**128 // 3 - BOND_FLOOR)),
    ],
)
def test_the_bond_is_three_shares_rounded_up(
    stage: Stage, share_bps: int, charge: int, bond: int
) -> None:
    """Case 23: what a dispute costs at least covers what its checkers are promised."""
    assert stage.market.bondOf(verification(share_bps), charge) == bond + BOND_FLOOR


def test_reverts_for_a_bond_that_is_no_amount(stage: Stage) -> None:
    with reverts_with("BondTooLarge", 2**128 - 1):
        stage.market.bondOf(verification(10_000), 2**128 - 1)


@pytest.mark.parametrize("seconds", [0, 1])
def test_until_the_window_ends(room: Courtroom, stage: Stage, proven: Case, seconds: int) -> None:
    """Cases 22 and 30: a day at least."""
    ends_at = stage.task(proven.terms)[1]
    with at_time(stage, ends_at + seconds):
        if seconds == 0:
            room.dispute(proven)
        else:
            with reverts_with("ChallengeWindowOver", ends_at, ends_at + 1):
                room.dispute(proven)


def test_fits_a_small_block_in_the_last_second(stage: Stage, proven: Case) -> None:
    """Case 22: a day at the shortest, and then room for a million gas is enough."""
    from brownie import web3

    ends_at = stage.task(proven.terms)[1]
    assert ends_at - stage.now() >= DAY_S
    web3.provider.make_request("evm_setBlockGasLimit", [hex(1_000_000)])
    try:
        with at_time(stage, ends_at):
            sender = {"from": stage.consumer, "gas_limit": 1_000_000}
            sent = stage.market.dispute(proven.row, proven.proven, sender)
    finally:
        web3.provider.make_request("evm_setBlockGasLimit", [hex(60_000_000)])
    assert sent.timestamp == ends_at
    assert stage.task(proven.terms) == (3, ends_at)


def test_reverts_for_a_stranger(stage: Stage, proven: Case, stranger: Any) -> None:
    with reverts_with("OnlyConsumer", stage.consumer, stranger):
        stage.market.dispute(proven.row, proven.proven, {"from": stranger})


def test_reverts_without_verification(room: Courtroom, stage: Stage, stranger: Any) -> None:
    terms = stage.terms()
    usage = stage.usage()
    stage.create(terms)
    stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    with reverts_with("NotDisputable"):
        stage.market.dispute(as_tuple(terms), stage.proven(terms, usage), {"from": stage.consumer})


def test_reverts_for_another_proof(stage: Stage, proven: Case) -> None:
    who, charge, receipt = proven.proven
    for other in (
        (stage.consumer, charge, receipt),
        (who, charge - 1, receipt),
        (who, charge, digest_of("another")),
    ):
        with reverts_with("WrongProof"):
            stage.market.dispute(proven.row, other, {"from": stage.consumer})


def test_reverts_unless_proven(room: Courtroom, stage: Stage) -> None:
    terms = stage.terms(verification=verification(1))
    proof = stage.proven(terms, stage.usage())
    with reverts_with("WrongStatus", 2, 0):
        stage.market.dispute(as_tuple(terms), proof, {"from": stage.consumer})
    stage.create(terms)
    with reverts_with("WrongStatus", 2, 1):
        stage.market.dispute(as_tuple(terms), proof, {"from": stage.consumer})


def test_reverts_without_the_bond(room: Courtroom, stage: Stage, proven: Case) -> None:
    available, _ = stage.account(stage.consumer)
    stage.escrow.withdraw(available - proven.bond + 1, stage.consumer, {"from": stage.consumer})
    with reverts_with("InsufficientAvailable", proven.bond, proven.bond - 1):
        room.dispute(proven)


def test_reverts_with_too_few_seats(stage: Stage, court: Any, deployer: Any) -> None:
    """The proof stands, and is paid after its window."""
    room = Courtroom(stage, court, deployer)
    room.seated(2)
    case = room.proven()
    with reverts_with("TooFewSeats", 3, 2):
        room.dispute(case)
    room.later(DAY_S + 1)
    stage.market.finalize(case.row, case.proven, b"", {"from": deployer})
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)


def test_the_courts_word_cannot_be_hurried(
    room: Courtroom, stage: Stage, disputed: Case, stranger: Any
) -> None:
    """Case 31: those who check are paid by one side or the other."""
    market = stage.market
    acceptance = stage.signed(stage.acceptance(disputed.terms, disputed.usage), stage.consumer)
    with reverts_with("WrongStatus", 2, 3):
        room.dispute(disputed)
    for signature in (b"", acceptance):
        with reverts_with("WrongStatus", 2, 3):
            market.finalize(disputed.row, disputed.proven, signature, {"from": stranger})
    with reverts_with("WrongStatus", 1, 3):
        market.prove(stage.accepted(disputed.terms, disputed.usage), {"from": stranger})
    with reverts_with("WrongStatus", 1, 3):
        market.proveAlone(stage.leased(disputed.terms, disputed.usage), {"from": stranger})
    with reverts_with("WrongStatus", 1, 3):
        market.cancel(disputed.row, {"from": stage.consumer})
    with reverts_with("WrongStatus", 1, 3):
        market.reclaim(disputed.row, {"from": stranger})


# ---------------------------------------------------------------------- resolve


def test_reverts_unless_the_court_says_so(
    stage: Stage, disputed: Case, court: Any, stranger: Any
) -> None:
    for person in (stranger, stage.consumer, stage.provider):
        with reverts_with("OnlyCourt", court, person):
            stage.market.resolve(disputed.row, disputed.proven, 2, [], {"from": person})


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("share_bps", [0, 1, 1_000, 3_333])
def test_right_pays_the_checkers_and_the_provider(
    room: Courtroom, stage: Stage, judge: Any, people: list[Any], count: int, share_bps: int
) -> None:
    """Law 2: bond = checkers' thirds + the provider's rest, to the wei."""
    case = room.disputed(share_bps=share_bps)
    checkers = [room.newcomer(0) for _ in range(count)]
    sent = stage.market.resolve(case.row, case.proven, Verdict.RIGHT, checkers, {"from": judge})
    third = case.bond // 3
    for checker in checkers:
        assert stage.payee(checker) == (third, 0)
    assert stage.payee(stage.dispatcher) == (SHARE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE + case.bond - count * third, 0)
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE - case.bond, 0)
    event = sent.events["DisputeResolved"]
    assert (event["verdict"], event["bond"], event["perChecker"]) == (1, case.bond, third)
    assert list(event["checkers"]) == checkers
    assert sent.events["TaskSettled"]["charge"] == CHARGE
    assert stage.task(case.terms) == (0, 0)


def test_wrong_gives_charge_and_bond_back(
    stage: Stage, disputed: Case, judge: Any, stranger: Any
) -> None:
    sent = stage.market.resolve(
        disputed.row, disputed.proven, Verdict.WRONG, [stranger, stage.consumer], {"from": judge}
    )
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)
    for person in (stage.provider, stage.dispatcher, stranger):
        assert stage.payee(person) == (0, 0)
    assert sent.events["TaskRefunded"]["amount"] == CHARGE
    event = sent.events["DisputeResolved"]
    assert (event["verdict"], event["bond"], event["perChecker"]) == (2, disputed.bond, 0)
    assert stage.task(disputed.terms) == (0, 0)


def test_undecided_settles_and_gives_the_bond_back(
    stage: Stage, disputed: Case, judge: Any
) -> None:
    sent = stage.market.resolve(
        disputed.row, disputed.proven, Verdict.UNDECIDED, [], {"from": judge}
    )
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)
    assert sent.events["DisputeResolved"]["verdict"] == 0


def test_the_court_decides_nothing_else(
    room: Courtroom, stage: Stage, proven: Case, judge: Any
) -> None:
    """Only a disputed task, only its own proof, only once, and never more than the bond."""
    market = stage.market
    with reverts_with("WrongStatus", 3, 2):
        market.resolve(proven.row, proven.proven, Verdict.WRONG, [], {"from": judge})
    room.dispute(proven)
    who, charge, receipt = proven.proven
    with reverts_with("WrongProof"):
        market.resolve(proven.row, (who, charge + 1, receipt), 2, [], {"from": judge})
    four = [room.newcomer(0) for _ in range(4)]
    with pytest.raises(Exception, match="overflow"):
        market.resolve(proven.row, proven.proven, Verdict.RIGHT, four, {"from": judge})
    market.resolve(proven.row, proven.proven, Verdict.WRONG, [], {"from": judge})
    with reverts_with("WrongStatus", 3, 0):
        market.resolve(proven.row, proven.proven, Verdict.RIGHT, [], {"from": judge})


@pytest.mark.parametrize("seconds", [0, 1])
def test_until_the_courts_time_is_over(
    stage: Stage, disputed: Case, judge: Any, seconds: int
) -> None:
    """Case 30, and law 9: the time counts from the dispute, whatever happens after."""
    ends_at = stage.task(disputed.terms)[1] + COURT_S
    with at_time(stage, ends_at + seconds):
        if seconds == 0:
            stage.market.resolve(disputed.row, disputed.proven, 2, [], {"from": judge})
        else:
            with reverts_with("CourtOver", ends_at, ends_at + 1):
                stage.market.resolve(disputed.row, disputed.proven, 2, [], {"from": judge})


# ---------------------------------------------------------------------- endDispute


@pytest.mark.parametrize("seconds", [0, 1])
def test_by_anyone_after_the_courts_time(
    stage: Stage, disputed: Case, stranger: Any, seconds: int
) -> None:
    """Cases 25 and 30."""
    ends_at = stage.task(disputed.terms)[1] + COURT_S
    with at_time(stage, ends_at + seconds):
        if seconds == 0:
            with reverts_with("CourtNotOver", ends_at, ends_at):
                end(stage, disputed, stranger)
        else:
            end(stage, disputed, stranger)
            assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
            assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)
            assert stage.payee(stage.dispatcher) == (SHARE, 0)


def test_without_a_word_of_the_court(
    room: Courtroom, stage: Stage, disputed: Case, court: Any, stranger: Any
) -> None:
    """Case 25, law 6: no fault of the court's code holds the money."""
    from brownie import web3

    room.later(COURT_S + 1)
    web3.provider.make_request("anvil_setCode", [court.address, "0xfe"])
    end(stage, disputed, stranger)
    assert stage.account(stage.consumer)[1] == 0


def test_pays_once(room: Courtroom, stage: Stage, disputed: Case, stranger: Any) -> None:
    """Case 28."""
    room.later(COURT_S + 1)
    end(stage, disputed, stranger)
    with reverts_with("WrongStatus", 3, 0):
        end(stage, disputed, stranger)
    with reverts_with("WrongStatus", 2, 0):
        stage.market.finalize(disputed.row, disputed.proven, b"", {"from": stranger})


def test_reverts_unless_disputed(stage: Stage, proven: Case, stranger: Any) -> None:
    with reverts_with("WrongStatus", 3, 2):
        end(stage, proven, stranger)
