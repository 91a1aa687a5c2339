"""What an attacker with the mempool in view tries, and what the protocol says comes of it."""

from __future__ import annotations

from typing import Any

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import DAY_S, TALLY, Stage, at_time, digest_of, reverts_with

CHARGE = 131 * TALLY // 10


def test_created_in_front_of_a_batch_the_rows_are_paid_all_the_same(
    stage: Stage, session_key: Any, stranger: Any
) -> None:
    """All of the consumer's money is locked by the stranger; the rows still find their own."""
    usage = stage.usage()
    orders = [
        stage.terms(nonce=n, signer=session_key.address, max_charge=500 * TALLY) for n in range(2)
    ]
    signatures = [stage.signed(terms, stage.consumer) for terms in orders]
    proofs = [
        stage.accepted(terms, usage, by=session_key, terms_signature=signature)
        for terms, signature in zip(orders, signatures, strict=True)
    ]
    for terms, signature in zip(orders, signatures, strict=True):
        stage.market.createTask(as_tuple(terms), signature, {"from": stranger})
    assert stage.account(stage.consumer) == (0, 1_000 * TALLY)
    sent = stage.market.proveMany(proofs, {"from": stranger})
    assert [bool(row) for row in sent.return_value] == [True, True]
    assert stage.account(stage.consumer) == (1_000 * TALLY - 2 * CHARGE, 0)


def test_one_nonce_one_entry_whatever_the_route(stage: Stage, stranger: Any) -> None:
    """Settled, refunded, finalized or open: the same nonce lets nothing in again."""
    usage = stage.usage()
    settled, refunded, proven, opened = (stage.terms(nonce=n) for n in range(4))
    stage.market.proveOrder(stage.accepted(settled, usage), {"from": stranger})
    for terms in (refunded, proven, opened):
        stage.create(terms)
    stage.market.proveAlone(stage.leased(proven, usage), {"from": stranger})
    stage.market.finalize(
        as_tuple(proven),
        stage.proven(proven, usage),
        stage.signed(stage.acceptance(proven, usage), stage.consumer),
        {"from": stranger},
    )
    stage.market.cancel(as_tuple(refunded), {"from": stage.consumer})
    with at_time(stage, stage.now() + 3_601):
        stage.market.reclaim(as_tuple(refunded), {"from": stranger})
    for nonce, terms in enumerate((settled, refunded, proven, opened)):
        twin = stage.terms(nonce=nonce, spec=digest_of("another"))
        with reverts_with("NonceAlreadyUsed", stage.consumer, nonce):
            stage.create(twin)
        proofs = [stage.accepted(twin, usage)]
        if terms != opened:
            proofs.append(stage.accepted(terms, usage))
        for proof in proofs:
            for verb in (stage.market.prove, stage.market.proveOrder):
                with reverts_with("NonceAlreadyUsed", stage.consumer, nonce):
                    verb(proof, {"from": stranger})


def test_code_put_on_the_consumer_later_voids_nothing_it_signed(
    stage: Stage, stranger: Any
) -> None:
    """EIP-7702: its key still signs, even where the code says no or burns gas."""
    from brownie import web3

    order, task = stage.terms(nonce=0), stage.terms(nonce=1)
    usage = stage.usage()
    proof = stage.accepted(order, usage)
    code = "0x00000000000000000000000000000000000c0DE1"
    web3.provider.make_request("anvil_setCode", [code, "0x5b5f56"])  # for ever
    delegated = "0xef0100" + code[2:]
    web3.provider.make_request("anvil_setCode", [stage.consumer.address, delegated])
    signature = stage.signed(task, stage.consumer)
    stage.market.createTask(as_tuple(task), signature, {"from": stranger})
    stage.market.prove(proof, {"from": stranger})
    assert stage.payee(stage.provider)[0] > 0


