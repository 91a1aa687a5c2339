"""A provider's log-in to the message bus: its operator key signs who, where and when.

The proof is good for one deployment, a short time and (the verifier keeps the nonces) one use.
Whether the key is bound to the provider, and staked, is the verifier's question: it has the chain.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass
from typing import Final

from tallystick.protocol.errors import AddressError, LoginError, SignatureError
from tallystick.protocol.messages import Domain
from tallystick.protocol.signatures import PrivateKey, address_of, recover_text, sign_text
from tallystick.protocol.types import Address, to_address

__all__ = ["LoginProof", "check_proof", "make_proof"]

_MAX_TEXT: Final = 1_024
_NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FIELDS: Final = {"provider", "key", "issued_at_s", "nonce"}


@dataclass(frozen=True, slots=True)
class LoginProof:
    """A checked proof: `key` signed it. The nonce has to be remembered for twice the allowed
    age."""

    provider: Address
    key: Address
    issued_at_s: int
    nonce: str


def make_proof(
    domain: Domain, provider: Address, key: Address, now_s: int, private_key: PrivateKey
) -> str:
    """Token text: base64url JSON, a point, the signature. `key` is the address of `private_key`."""
    if address_of(private_key) != key:
        raise LoginError(f"the private key belongs to {address_of(private_key)}, not to {key}")
    proof = LoginProof(provider, key, now_s, secrets.token_hex(16))
    signature = sign_text(_text(domain, proof), private_key)
    content = {
        "provider": proof.provider,
        "key": proof.key,
        "issued_at_s": proof.issued_at_s,
        "nonce": proof.nonce,
    }
    encoded = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    return f"{encoded}.{signature}"


def check_proof(text: str, domain: Domain, now_s: int, max_age_s: int) -> LoginProof:
    """Raises `LoginError` unless `key` signed it for this domain within `max_age_s` of now, either
    way: clocks differ."""
    proof, signature = _parse(text)
    age_s = now_s - proof.issued_at_s
    if abs(age_s) > max_age_s:
        raise LoginError(
            f"the log-in proof is {age_s} seconds old and may be {max_age_s}: make a new one, "
            "and check the clock"
        )
    try:
        signed_by = recover_text(_text(domain, proof), signature)
    except SignatureError as failure:
        raise LoginError(f"the log-in proof's signature is refused: {failure}") from failure
    if signed_by != proof.key:
        raise LoginError(
            f"the log-in proof is not signed by its key {proof.key} for chain {domain.chain_id} "
            f"and escrow {domain.escrow}: make one for this deployment"
        )
    return proof


def _text(domain: Domain, proof: LoginProof) -> str:
    return (
        "Tallystick provider log-in\n"
        f"Chain: {domain.chain_id}\n"
        f"Escrow: {domain.escrow}\n"
        f"Provider: {proof.provider}\n"
        f"Key: {proof.key}\n"
        f"Issued at: {proof.issued_at_s}\n"
        f"Nonce: {proof.nonce}"
    )


def _parse(text: str) -> tuple[LoginProof, str]:
    encoded, _, signature = text.partition(".")
    if len(text) > _MAX_TEXT or not signature:
        raise LoginError("the log-in proof has not the form <content>.<signature>: make a new one")
    try:
        content = json.loads(
            base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
        )
    except (binascii.Error, ValueError, RecursionError):
        raise LoginError(
            "the log-in proof's content is not base64url JSON: make a new one"
        ) from None
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise LoginError(
            "the log-in proof must name provider, key, issued_at_s and nonce, and no more"
        )
    issued_at_s, nonce = content["issued_at_s"], content["nonce"]
    if type(issued_at_s) is not int or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise LoginError("the log-in proof's time or nonce is malformed: make a new one")
    try:
        provider, key = to_address(str(content["provider"])), to_address(str(content["key"]))
    except AddressError as failure:
        raise LoginError(f"the log-in proof names no account: {failure}") from failure
    return LoginProof(provider, key, issued_at_s, nonce), signature
