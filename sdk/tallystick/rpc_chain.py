"""The chain through an RPC endpoint: what `tallystick.chain` asks, answered by the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from web3 import AsyncWeb3

from tallystick.chain import Account
from tallystick.errors import ChainError, ConfigurationError, VerificationFailed
from tallystick.jobs import Sent
from tallystick.orders import domain_of
from tallystick.protocol import web3 as connections
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.contracts import (
    Call,
    Escrow,
    KeyState,
    Market,
    Registry,
    Staking,
    Token,
    verify_deployment,
)
from tallystick.protocol.deployments import load
from tallystick.protocol.errors import (
    ContractError,
    DeploymentError,
    ProtocolError,
    TransactionError,
    TransactionTimeout,
)
from tallystick.protocol.messages import Channel, TaskTerms, domain_separator
from tallystick.protocol.permits import sign_permit
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, Digest, to_address
from tallystick.protocol.web3 import NODE_FAILED
from tallystick.protocol.wire import DeploymentBody
from tallystick.wallet import Wallet

PERMIT_SECONDS = 3600


async def connect_chain(
    rpc_url: str, said: DeploymentBody, deployment_file: str | None = None
) -> RpcChain:
    """Raises VerificationFailed unless this chain holds the contracts the backend named, wired to
    each other: otherwise a deposit could go to a contract that never pays out."""
    with sentences():
        web3 = connections.connect(rpc_url)
        try:
            await _check_wiring(web3, said)
        except BaseException:
            await connections.close(web3)
            raise
    return RpcChain(web3, said, deployment_file)


class RpcChain:
    """Answers `tallystick.chain.Chain`."""

    def __init__(
        self, web3: AsyncWeb3[Any], said: DeploymentBody, deployment_file: str | None = None
    ) -> None:
        self._web3 = web3
        self._said = said
        self._deployment_file = deployment_file
        self._registry: Registry | None = None
        self._token = Token(web3, to_address(said.token))
        self._escrow = Escrow(web3, to_address(said.escrow))
        self._market = Market(web3, to_address(said.market))
        self._staking = Staking(web3, to_address(said.staking))
        self._senders: dict[Address, Sender] = {}

    async def close(self) -> None:
        await connections.close(self._web3)

    async def account(self, owner: Address) -> Account:
        with sentences():
            account = await self._escrow.account(owner)
            payee = await self._escrow.payee(owner)
            return Account(
                wallet_units=await self._token.balance_of(owner),
                available_units=account.available,
                locked_units=account.locked,
                credit_units=payee.credit,
            )

    async def deposit(self, wallet: Wallet, units: int) -> Sent:
        """One transaction where the token knows permits (EIP-2612), else an approval before it."""
        owner, escrow = wallet.address, self._escrow.address
        with sentences():
            allowed = await self._token.allowance(owner, escrow)
        if allowed < units:
            permitted = await self._permit(wallet, units)
            if permitted is not None:
                return await self._send(wallet, permitted)
            await self._send(wallet, self._token.approve(escrow, units))
        return await self._send(wallet, self._escrow.deposit(owner, units))

    async def withdraw(self, wallet: Wallet, units: int, to: Address) -> Sent:
        return await self._send(wallet, self._escrow.withdraw(units, to))

    async def create_task(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        return await self._send(wallet, self._market.create_task(terms))

    async def cancel_task(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        return await self._send(wallet, self._market.cancel(terms))

    async def reclaim(self, wallet: Wallet, terms: TaskTerms) -> Sent:
        return await self._send(wallet, self._market.reclaim(terms))

    async def answers_for(self, signer: Address, provider: Address) -> bool:
        with sentences():
            return await self._staking.answers_for(provider, signer)

    async def serves_with(self, signer: Address, provider: Address) -> bool:
        with sentences():
            if await self._staking.units_of(provider) == 0:
                return False
            return await self._staking.signs_for(signer, provider)

    async def channel_state(self, channel: Channel) -> ChannelState:
        with sentences():
            return await self._escrow.channel(channel)

    async def bound_key(self, key: Address) -> KeyState:
        with sentences():
            return await self._staking.operator_key(key)

    async def app_at(self, app_id: AppId, version: int, time_s: int) -> AppHistory:
        registry = await self._known_registry()
        with sentences():
            app = await registry.app(app_id)
            found: tuple[VersionHistory, ...] = ()
            if 1 <= version <= app.versions:
                known = await registry.version(app_id, version)
                try:
                    price = await registry.price_at(app_id, version, time_s)
                except ContractError:
                    pass  # it had none then: before its publication, or after its end
                else:
                    at = (PricePoint(time_s, price),)
                    one = VersionHistory(known.image_digest, known.manifest_digest, "", at)
                    found = (one,) * version
        return AppHistory(app_id, app.publisher, app.royalty_to, app.royalty_bps, found)

    async def revoke_allowance(self, wallet: Wallet, allowance: Digest) -> Sent:
        return await self._send(wallet, self._escrow.revoke_allowance(allowance))

    async def fund_channel(self, wallet: Wallet, channel: Channel, units: int) -> Sent:
        return await self._send(wallet, self._escrow.fund(channel, units))

    async def request_close(self, wallet: Wallet, channel: Channel) -> Sent:
        return await self._send(wallet, self._escrow.request_close(channel))

    async def close_channel(self, wallet: Wallet, channel: Channel) -> Sent:
        return await self._send(wallet, self._escrow.close(channel))

    async def _known_registry(self) -> Registry:
        """Which registry it is nobody on chain says: the deployment does, and it has to be this
        market's."""
        if self._registry is None:
            try:
                found = load(self._deployment_file or self._said.chain_id)
                if found.registry == ZERO_ADDRESS:
                    raise DeploymentError("it is from before there was a registry")
                with sentences():
                    await verify_deployment(self._web3, found)
            except DeploymentError as problem:
                raise ConfigurationError(
                    f"The app registry is not known: {problem}.",
                    next_step="Name the deployment's file in TALLYSTICK_DEPLOYMENT.",
                ) from problem
            if found.escrow != to_address(self._said.escrow):
                raise VerificationFailed(
                    f"The backend serves the escrow {self._said.escrow}; your deployment's is "
                    f"{found.escrow}.",
                    next_step="Check TALLYSTICK_DEPLOYMENT, then the backend.",
                )
            self._registry = Registry(self._web3, found.registry)
        return self._registry

    async def _permit(self, wallet: Wallet, units: int) -> Call | None:
        owner, escrow = wallet.address, self._escrow.address
        with sentences():
            try:
                separator = await self._token.domain_separator()
                nonce = await self._token.permit_nonce(owner)
            except (ContractError, ProtocolError):
                return None  # a token without permits
            block = await self._web3.eth.get_block("latest")
        deadline = int(block["timestamp"]) + PERMIT_SECONDS
        signature = sign_permit(
            separator, owner, escrow, units, nonce, deadline, wallet.private_key
        )
        return self._escrow.deposit_with_permit(owner, units, deadline, signature)

    async def _send(self, wallet: Wallet, call: Call) -> Sent:
        sender = self._senders.setdefault(
            wallet.address, Sender(self._web3, wallet.private_key, chain_id=self._said.chain_id)
        )
        with sentences():
            mined = await sender.execute(call)
        return Sent(tx=mined.tx_hash, gas_used=mined.gas_used, block=mined.block_number)


