"""Publishing an app: what would change on chain, and the one transaction that changes it.

The registry is read and written directly; no backend takes part. Name and publisher make the app id
(as in `scripts/publish_app.py`): the first deploy publishes, every later one changes that app.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from web3 import AsyncWeb3

from tallystick.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from tallystick.jobs import Sent
from tallystick.prices import checked_price
from tallystick.protocol import web3 as connections
from tallystick.protocol.apps import app_salt
from tallystick.protocol.contracts import App, Registry, Token, verify_deployment
from tallystick.protocol.deployments import Deployment, load
from tallystick.protocol.errors import AmountError, DeploymentError
from tallystick.protocol.money import format_amount, parse_amount
from tallystick.protocol.pricing import Price, price_per_gpu_hour, rate_per_gpu_second_down
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, Digest
from tallystick.rpc_chain import sentences
from tallystick.wallet import Wallet

MAX_URI_BYTES = 512

Act = Literal["publish", "add_version", "set_price", "nothing"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the app should be after deploying."""

    name: str
    image_digest: Digest
    manifest_digest: Digest
    uri: str
    price: Price
    royalty_to: Address = ZERO_ADDRESS
    royalty_bps: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The one act that makes it so."""

    act: Act
    app_id: AppId
    publisher: Address
    version: int
    """The one that is added, or whose price changes."""
    wanted: Wanted
    price_before: Price | None = None
    """As announced last, without any discount; of the version before, if one is added."""
    takes_effect_s: int | None = None
    """A change of price: the earliest second, if it were sent now."""


@dataclass(frozen=True, slots=True)
class Deployed:
    plan: Plan
    sent: Sent
    takes_effect_s: int | None


class RegistryChain:
    """The registry of one deployment, as its publisher sees it."""

    def __init__(
        self, web3: AsyncWeb3[Any], deployment: Deployment, decimals: int, symbol: str
    ) -> None:
        self._web3 = web3
        self._registry = Registry(web3, deployment.registry)
        self.deployment = deployment
        self.decimals = decimals
        self.symbol = symbol

    async def plan(self, wanted: Wanted, publisher: Address, app_id: AppId | None = None) -> Plan:
        """Reads only. Raises `NotAllowed` for an app of somebody else's, `Conflict` for one that
        cannot be changed any more."""
        with sentences():
            named = app_id is not None
            if app_id is None:
                app_id = await self._registry.app_id_of(publisher, app_salt(wanted.name))
            app = await self._registry.app(app_id)
            if app.publisher == ZERO_ADDRESS:
                if named:
                    raise NotFound(
                        f"No app {app_id} is published on chain {self.deployment.chain_id}.",
                        next_step="Copy the id again, or leave --app out to publish a new one.",
                    )
                return Plan("publish", app_id, publisher, 1, wanted)
            _require_changeable(app_id, app, publisher)
            return await self._change(app_id, app, wanted)

    async def carry_out(self, plan: Plan, wallet: Wallet) -> Deployed:
        """Sends it and waits until it is mined."""
        wanted, registry = plan.wanted, self._registry
        version = (wanted.image_digest, wanted.manifest_digest, wanted.uri, wanted.price)
        match plan.act:
            case "publish":
                salt = app_salt(wanted.name)
                royalty = (wanted.royalty_to, wanted.royalty_bps)
                call = registry.publish(salt, *version, *royalty)
            case "add_version":
                call = registry.add_version(plan.app_id, *version)
            case "set_price":
                call = registry.set_price(plan.app_id, plan.version, wanted.price)
            case "nothing":
                raise ValueError("there is nothing to carry out")
        with sentences():
            mined = await Sender(self._web3, wallet.private_key).execute(call)
            app = await registry.app(plan.app_id)
        sent = Sent(tx=mined.tx_hash, gas_used=mined.gas_used, block=mined.block_number)
        return Deployed(plan, sent, app.prices_settle_at if plan.act == "set_price" else None)

    def price_of(self, flat: str, call: str, gpu_hour: str) -> Price:
        """Prices in whole tokens, as the registry keeps them."""
        return Price(
            self._units(flat, "flat"),
            self._units(call, "call"),
            self._rate(gpu_hour),
        )

    def told(self, price: Price) -> str:
        hour = price_per_gpu_hour(price.rate_per_gpu_second, self.decimals)
        return (
            f"{self._amount(price.flat)} flat, {self._amount(price.fee_per_call)} a call, "
            f"{hour:f} {self.symbol} a GPU-hour"
        )

    async def _change(self, app_id: AppId, app: App, wanted: Wanted) -> Plan:
        registry = self._registry
        last = await registry.version(app_id, app.versions)
        now_s = int((await self._web3.eth.get_block("latest"))["timestamp"])
        # Past every announced change, and past the discount: the price that will hold then.
        settled_s = max(now_s, app.prices_settle_at, (await registry.discount(app_id)).end + 1)
        before = await registry.price_at(app_id, app.versions, settled_s)
        same = (last.image_digest, last.manifest_digest) == (
            wanted.image_digest,
            wanted.manifest_digest,
        )
        if not same:
            number = app.versions + 1
            return Plan("add_version", app_id, app.publisher, number, wanted, before)
        act: Act = "nothing" if before == wanted.price else "set_price"
        effect_s = now_s + self.deployment.notice_seconds if act == "set_price" else None
        return Plan(act, app_id, app.publisher, app.versions, wanted, before, effect_s)

    def _units(self, text: str, name: str) -> int:
        exact = format(checked_price(text, f"The price {name}"), "f")
        try:
            return parse_amount(exact, self.decimals)
        except AmountError as problem:
            raise _no_price(name, text, problem) from problem

    def _rate(self, text: str) -> int:
        hour: Decimal = checked_price(text, "The price gpu_hour")
        try:
            rate = rate_per_gpu_second_down(hour, self.decimals)
        except AmountError as problem:
            raise _no_price("gpu_hour", text, problem) from problem
        if hour and not rate:
            raise InvalidRequest(
                f"The price gpu_hour is {text}: less than the smallest unit a second.",
                next_step=f"{self.symbol} has {self.decimals} decimals; ask for more, or for 0.",
            )
        return rate

    def _amount(self, units: int) -> str:
        return f"{format_amount(units, self.decimals)} {self.symbol}"


@asynccontextmanager
async def connect_registry(rpc_url: str, file: Path | None) -> AsyncIterator[RegistryChain]:
    """The deployment from a file, or the one known for the chain that the endpoint is on. Its
    contracts have to be there."""
    web3 = None
    try:
        with sentences():
            web3 = connections.connect(rpc_url)
            chain_id = await web3.eth.chain_id
            deployment = await _verified(web3, file if file is not None else chain_id)
            token = Token(web3, deployment.token)
            decimals, symbol = await token.decimals(), await token.symbol()
        yield RegistryChain(web3, deployment, decimals, symbol[:32])
    finally:
        if web3 is not None:
            await connections.close(web3)


async def _verified(web3: AsyncWeb3[Any], where: Path | int) -> Deployment:
    try:
        deployment = load(where)
        if deployment.registry == ZERO_ADDRESS:
            raise DeploymentError(
                f"the deployment on chain {deployment.chain_id} is from before there was a registry"
            )
        await verify_deployment(web3, deployment)
    except DeploymentError as problem:
        raise InvalidRequest(
            f"The app registry cannot be used: {problem}.",
            next_step="Name the deployment's file with --deployment, and the chain's endpoint "
            "with TALLYSTICK_RPC_URL.",
        ) from problem
    return deployment


def checked_uri(text: str, manifest_digest: Digest) -> str:
    """Without an address of its own a manifest is known by its digest alone."""
    uri = text or f"urn:tallystick:manifest:{manifest_digest}"
    if len(uri.encode()) > MAX_URI_BYTES:
        raise InvalidRequest(
            f"The manifest's address has {len(uri.encode())} bytes.",
            next_step=f"The registry takes {MAX_URI_BYTES}: use a shorter one.",
        )
    return uri


def _require_changeable(app_id: AppId, app: App, sender: Address) -> None:
    if app.publisher != sender:
        raise NotAllowed(
            f"The app {app_id} is {app.publisher}'s, which alone may change it; you are {sender}.",
            next_step="Use the publisher's key, or leave --app out to publish one of your own.",
        )
    if app.permanent:
        raise Conflict(
            f"The app {app_id} is permanent: nobody can change it any more.",
            next_step="Publish under another name.",
        )
    if app.retired_at:
        raise Conflict(
            f"The app {app_id} is retired: it has no price from {app.retired_at} on.",
            next_step="Publish under another name.",
        )


def _no_price(name: str, text: str, problem: Exception) -> InvalidRequest:
    return InvalidRequest(
        f"The price {name} is {text}, which cannot be charged: {problem}.",
        next_step="Correct [price] in tallystick.toml, or the option.",
    )
