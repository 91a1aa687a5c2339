"""createTask: lock the ceiling and open the task.

createTask
├── by the consumer / by anyone with its signature / with a contract consumer's
├── locks maxCharge, tells every term, uses up the nonce
├── the id is the digest of the terms: nobody can take it first (case 13)
├── reverts without the consumer (cases 35-37, 46, 47) or its money
├── reverts for a used nonce
└── reverts for bad terms (case 32)
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import DAY_S, TALLY, ZERO, Stage, at_time, digest_of, reverts_with

# As ContractWallet numbers them.
MOODS = [
    "Honest",
    "Refuses",
    "Reverts",
    "BurnsGas",
    "AnswersHuge",
    "AnswersShort",
    "WrongMagic",
    "ChangesState",
]


def test_by_the_consumer_locks_the_ceiling(stage: Stage) -> None:
    terms = stage.terms(nonce=77)
    created = stage.create(terms)
    assert stage.account(stage.consumer) == (950 * TALLY, 50 * TALLY)
    assert stage.task(terms) == (1, 0)
    assert stage.market.nonceUsed(stage.consumer, 77)
    event = created.events["TaskCreated"]
    assert event["taskId"] == stage.task_id(terms)
    assert event["dispatcher"] == stage.dispatcher
    told = [str(value).lower() for value in event["terms"]]
    assert told == [str(value).lower() for value in as_tuple(terms)]


def test_by_a_stranger_with_the_consumers_signature(stage: Stage, stranger: Any) -> None:
    terms = stage.terms()
    signature = stage.signed(terms, stage.consumer)
    stage.market.createTask(as_tuple(terms), signature, {"from": stranger})
    assert stage.task(terms) == (1, 0)


def test_reverts_for_a_stranger_alone(stage: Stage, stranger: Any) -> None:
    terms = stage.terms()
    with reverts_with("InvalidTermsSignature", stage.consumer, ZERO):
        stage.market.createTask(as_tuple(terms), b"", {"from": stranger})
    forged = stage.signed(terms, stranger)
    with reverts_with("InvalidTermsSignature", stage.consumer, stranger):
        stage.market.createTask(as_tuple(terms), forged, {"from": stranger})


def test_a_contract_consumer_signs_through_its_owner(
    stage: Stage, wallet: Any, consumer: Any, stranger: Any
) -> None:
    terms = stage.terms(consumer=wallet.address)
    stage.market.createTask(as_tuple(terms), stage.signed(terms, consumer), {"from": stranger})
    assert stage.account(wallet) == (50 * TALLY, 50 * TALLY)


@pytest.mark.parametrize("mood", MOODS[1:])
def test_reverts_when_a_contract_consumer_misbehaves(
    stage: Stage, wallet: Any, consumer: Any, stranger: Any, mood: str
) -> None:
    """Cases 17 and 46: it is asked by a static call with 100,000 gas, and one word is read."""
    wallet.setMood(MOODS.index(mood), {"from": consumer})
    terms = stage.terms(consumer=wallet.address)
    signature = stage.signed(terms, consumer)
    with reverts_with("InvalidTermsSignature", wallet, consumer):
        stage.market.createTask(as_tuple(terms), signature, {"from": stranger})
    from brownie import web3

    failed = stage.chain[-1].transactions[0]
    assert web3.eth.get_transaction_receipt(failed)["gasUsed"] < 150_000 * 1.05


def test_reverts_for_a_wallet_that_does_not_exist_yet(stage: Stage, stranger: Any) -> None:
    """Case 47: an account without code approves nothing."""
    terms = stage.terms(consumer="0x00000000000000000000000000000000000000Aa")
    signature = stage.signed(terms, stranger)
    with reverts_with("InvalidTermsSignature"):
        stage.market.createTask(as_tuple(terms), signature, {"from": stranger})


def test_the_same_terms_elsewhere_are_another_task(stage: Stage) -> None:
    """Case 13: the id binds consumer, nonce, chain and deployment."""
    assert stage.task_id(stage.terms()) != stage.task_id(stage.terms(nonce=1))
    terms = as_tuple(stage.terms())
    assert stage.market.digestOfTaskTerms(terms) == stage.task_id(stage.terms())


def test_reverts_when_the_nonce_was_used(stage: Stage) -> None:
    stage.create(stage.terms())
    with reverts_with("NonceAlreadyUsed", stage.consumer, 0):
        stage.create(stage.terms(spec=digest_of("another")))


def test_reverts_when_the_money_is_not_there(stage: Stage) -> None:
    with reverts_with("InsufficientAvailable", 1_001 * TALLY, 1_000 * TALLY):
        stage.create(stage.terms(max_charge=1_001 * TALLY))


@pytest.mark.parametrize("seconds", [0, 1])
def test_opens_until_its_deadline(stage: Stage, seconds: int) -> None:
    """Case 30."""
    terms = stage.terms(deadline=stage.now() + 100)
    with at_time(stage, terms.deadline + seconds):
        if seconds == 0:
            stage.create(terms)
        else:
            with reverts_with("DeadlinePassed", terms.deadline, terms.deadline + 1):
                stage.create(terms)


@pytest.mark.parametrize(
    ("changes", "error", "values"),
    [
        ({"dispatcher_bps": 3_001}, "SharesTooHigh", (3_000, 3_001)),
        ({"dispatcher_bps": 65_535, "royalty_bps": 65_535}, "SharesTooHigh", (3_000, 131_070)),
        ({"dispatcher": ZERO}, "ShareWithoutPayee", (500,)),
        ({"royalty_bps": 2_500}, "ShareWithoutPayee", (2_500,)),
        ({"challenge_window": 0}, "ChallengeWindowOutOfRange", (DAY_S, 7 * DAY_S, 0)),
        ({"challenge_window": 7 * DAY_S + 1}, "ChallengeWindowOutOfRange", ()),
        ({"verification": 3}, "InvalidVerification", (3,)),
        ({"verification": 256}, "InvalidVerification", (256,)),
        ({"verification": 1 + 256 * 10_001}, "InvalidVerification", (1 + 256 * 10_001,)),
        ({"verification": 2**32 - 1}, "InvalidVerification", (2**32 - 1,)),
    ],
)
def test_reverts_for_bad_terms(
    stage: Stage, changes: dict[str, Any], error: str, values: tuple[Any, ...]
) -> None:
    """Case 32: shares at their limit are fine, above it not."""
    with reverts_with(error, *values):
        stage.create(stage.terms(**changes))


@pytest.mark.parametrize("verification", [1, 2, 1 + 256 * 10_000, 2 + 256])
def test_a_result_may_be_open_to_dispute(stage: Stage, verification: int) -> None:
    """By equality or within a tolerance; of nothing up to all of the work repeated."""
    stage.create(stage.terms(verification=verification))


def test_shares_may_reach_their_limit(stage: Stage, app_owner: Any) -> None:
    stage.create(stage.terms(dispatcher_bps=1, royalty_bps=2_999, royalty_to=app_owner.address))