async def _check_wiring(web3: AsyncWeb3[Any], said: DeploymentBody) -> None:
    escrow = Escrow(web3, to_address(said.escrow))
    market = Market(web3, to_address(said.market))
    separator = "0x" + domain_separator(domain_of(said)).hex()
    facts: tuple[tuple[str, object, object], ...] = (
        ("chain id", said.chain_id, await web3.eth.chain_id),
        ("escrow's token", to_address(said.token), await escrow.token()),
        ("escrow's market", to_address(said.market), await escrow.market()),
        ("escrow's signing domain", separator, await escrow.domain_separator()),
        ("market's staking", to_address(said.staking), await market.staking()),
        ("market's signing domain", separator, await market.domain_separator()),
    )
    for what, expected, found in facts:
        if expected != found:
            raise VerificationFailed(
                f"Backend and chain disagree: the {what} is {found} on the chain, the backend "
                f"says {expected}.",
                next_step="Nothing was signed or paid. Check TALLYSTICK_RPC_URL and the backend.",
            )


@contextmanager
def sentences() -> Iterator[None]:
    """Every failure of the chain as one ChainError with what to do."""
    try:
        yield
    except ContractError as refusal:
        raise ChainError(
            f"The contract refused: {refusal.sentence}.",
            next_step="Nothing was paid but gas, if that. Correct it and try again.",
            error=refusal.name,
        ) from refusal
    except TransactionTimeout as late:
        raise ChainError(
            f"A transaction was not mined in time: {late}.",
            next_step="It may still be mined: look at it before you send another.",
            tx=late.tx_hash,
        ) from late
    except TransactionError as failed:
        raise ChainError(
            f"A transaction failed: {failed}.",
            next_step="Check that the wallet has the chain's own coin for gas.",
            tx=failed.tx_hash,
        ) from failed
    except ProtocolError as wrong:
        raise ChainError(
            f"The chain's answer cannot be used: {wrong}.",
            next_step="Check that TALLYSTICK_RPC_URL is a node of the market's chain.",
        ) from wrong
    except NODE_FAILED as lost:
        raise ChainError(
            f"The chain endpoint does not answer as it should: {str(lost) or type(lost).__name__}.",
            next_step="Check TALLYSTICK_RPC_URL and that the node is up.",
        ) from lost
