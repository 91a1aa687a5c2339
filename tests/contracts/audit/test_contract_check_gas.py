"""A consumer's contract gets its 100,000 gas or the call reverts: a relayer that sends little gas
never makes a good signature look bad. Also where an account delegates to code (EIP-7702), whose
loading costs 2,600 gas more.
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import as_tuple
from tests.contracts.stage import Stage

# Approves everything, if it was given 100,000 gas; else answers with nothing.
ASKS_FOR_ITS_GAS = "0x5a6201869511601757631626ba7e60e01b5f5260205ff35b5f5ff3"
CODE_AT = "0x00000000000000000000000000000000000c0DE1"


def answer(stage: Stage, sender: Any, data: str, gas: int) -> str:
    """What this call answers or reverts with, as hex."""
    from brownie import web3

    call = {"from": sender.address, "to": stage.market.address, "data": data, "gas": hex(gas)}
    told = web3.provider.make_request("eth_call", [call, "latest"])
    if "result" in told:
        return str(told["result"])
    return str(told["error"].get("data") or told["error"]["message"])


@pytest.fixture(params=["contract", "delegated account"])
def careful(request: pytest.FixtureRequest, stage: Stage) -> Any:
    """A consumer that minds how much gas it is given, with 100 in the escrow."""
    from brownie import web3

    account = "0x00000000000000000000000000000000000A11ce"
    own = ASKS_FOR_ITS_GAS
    if request.param == "delegated account":
        web3.provider.make_request("anvil_setCode", [CODE_AT, ASKS_FOR_ITS_GAS])
        own = "0xef0100" + CODE_AT[2:]
    web3.provider.make_request("anvil_setCode", [account, own])
    stage.token.approve(stage.escrow, 100 * 10**18, {"from": stage.consumer})
    stage.escrow.deposit(account, 100 * 10**18, {"from": stage.consumer})
    return account


def test_a_good_signature_never_looks_bad(stage: Stage, careful: str, stranger: Any) -> None:
    from brownie import web3

    terms = stage.terms(consumer=careful)
    data = stage.market.createTask.encode_input(as_tuple(terms), b"\1" * 65)
    refused = web3.keccak(text="InvalidTermsSignature(address,address)")[:4].to_0x_hex()
    starved = web3.keccak(text="NotEnoughGas(uint256,uint256)")[:4].to_0x_hex()
    answers = [answer(stage, stranger, data, gas) for gas in range(130_000, 142_000, 200)]
    assert not [told for told in answers if told.startswith(refused)]
    assert answers[0].startswith(starved)
    assert answer(stage, stranger, data, 1_000_000) == stage.task_id(terms)


def test_a_batch_never_skips_a_good_row_for_want_of_gas(
    stage: Stage, careful: str, stranger: Any
) -> None:
    usage = stage.usage()
    proof = stage.accepted(
        stage.terms(consumer=careful), usage, acceptance="0x" + "01" * 65, terms_signature=b""
    )
    data = stage.market.proveMany.encode_input([proof])
    paid = answer(stage, stranger, data, 1_000_000)
    assert int(paid[-64:], 16) == 1
    for gas in range(130_000, 190_000, 250):
        told = answer(stage, stranger, data, gas)
        # Paid, refused as a whole, or out of gas: never skipped.
        assert told == paid or not told.startswith(paid[:66]), gas
