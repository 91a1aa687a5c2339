"""prove, proveOrder: settle a task the consumer accepted.

prove
├── given an open task
│   ├── pays provider and dispatcher, frees the rest, clears the task
│   ├── accepted by the consumer / by terms.signer / by a contract consumer
│   ├── receipt signed by provider / by operator key / sent by either
│   ├── proves until the end, and not after (case 30)
│   ├── given cancelled: pays all that was accepted, until the new end
│   └── second proof reverts (cases 27, 28)
├── given nothing: a signed order
│   ├── accepted by the consumer: nothing else is needed
│   ├── accepted by terms.signer: needs the consumer's signature on the terms
│   ├── given the task is created first: is paid all the same
│   ├── a used nonce reverts
│   └── money that is not there reverts
└── reverts for each usage out of bounds (case 29) and each signature that does not fit (35, 36, 39)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import (
    DAY_S,
    NO_SIGNATURE,
    TALLY,
    ZERO,
    Stage,
    at_time,
    digest_of,
    reverts_with,
    two_words,
)

CHARGE = 131 * TALLY // 10
SHARE = CHARGE * 500 // 10_000


@pytest.fixture(params=["prove", "proveOrder"])
def prove(request: pytest.FixtureRequest, stage: Stage) -> Any:
    """Both read the same state; they differ in what they read first."""
    return getattr(stage.market, request.param)


def test_given_open_pays_everybody_and_frees_the_rest(
    stage: Stage, prove: Any, stranger: Any
) -> None:
    terms = stage.terms()
    stage.create(terms)
    usage = stage.usage()
    sent = prove(stage.accepted(terms, usage), {"from": stranger})

    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE, 0)
    assert stage.payee(stage.dispatcher) == (SHARE, 0)
    assert stage.task(terms) == (0, 0)
    event = sent.events["TaskSettled"]
    assert event["taskId"] == stage.task_id(terms)
    assert (event["consumer"], event["provider"]) == (stage.consumer, stage.provider)
    assert (event["charge"], event["receipt"]) == (
        CHARGE,
        stage.digest(stage.receipt(terms, usage)),
    )
    assert (event["dispatcher"], event["dispatcherShare"]) == (stage.dispatcher, SHARE)
    assert (event["royaltyTo"], event["royaltyShare"]) == (ZERO, 0)


def test_given_open_pays_the_royalty_too(
    stage: Stage, prove: Any, app_owner: Any, stranger: Any
) -> None:
    terms = stage.terms(royalty_to=app_owner.address, royalty_bps=2_500)
    stage.create(terms)
    prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    royalty = CHARGE * 2_500 // 10_000
    assert stage.payee(app_owner) == (royalty, 0)
    assert stage.payee(stage.provider) == (CHARGE - SHARE - royalty, 0)


def test_shares_round_down_and_the_provider_has_the_rest(
    stage: Stage, prove: Any, app_owner: Any, stranger: Any
) -> None:
    """Case 7: to the wei."""
    terms = stage.terms(
        flat=9_999,
        fee_per_call=0,
        rate_per_gpu_second=0,
        dispatcher_bps=1,
        royalty_bps=2_999,
        royalty_to=app_owner.address,
    )
    stage.create(terms)
    prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    assert stage.payee(stage.dispatcher)[0] == 0
    assert stage.payee(app_owner)[0] == 2_998
    assert stage.payee(stage.provider)[0] == 7_001


def test_given_open_accepted_by_the_session_key(
    stage: Stage, prove: Any, session_key: Any, stranger: Any
) -> None:
    terms = stage.terms(signer=session_key.address)
    stage.create(terms)
    sent = prove(stage.accepted(terms, stage.usage(), by=session_key), {"from": stranger})
    assert sent.events["TaskSettled"]["charge"] == CHARGE


@pytest.mark.parametrize("who", ["provider", "operator"])
def test_a_receipt_may_be_sent_instead_of_signed(stage: Stage, prove: Any, who: str) -> None:
    terms = stage.terms()
    stage.create(terms)
    proof = list(stage.accepted(terms, stage.usage()))
    proof[3:5] = NO_SIGNATURE
    sent = prove(tuple(proof), {"from": getattr(stage, who)})
    assert sent.events["TaskSettled"]["provider"] == stage.provider


def test_reverts_when_a_stranger_sends_an_unsigned_receipt(
    stage: Stage, prove: Any, stranger: Any
) -> None:
    """Case 36: an unset signature is nobody's."""
    terms = stage.terms()
    stage.create(terms)
    proof = list(stage.accepted(terms, stage.usage()))
    proof[3:5] = NO_SIGNATURE
    with reverts_with("InvalidReceiptSignature", stage.provider, stranger):
        prove(tuple(proof), {"from": stranger})


