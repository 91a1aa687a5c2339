"""Sending from one key: refused for free, mined once, never two under one nonce."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
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
from tallystick.protocol.types import Digest
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


# --- answers that are lost, and transactions (cases 86, 87) -----------------------------------


class Tampered:
    """Between the sender and its node: `before` and `after` may raise, by method and turn."""

    def __init__(self, web3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.before: Callable[[str, int], Any] = lambda _method, _turn: None
        self.after: Callable[[str, int, Any], Any] = lambda _method, _turn, answer: answer
        make_request = web3.provider.make_request

        async def tampered(method: str, params: Any) -> Any:
            self.asked[method] += 1
            turn = self.asked[method]
            self.before(method, turn)
            return self.after(method, turn, await make_request(method, params))

        monkeypatch.setattr(web3.provider, "make_request", tampered)


@pytest.fixture
def tampered(web3: Any, monkeypatch: pytest.MonkeyPatch) -> Tampered:
    return Tampered(web3, monkeypatch)


SEND = "eth_sendRawTransaction"


@pytest.mark.parametrize(
    "lost",
    [
        lambda m, t, a: _raise(ConnectionResetError()) if (m, t) == (SEND, 1) else a,
        lambda m, t, a: {**a, "result": None} if (m, t) == (SEND, 1) else a,
        lambda m, t, a: _refused(a, "internal error") if (m, t) == (SEND, 1) else a,
        lambda m, t, a: _raise(TimeoutError()) if m == "eth_getTransactionReceipt" and t < 3 else a,
    ],
    ids=["connection", "null", "internal error", "receipts"],
)
async def test_an_answer_that_is_lost_sends_nothing_twice(
    sender: Sender, escrow: Escrow, tampered: Tampered, lost: Any
) -> None:
    """Case 86: the node took it, and said otherwise or nothing."""
    before = await sender.next_nonce()
    tampered.after = lost
    await sender.execute(escrow.withdraw(5, CONSUMER.address))
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5
    assert await sender.next_nonce() == before + 1


def _raise(error: Exception) -> Any:
    raise error


def _refused(answer: Any, message: str) -> Any:
    return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32603, "message": message}}


async def test_a_transaction_that_never_arrived_is_said_again(
    sender: Sender, escrow: Escrow, tampered: Tampered
) -> None:
    """Case 86."""

    def never(method: str, turn: int) -> None:
        if (method, turn) == (SEND, 1):
            raise ConnectionResetError

    tampered.before = never
    await sender.execute(escrow.withdraw(5, CONSUMER.address))
    assert tampered.asked[SEND] == 2
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5


async def test_a_dropped_transaction_is_said_again(
    sender: Sender, escrow: Escrow, market: LocalChain, tampered: Tampered
) -> None:
    """Case 86."""
    market.rpc("evm_setAutomine", False)
    running = asyncio.create_task(sender.execute(escrow.withdraw(5, CONSUMER.address)))
    while tampered.asked["eth_getTransactionReceipt"] < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    market.rpc("anvil_dropAllTransactions")
    market.rpc("evm_setAutomine", True)
    await running
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5


async def test_a_base_fee_that_rose_is_outbid_on_the_same_nonce(
    sender: Sender, escrow: Escrow, market: LocalChain, tampered: Tampered
) -> None:
    """Case 86: base fee x 10."""
    before = await sender.next_nonce()
    market.rpc("evm_setAutomine", False)
    running = asyncio.create_task(sender.execute(escrow.withdraw(5, CONSUMER.address)))
    while tampered.asked["eth_getTransactionReceipt"] < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    head = market.rpc("eth_getBlockByNumber", "latest", False)
    market.rpc("anvil_setNextBlockBaseFeePerGas", hex(int(head["baseFeePerGas"], 16) * 10))
    market.mine()
    market.rpc("evm_setAutomine", True)
    await running
    assert await sender.next_nonce() == before + 1
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5


async def test_a_nonce_that_another_took_is_left_to_it(
    sender: Sender, escrow: Escrow, web3: Any, market: LocalChain, tampered: Tampered
) -> None:
    """Case 87: another process with the same key was faster, and ours was dropped."""
    market.rpc("evm_setAutomine", False)
    running = asyncio.create_task(sender.execute(escrow.withdraw(5, CONSUMER.address)))
    while tampered.asked["eth_getTransactionReceipt"] < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    market.rpc("anvil_dropAllTransactions")
    other = Sender(web3, CONSUMER.key)
    theirs = await other.send(escrow.withdraw(7, CONSUMER.address))
    market.mine()
    market.rpc("evm_setAutomine", True)
    ours = await running
    assert ours.tx_hash != theirs
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 12


async def test_a_node_that_refuses_for_no_known_reason_is_told_with_the_hash(
    sender: Sender, escrow: Escrow, tampered: Tampered
) -> None:
    """Case 86."""
    tampered.after = lambda m, _t, a: _refused(a, "no") if m in (SEND, RECEIPT) else a
    with pytest.raises(TransactionError, match="look for transaction 0x") as caught:
        await sender.execute(escrow.withdraw(5, CONSUMER.address))
    assert caught.value.tx_hash
    tampered.after = lambda _m, _t, a: a
    assert (await sender.wait(Digest(caught.value.tx_hash))).gas_used > 0


async def test_waiting_on_says_it_again(
    sender: Sender, escrow: Escrow, market: LocalChain, tampered: Tampered
) -> None:
    """Case 86: dropped after the caller's patience was over, and its nonce taken by another."""
    market.rpc("evm_setAutomine", False)
    with pytest.raises(TransactionTimeout, match="wait on") as caught:
        await sender.execute(escrow.withdraw(5, CONSUMER.address), timeout_s=0.3)
    market.rpc("anvil_dropAllTransactions")
    market.rpc("evm_setAutomine", True)
    await sender.execute(escrow.withdraw(7, CONSUMER.address))
    await sender.wait(Digest(caught.value.tx_hash))
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 12


RECEIPT = "eth_getTransactionReceipt"


async def test_nothing_is_signed_for_another_chain(
    web3: Any, escrow: Escrow, market: LocalChain, tampered: Tampered
) -> None:
    """Case 77: a node that tells another chain's id once."""
    sender = Sender(web3, CONSUMER.key, chain_id=market.chain_id)
    tampered.after = lambda m, _t, a: {**a, "result": "0x1"} if m == "eth_chainId" else a
    await sender.execute(escrow.withdraw(5, CONSUMER.address))
    assert (await escrow.account(CONSUMER.address)).available == 50 * TOKEN - 5
