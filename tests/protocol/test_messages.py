"""Digests and signatures of the messages.

digest
├── equals eth_account's for every vector on file
├── changes with every field (security case 39), with the chain and with the deployment (37)
└── is refused for values that do not fit their type
sign, recover
├── round trip, deterministic
└── another field, chain or deployment recovers somebody else
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import messages
from tallystick.protocol.errors import MessageError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.messages import (
    MESSAGES,
    Acceptance,
    Assignment,
    Channel,
    ChannelAllowance,
    Domain,
    Message,
    OperatorKey,
    Receipt,
    TaskTerms,
    Voucher,
)
from tallystick.protocol.types import Address, to_address
from tests.protocol.vectors import generate
from tests.support.anvil import CONSUMER, PROVIDER, STRANGER, digest_of_word

VECTORS: list[dict[str, Any]] = json.loads(generate.PATH.read_text())["vectors"]
DOMAIN = Domain(31337, PROVIDER.address)
BY_NAME: dict[str, type[Message]] = {cls.__name__: cls for cls in MESSAGES}


def message_of(vector: dict[str, Any]) -> Message:
    kind = BY_NAME[vector["type"]]
    values: list[Any] = [
        text if text.startswith("0x") else int(text) for text in vector["message"].values()
    ]
    return kind(*values)


def domain_of(vector: dict[str, Any]) -> Domain:
    return Domain(int(vector["chainId"]), Address(vector["escrow"]))


def random_value(kind: str, number: int) -> Any:
    if kind == "address":
        return to_address("0x" + (number % 2**160).to_bytes(20, "big").hex())
    if kind == "bytes32":
        return digest_of_word(number % 2**256)
    return number % 2 ** int(kind.removeprefix("uint"))


def types_of(kind: type[Message]) -> list[tuple[str, str]]:
    """(field, Solidity type) in order."""
    inside = re.fullmatch(r"\w+\((.*)\)", kind.TYPE)
    assert inside is not None
    return [
        (field.name, part.split(" ")[0])
        for field, part in zip(fields(kind), inside[1].split(","), strict=True)
    ]


class TestDigest:
    def test_there_are_vectors_of_every_type(self) -> None:
        assert {vector["type"] for vector in VECTORS} == set(BY_NAME)
        assert len(VECTORS) >= 200

    @pytest.mark.parametrize("name", BY_NAME)
    def test_equals_eth_account_for_every_vector_on_file(self, name: str) -> None:
        for vector in VECTORS:
            if vector["type"] == name:
                actual = messages.digest(domain_of(vector), message_of(vector))
                assert actual == vector["digest"], vector

    def test_the_vectors_on_file_are_the_generators(self) -> None:
        assert generate.PATH.read_text() == generate.render()

    @pytest.mark.parametrize("kind", MESSAGES)
    def test_field_names_are_those_of_the_type_string(self, kind: type[Message]) -> None:
        inside = kind.TYPE.removeprefix(kind.__name__)[1:-1]
        camel = [part.split(" ")[1] for part in inside.split(",")]
        snake = [re.sub(r"(?=[A-Z])", "_", name).lower() for name in camel]
        assert [field.name for field in fields(kind)] == snake

    @pytest.mark.parametrize("kind", MESSAGES)
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**256 - 1), flip=st.integers(0, 255))
    def test_every_flipped_bit_of_every_field_changes_it(
        self, kind: type[Message], seed: int, flip: int
    ) -> None:
        layout = types_of(kind)
        numbers = {name: seed >> at for at, (name, _) in enumerate(layout)}
        message = kind(*(random_value(solidity, numbers[name]) for name, solidity in layout))
        original = messages.digest(DOMAIN, message)
        for name, solidity in layout:
            bits = {"address": 160, "bytes32": 256}.get(solidity) or int(solidity[4:])
            flipped = random_value(solidity, numbers[name] ^ (1 << flip % bits))
            assert messages.digest(DOMAIN, replace(message, **{name: flipped})) != original, name

    def test_changes_with_chain_and_deployment(self) -> None:
        message = OperatorKey(PROVIDER.address, CONSUMER.address)
        digests = {
            messages.digest(domain, message)
            for domain in (
                DOMAIN,
                replace(DOMAIN, chain_id=1),
                replace(DOMAIN, escrow=CONSUMER.address),
            )
        }
        assert len(digests) == 3

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("total", -1, "0 to"),
            ("total", 2**128, "0 to"),
            ("total", 1.0, "whole number"),
            ("total", True, "whole number"),
            ("total", "5", "whole number"),
            ("receipt", "0x12", "bytes32"),
            ("receipt", "0x" + "zz" * 32, "bytes32"),
            ("receipt", b"\x00" * 32, "bytes32"),
        ],
    )
    def test_is_refused_for_values_that_do_not_fit(
        self, field: str, value: object, reason: str
    ) -> None:
        message = Acceptance(digest_of_word(1), 5, digest_of_word(2))  # type: ignore[arg-type]
        with pytest.raises(MessageError, match=reason):
            messages.digest(DOMAIN, replace(message, **{field: value}))  # type: ignore[arg-type]


class TestSignAndRecover:
    @pytest.mark.parametrize("name", BY_NAME)
    def test_whoever_signs_is_recovered(self, name: str) -> None:
        message = message_of(next(vector for vector in VECTORS if vector["type"] == name))
        signature = messages.sign(DOMAIN, message, CONSUMER.key)
        assert messages.recover(DOMAIN, message, signature) == CONSUMER.address
        assert messages.sign(DOMAIN, message, CONSUMER.key) == signature

    @pytest.mark.parametrize("name", BY_NAME)
    def test_equals_what_a_wallet_signs_from_typed_data(self, name: str) -> None:
        for vector in [vector for vector in VECTORS if vector["type"] == name][:5]:
            domain, message = domain_of(vector), message_of(vector)
            typed = json.loads(json.dumps(messages.typed_data(domain, message)))
            typed["domain"]["chainId"] = int(typed["domain"]["chainId"])
            signed = Account.sign_message(
                encode_typed_data(full_message=typed), private_key=CONSUMER.key
            )
            assert "0x" + bytes(signed.signature).hex() == messages.sign(
                domain, message, CONSUMER.key
            )

    def test_for_another_chain_or_deployment_it_is_nobody_known(self) -> None:
        message = OperatorKey(PROVIDER.address, CONSUMER.address)
        signature = messages.sign(DOMAIN, message, CONSUMER.key)
        for domain in (replace(DOMAIN, chain_id=1), replace(DOMAIN, escrow=CONSUMER.address)):
            assert messages.recover(domain, message, signature) != CONSUMER.address


class TestBodies:
    @pytest.mark.parametrize(
        "kind", [TaskTerms, Assignment, Receipt, Acceptance, Voucher, ChannelAllowance]
    )
    def test_a_message_crosses_the_wire_unchanged(self, kind: Any) -> None:
        values = [
            1 if name == "fence" else random_value(solidity, 2**255 + 2999)
            for name, solidity in types_of(kind)
        ]
        message = kind(*values)
        body = message.to_body()
        again = type(body).model_validate_json(body.model_dump_json())
        assert kind.from_body(again) == message

    def test_addresses_arrive_with_their_checksum(self) -> None:
        message = Assignment(digest_of_word(1), PROVIDER.address, 1, 2, 3)  # type: ignore[arg-type]
        body = message.to_body().model_copy(update={"provider": PROVIDER.address.lower()})
        assert Assignment.from_body(body) == message


class TestChannels:
    CHANNEL = Channel(CONSUMER.address, STRANGER.address, PROVIDER.address, 2**96 - 1)

    def test_the_id_is_the_hash_of_the_four_words(self) -> None:
        words = [self.CHANNEL.payer, self.CHANNEL.signer, self.CHANNEL.provider]
        encoded = encode(["address"] * 3 + ["uint96"], [*words, 2**96 - 1])
        assert messages.channel_id(self.CHANNEL) == "0x" + keccak256(encoded).hex()

    @pytest.mark.parametrize("salt", [-1, 2**96, 1.0, True])
    def test_a_salt_that_does_not_fit_is_refused(self, salt: Any) -> None:
        with pytest.raises(MessageError, match="salt"):
            messages.channel_id(replace(self.CHANNEL, salt=salt))

    def test_a_signed_voucher_names_its_channel(self) -> None:
        voucher = self.CHANNEL.voucher(7, digest_of_word(1))
        signature = messages.sign(DOMAIN, voucher, STRANGER.key)
        assert messages.channel_of(DOMAIN, voucher, signature) == self.CHANNEL
        other = messages.sign(DOMAIN, voucher, PROVIDER.key)
        assert messages.channel_of(DOMAIN, voucher, other) != self.CHANNEL

    def test_crosses_the_wire_unchanged(self) -> None:
        body = self.CHANNEL.to_body()
        again = type(body).model_validate_json(body.model_dump_json())
        assert Channel.from_body(again) == self.CHANNEL
        assert json.loads(body.model_dump_json())["salt"] == str(2**96 - 1)
