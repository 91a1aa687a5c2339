"""Who asks, and with what right: tokens, scopes, capabilities. Pure; rows and HTTP are elsewhere.

AccessError
├── NotLoggedIn         no credentials, or none that are good any more
├── LoginRefused        the log-in message is not one we can trust; `reason` says which part
├── ScopeMissing        an API key that may not do this
├── CapabilityRefused   a link to a bundle that is forged, expired or made for something else
├── UnknownKey          this wallet has no such API key
└── TooManyRequests     a limit; `retry_after_s` says how long to wait
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tallystick.protocol.types import Address, Digest
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError

Scope: TypeAlias = Literal["tasks:read", "tasks:write", "calls", "account"]

ALL_SCOPES: Final[frozenset[Scope]] = frozenset({"tasks:read", "tasks:write", "calls", "account"})
KEY_SCOPES: Final[frozenset[Scope]] = frozenset({"tasks:read", "tasks:write", "calls"})
"""What an API key may hold; only a logged-in wallet manages keys."""

SESSION_PREFIX: Final = "ts_"
KEY_PREFIX: Final = "tk_"


class AccessError(BackendError):
    """The caller may not do this."""


class NotLoggedIn(AccessError):
    next_step = "Log in (POST /v1/auth/nonce, then /v1/auth/login) or send an API key as Bearer."


class LoginRefused(AccessError):
    next_step = "Ask for a new nonce, build the message for this address and sign it again."

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class ScopeMissing(AccessError):
    next_step = "Create an API key with this scope, or log in with the wallet."

    def __init__(self, *any_of: Scope) -> None:
        super().__init__(f"these credentials do not carry the scope {' or '.join(any_of)}")
        self.any_of = any_of


class CapabilityRefused(AccessError):
    next_step = "Use the link of the newest offer for this task."


class UnknownKey(AccessError):
    next_step = "List the keys with GET /v1/keys."

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no API key {key_id}")


class TooManyRequests(AccessError):
    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(
            f"too many {what}", next_step=f"Wait {retry_after_s} seconds, then try again."
        )
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Caller:
    """A wallet, and how it came in."""

    address: Address
    scopes: frozenset[Scope]
    via: Literal["session", "api_key"]
    token_hash: str
    """Names the session or the key; never the token itself."""
    key_id: str = ""
    """Of an API key; empty for a session."""

    def require(self, *any_of: Scope) -> None:
        if self.scopes.isdisjoint(any_of):
            raise ScopeMissing(*any_of)


def hash_of_token(token: str) -> str:
    """What is stored: tokens are long random texts, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_session_token() -> str:
    return SESSION_PREFIX + secrets.token_urlsafe(32)


# --- keys of our own, all from the dispatcher's ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seals:
    """HMAC keys of this backend. They come from the dispatcher's key, so that each replica and each
    restart makes the same ones and nothing more has to be kept secret."""

    root: bytes

    @classmethod
    def from_private_key(cls, private_key: str) -> Seals:
        secret = bytes.fromhex(private_key.removeprefix("0x"))
        return cls(hmac.digest(b"tallystick-backend-seals-v1", secret, "sha256"))

    def __repr__(self) -> str:
        return "Seals(...)"

    def mac(self, purpose: str, *parts: str | int) -> bytes:
        """Binds each part with its length: ("a", "bc") and ("ab", "c") differ."""
        key = hmac.digest(self.root, purpose.encode(), "sha256")
        text = b"".join(b"%d:%s" % (len(p), p) for p in (str(part).encode() for part in parts))
        return hmac.digest(key, text, "sha256")

    def api_key(self, key_id: str, address: str, idempotency_key: str | None) -> str:
        """The whole `tk_<prefix>_<secret>`. Random; but the repeat of a request that named itself
        by an idempotency key gets the same one again, although it is stored nowhere."""
        if idempotency_key is None:
            return f"{KEY_PREFIX}{key_id[:8]}_{secrets.token_hex(32)}"
        secret = self.mac("api-key", key_id, address.lower(), idempotency_key).hex()
        return f"{KEY_PREFIX}{key_id[:8]}_{secret}"


# --- capabilities -----------------------------------------------------------------------------

Verb: TypeAlias = Literal["GET", "PUT"]
RESULT: Final = "result"


@dataclass(frozen=True, slots=True)
class Capability:
    """The right to fetch one input (`subject` is its digest) or to leave the result of one lease
    (`subject` is "result"), until a time."""

    verb: Verb
    task_id: Digest
    fence: int
    subject: str
    expires_s: int


def capability_text(seals: Seals, capability: Capability) -> str:
    """URL-safe; readable but not forgeable."""
    head = f"{capability.task_id}.{capability.fence}.{capability.expires_s}"
    mac = base64.urlsafe_b64encode(_capability_mac(seals, capability)).rstrip(b"=").decode()
    return f"{head}.{mac}"


def open_capability(seals: Seals, text: str, *, verb: Verb, subject: str, now_s: int) -> Capability:
    """The capability if it is ours, for this verb and subject, and not expired."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() for part in parts):
        raise CapabilityRefused("the link's capability is damaged")
    task_id, fence, expires, mac = parts
    if not (_is_count(fence) and _is_count(expires)):
        raise CapabilityRefused("the link's capability is damaged")
    capability = Capability(verb, Digest(task_id), int(fence), subject, int(expires))
    expected = base64.urlsafe_b64encode(_capability_mac(seals, capability)).rstrip(b"=").decode()
    if not hmac.compare_digest(expected, mac):
        raise CapabilityRefused("the link's capability was not made by us for this request")
    if capability.expires_s < now_s:
        raise CapabilityRefused(f"the link expired at {capability.expires_s}, it is {now_s}")
    return capability


def _capability_mac(seals: Seals, capability: Capability) -> bytes:
    return seals.mac(
        "capability",
        capability.verb,
        capability.task_id,
        capability.fence,
        capability.subject,
        capability.expires_s,
    )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


INPUT_LINK_SECONDS: Final = 86_400
RESULT_LINK_SECONDS: Final = 40 * 86_400
"""Longer than any task runs; what ends the right to upload is the end of the lease, in the rows."""


class CapabilityUrls:
    """Absolute links for one lease: to fetch the sealed input, to leave the sealed result."""

    def __init__(self, seals: Seals, public_url: str, clock: Clock) -> None:
        self._seals = seals
        self._base = f"{public_url}/v1/blobs"
        self._clock = clock

    def input_url(self, task_id: str, fence: int, digest: str) -> str:
        until_s = self._clock.now_ms() // 1000 + INPUT_LINK_SECONDS
        right = Capability("GET", Digest(task_id), fence, digest, until_s)
        return f"{self._base}/{digest}?cap={capability_text(self._seals, right)}"

    def result_url(self, task_id: str, fence: int) -> str:
        until_s = self._clock.now_ms() // 1000 + RESULT_LINK_SECONDS
        right = Capability("PUT", Digest(task_id), fence, RESULT, until_s)
        return f"{self._base}/{{digest}}?cap={capability_text(self._seals, right)}"