def test_a_receipt_signed_by_the_provider_itself(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms()
    stage.create(terms)
    proof = stage.accepted(terms, stage.usage(), receipt_by=stage.provider)
    assert prove(proof, {"from": stranger}).events["TaskSettled"]["charge"] == CHARGE


def test_reverts_when_the_operator_key_is_retired(
    stage: Stage, prove: Any, staking: Any, stranger: Any
) -> None:
    terms = stage.terms()
    stage.create(terms)
    staking.retireOperatorKey(stage.operator, {"from": stage.provider})
    with reverts_with("InvalidReceiptSignature", stage.provider, stage.operator):
        prove(stage.accepted(terms, stage.usage()), {"from": stranger})


def test_the_charge_never_passes_the_ceiling(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms(max_charge=5 * TALLY)
    stage.create(terms)
    sent = prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    assert sent.events["TaskSettled"]["charge"] == 5 * TALLY


@pytest.mark.parametrize("seconds", [-1, 0])
def test_proves_until_the_deadline(stage: Stage, prove: Any, stranger: Any, seconds: int) -> None:
    """Case 30: until t includes t."""
    terms = stage.terms()
    stage.create(terms)
    proof = stage.accepted(terms, stage.usage())
    with at_time(stage, terms.deadline + seconds):
        prove(proof, {"from": stranger})


def test_reverts_after_the_deadline(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms()
    stage.create(terms)
    proof = stage.accepted(terms, stage.usage())
    with (
        at_time(stage, terms.deadline + 1),
        reverts_with("DeadlinePassed", terms.deadline, terms.deadline + 1),
    ):
        prove(proof, {"from": stranger})


def test_given_cancelled_pays_all_that_was_accepted(
    stage: Stage, prove: Any, market: Any, stranger: Any
) -> None:
    terms = stage.terms()
    stage.create(terms)
    market.cancel(as_tuple(terms), {"from": stage.consumer})
    stage.at(stage.now() + 1_000)
    sent = prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    assert sent.events["TaskSettled"]["charge"] == CHARGE


def test_reverts_after_the_end_of_a_cancelled_task(
    stage: Stage, prove: Any, market: Any, stranger: Any
) -> None:
    terms = stage.terms()
    stage.create(terms)
    market.cancel(as_tuple(terms), {"from": stage.consumer})
    end = stage.now() + 3_600
    proof = stage.accepted(terms, stage.usage())
    with at_time(stage, end + 1), reverts_with("DeadlinePassed", end, end + 1):
        prove(proof, {"from": stranger})


def test_reverts_when_proven_twice(stage: Stage, prove: Any, stranger: Any) -> None:
    """Case 27: the second gets nothing."""
    terms = stage.terms()
    stage.create(terms)
    proof = stage.accepted(terms, stage.usage())
    prove(proof, {"from": stranger})
    with reverts_with("NonceAlreadyUsed", stage.consumer, 0):
        prove(proof, {"from": stranger})


def test_reverts_when_refunded(stage: Stage, prove: Any, market: Any, stranger: Any) -> None:
    """Case 28: pay or refund, never both."""
    terms = stage.terms()
    stage.create(terms)
    proof = stage.accepted(terms, stage.usage())
    stage.at(terms.deadline + 1)
    market.reclaim(as_tuple(terms), {"from": stranger})
    with reverts_with("NonceAlreadyUsed", stage.consumer, 0):
        prove(proof, {"from": stranger})


def test_reverts_when_proven_alone_before(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms()
    stage.create(terms)
    usage = stage.usage()
    stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    with reverts_with("WrongStatus", 1, 2):
        prove(stage.accepted(terms, usage), {"from": stranger})


# ---------------------------------------------------------------------- signed orders


def test_an_order_is_paid_out_of_available(
    stage: Stage, prove: Any, market: Any, stranger: Any
) -> None:
    terms = stage.terms()
    prove(stage.accepted(terms, stage.usage()), {"from": stranger})
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)
    assert stage.payee(stage.provider)[0] == CHARGE - SHARE
    assert market.nonceUsed(stage.consumer, 0)
    assert not market.nonceUsed(stage.consumer, 1)


def test_an_order_accepted_by_the_session_key_needs_signed_terms(
    stage: Stage, prove: Any, session_key: Any, stranger: Any
) -> None:
    """A session key alone cannot spend on terms the consumer never saw."""
    terms = stage.terms(signer=session_key.address)
    usage = stage.usage()
    with reverts_with("InvalidTermsSignature", stage.consumer, ZERO):
        prove(stage.accepted(terms, usage, by=session_key), {"from": stranger})
    by_itself = stage.signed(terms, session_key)
    with reverts_with("InvalidTermsSignature", stage.consumer, session_key):
        prove(
            stage.accepted(terms, usage, by=session_key, terms_signature=by_itself),
            {"from": stranger},
        )
    signature = stage.signed(terms, stage.consumer)
    sent = prove(
        stage.accepted(terms, usage, by=session_key, terms_signature=signature), {"from": stranger}
    )
    assert sent.events["TaskSettled"]["charge"] == CHARGE


def test_nobody_blocks_an_order_by_creating_its_task(
    stage: Stage, prove: Any, market: Any, stranger: Any
) -> None:
    terms = stage.terms()
    proof = stage.accepted(terms, stage.usage())
    market.createTask(as_tuple(terms), stage.signed(terms, stage.consumer), {"from": stranger})
    prove(proof, {"from": stage.provider})
    assert stage.account(stage.consumer) == (1_000 * TALLY - CHARGE, 0)


def test_an_order_voided_by_creating_and_cancelling_is_not_paid_after_its_end(
    stage: Stage, prove: Any, market: Any, stranger: Any
) -> None:
    terms = stage.terms()
    proof = stage.accepted(terms, stage.usage())
    stage.create(terms)
    market.cancel(as_tuple(terms), {"from": stage.consumer})
    end = stage.now() + 3_600
    with at_time(stage, end + 1), reverts_with("DeadlinePassed", end, end + 1):
        prove(proof, {"from": stranger})


def test_an_order_shares_its_nonce_with_no_other(stage: Stage, prove: Any, stranger: Any) -> None:
    prove(stage.accepted(stage.terms(), stage.usage()), {"from": stranger})
    other = stage.terms(spec=digest_of("another"))
    with reverts_with("NonceAlreadyUsed", stage.consumer, 0):
        prove(stage.accepted(other, stage.usage()), {"from": stranger})


def test_reverts_when_the_money_for_an_order_is_gone(
    stage: Stage, prove: Any, stranger: Any
) -> None:
    terms = stage.terms()
    proof = stage.accepted(terms, stage.usage())
    stage.escrow.withdraw(990 * TALLY, stage.consumer, {"from": stage.consumer})
    with reverts_with("InsufficientAvailable", CHARGE, 10 * TALLY):
        prove(proof, {"from": stranger})
    assert not stage.market.nonceUsed(stage.consumer, 0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dispatcher_bps": 3_001}, "SharesTooHigh"),
        ({"dispatcher": ZERO}, "ShareWithoutPayee"),
        ({"royalty_bps": 1}, "ShareWithoutPayee"),
        ({"challenge_window": DAY_S - 1}, "ChallengeWindowOutOfRange"),
        ({"challenge_window": 7 * DAY_S + 1}, "ChallengeWindowOutOfRange"),
        ({"verification": 3}, "InvalidVerification"),
        ({"deadline": 1}, "DeadlinePassed"),
    ],
)
def test_an_order_with_bad_terms_reverts(
    stage: Stage, prove: Any, stranger: Any, changes: dict[str, Any], error: str
) -> None:
    """Case 32: what createTask refuses, no order slips past."""
    terms = stage.terms(**changes)
    with reverts_with(error):
        prove(stage.accepted(terms, stage.usage()), {"from": stranger})


# ---------------------------------------------------------------------- usage out of bounds


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(
            lambda usage: replace(usage, started_at_ms=usage.ended_at_ms + 1),
            "EndedBeforeStart",
            id="it ended before it began",
        ),
        pytest.param(
            lambda usage: replace(usage, started_at_ms=usage.ended_at_ms - 3_600_001),
            "RanTooLong",
            id="it ran a millisecond too long",
        ),
        pytest.param(
            lambda usage: replace(usage, gpu_ms=1_200_001),
            "TooMuchGpuTime",
            id="more GPU time than two GPUs have in that time",
        ),
        pytest.param(
            lambda usage: replace(usage, gpu_set="0x" + "00" * 32),
            "GpuSetMissing",
            id="GPUs without ids",
        ),
    ],
)
def test_reverts_when_usage_is_out_of_bounds(
    stage: Stage, prove: Any, stranger: Any, change: Any, error: str
) -> None:
    """Case 29: whatever was signed."""
    terms = stage.terms(deadline=stage.now() + 10 * DAY_S)
    stage.create(terms)
    usage = change(stage.usage())
    with reverts_with(error):
        prove(stage.accepted(terms, usage), {"from": stranger})


