"""cancel and reclaim: a consumer gets out.

cancel
├── by the consumer, once: the task ends after the cancel period, or at a sooner deadline
└── reverts for others, twice, after the end, or when it is not open
reclaim
├── by anyone after the end: everything is available again
└── reverts until the end, and for a task that is not open (case 28)
"""

from __future__ import annotations

from typing import Any

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import TALLY, Stage, at_time, reverts_with


def test_cancel_brings_the_end_forward(stage: Stage) -> None:
    terms = stage.terms()
    stage.create(terms)
    sent = stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    event = sent.events["TaskCancelled"]
    assert (event["cancelledAt"], event["end"]) == (sent.timestamp, sent.timestamp + 3_600)
    assert stage.task(terms) == (1, sent.timestamp)
    assert stage.account(stage.consumer) == (950 * TALLY, 50 * TALLY)


def test_cancel_never_moves_the_end_back(stage: Stage) -> None:
    terms = stage.terms(deadline=stage.now() + 100)
    stage.create(terms)
    sent = stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    assert sent.events["TaskCancelled"]["end"] == terms.deadline


def test_cancel_reverts_twice(stage: Stage) -> None:
    terms = stage.terms()
    stage.create(terms)
    first = stage.market.cancel(as_tuple(terms), {"from": stage.consumer})
    with reverts_with("AlreadyCancelled", first.timestamp):
        stage.market.cancel(as_tuple(terms), {"from": stage.consumer})


def test_cancel_reverts_for_a_stranger(stage: Stage, stranger: Any) -> None:
    terms = stage.terms()
    stage.create(terms)
    with reverts_with("OnlyConsumer", stage.consumer, stranger):
        stage.market.cancel(as_tuple(terms), {"from": stranger})


def test_cancel_reverts_when_there_is_no_task(stage: Stage) -> None:
    with reverts_with("WrongStatus", 1, 0):
        stage.market.cancel(as_tuple(stage.terms()), {"from": stage.consumer})


def test_cancel_reverts_after_the_deadline(stage: Stage) -> None:
    terms = stage.terms()
    stage.create(terms)
    with at_time(stage, terms.deadline + 1), reverts_with("DeadlinePassed"):
        stage.market.cancel(as_tuple(terms), {"from": stage.consumer})


def test_reclaim_returns_everything_after_the_end(stage: Stage, stranger: Any) -> None:
    """Case 30: at the deadline a proof may still come, a second later it may not."""
    terms = stage.terms()
    stage.create(terms)
    with at_time(stage, terms.deadline), reverts_with("NotEndedYet"):
        stage.market.reclaim(as_tuple(terms), {"from": stranger})
    with at_time(stage, terms.deadline + 1):
        sent = stage.market.reclaim(as_tuple(terms), {"from": stranger})
    assert sent.events["TaskRefunded"]["amount"] == 50 * TALLY
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)
    with reverts_with("WrongStatus", 1, 0):
        stage.market.reclaim(as_tuple(terms), {"from": stranger})


def test_reclaim_of_a_cancelled_task_need_not_wait_for_the_deadline(
    stage: Stage, stranger: Any
) -> None:
    terms = stage.terms()
    stage.create(terms)
    end = stage.market.cancel(as_tuple(terms), {"from": stage.consumer}).timestamp + 3_600
    with at_time(stage, end + 1):
        stage.market.reclaim(as_tuple(terms), {"from": stranger})
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)


def test_a_reclaimed_task_cannot_be_created_again(stage: Stage, stranger: Any) -> None:
    """Its nonce is used for ever: nobody replays the consumer's signature."""
    terms = stage.terms(deadline=stage.now() + 100)
    stage.create(terms)
    with at_time(stage, terms.deadline + 1):
        stage.market.reclaim(as_tuple(terms), {"from": stranger})
    replay = stage.signed(terms, stage.consumer)
    with reverts_with("DeadlinePassed"):
        stage.market.createTask(as_tuple(terms), replay, {"from": stranger})
    again = stage.terms()
    with reverts_with("NonceAlreadyUsed", stage.consumer, 0):
        stage.create(again)
