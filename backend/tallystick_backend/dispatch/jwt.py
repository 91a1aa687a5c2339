"""NATS's own JSON web tokens (version 2): ed25519 under the header `ed25519-nkey`, issuer and
subject are nkeys. Only what the auth callout needs: read one request, write two answers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tallystick_backend.dispatch.errors import LoginRefused
from tallystick_backend.dispatch.nats_config import signing_key

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_MAX_BYTES = 64 * 1024


def encode(claims: dict[str, Any], seed: str) -> str:
    """Signs `claims` as the key of `seed`; sets issuer and id."""
    key = signing_key(seed)
    issuer = bytes(key.public_key).decode().rstrip("=")
    content = {**claims, "iss": issuer}
    digest = hashlib.sha512(json.dumps(content, sort_keys=True).encode()).digest()[:32]
    content["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_part(_HEADER)}.{_part(content)}"
    return f"{signed}.{_encode(key.sign(signed.encode()))}"


def decode(token: bytes) -> dict[str, Any]:
    """The claims, once their issuer's signature is checked. Who the issuer is decides nothing here:
    the subject it came on does."""
    if len(token) > _MAX_BYTES:
        raise LoginRefused(f"a token of {len(token)} bytes")
    try:
        header, content, signature = token.decode("ascii").split(".")
        claims = json.loads(_decode(content))
        if json.loads(_decode(header)).get("alg") != _HEADER["alg"]:
            raise LoginRefused("the token is not signed with ed25519-nkey")
        verifier = Ed25519PublicKey.from_public_bytes(_public_bytes(claims["iss"]))
        verifier.verify(_decode(signature), f"{header}.{content}".encode())
    except InvalidSignature:
        raise LoginRefused("the token's signature is wrong") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise LoginRefused(f"the token is malformed: {type(failure).__name__}") from failure
    if not isinstance(claims, dict):
        raise LoginRefused("the token holds no claims")
    return claims


def _public_bytes(nkey: str) -> bytes:
    """32 bytes out of prefix, key and checksum."""
    raw = base64.b32decode(nkey + "=" * (-len(nkey) % 8))
    if len(raw) != 35 or binascii.crc_hqx(raw[:33], 0).to_bytes(2, "little") != raw[33:]:
        raise ValueError("not an nkey")
    return raw[1:33]


def _part(content: dict[str, Any]) -> str:
    return _encode(json.dumps(content, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
