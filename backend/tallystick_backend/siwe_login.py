"""Whether a signed log-in message (EIP-4361) may open a session here.

The library parses it and compares it with what we expect; it is always asked strictly. The nonce is
used up by the caller, in the transaction that opens the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import siwe
from pydantic import ValidationError

from tallystick.protocol.errors import AddressError, SignatureError
from tallystick.protocol.signatures import recover_text, text_digest
from tallystick.protocol.types import Address, to_address
from tallystick_backend.access import LoginRefused

MAX_MESSAGE = 2000
"""The parser's time grows with the text; a real message has a few hundred characters."""

AcceptsOnChain = Callable[[Address, bytes, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a message must be bound to."""

    public_url: str
    chain_id: int

    @property
    def domain(self) -> str:
        return urlsplit(self.public_url).netloc

    @property
    def scheme(self) -> str:
        return urlsplit(self.public_url).scheme


def parse(text: str) -> siwe.SiweMessage:
    """Refuses whatever would not be printed back to the same text."""
    if len(text) > MAX_MESSAGE:
        raise LoginRefused("message", f"the message has more than {MAX_MESSAGE} characters")
    try:
        # The library's grammar takes seconds for long nonsense; its expression does not, and the
        # fields are held against the grammar either way.
        message = siwe.SiweMessage.from_message(text, abnf=False)
        printed = message.prepare_message()
    except (ValueError, ValidationError, OverflowError):
        raise LoginRefused("message", "the message is not a log-in message of EIP-4361") from None
    if printed != text:
        raise LoginRefused("message", "the message is not written as EIP-4361 writes it")
    return message


def check(
    message: siwe.SiweMessage, signature: str, expected: Expected, now_s: int
) -> Address | None:
    """The wallet when its own key signed; None when only its contract could say so. Raises
    `LoginRefused` for the first part that is not as expected."""
    own_uri = str(message.uri)
    is_ours = own_uri == expected.public_url or own_uri.startswith(expected.public_url + "/")
    try:
        message.verify(
            signature,
            scheme=expected.scheme if message.scheme is not None else None,
            domain=expected.domain,
            uri=own_uri if is_ours else expected.public_url,
            chain_id=expected.chain_id,
            nonce=message.nonce,  # compared with the database when it is used up
            timestamp=datetime.fromtimestamp(now_s, UTC),
            strict=True,
        )
        # The library takes a signature's mirror image as well; ours is read by our own rule.
        recover_text(message.prepare_message(), signature)
        return to_address(message.address)
    except (siwe.InvalidSignature, SignatureError):
        return None
    except siwe.VerificationError as error:
        raise LoginRefused(*_sentence(error, expected)) from None
    except (AddressError, ValueError, OverflowError):
        raise LoginRefused("message", "the message has a value nobody can check") from None


async def check_wallet(
    message: siwe.SiweMessage, text: str, signature: str, accepts: AcceptsOnChain
) -> Address:
    """The contract wallet, if it says on chain (EIP-1271) that this is its signature."""
    try:
        address = to_address(message.address)
    except AddressError:
        raise LoginRefused("address", "the message's address has a wrong checksum") from None
    if await accepts(address, text_digest(text), signature):
        return address
    raise LoginRefused("signature", f"the signature is not one of {address}")


def _sentence(error: siwe.VerificationError, expected: Expected) -> tuple[str, str]:
    match error:
        case siwe.DomainMismatch() | siwe.SchemeMismatch():
            return "domain", f"the message is for another site than {expected.domain}"
        case siwe.UriMismatch():
            return "uri", f"the message names another address than {expected.public_url}"
        case siwe.ChainIdMismatch():
            return "chain_id", f"the message is for another chain than {expected.chain_id}"
        case siwe.ExpiredMessage():
            return "expiration_time", "the message expired"
        case siwe.NotYetValidMessage():
            return "not_before", "the message is not valid yet"
        case _:
            return "message", "the message cannot be trusted"
