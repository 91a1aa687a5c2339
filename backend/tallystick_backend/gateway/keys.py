"""Session keys: what the gateway signs an account's vouchers and funds its channels with.

One for each account, made when first asked for, sealed in its row with a key of the backend's own
(`access.Seals`). It can spend what the payer's allowances say, and gas that the dispatcher lends.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from coincurve import PrivateKey as _PrivateKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.exc import IntegrityError

from tallystick.protocol import messages
from tallystick.protocol.calls import Sign
from tallystick.protocol.messages import Domain, Message
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import Address, Signature
from tallystick_backend.access import Seals
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import SessionKeyRow

_NONCE_BYTES: Final = 12
_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class SessionKey:
    account: str
    signer: Address
    private_key: bytes = field(repr=False)
    sign: Sign = field(repr=False)
    created_at_ms: int = 0


def signing(domain: Domain, private_key: bytes) -> Sign:
    """With the key parsed once: parsing costs about as much as signing."""
    return partial(_sign, domain, _PrivateKey(private_key))


def _sign(domain: Domain, key: _PrivateKey, message: Message) -> Signature:
    digest = bytes.fromhex(messages.digest(domain, message)[2:])
    signed = key.sign_recoverable(digest, hasher=None)
    return Signature("0x" + signed[:64].hex() + format(27 + signed[64], "02x"))


class SessionKeys:
    def __init__(self, database: Database, seals: Seals, domain: Domain, clock: Clock) -> None:
        self._database = database
        self._cipher = AESGCM(seals.mac("session-keys"))
        self._domain = domain
        self._clock = clock
        self._known: OrderedDict[str, SessionKey] = OrderedDict()
        self._making = asyncio.Lock()

    async def of(self, account: str) -> SessionKey:
        """Made if there is none yet."""
        account = account.lower()
        known = self._known.get(account)
        if known is not None:
            self._known.move_to_end(account)
            return known
        async with self._making:
            row = await self._row(account) or await self._make(account)
        return self._keep(self._open(row))

    async def by_signer(self, signer: str) -> SessionKey | None:
        """Also one that is not in use any more: what it signed for can still be owed."""
        async with self._database.read() as session:
            row = await calls.session_key(session, signer)
        return None if row is None else self._open(row)

    async def _row(self, account: str) -> SessionKeyRow | None:
        async with self._database.read() as session:
            return await calls.session_key_of(session, account)

    async def _make(self, account: str) -> SessionKeyRow:
        private_key = _fresh_key()
        row = SessionKeyRow(
            signer=address_of(private_key).lower(),
            account=account,
            sealed=self._seal(account, private_key),
            created_at_ms=self._clock.now_ms(),
        )
        try:
            async with self._database.transaction() as session:
                # Another process may have made one since we looked.
                there = await calls.session_key_of(session, account)
                if there is not None:
                    return there
                session.add(row)
        except IntegrityError:
            pass
        found = await self._row(account)
        if found is None:
            raise GatewayNotReady("the session key could not be written down")
        return found

    def _keep(self, key: SessionKey) -> SessionKey:
        self._known[key.account] = key
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return key

    def _seal(self, account: str, private_key: bytes) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return (nonce + self._cipher.encrypt(nonce, private_key, account.encode())).hex()

    def _open(self, row: SessionKeyRow) -> SessionKey:
        sealed = bytes.fromhex(row.sealed)
        try:
            private_key = self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], row.account.encode()
            )
        except InvalidTag:
            raise GatewayNotReady(
                "a session key was sealed under another dispatcher key",
                next_step="Start the backend with the dispatcher key that this database knows.",
            ) from None
        return SessionKey(
            row.account,
            address_of(private_key),
            private_key,
            signing(self._domain, private_key),
            row.created_at_ms,
        )


def _fresh_key(draw: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    while True:
        candidate = draw(32)
        try:
            _PrivateKey(candidate)
        except ValueError:
            continue
        return candidate
