"""One canonical form (security cases 35 and 36), and the contracts agree (48).

recover_digest
├── 65 bytes with v 27 or 28, and the same in EIP-2098's 64: the signer
└── anything else: refused
"""

from __future__ import annotations

import random

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from tallystick.protocol import messages, signatures
from tallystick.protocol.contracts import Staking
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, SignatureError
from tallystick.protocol.messages import OperatorKey
from tallystick.protocol.signatures import (
    address_of,
    canonical,
    recover_digest,
    recover_text,
    sign_digest,
    sign_text,
)
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER, LocalChain, read

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = bytes.fromhex("11" * 32)
GOOD = bytes.fromhex(sign_digest(DIGEST, CONSUMER.key)[2:])
R, S, V = GOOD[:32], GOOD[32:64], GOOD[64]


def test_a_signer_signs_as_the_key_does() -> None:
    sign = signatures.signer(CONSUMER.key)
    message = OperatorKey(PROVIDER.address, CONSUMER.address)
    domain = messages.Domain(31337, PROVIDER.address)
    for word in (b"\x11", b"\x22"):
        assert sign(word * 32) == sign_digest(word * 32, CONSUMER.key)
    assert messages.signer(domain, CONSUMER.key)(message) == messages.sign(
        domain, message, CONSUMER.key
    )


def compact(signature: bytes) -> bytes:
    top = 0x80 if signature[64] == 28 else 0
    return signature[:32] + bytes([signature[32] | top]) + signature[33:64]


def high_s(signature: bytes) -> bytes:
    """The other signature of the same key over the same digest: s negated, v switched."""
    s = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    return signature[:32] + s + bytes([55 - signature[64]])


REFUSED = {
    "high s with the v that fits it": high_s(GOOD),
    "high s with the v as it was": high_s(GOOD)[:64] + bytes([V]),
    "v 0": R + S + bytes([0]),
    "v 1": R + S + bytes([1]),
    "v 2": R + S + bytes([2]),
    "v 26": R + S + bytes([26]),
    "v 29": R + S + bytes([29]),
    "v 35, as EIP-155 has": R + S + bytes([35]),
    "v 255": R + S + bytes([255]),
    "no bytes": b"",
    "one byte": b"\x1b",
    "63 bytes": GOOD[:63],
    "66 bytes": GOOD + b"\x00",
    "128 bytes": GOOD[:64] * 2,
    "r zero": bytes(32) + S + bytes([V]),
    "s zero": R + bytes(32) + bytes([V]),
    "all zero with v 27": bytes(64) + bytes([27]),
    "r of the order": ORDER.to_bytes(32, "big") + S + bytes([V]),
    "s of the order": R + ORDER.to_bytes(32, "big") + bytes([V]),
    "compact with s in the upper half": R + ((ORDER // 2 + 1).to_bytes(32, "big")),
    "all ones": b"\xff" * 65,
}


class TestRecover:
    def test_65_bytes(self) -> None:
        assert recover_digest(DIGEST, GOOD) == CONSUMER.address
        assert recover_digest(DIGEST, "0x" + GOOD.hex()) == CONSUMER.address

    def test_64_bytes_of_eip_2098(self) -> None:
        assert recover_digest(DIGEST, compact(GOOD)) == CONSUMER.address

    @pytest.mark.parametrize("number", range(40))
    def test_both_forms_of_random_signatures(self, number: int) -> None:
        chance = random.Random(number)
        digest = chance.randbytes(32)
        signature = bytes.fromhex(sign_digest(digest, CONSUMER.key)[2:])
        assert recover_digest(digest, signature) == CONSUMER.address
        assert recover_digest(digest, compact(signature)) == CONSUMER.address
        assert canonical(compact(signature)) == "0x" + signature.hex()
        with pytest.raises(SignatureError, match="high s"):
            recover_digest(digest, high_s(signature))

    @pytest.mark.parametrize("signature", REFUSED.values(), ids=REFUSED)
    def test_anything_else_is_refused(self, signature: bytes) -> None:
        with pytest.raises(SignatureError):
            recover_digest(DIGEST, signature)

    @pytest.mark.parametrize("text", ["", "0x", "0xzz", "hello", "0x123"])
    def test_text_that_is_no_signature_is_refused(self, text: str) -> None:
        with pytest.raises(SignatureError):
            recover_digest(DIGEST, text)


class TestParityWithTheContracts:
    """`bindOperatorKey` accepts a signature exactly if the kernel recovers the key from it."""

    def accepts(self, chain: LocalChain, deployment: Deployment, signature: bytes) -> bool:
        call = Staking(None, deployment.staking).bind_operator_key(  # type: ignore[arg-type]
            OPERATOR.address, "0x" + signature.hex()
        )
        try:
            read(chain, call, PROVIDER.address)
        except ContractError as failure:
            if failure.name != "InvalidKeySignature":
                raise
            return False
        return True

    def recovers(self, deployment: Deployment, signature: bytes) -> bool:
        message = OperatorKey(PROVIDER.address, OPERATOR.address)
        try:
            signer = messages.recover(deployment.domain, message, "0x" + signature.hex())
        except SignatureError:
            return False
        return signer == OPERATOR.address

    def test_on_random_mutations(self, chain: LocalChain, deployment: Deployment) -> None:
        message = OperatorKey(PROVIDER.address, OPERATOR.address)
        good = bytes.fromhex(messages.sign(deployment.domain, message, OPERATOR.key)[2:])
        chance = random.Random(48)
        tried = [good, compact(good), high_s(good), good[:64], good + b"\0", b""]
        tried += [good[:64] + bytes([v]) for v in range(256)]
        for _ in range(200):
            mutated = bytearray(chance.choice([good, compact(good)]))
            mutated[chance.randrange(len(mutated))] ^= 1 << chance.randrange(8)
            tried.append(bytes(mutated))
        verdicts = [
            (self.accepts(chain, deployment, one), self.recovers(deployment, one)) for one in tried
        ]
        assert all(contract == kernel for contract, kernel in verdicts)
        assert verdicts[:2] == [(True, True)] * 2
        assert verdicts[2] == (False, False)


class TestKeysAndTexts:
    def test_equal_eth_account(self) -> None:
        account = Account.from_key(CONSUMER.key)
        assert address_of(CONSUMER.key) == account.address
        signed = account.sign_message(encode_defunct(text="Grüße"))
        assert sign_text("Grüße", CONSUMER.key) == "0x" + bytes(signed.signature).hex()
        assert recover_text("Grüße", sign_text("Grüße", CONSUMER.key)) == CONSUMER.address

    @pytest.mark.parametrize("key", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32, "11" * 33])
    def test_a_bad_key_is_refused_and_never_shown(self, key: str) -> None:
        with pytest.raises(SignatureError) as caught:
            signatures.private_key_bytes(key)
        assert not key or key not in str(caught.value)
