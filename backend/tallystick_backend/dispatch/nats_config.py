"""The bus's own keys and the configuration of its server.

One seed is the whole secret: the issuer's, which signs what each provider may do. The two users of
the backend are derived from it, so the server's configuration holds public keys only and can be
shown to anybody. The auth callout has an account to itself: nobody else can ask it to sign.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import nkeys
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick_backend.dispatch.errors import BusError
from tallystick_backend.settings import PREFIX, Settings, SettingsError

ACCOUNT = "TALLYSTICK"
CALLOUT_ACCOUNT = "CALLOUT"
MAX_PAYLOAD_BYTES = 8 * 2**20
"""Largest message: a call's input or result travels in one. The server advises against more."""


@dataclass(frozen=True, slots=True)
class BusKeys:
    """Seeds are text as nkeys writes them (`SA...`, `SU...`); never logged."""

    issuer_seed: str = field(repr=False)
    backend_seed: str = field(repr=False)
    callout_seed: str = field(repr=False)
    issuer: str
    """Public account key `A...`."""
    backend: str
    callout: str

    @classmethod
    def from_issuer_seed(cls, seed: str) -> BusKeys:
        raw = _raw_account_seed(seed)
        backend_seed = _user_seed(raw, b"tallystick bus user: backend")
        callout_seed = _user_seed(raw, b"tallystick bus user: auth callout")
        return cls(
            issuer_seed=seed,
            backend_seed=backend_seed,
            callout_seed=callout_seed,
            issuer=_public(seed),
            backend=_public(backend_seed),
            callout=_public(callout_seed),
        )


def bus_keys_of(settings: Settings) -> BusKeys:
    """Raises `SettingsError` where no seed is set."""
    if settings.nats_issuer_seed is None:
        raise SettingsError(
            f"{PREFIX}NATS_ISSUER_SEED is not set: nobody could log in on the bus",
            next_step="Make one with `tallystick-backend nats-config --new-seed`.",
        )
    return BusKeys.from_issuer_seed(settings.nats_issuer_seed.get_secret_value())


def new_issuer_seed() -> str:
    return _text(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT))


def render(keys: BusKeys, *, address: str = "127.0.0.1", port: int = 4222) -> str:
    """What `nats-server -c` reads."""
    return f"""\
# Made by `tallystick-backend nats-config`. Public keys only: nothing in it is secret.
server_name: tallystick
listen: "{address}:{port}"
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {16 * MAX_PAYLOAD_BYTES}
max_connections: 10000
max_subscriptions: 64
max_control_line: 4096
write_deadline: "5s"
ping_interval: "20s"
ping_max: 2

accounts: {{
  {ACCOUNT}: {{ users: [ {{ nkey: {keys.backend} }} ] }}
  {CALLOUT_ACCOUNT}: {{ users: [ {{ nkey: {keys.callout} }} ] }}
}}

authorization: {{
  # A log-in waits for the backend to look a provider's key and stake up.
  timeout: 5
  auth_callout: {{
    issuer: {keys.issuer}
    account: {CALLOUT_ACCOUNT}
    # Known by their own keys; everybody else is asked for a log-in proof.
    auth_users: [ {keys.callout}, {keys.backend} ]
  }}
}}
"""


def signing_key(seed: str) -> Any:
    """An nkeys.KeyPair; the package has no types."""
    return nkeys.from_seed(bytearray(seed.encode()))


def _raw_account_seed(seed: str) -> bytes:
    try:
        prefix, raw = nkeys.decode_seed(bytearray(seed.encode()))
    except Exception:
        # The package raises several kinds, and its message must not carry the seed on.
        raise BusError("the bus issuer's seed is no nkey seed: expected text like SA...") from None
    if prefix != nkeys.PREFIX_BYTE_ACCOUNT:
        raise BusError("the bus issuer's seed is not an account's: expected text like SA...")
    return bytes(raw[:32])


def _user_seed(raw: bytes, info: bytes) -> str:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(raw)
    return _text(nkeys.encode_seed(derived, nkeys.PREFIX_BYTE_USER))


def _public(seed: str) -> str:
    return _text(signing_key(seed).public_key)


def _text(encoded: bytes | bytearray) -> str:
    return bytes(encoded).decode().rstrip("=")
