"""Sending from one key: refused for free, mined once, never two under one nonce."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick.protocol.contracts import Escrow
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import (
    ContractError,
    TransactionError,
    TransactionTimeout,
)
from tallystick.protocol.events import Withdrawn, decode_log, raw_log
from tallystick.protocol.transactions import Fees, Sender
from tests.support.anvil import CONSUMER, TOKEN, LocalChain, digest_of_word, person


@pytest.fixture
def sender(web3: Any, market: LocalChain) -> Sender:
    return Sender(web3, CONSUMER.key)


@pytest.fixture
def escrow(web3: Any, deployment: Deployment) -> Escrow:
    return Escrow(web3, deployment.escrow)


async def test_execute_answers_the_mined_transaction(
    sender: Sender, escrow: Escrow, deployment: Deployment
) -> None:
    mined = await sender.execute(escrow.withdraw(5, CONSUMER.address))
    events = [decode_log(raw_log(log), deployment) for log in mined.logs]
    (withdrawn,) = [event for event in events if event is not None]
    assert isinstance(withdrawn, Withdrawn)
    assert withdrawn.at.tx_hash == mined.tx_hash
    assert mined.gas_used > 21_000


async def test_a_refusal_costs_nothing_and_is_a_sentence(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    before = await sender.next_nonce()
    with pytest.raises(ContractError, match="deposit the rest"):
        await sender.execute(escrow.withdraw(51 * TOKEN, CONSUMER.address))
    assert await sender.next_nonce() == before


async def test_what_was_refused_only_when_mined_is_told_too(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    signed = await sender.sign(escrow.withdraw(50 * TOKEN, CONSUMER.address), gas=200_000)
    late = await sender.sign(
        escrow.withdraw(1, CONSUMER.address), gas=200_000, nonce=signed.nonce + 1
    )
    await sender.broadcast(signed.raw)
    await sender.wait(signed.tx_hash)
    await sender.broadcast(late.raw)
    with pytest.raises(ContractError, match="needs 1 available and has 0"):
        await sender.wait(late.tx_hash)


async def test_sixteen_at_once_use_sixteen_nonces(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    before = await sender.next_nonce()
    call = escrow.withdraw(1, CONSUMER.address)
    hashes = await asyncio.gather(*(sender.send(call) for _ in range(16)))
    await asyncio.gather(*(sender.wait(tx_hash) for tx_hash in hashes))
    assert len(set(hashes)) == 16
    assert await sender.next_nonce() == before + 16


async def test_a_stored_transaction_is_mined_once_however_often_it_is_sent(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    market.rpc("evm_setAutomine", False)
    try:
        signed = await sender.sign(escrow.withdraw(5, CONSUMER.address))
        await sender.broadcast(signed.raw)
        await sender.broadcast(signed.raw)
        assert not await sender.mined(signed.tx_hash)
        market.mine()
    finally:
        market.rpc("evm_setAutomine", True)
    assert (await sender.wait(signed.tx_hash)).tx_hash == signed.tx_hash
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5
    with pytest.raises(TransactionError, match="nonce too low"):
        await sender.broadcast(signed.raw)


async def test_a_stuck_transaction_is_replaced_under_the_same_nonce(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    market.rpc("evm_setAutomine", False)
    try:
        call = escrow.withdraw(5, CONSUMER.address)
        stuck = await sender.sign(call)
        await sender.broadcast(stuck.raw)
        raised = await sender.sign(call, nonce=stuck.nonce, fees=stuck.fees.raised(), gas=stuck.gas)
        await sender.broadcast(raised.raw)
        market.mine()
    finally:
        market.rpc("evm_setAutomine", True)
    assert await sender.mined(raised.tx_hash)
    assert not await sender.mined(stuck.tx_hash)


async def test_waiting_ends(sender: Sender) -> None:
    unknown = digest_of_word(404)
    with pytest.raises(TransactionTimeout, match="was not mined in 0 s") as caught:
        await sender.wait(unknown, timeout_s=0)
    assert caught.value.tx_hash == unknown


async def test_an_account_without_ether_is_told_so(
    web3: Any, market: LocalChain, escrow: Escrow
) -> None:
    pauper = person("pauper")
    market.rpc("anvil_setBalance", pauper.address, "0x0")
    sender = Sender(web3, pauper.key)
    signed = await sender.sign(
        escrow.withdraw_credit(pauper.address), fees=Fees(10**9, 1), gas=100_000
    )
    with pytest.raises(TransactionError, match=r"[Ii]nsufficient funds"):
        await sender.broadcast(signed.raw)


def test_fees_are_raised_by_more_than_a_tenth() -> None:
    raised = Fees(1_000, 0).raised()
    assert raised.max_fee_wei > 1_100
    assert raised.tip_wei > 0


async def test_a_signed_transaction_keeps_its_bytes_out_of_logs(
    sender: Sender, escrow: Escrow, market: LocalChain
) -> None:
    signed = await sender.sign(escrow.withdraw(5, CONSUMER.address))
    assert signed.tx_hash in repr(signed)
    assert "raw" not in repr(signed)
