"""Every refusal is a sentence."""

from __future__ import annotations

import pickle
import re

import pytest
from eth_abi.abi import encode

from tallystick.protocol import codec
from tallystick.protocol.contract_errors import SENTENCES, decode_error
from tallystick.protocol.hashing import keccak256


def test_every_error_of_every_contract_has_a_sentence_and_no_sentence_is_left_over() -> None:
    assert set(SENTENCES) == codec.error_names()


@pytest.mark.parametrize("contract", codec.CONTRACTS)
def test_sentences_use_the_values_the_error_has(contract: codec.ContractName) -> None:
    for entry in codec.abi(contract):
        if entry["type"] == "error":
            used = {int(place) for place in re.findall(r"\{(\d)\}", SENTENCES[entry["name"]])}
            assert used <= set(range(len(entry["inputs"]))), entry["name"]


def test_values_come_in_their_places() -> None:
    data = keccak256(b"InsufficientAvailable(uint128,uint128)")[:4] + encode(
        ["uint128", "uint128"], [7, 5]
    )
    error = decode_error("0x" + data.hex())
    assert (error.name, error.values) == ("InsufficientAvailable", (7, 5))
    assert str(error) == "the escrow account needs 7 available and has 5: deposit the rest"
    assert pickle.loads(pickle.dumps(error)).values == error.values


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"", "", "without a reason"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["no way"]), "Error", "refused: no way"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "Panic", "below zero"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x99]), "Panic", "panic 0x99"),
        (bytes.fromhex("08c379a0") + b"\xff" * 31, "08c379a0", "unknown error"),
        (b"\xde\xad\xbe\xef" + bytes(64), "deadbeef", "unknown error 0xdeadbeef"),
        (b"\xde", "de", "unknown error"),
    ],
    ids=["nothing", "reason", "panic", "odd panic", "cut reason", "unknown", "one byte"],
)
def test_there_is_always_an_answer(data: bytes, name: str, sentence: str) -> None:
    error = decode_error(data)
    assert error.name == name
    assert sentence in error.sentence


def test_an_error_of_ours_cut_short_is_told_as_unknown() -> None:
    data = keccak256(b"NoCredit(address)")[:4]
    assert "unknown error" in decode_error(data).sentence
