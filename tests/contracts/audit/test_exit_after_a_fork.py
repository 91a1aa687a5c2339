"""Locked money leaves also after the chain changed its id, and with it the digest of every terms:
a task keeps the id it was created under. Signatures are not carried over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import DAY_S, Stage

OPEN = 1
GAS = 1_000_000


@contextmanager
def forked(stage: Stage) -> Iterator[None]:
    from brownie import web3

    before = stage.domain.chain_id
    web3.provider.make_request("anvil_setChainId", [before + 1])
    try:
        yield
    finally:
        web3.provider.make_request("anvil_setChainId", [before])


def call(stage: Stage, sender: Any, data: str) -> None:
    """Sent for good, also what will fail: what happened is read after the fork is over."""
    from brownie import web3

    web3.provider.make_request("anvil_impersonateAccount", [sender.address])
    web3.eth.send_transaction(
        {"from": sender.address, "to": stage.market.address, "data": data, "gas": GAS}
    )


def test_an_open_task_is_cancelled_and_reclaimed(stage: Stage, stranger: Any) -> None:
    terms = stage.terms(deadline=2**64 - 1)
    stage.create(terms)
    with forked(stage):
        call(stage, stage.consumer, stage.market.cancel.encode_input(as_tuple(terms)))
    assert stage.task(terms) == (OPEN, stage.now())
    stage.at(stage.now() + 3_601)
    with forked(stage):
        call(stage, stranger, stage.market.reclaim.encode_input(as_tuple(terms)))
    assert stage.task(terms) == (0, 0)
    assert stage.account(stage.consumer) == (1_000 * 10**18, 0)


def test_a_proven_task_is_finalized(stage: Stage, stranger: Any) -> None:
    terms, usage = stage.terms(), stage.usage()
    stage.create(terms)
    stage.market.proveAlone(stage.leased(terms, usage), {"from": stranger})
    stage.at(stage.now() + DAY_S + 1)
    with forked(stage):
        data = stage.market.finalize.encode_input(as_tuple(terms), stage.proven(terms, usage), b"")
        call(stage, stranger, data)
    assert stage.task(terms) == (0, 0)
    assert stage.account(stage.consumer)[1] == 0
    assert stage.payee(stage.provider)[0] > 0


def test_signatures_are_not_carried_over(stage: Stage, stranger: Any) -> None:
    """Neither proof nor order of before counts, and a task of before keeps its nonce."""
    terms, usage = stage.terms(), stage.usage()
    stage.create(terms)
    order = stage.terms(nonce=1)
    with forked(stage):
        for data in (
            stage.market.prove.encode_input(stage.accepted(terms, usage)),
            stage.market.proveAlone.encode_input(stage.leased(terms, usage)),
            stage.market.proveOrder.encode_input(stage.accepted(order, usage)),
            stage.market.createTask.encode_input(
                as_tuple(order), stage.signed(order, stage.consumer)
            ),
            stage.market.createTask.encode_input(as_tuple(terms), b""),
        ):
            call(stage, stranger, data)
    assert stage.task(terms)[0] == OPEN
    assert not stage.market.nonceUsed(stage.consumer, 1)
