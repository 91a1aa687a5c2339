"""A sealing key is a provider's when the provider, or a key of its own, signed it for this
deployment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.protocol.errors import SealError, SignatureError
from tallystick.protocol.messages import Domain
from tallystick.protocol.sealing import key_from_seed
from tallystick.protocol.sealing_key import hpke_key_signer, sign_hpke_key
from tallystick.protocol.signatures import recover_text
from tallystick.protocol.types import Address
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER, STRANGER

DOMAIN = Domain(31337, CONSUMER.address)
KEY = key_from_seed(b"0123456789abcdef").public
OTHER_KEY = key_from_seed(b"fedcba9876543210").public


def test_names_who_signed() -> None:
    signed = sign_hpke_key(DOMAIN, PROVIDER.address, KEY, OPERATOR.key)
    assert hpke_key_signer(DOMAIN, PROVIDER.address, KEY, signed) == OPERATOR.address


def test_the_same_key_is_signed_the_same_way_however_it_is_written() -> None:
    upper = "0x" + KEY[2:].upper()
    signed = sign_hpke_key(DOMAIN, PROVIDER.address, KEY, OPERATOR.key)
    assert sign_hpke_key(DOMAIN, PROVIDER.address, upper, OPERATOR.key) == signed
    assert hpke_key_signer(DOMAIN, PROVIDER.address, upper, signed) == OPERATOR.address


def test_a_wallet_shows_what_is_signed() -> None:
    signed = sign_hpke_key(DOMAIN, PROVIDER.address, KEY, OPERATOR.key)
    text = (
        f"Tallystick provider sealing key\nChain: 31337\nEscrow: {CONSUMER.address}\n"
        f"Provider: {PROVIDER.address}\nHPKE key: {KEY}"
    )
    assert recover_text(text, signed) == OPERATOR.address


@pytest.mark.parametrize(
    ("domain", "provider", "key"),
    [
        pytest.param(replace(DOMAIN, chain_id=1), PROVIDER.address, KEY, id="another chain"),
        pytest.param(
            replace(DOMAIN, escrow=STRANGER.address), PROVIDER.address, KEY, id="another deployment"
        ),
        pytest.param(DOMAIN, STRANGER.address, KEY, id="another provider"),
        pytest.param(DOMAIN, PROVIDER.address, OTHER_KEY, id="another key"),
    ],
)
def test_says_nothing_about(domain: Domain, provider: Address, key: str) -> None:
    signed = sign_hpke_key(DOMAIN, PROVIDER.address, KEY, OPERATOR.key)
    assert _signer_or_nobody(domain, provider, key, signed) != OPERATOR.address


@pytest.mark.parametrize("key", ["", "0x", KEY[2:], KEY[:-2], KEY + "00", KEY[:-1] + "g"])
def test_what_is_no_key_is_neither_signed_nor_believed(key: str) -> None:
    signed = sign_hpke_key(DOMAIN, PROVIDER.address, KEY, OPERATOR.key)
    with pytest.raises(SealError, match="64 hex digits"):
        sign_hpke_key(DOMAIN, PROVIDER.address, key, OPERATOR.key)
    with pytest.raises(SealError, match="64 hex digits"):
        hpke_key_signer(DOMAIN, PROVIDER.address, key, signed)


def test_what_is_no_signature_is_refused() -> None:
    with pytest.raises(SignatureError):
        hpke_key_signer(DOMAIN, PROVIDER.address, KEY, "0x" + "00" * 65)


def _signer_or_nobody(domain: Domain, provider: Address, key: str, signed: str) -> Address | None:
    try:
        return hpke_key_signer(domain, provider, key, signed)
    except SignatureError:
        return None  # the signature fits no key over this text
