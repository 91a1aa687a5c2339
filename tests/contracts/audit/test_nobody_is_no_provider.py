"""The zero address signs nothing, and nobody signs for it: no key was ever bound to it.

A receipt of the zero address would send a charge where no one can fetch it.
"""

from __future__ import annotations

from typing import Any

from tests.contracts.stage import NO_SIGNATURE, TALLY, ZERO, Stage, reverts_with


def test_nobody_signs_or_answers_for_the_zero_address(stage: Stage, stranger: Any) -> None:
    for signer in (stranger, stage.operator, ZERO):
        assert not stage.staking.signsFor(signer, ZERO)
        assert not stage.staking.answersFor(ZERO, signer)


def test_an_accepted_receipt_of_nobody_is_refused(stage: Stage, stranger: Any) -> None:
    usage = stage.usage(provider=ZERO)
    order = stage.accepted(stage.terms(), usage, receipt_by=stranger)
    with reverts_with("InvalidReceiptSignature", ZERO, stranger):
        stage.market.proveOrder(order, {"from": stranger})
    unsigned = (*order[:3], *NO_SIGNATURE, order[5])
    with reverts_with("InvalidReceiptSignature", ZERO, stranger):
        stage.market.prove(unsigned, {"from": stranger})
    sent = stage.market.proveMany([order], {"from": stranger})
    assert "TaskSettled" not in sent.events
    assert stage.payee(ZERO) == (0, 0)
    assert stage.account(stage.consumer) == (1_000 * TALLY, 0)


def test_nobody_proves_alone(stage: Stage, stranger: Any) -> None:
    """Without GPUs no stake is asked for, so only the signature stands in the way."""
    terms = stage.terms(gpus=0)
    stage.create(terms)
    usage = stage.usage(provider=ZERO, gpu_ms=0)
    with reverts_with("InvalidReceiptSignature", ZERO, stranger):
        proof = stage.leased(terms, usage, receipt_by=stranger)
        stage.market.proveAlone(proof, {"from": stranger})
