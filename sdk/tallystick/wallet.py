"""The consumer's key: signs orders, acceptances and log-ins, and opens results."""

from __future__ import annotations

import datetime
from urllib.parse import urlsplit

from tallystick.protocol import sealing, signatures
from tallystick.protocol.messages import Domain, Message, sign
from tallystick.protocol.types import Address, Signature


class Wallet:
    """Holds the private key in memory and nowhere else; never shows it."""

    def __init__(self, private_key: str) -> None:
        self.private_key = private_key
        self.address = signatures.address_of(private_key)
        self.sealing_key = sealing.consumer_key_from_wallet(private_key)

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def sign(self, domain: Domain, message: Message) -> Signature:
        return sign(domain, message, self.private_key)

    def sign_text(self, text: str) -> Signature:
        """EIP-191: what a wallet shows before it signs."""
        return signatures.sign_text(text, self.private_key)


def login_text(
    *, url: str, address: Address, chain_id: int, nonce: str, now: datetime.datetime
) -> str:
    """The EIP-4361 text: who logs in where, on which chain, for ten minutes, once."""
    domain = urlsplit(url).netloc
    expires = now + datetime.timedelta(minutes=10)
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n"
        f"{address}\n"
        "\n"
        "Log in to Tallystick. This costs nothing and moves no money.\n"
        "\n"
        f"URI: {url}\n"
        "Version: 1\n"
        f"Chain ID: {chain_id}\n"
        f"Nonce: {nonce}\n"
        f"Issued At: {_iso(now)}\n"
        f"Expiration Time: {_iso(expires)}"
    )


def _iso(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