def test_a_batch_pays_the_neighbours_of_a_wallet_that_burns_its_gas(
    stage: Stage, wallet: Any, consumer: Any, stranger: Any
) -> None:
    """Two checks of 100,000 gas a row are the most that a consumer's contract can cost."""
    usage = stage.usage()
    good = [stage.accepted(stage.terms(nonce=nonce), usage) for nonce in range(2)]
    row = stage.accepted(stage.terms(consumer=wallet.address, nonce=7), usage)
    alone = stage.market.proveMany(good, {"from": stranger})
    stage.chain.undo()
    wallet.setMood(3, {"from": consumer})
    sent = stage.market.proveMany([good[0], row, good[1]], {"from": stranger})
    assert [bool(paid) for paid in sent.return_value] == [True, False, True]
    assert sent.gas_used - alone.gas_used < 175_000


def test_terms_outside_their_types_are_skipped_not_settled(stage: Stage, stranger: Any) -> None:
    """Arithmetic on such words is unchecked; nothing comes of it."""
    from brownie import web3

    usage = stage.usage()
    terms = stage.terms()
    good = stage.accepted(terms, usage)
    data = bytes.fromhex(stage.market.proveMany.encode_input([good, good])[2:])
    head = 4 + 32 * 4
    first = head + 0 * 32
    told = []
    for word in range(17 + 9):
        if word in (4, 16, 19, 20, 25):
            continue  # whole words: spec, nonce, result, GPU set, samples
        broken = bytearray(data)
        broken[first + 32 * word] |= 0x80
        transaction = {"from": stranger.address, "to": stage.market.address}
        transaction["data"] = "0x" + broken.hex()
        answer = web3.provider.make_request("eth_call", [transaction, "latest"])
        told.append(answer["result"][-128:])
    bad, paid = "0" * 64, "0" * 63 + "1"
    assert told == [bad + paid] * 21


def test_anybody_may_act_at_every_end(stage: Stage, stranger: Any) -> None:
    """Every waiting state ends by itself, to the second."""
    usage = stage.usage()
    task, proven = stage.terms(nonce=0), stage.terms(nonce=1, challenge_window=2 * DAY_S)
    stage.create(task)
    stage.create(proven)
    sent = stage.market.proveAlone(stage.leased(proven, usage), {"from": stranger})
    ends = sent.timestamp + 2 * DAY_S
    work = stage.proven(proven, usage)
    with at_time(stage, task.deadline), reverts_with("NotEndedYet"):
        stage.market.reclaim(as_tuple(task), {"from": stranger})
    with at_time(stage, task.deadline + 1):
        stage.market.reclaim(as_tuple(task), {"from": stranger})
    with at_time(stage, ends), reverts_with("ChallengeWindowOpen"):
        stage.market.finalize(as_tuple(proven), work, b"", {"from": stranger})
    with at_time(stage, ends + 1):
        stage.market.finalize(as_tuple(proven), work, b"", {"from": stranger})
    assert stage.account(stage.consumer)[1] == 0


def test_until_the_proof_is_on_chain_the_consumer_can_pay_a_provider_of_its_own(
    stage: Stage, stranger: Any
) -> None:
    """Accepted by the protocol (section 7), and no dispatcher has to be in league: an acceptance
    needs no assignment. A provider that posts first is safe."""
    usage = stage.usage()
    raced, posted = stage.terms(nonce=0), stage.terms(nonce=1)
    own = stage.usage(provider=stranger.address, gpu_ms=0, calls=0)
    for terms in (raced, posted):
        stage.create(terms)
    stage.market.prove(stage.accepted(raced, own, receipt_by=stranger), {"from": stranger})
    with reverts_with("WrongStatus"):
        stage.market.proveAlone(stage.leased(raced, usage), {"from": stage.provider})

    stage.market.proveAlone(stage.leased(posted, usage), {"from": stage.provider})
    with reverts_with("WrongStatus"):
        stage.market.prove(stage.accepted(posted, own, receipt_by=stranger), {"from": stranger})
