"""Whose sealing key it is: the provider's key signs the HPKE key that inputs are sealed to.

Without it, whoever names the key (the backend, which lists providers) could name its own and read
every input. The signature is good for one deployment and one provider; whether the signer speaks
for the provider is the verifier's question: it has the chain.
"""

from __future__ import annotations

import re
from typing import Final

from tallystick.protocol.errors import SealError
from tallystick.protocol.messages import Domain
from tallystick.protocol.signatures import PrivateKey, recover_text, sign_text
from tallystick.protocol.types import Address, Signature

__all__ = ["hpke_key_signer", "sign_hpke_key"]

_HPKE_KEY: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)


def sign_hpke_key(
    domain: Domain, provider: Address, hpke_key: str, private_key: PrivateKey
) -> Signature:
    """Deterministic, so an announcement that did not change stays the same bytes. `private_key` is
    the provider's, or one of its operator keys."""
    return sign_text(_text(domain, provider, hpke_key), private_key)


def hpke_key_signer(domain: Domain, provider: Address, hpke_key: str, signature: str) -> Address:
    """Who says that inputs for `provider` are sealed to `hpke_key` here. Anything changed gives
    another signer, so compare it with the keys that sign for the provider. Raises `SealError` for
    what is no key and `SignatureError` for what is no signature."""
    return recover_text(_text(domain, provider, hpke_key), signature)


def _text(domain: Domain, provider: Address, hpke_key: str) -> str:
    key = hpke_key.lower()
    if not _HPKE_KEY.fullmatch(key):
        raise SealError(f"{hpke_key[:80]!r} is no sealing key: expected 0x and 64 hex digits")
    return (
        "Tallystick provider sealing key\n"
        f"Chain: {domain.chain_id}\n"
        f"Escrow: {domain.escrow}\n"
        f"Provider: {provider}\n"
        f"HPKE key: {key}"
    )
