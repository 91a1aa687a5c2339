"""What every act of a client shares: the connection, the wallet, the chain, and which market it is.

The backend says which contracts it serves. That is believed only as far as it has to be: a pinned
escrow or chain id is compared before anything is signed, and the chain endpoint has to agree.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import BaseModel

from tallystick.chain import Chain
from tallystick.config import Config
from tallystick.connection import Connection, Sleep
from tallystick.errors import ConfigurationError, InvalidRequest, NotAllowed, VerificationFailed
from tallystick.jobs import Money
from tallystick.nonces import Nonces
from tallystick.orders import domain_of
from tallystick.own_key import OwnKey
from tallystick.prices import Price, checked_price
from tallystick.protocol.messages import Domain
from tallystick.protocol.money import parse_amount
from tallystick.protocol.types import Address
from tallystick.protocol.wire import DeploymentBody, SessionBody, SiweLogin, SiweNonce
from tallystick.wallet import Wallet, login_text

Now = Callable[[], float]

LOG_IN_ATTEMPTS = 3
"""Each with a nonce of its own."""


class WhoAmI(BaseModel):
    """The part of GET /v1/auth/me that matters here."""

    address: str


def _own_key(config: Config) -> OwnKey | None:
    if config.own_key is None:
        return None
    notes = None if config.own_key_file is None else f"{config.own_key_file}.notes"
    return OwnKey(config.own_key, None if notes is None else Path(notes).expanduser())


class Session:
    """One client's way into one market."""

    def __init__(
        self,
        config: Config,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        chain: Chain | None = None,
        now: Now = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.config = config
        self.now = now
        self.sleep = sleep
        self.connection = Connection(
            config.url, authorize=self._authorize, transport=transport, sleep=sleep
        )
        self._wallet = Wallet(config.private_key) if config.private_key else None
        self.own_key = _own_key(config)
        """Signs vouchers; None: the gateway does, with the key that it was lent."""
        self._chain = chain
        self._connecting = asyncio.Lock()
        self._deployment: DeploymentBody | None = None
        self.app_ids: dict[str, str] = {}
        """Names of apps that were looked up, to their ids."""
        self.nonces = Nonces()
        self.known_signers: dict[tuple[Address, Address], float] = {}
        """(key, provider) -> when the chain (or, without one, the backend) last said that the
        provider serves with that key."""

    async def close(self) -> None:
        await self.connection.close()
        if self._chain is not None:
            await self._chain.close()

    @property
    def now_s(self) -> int:
        return int(self.now())

    @property
    def now_ms(self) -> int:
        return int(self.now() * 1000)

    @property
    def wallet(self) -> Wallet:
        if self._wallet is None:
            raise ConfigurationError(
                "There is no wallet key, and this has to be signed.",
                next_step="Set TALLYSTICK_KEY_FILE (or TALLYSTICK_PRIVATE_KEY); "
                "`tallystick wallet create` makes a key.",
            )
        return self._wallet

    @property
    def has_wallet(self) -> bool:
        return self._wallet is not None

    @property
    def has_credentials(self) -> bool:
        return self.has_wallet or self.config.api_key is not None

    async def chain(self) -> Chain | None:
        """The chain endpoint, if one is set; it has to be on the market's chain."""
        async with self._connecting:  # several at once would leave all but one open
            if self._chain is None and self.config.rpc_url is not None:
                # web3 is heavy, and many calls never need it
                from tallystick.rpc_chain import connect_chain

                self._chain = await connect_chain(
                    self.config.rpc_url, await self.deployment(), self.config.deployment
                )
            return self._chain

    async def need_chain(self) -> Chain:
        chain = await self.chain()
        if chain is None:
            raise ConfigurationError(
                "There is no chain endpoint, and this needs one.",
                next_step="Set TALLYSTICK_RPC_URL; a task's order that is only signed needs none: "
                "secured=False (--unsecured).",
            )
        return chain

    async def deployment(self) -> DeploymentBody:
        if self._deployment is None:
            said = await self.connection.get("/v1/deployment", DeploymentBody, public=True)
            self._check_pins(said)
            self._deployment = said
        return self._deployment

    async def domain(self) -> Domain:
        return domain_of(await self.deployment())

    async def money(self, units: int) -> Money:
        deployment = await self.deployment()
        return Money(units, deployment.token_decimals, deployment.token_symbol)

    async def units(self, amount: Price, *, may_be: int = 1) -> int:
        """Smallest units of an amount in whole tokens, at least `may_be`."""
        decimals = (await self.deployment()).token_decimals
        exact = format(checked_price(amount, "amount"), "f")
        try:
            units = parse_amount(exact, decimals)
        except ValueError as problem:
            raise InvalidRequest(
                f"The amount {amount} cannot be paid: {problem}.",
                next_step=f"Use at most {decimals} digits after the point.",
            ) from problem
        if units < may_be:
            raise InvalidRequest(f"The amount is {amount}.", next_step="Give an amount above zero.")
        return units

    async def log_in(self) -> str:
        """The address that the backend knows this client as."""
        seen = await self.connection.get("/v1/auth/me", WhoAmI)
        return seen.address

    def _check_pins(self, said: DeploymentBody) -> None:
        pinned_escrow, pinned_chain = self.config.escrow, self.config.chain_id
        if pinned_escrow is not None and pinned_escrow.lower() != said.escrow.lower():
            raise VerificationFailed(
                f"The backend serves the escrow {said.escrow}; you insist on {pinned_escrow}.",
                next_step="Nothing was signed. Check the address, then TALLYSTICK_ESCROW.",
            )
        if pinned_chain is not None and pinned_chain != said.chain_id:
            raise VerificationFailed(
                f"The backend serves chain {said.chain_id}; you insist on {pinned_chain}.",
                next_step="Nothing was signed. Check the backend, then TALLYSTICK_CHAIN_ID.",
            )

    async def _authorize(self, connection: Connection) -> str:
        """A bearer token: by the wallet's signature (EIP-4361), or the API key as it is."""
        if self._wallet is None:
            if self.config.api_key is not None:
                return self.config.api_key
            return self.wallet.address  # raises: there is neither
        chain_id = (await self.deployment()).chain_id
        for _ in range(LOG_IN_ATTEMPTS - 1):
            try:
                return await self._log_in(connection, self._wallet, chain_id)
            except NotAllowed as refused:
                # A log-in whose answer was lost is said again, and its nonce is used by then.
                if not _over_the_nonce(refused):
                    raise
        return await self._log_in(connection, self._wallet, chain_id)

    async def _log_in(self, connection: Connection, wallet: Wallet, chain_id: int) -> str:
        nonce = await connection.post("/v1/auth/nonce", None, SiweNonce, public=True)
        text = login_text(
            url=self.config.url,
            address=wallet.address,
            chain_id=chain_id,
            nonce=nonce.nonce,
            now=datetime.datetime.fromtimestamp(self.now(), datetime.UTC),
        )
        login = SiweLogin(message=text, signature=wallet.sign_text(text))
        session = await connection.post("/v1/auth/login", login, SessionBody, public=True)
        return session.token


def _over_the_nonce(refused: NotAllowed) -> bool:
    errors = refused.values.get("errors")
    fields = [one.get("field") for one in errors] if isinstance(errors, list) else []
    return refused.values.get("problem") == "login_refused" and fields == ["nonce"]
