"""proveAlone and finalize: a consumer that never accepts.

proveAlone
├── holds the charge for the challenge window and frees the rest
├── reverts unless dispatcher, provider, fence and lease fit (law 11)
├── reverts after leaseUntil, and before leaseFrom (case 30)
├── reverts for more calls than one, or too little stake (case 70)
└── given cancelled
    ├── pays up to the cancel; flat stays owed
    ├── a lease in force is good until the end
    └── a lease given afterwards is refused
finalize
├── by anyone after the window; not in it
├── at once with acceptance
├── reverts for another proof than the one on chain
└── pays once (case 28)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.messages import Acceptance, TaskTerms, as_tuple
from tallystick.protocol.types import Fence
from tests.contracts.stage import (
    DAY_S,
    TALLY,
    UNIT,
    Stage,
    Usage,
    at_time,
    digest_of,
    reverts_with,
)

CHARGE = 131 * TALLY // 10
SHARE = CHARGE * 500 // 10_000


@pytest.fixture
def terms(stage: Stage) -> TaskTerms:
    terms = stage.terms()
    stage.create(terms)
    return terms


@pytest.fixture
def usage(stage: Stage, terms: TaskTerms) -> Usage:
    return stage.usage()


def test_holds_the_charge_and_frees_the_rest(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    sent = stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, CHARGE)
    assert stage.payee(stage.provider) == (0, 0)
    ends_at = sent.timestamp + DAY_S
    assert stage.task(terms) == (2, ends_at)
    event = sent.events["TaskProven"]
    assert (event["fence"], event["charge"], event["challengeEndsAt"]) == (1, CHARGE, ends_at)
    assert event["receipt"] == stage.digest(stage.receipt(terms, usage))


def test_reverts_twice(stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any) -> None:
    """Only the court can displace a proof that is on chain."""
    proof = stage.leased(terms, usage)
    stage.market.proveAlone(proof, {"from": stranger})
    with reverts_with("WrongStatus", 1, 2):
        stage.market.proveAlone(proof, {"from": stranger})


def test_reverts_for_an_order(stage: Stage, stranger: Any) -> None:
    order = stage.terms()
    with reverts_with("WrongStatus", 1, 0):
        stage.market.proveAlone(stage.leased(order, stage.usage()), {"from": stranger})


@pytest.mark.parametrize(
    "change",
    [
        {"fence": Fence(2)},
        {"task_id": digest_of("another")},
        {"provider": "0x00000000000000000000000000000000000000Aa"},
    ],
    ids=["another fence", "another task", "another provider"],
)
def test_reverts_for_an_assignment_of_something_else(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any, change: dict[str, Any]
) -> None:
    """Law 11: a stale lease earns nothing."""
    assignment = stage.assignment(terms, usage, **change)
    with reverts_with("InvalidAssignmentSignature"):
        stage.market.proveAlone(
            stage.leased(terms, usage, assignment=assignment), {"from": stranger}
        )


def test_reverts_when_another_assigns(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    with reverts_with("InvalidAssignmentSignature", stage.dispatcher, stranger):
        stage.market.proveAlone(stage.leased(terms, usage, by=stranger), {"from": stranger})


@pytest.mark.parametrize("seconds", [0, 1])
def test_arrives_until_the_lease_ends(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any, seconds: int
) -> None:
    """Case 30."""
    assignment = stage.assignment(terms, usage)
    proof = stage.leased(terms, usage, assignment=assignment)
    with at_time(stage, assignment.lease_until + seconds):
        if seconds == 0:
            stage.market.proveAlone(proof, {"from": stranger})
        else:
            until = assignment.lease_until
            with reverts_with("LeaseOver", until, until + 1):
                stage.market.proveAlone(proof, {"from": stranger})


def test_reverts_when_the_work_began_before_the_lease(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    assignment = stage.assignment(terms, usage, lease_from=usage.started_at_ms // 1000 + 1)
    with reverts_with("StartedBeforeLease"):
        stage.market.proveAlone(
            stage.leased(terms, usage, assignment=assignment), {"from": stranger}
        )


def test_reverts_after_the_deadline_whatever_the_lease(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    assignment = stage.assignment(terms, usage, lease_until=terms.deadline + 100)
    proof = stage.leased(terms, usage, assignment=assignment)
    with at_time(stage, terms.deadline + 1), reverts_with("DeadlinePassed"):
        stage.market.proveAlone(proof, {"from": stranger})


def test_reverts_for_more_calls_than_one(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    with reverts_with("TooManyCalls", 1, 2):
        stage.market.proveAlone(stage.leased(terms, replace(usage, calls=2)), {"from": stranger})


def test_reverts_when_the_stake_does_not_cover_the_gpus(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    """Case 70: unbonding stake backs nothing new."""
    stage.staking.requestUnbond(2 * UNIT + 1, {"from": stage.provider})
    with reverts_with("StakeTooLow", 2, 1):
        stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})


def test_reverts_when_a_stranger_signs_the_receipt(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    with reverts_with("InvalidReceiptSignature", stage.provider, stranger):
        stage.market.proveAlone(
            stage.leased(terms, usage, receipt_by=stranger), {"from": stage.provider}
        )


# ---------------------------------------------------------------------- cancelled


def test_given_cancelled_pays_usage_up_to_the_cancel(
    stage: Stage, terms: TaskTerms, stranger: Any
) -> None:
    """A receipt that ran on is cut, not refused; its own total stays what was metered."""
    cancelled_at = stage.market.cancel(as_tuple(terms), {"from": stage.consumer}).timestamp
    stage.at(cancelled_at + 301)
    started_at_ms = (cancelled_at - 300) * 1000
    usage = stage.usage(started_at_ms=started_at_ms, ended_at_ms=(cancelled_at + 300) * 1000)
    assignment = stage.assignment(terms, usage, lease_until=cancelled_at)
    sent = stage.market.proveAlone(
        stage.leased(terms, usage, assignment=assignment), {"from": stranger}
    )
    cut = TALLY + TALLY // 10 + 6 * TALLY
    assert sent.events["TaskProven"]["charge"] == cut
    assert stage.account(stage.consumer) == (1_000 * TALLY - cut, cut)


def test_given_cancelled_before_the_work_only_flat_is_owed(
    stage: Stage, terms: TaskTerms, stranger: Any
) -> None:
    cancelled_at = stage.market.cancel(as_tuple(terms), {"from": stage.consumer}).timestamp
    stage.at(cancelled_at + 700)
    usage = stage.usage(started_at_ms=cancelled_at * 1000)
    usage = replace(usage, gpu_ms=2 * (usage.ended_at_ms - usage.started_at_ms))
    assignment = stage.assignment(terms, usage, lease_from=cancelled_at)
    sent = stage.market.proveAlone(
        stage.leased(terms, usage, assignment=assignment), {"from": stranger}
    )
    assert sent.events["TaskProven"]["charge"] == TALLY


def test_given_cancelled_a_lease_that_was_over_stays_over(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    assignment = stage.assignment(terms, usage)
    stage.at(assignment.lease_until + 1)
    stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    with reverts_with("LeaseOver"):
        stage.market.proveAlone(
            stage.leased(terms, usage, assignment=assignment), {"from": stranger}
        )


def test_given_cancelled_a_new_lease_is_refused(
    stage: Stage, terms: TaskTerms, stranger: Any
) -> None:
    cancelled_at = stage.market.cancel(as_tuple(terms), {"from": stage.consumer}).timestamp
    stage.at(cancelled_at + 100)
    usage = stage.usage(started_at_ms=(cancelled_at + 1) * 1000, gpu_ms=1)
    assignment = stage.assignment(terms, usage)
    with reverts_with("LeaseAfterCancel", cancelled_at, cancelled_at + 1):
        stage.market.proveAlone(
            stage.leased(terms, usage, assignment=assignment), {"from": stranger}
        )


def test_given_cancelled_nothing_arrives_after_the_end(
    stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any
) -> None:
    proof = stage.leased(terms, usage)
    cancelled_at = stage.market.cancel(as_tuple(terms), {"from": stage.consumer}).timestamp
    end = cancelled_at + 3_600
    with at_time(stage, end + 1), reverts_with("DeadlinePassed", end, end + 1):
        stage.market.proveAlone(proof, {"from": stranger})


# ---------------------------------------------------------------------- finalize


@pytest.fixture
def proven(stage: Stage, terms: TaskTerms, usage: Usage, stranger: Any) -> int:
    """When the window ends."""
    stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    return stage.task(terms)[1]


def test_finalize_pays_after_the_window(
    stage: Stage, terms: TaskTerms, usage: Usage, proven: int, stranger: Any
) -> None:
    work = stage.proven(terms, usage)
    with at_time(stage, proven), reverts_with("ChallengeWindowOpen", proven, proven):
        stage.market.finalize(as_tuple(terms), work, b"", {"from": stranger})
    with at_time(stage, proven + 1):
        stage.market.finalize(as_tuple(terms), work, b"", {"from": stranger})
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)
    assert stage.payee(stage.dispatcher) == (SHARE, 0)
    assert stage.task(terms) == (0, 0)
    with reverts_with("WrongStatus", 2, 0):
        stage.market.finalize(as_tuple(terms), work, b"", {"from": stranger})


def test_finalize_pays_at_once_with_acceptance(
    stage: Stage, terms: TaskTerms, usage: Usage, proven: int, stranger: Any
) -> None:
    work = stage.proven(terms, usage)
    acceptance = Acceptance(stage.task_id(terms), CHARGE, work[2])
    with reverts_with("InvalidAcceptanceSignature", stage.consumer, stranger):
        forged = stage.signed(acceptance, stranger)
        stage.market.finalize(as_tuple(terms), work, forged, {"from": stranger})
    good = stage.signed(acceptance, stage.consumer)
    stage.market.finalize(as_tuple(terms), work, good, {"from": stranger})
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_finalize_reverts_for_another_proof(
    stage: Stage, terms: TaskTerms, usage: Usage, proven: int, stranger: Any, at: int
) -> None:
    work = list(stage.proven(terms, usage))
    work[at] = (stranger.address, CHARGE + 1, digest_of("another"))[at]
    with at_time(stage, proven + 1), reverts_with("WrongProof"):
        stage.market.finalize(as_tuple(terms), tuple(work), b"", {"from": stranger})


def test_a_proven_task_is_neither_cancelled_nor_reclaimed(
    stage: Stage, terms: TaskTerms, proven: int, stranger: Any
) -> None:
    """Case 31: legal moves only."""
    with reverts_with("WrongStatus", 1, 2):
        stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    stage.at(terms.deadline + 1)
    with reverts_with("WrongStatus", 1, 2):
        stage.market.reclaim(as_tuple(terms), {"from": stranger})
