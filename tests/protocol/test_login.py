"""A log-in proof is good for one deployment, one key and a short time."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol.errors import LoginError
from tallystick.protocol.login import LoginProof, check_proof, make_proof
from tallystick.protocol.messages import Domain
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER, STRANGER

DOMAIN = Domain(31337, CONSUMER.address)
NOW_S = 1_800_000_000


def proof() -> str:
    return make_proof(DOMAIN, PROVIDER.address, OPERATOR.address, NOW_S, OPERATOR.key)


def changed(text: str, **changes: Any) -> str:
    """The same signature under other content."""
    encoded, signature = text.split(".")
    content = json.loads(base64.urlsafe_b64decode(encoded + "=="))
    raw = json.dumps({**content, **changes}).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() + "." + signature


def test_a_fresh_proof_names_provider_and_key() -> None:
    checked = check_proof(proof(), DOMAIN, NOW_S + 5, 60)
    assert checked == LoginProof(PROVIDER.address, OPERATOR.address, NOW_S, checked.nonce)


def test_every_proof_has_a_nonce_of_its_own() -> None:
    nonces = {check_proof(proof(), DOMAIN, NOW_S, 60).nonce for _ in range(20)}
    assert len(nonces) == 20


@pytest.mark.parametrize("age_s", [-60, 0, 60])
def test_is_good_up_to_its_age_either_way(age_s: int) -> None:
    assert check_proof(proof(), DOMAIN, NOW_S + age_s, 60).issued_at_s == NOW_S


@pytest.mark.parametrize("age_s", [-61, 61, 10**6])
def test_is_refused_when_older_or_from_the_future(age_s: int) -> None:
    with pytest.raises(LoginError, match="seconds old"):
        check_proof(proof(), DOMAIN, NOW_S + age_s, 60)


@pytest.mark.parametrize(
    "domain",
    [replace(DOMAIN, chain_id=1), replace(DOMAIN, escrow=STRANGER.address)],
    ids=["another chain", "another deployment"],
)
def test_is_refused_for(domain: Domain) -> None:
    with pytest.raises(LoginError, match="not signed by its key"):
        check_proof(proof(), domain, NOW_S, 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": STRANGER.address},
        {"key": STRANGER.address},
        {"issued_at_s": NOW_S + 1},
        {"nonce": "0" * 32},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_is_refused_with_any_field_changed(changes: dict[str, Any]) -> None:
    with pytest.raises(LoginError, match="not signed by its key"):
        check_proof(changed(proof(), **changes), DOMAIN, NOW_S, 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"issued_at_s": str(NOW_S)},
        {"issued_at_s": float(NOW_S)},
        {"issued_at_s": True},
        {"nonce": "short"},
        {"nonce": 5},
        {"key": "0x12"},
        {"provider": None},
        {"admin": True},
    ],
    ids=str,
)
def test_malformed_content_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LoginError):
        check_proof(changed(proof(), **changes), DOMAIN, NOW_S, 60)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.b", "....", "e30.0x00", "[[.0x00", "é.0x00", "W10.0x", "x" * 5000],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(LoginError):
        check_proof(text, DOMAIN, NOW_S, 60)


def test_a_key_proves_nothing_in_anothers_name() -> None:
    with pytest.raises(LoginError, match="belongs to"):
        make_proof(DOMAIN, PROVIDER.address, OPERATOR.address, NOW_S, STRANGER.key)
