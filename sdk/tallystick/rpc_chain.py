"""The chain through an RPC endpoint: what `tallystick.chain` asks, answered by the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError
from web3 import AsyncWeb3
from web3.exceptions import Web3Exception

from tallystick.chain import Account
from tallystick.errors import ChainError, VerificationFailed
from tallystick.jobs import Sent
from tallystick.orders import domain_of
from tallystick.protocol import web3 as connections
from tallystick.protocol.contracts import Call, Escrow, Market, Staking, Token
from tallystick.protocol.errors import (
    ContractError,
    ProtocolError,
    TransactionError,
    TransactionTimeout,
)
from tallystick.protocol.messages import TaskTerms, domain_separator
from tallystick.protocol.permits import sign_permit
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import Address, to_address
from tallystick.protocol.wire import DeploymentBody
from tallystick.wallet import Wallet

PERMIT_SECONDS = 3600


async def connect_chain(rpc_url: str, said: DeploymentBody) -> RpcChain:
    """Raises VerificationFailed unless this chain holds the contracts the backend named, wired to
    each other: otherwise a deposit could go to a contract that never pays out."""
    with sentences():
        web3 = connections.connect(rpc_url)
        try:
            await _check_wiring(web3, said)
        except BaseException:
            await connections.close(web3)
            raise
    return RpcChain(web3, said)


class RpcChain:
    """Answers `tallystick.chain.Chain`."""

    def __init__(self, web3: AsyncWeb3[Any], said: DeploymentBody) -> None:
        self._web3 = web3
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
        sender = self._senders.setdefault(wallet.address, Sender(self._web3, wallet.private_key))
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
    except (ClientError, TimeoutError, OSError, Web3Exception) as lost:
        raise ChainError(
            f"The chain endpoint does not answer as it should: {str(lost) or type(lost).__name__}.",
            next_step="Check TALLYSTICK_RPC_URL and that the node is up.",
        ) from lost