def test_reverts_when_the_work_ends_in_the_future(stage: Stage, prove: Any, stranger: Any) -> None:
    """Case 30: the second that the chain's clock shows counts to its end."""
    terms = stage.terms()
    stage.create(terms)
    now = stage.now() + 100
    usage = stage.usage(started_at_ms=now * 1000, ended_at_ms=now * 1000 + 1_000, gpu_ms=1)
    with (
        at_time(stage, now),
        reverts_with("EndedInFuture", now * 1000 + 999, now * 1000 + 1_000),
    ):
        prove(stage.accepted(terms, usage), {"from": stranger})
    usage = replace(usage, ended_at_ms=usage.ended_at_ms - 1)
    with at_time(stage, now + 1):
        prove(stage.accepted(terms, usage), {"from": stranger})


def test_a_task_without_gpus_needs_no_gpu_set(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms(gpus=0)
    stage.create(terms)
    usage = stage.usage(gpu_ms=0, gpu_set="0x" + "00" * 32)
    sent = prove(stage.accepted(terms, usage), {"from": stranger})
    assert sent.events["TaskSettled"]["charge"] == 11 * TALLY // 10


# ---------------------------------------------------------------------- signatures that do not fit


@pytest.mark.parametrize("field", range(9))
def test_reverts_when_one_field_of_the_usage_is_flipped(
    stage: Stage, prove: Any, stranger: Any, field: int
) -> None:
    """Case 39: every field of the receipt is signed."""
    terms = stage.terms()
    stage.create(terms)
    proof = list(stage.accepted(terms, stage.usage(gpu_ms=1_000_000)))
    row = list(proof[1])
    value = row[field]
    if isinstance(value, int):
        row[field] = value - 1
    elif len(value) == 42:
        row[field] = stranger.address
    else:
        row[field] = digest_of("forged")
    proof[1] = tuple(row)
    with reverts_with("InvalidReceiptSignature"):
        prove(tuple(proof), {"from": stranger})


def test_reverts_when_another_accepts(stage: Stage, prove: Any, stranger: Any) -> None:
    terms = stage.terms()
    stage.create(terms)
    with reverts_with("InvalidAcceptanceSignature", stage.consumer, stranger):
        prove(stage.accepted(terms, stage.usage(), by=stranger), {"from": stranger})


@pytest.mark.parametrize(
    "change",
    [{"total": CHARGE + 1}, {"receipt": digest_of("another")}, {"task_id": digest_of("other")}],
    ids=["another total", "another receipt", "another task"],
)
def test_reverts_when_something_else_was_accepted(
    stage: Stage, prove: Any, stranger: Any, change: dict[str, Any]
) -> None:
    terms = stage.terms()
    stage.create(terms)
    usage = stage.usage()
    acceptance = stage.signed(stage.acceptance(terms, usage, **change), stage.consumer)
    with reverts_with("InvalidAcceptanceSignature"):
        prove(stage.accepted(terms, usage, acceptance=acceptance), {"from": stranger})


def test_reverts_for_every_form_of_signature_but_two(
    stage: Stage, prove: Any, stranger: Any
) -> None:
    """Case 35: 65 bytes or EIP-2098, low s, v 27 or 28."""
    terms = stage.terms()
    usage = stage.usage()
    good = bytes.fromhex(stage.signed(stage.acceptance(terms, usage), stage.consumer)[2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = (order - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    bad = [
        b"",
        good[:-1] + bytes([good[64] - 27]),
        good[:-1] + bytes([35]),
        good[:32] + high_s + bytes([55 - good[64]]),
        good + b"\0",
        good[:63],
        bytes(65),
    ]
    for signature in bad:
        with reverts_with("InvalidAcceptanceSignature"):
            prove(
                stage.accepted(terms, usage, acceptance="0x" + signature.hex()),
                {"from": stranger},
            )
    compact = good[:32] + bytes([good[32] | (good[64] - 27) << 7]) + good[33:64]
    prove(stage.accepted(terms, usage, acceptance="0x" + compact.hex()), {"from": stranger})


def test_reverts_under_another_domain(stage: Stage, prove: Any, stranger: Any) -> None:
    """Case 37: another chain's signature is worth nothing here."""
    from tallystick.protocol import messages

    terms = stage.terms()
    usage = stage.usage()
    other = replace(stage.domain, chain_id=1)
    acceptance = messages.sign(other, stage.acceptance(terms, usage), stage.consumer.private_key)
    with reverts_with("InvalidAcceptanceSignature"):
        prove(stage.accepted(terms, usage, acceptance=acceptance), {"from": stranger})


def test_reverts_when_a_word_is_wider_than_its_field(stage: Stage, stranger: Any) -> None:
    """Bits above a field would give two digests for one meaning."""
    terms = stage.terms()
    proof = stage.accepted(terms, stage.usage())
    calldata = bytearray(bytes.fromhex(stage.market.proveOrder.encode_input(proof)[2:]))
    gpus = 4 + 32 + 5 * 32
    calldata[gpus + 20] = 1
    with reverts_with("FieldTooWide"):
        stranger.transfer(stage.market, data="0x" + bytes(with_accepted(stage, calldata)).hex())


def with_accepted(stage: Stage, calldata: bytearray) -> bytearray:
    """The calldata with signatures that fit its widened terms, as an accomplice could make."""
    from web3 import Web3

    words = bytes(calldata[36 : 36 + 17 * 32])
    typehash = Web3.keccak(text=terms_type())
    task_id = domain_digest(stage, Web3.keccak(typehash + words))
    usage = bytes(calldata[36 + 17 * 32 : 36 + 26 * 32])
    receipt_type = Web3.keccak(text=receipt_text())
    charge = (13_100_000_000_000_000_000).to_bytes(32, "big")
    receipt = domain_digest(
        stage,
        Web3.keccak(
            receipt_type
            + usage[:32]
            + task_id
            + usage[32:64]
            + bytes(32)
            + words[128:160]
            + usage[64:]
            + charge
        ),
    )
    accepted = domain_digest(
        stage,
        Web3.keccak(
            Web3.keccak(text="Acceptance(bytes32 taskId,uint128 total,bytes32 receipt)")
            + task_id
            + charge
            + receipt
        ),
    )
    r, vs = two_words(stage.signed_digest("0x" + receipt.hex(), stage.operator))
    head = 36 + 26 * 32
    calldata[head + 32 : head + 96] = r + vs
    signature = bytes.fromhex(stage.signed_digest("0x" + accepted.hex(), stage.consumer)[2:])
    at = bytes(calldata).rindex((65).to_bytes(32, "big")) + 32
    calldata[at : at + 65] = signature
    return calldata


def domain_digest(stage: Stage, struct_hash: bytes) -> bytes:
    from web3 import Web3

    separator = bytes(stage.market.domainSeparator())
    return bytes(Web3.keccak(b"\x19\x01" + separator + struct_hash))


def terms_type() -> str:
    from tallystick.protocol.messages import TaskTerms

    return TaskTerms.TYPE


def receipt_text() -> str:
    from tallystick.protocol.messages import Receipt

    return Receipt.TYPE
