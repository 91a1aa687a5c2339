"""Digests equal in Solidity, in eth_account and in `tallystick.protocol` (case 38).

The golden vectors are those of tests/protocol/vectors, made by eth_account alone. Each is for an
escrow and a chain of its own: the struct hash comes from Solidity, the domain from the vector.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from tallystick.protocol import messages
from tallystick.protocol.messages import OperatorKey, as_tuple
from tallystick.protocol.types import Address
from tests.contracts.channels import Till, channel_id, fields
from tests.contracts.stage import TALLY, Stage, digest_of, reverts_with

VECTORS = Path(__file__).resolve().parents[3] / "protocol" / "vectors" / "eip712.json"


def golden(primary: str) -> list[dict[str, Any]]:
    found = json.loads(VECTORS.read_text())["vectors"]
    return [vector for vector in found if vector["type"] == primary]


@pytest.mark.parametrize("primary", [kind.__name__ for kind in messages.MESSAGES])
def test_struct_hashes_equal_the_golden_vectors(harness: Any, primary: str) -> None:
    vectors = golden(primary)
    assert len(vectors) == 44
    hash_of = getattr(harness, f"hashOf{primary}")
    for vector in vectors:
        # The order of a vector's fields is the order of its type.
        values = tuple(
            int(value) if value.isdecimal() else value for value in vector["message"].values()
        )
        struct_hash = bytes(hash_of(*values) if primary == "OperatorKey" else hash_of(values))
        separator = domain_separator(int(vector["chainId"]), vector["escrow"])
        assert Web3.keccak(b"\x19\x01" + separator + struct_hash).to_0x_hex() == vector["digest"]


def domain_separator(chain_id: int, escrow: str) -> bytes:
    kind = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    return bytes(
        Web3.keccak(
            Web3.keccak(text=kind)
            + Web3.keccak(text="Tallystick")
            + Web3.keccak(text="1")
            + chain_id.to_bytes(32, "big")
            + bytes.fromhex(escrow[2:]).rjust(32, b"\0")
        )
    )


def test_the_contracts_views_equal_the_kernel(stage: Stage, till: Till) -> None:
    terms, usage = stage.terms(), stage.usage()
    market = stage.market
    receipt = stage.receipt(terms, usage)
    assert market.digestOfTaskTerms(as_tuple(terms)) == stage.digest(terms)
    assert market.digestOfReceipt(as_tuple(receipt)) == stage.digest(receipt)
    acceptance = stage.acceptance(terms, usage)
    assert market.digestOfAcceptance(as_tuple(acceptance)) == stage.digest(acceptance)
    assignment = stage.assignment(terms, usage)
    assert market.digestOfAssignment(as_tuple(assignment)) == stage.digest(assignment)
    key = OperatorKey(Address(stage.provider.address), Address(stage.operator.address))
    digest = stage.staking.digestOfOperatorKey(stage.provider, stage.operator)
    assert digest == stage.digest(key)
    channel = till.channel(salt=2**96 - 1)
    assert stage.escrow.channelIdOf(fields(channel)) == channel_id(channel)
    voucher = till.voucher(channel, TALLY)
    assert stage.escrow.digestOfVoucher(as_tuple(voucher)) == stage.digest(voucher)
    allowance = till.allowance(purpose=digest_of("app"), nonce=2**256 - 1)
    assert stage.escrow.digestOfChannelAllowance(as_tuple(allowance)) == stage.digest(allowance)


def test_the_market_completes_a_usage_to_the_receipt_that_was_signed(stage: Stage) -> None:
    terms, usage = stage.terms(), stage.usage()
    shown, digest = stage.market.receiptOf(as_tuple(terms), usage.row())
    expected = stage.receipt(terms, usage)
    assert digest == stage.digest(expected)
    assert [str(value).lower() for value in shown] == [
        str(value).lower() for value in as_tuple(expected)
    ]


def test_all_contracts_share_one_domain(stage: Stage) -> None:
    separator = messages.domain_separator(stage.domain)
    for contract in (stage.escrow, stage.market, stage.staking):
        assert bytes(contract.domainSeparator()) == separator
        told = contract.eip712Domain()
        assert (str(told[1]), str(told[2]), int(told[3])) == (
            "Tallystick",
            "1",
            stage.domain.chain_id,
        )
        assert told[4] == stage.escrow


def test_a_forked_chain_has_another_domain(stage: Stage) -> None:
    """Case 37: the separator follows the chain id."""
    from brownie import web3

    before = stage.domain.chain_id
    web3.provider.make_request("anvil_setChainId", [before + 1])
    try:
        forked = replace(stage.domain, chain_id=before + 1)
        separator = messages.domain_separator(forked)
        assert bytes(stage.market.domainSeparator()) == separator
        assert bytes(stage.escrow.domainSeparator()) == separator
    finally:
        web3.provider.make_request("anvil_setChainId", [before])


def test_wide_words_are_refused_by_the_views(stage: Stage) -> None:
    """A digest that nobody could have signed is not offered."""
    terms = bytearray(
        bytes.fromhex(stage.market.chargeOf.encode_input(as_tuple(stage.terms()), 0, 0)[2:])
    )
    terms[4 + 5 * 32] = 1
    with reverts_with("FieldTooWide"):
        stage.consumer.transfer(stage.market, data="0x" + bytes(terms).hex())
