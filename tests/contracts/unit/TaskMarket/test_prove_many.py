"""proveMany: a batch pays what can be paid and leaves the rest as it was.

proveMany
├── pays created tasks and orders together, of several consumers, providers and dispatchers
├── skips a row that cannot be paid, tells why, and pays it later unchanged
├── counts down what the consumer has: orders beyond it are skipped
├── pays a row that appears twice once (case 34)
└── a receipt must be signed: a batch is not sent by the provider
"""

from __future__ import annotations

from typing import Any

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import NO_SIGNATURE, TALLY, Stage, digest_of

CHARGE = 131 * TALLY // 10


def settled(sent: Any) -> list[bool]:
    return [bool(row) for row in sent.return_value]


def test_pays_tasks_and_orders_of_several_parties(
    stage: Stage, people: list[Any], other_provider: Any, deployer: Any, stranger: Any
) -> None:
    other = other_provider
    stage.deposit(other, 100 * TALLY)
    created = stage.terms(nonce=1)
    stage.create(created)
    usage = stage.usage()
    theirs = stage.terms(consumer=other.address, nonce=5, dispatcher=stranger.address)
    proofs = [
        stage.accepted(stage.terms(nonce=0), usage),
        stage.accepted(created, usage),
        stage.accepted(theirs, usage, by=other),
        stage.accepted(stage.terms(nonce=2), usage),
    ]
    sent = stage.market.proveMany(proofs, {"from": deployer})
    assert len(sent.events["TaskSettled"]) == 4
    assert "ProofSkipped" not in sent.events
    assert stage.account(stage.consumer) == (1_000 * TALLY - 3 * CHARGE, 0)
    assert stage.account(other) == (100 * TALLY - CHARGE, 0)
    share = CHARGE * 500 // 10_000
    assert stage.payee(stage.provider)[0] == 4 * (CHARGE - share)
    assert stage.payee(stage.dispatcher)[0] == 3 * share
    assert stage.payee(stranger)[0] == share


def test_skips_bad_rows_and_leaves_them_as_they_were(stage: Stage, stranger: Any) -> None:
    usage = stage.usage()
    forged = stage.accepted(stage.terms(nonce=3), usage, by=stranger)
    late = stage.accepted(stage.terms(nonce=4, deadline=1), usage)
    good = stage.accepted(stage.terms(nonce=5), usage)
    sent = stage.market.proveMany([forged, late, good], {"from": stranger})
    assert [event["row"] for event in sent.events["ProofSkipped"]] == [0, 1]
    reason = str(sent.events["ProofSkipped"][0]["reason"])
    assert reason.startswith(selector("InvalidAcceptanceSignature(address,address)"))
    assert not stage.market.nonceUsed(stage.consumer, 3)
    assert not stage.market.nonceUsed(stage.consumer, 4)
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)

    again = stage.accepted(stage.terms(nonce=3), usage)
    stage.market.proveMany([again, again], {"from": stranger})
    assert stage.account(stage.consumer) == (1_000 * TALLY - 2 * CHARGE, 0)


def test_counts_down_what_the_consumer_has(stage: Stage, stranger: Any) -> None:
    """Three orders, money for two; a created task brings its own."""
    created = stage.terms(nonce=9)
    stage.create(created)
    left = 950 * TALLY - 2 * CHARGE - 1
    stage.escrow.withdraw(left - CHARGE + 2, stage.consumer, {"from": stage.consumer})
    usage = stage.usage()
    orders = [stage.accepted(stage.terms(nonce=nonce), usage) for nonce in range(4)]
    before = stage.account(stage.consumer)[0]
    assert 2 * CHARGE < before < 3 * CHARGE
    sent = stage.market.proveMany([*orders, stage.accepted(created, usage)], {"from": stranger})
    assert [event["row"] for event in sent.events["ProofSkipped"]] == [2, 3]
    reason = str(sent.events["ProofSkipped"][0]["reason"])
    assert reason.startswith(selector("InsufficientAvailable(uint128,uint128)"))
    available, locked = stage.account(stage.consumer)
    assert (available, locked) == (before - 3 * CHARGE + 50 * TALLY, 0)


def test_nobody_signs_by_sending_a_batch(stage: Stage) -> None:
    proof = list(stage.accepted(stage.terms(), stage.usage()))
    proof[3:5] = NO_SIGNATURE
    sent = stage.market.proveMany([tuple(proof)], {"from": stage.provider})
    assert len(sent.events["ProofSkipped"]) == 1


def test_the_last_operator_key_vouches_for_no_other_provider(
    stage: Stage, other_provider: Any, stranger: Any
) -> None:
    """What the batch remembers of one provider's key does not carry over to the next."""
    usage = stage.usage()
    theirs = stage.usage(provider=other_provider.address)
    sent = stage.market.proveMany(
        [
            stage.accepted(stage.terms(nonce=0), usage),
            stage.accepted(stage.terms(nonce=1), theirs, receipt_by=stage.operator),
        ],
        {"from": stranger},
    )
    assert [event["row"] for event in sent.events["ProofSkipped"]] == [1]
    assert stage.payee(other_provider) == (0, 0)


def test_an_empty_batch_is_nothing(stage: Stage, stranger: Any) -> None:
    stage.market.proveMany([], {"from": stranger})


def test_a_task_of_another_consumer_keeps_its_money_apart(
    stage: Stage, other_provider: Any, stranger: Any
) -> None:
    """Alternating consumers: each run is paid before the next one's money is read."""
    stage.deposit(other_provider, 2 * CHARGE)
    usage = stage.usage()
    rows = []
    for nonce in range(3):
        theirs = stage.terms(consumer=other_provider.address, nonce=nonce)
        rows.append(stage.accepted(theirs, usage, by=other_provider))
        rows.append(stage.accepted(stage.terms(nonce=nonce, spec=digest_of("b")), usage))
    sent = stage.market.proveMany(rows, {"from": stranger})
    assert [event["row"] for event in sent.events["ProofSkipped"]] == [4]
    assert stage.account(other_provider) == (0, 0)
    assert as_tuple(stage.terms())[0] == stage.consumer.address


def selector(signature: str) -> str:
    from web3 import Web3

    return str(Web3.keccak(text=signature)[:4].to_0x_hex())
