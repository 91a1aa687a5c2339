"""Money into channels: the session key sends what the payer's allowance lets it, from the payer's
own account; gas for it comes from the dispatcher's wallet, up to a bound for each key.

The node's own state is asked before anything is sent, so that a refusal is a sentence and costs
nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from web3 import AsyncWeb3

from tallystick.protocol.contracts import Call, Escrow
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, TransactionError
from tallystick.protocol.messages import Channel, ChannelAllowance
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, to_address
from tallystick.protocol.web3 import NODE_FAILED
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import GatewayNotReady, NoAllowance, PausedFunds
from tallystick_backend.gateway.keys import SessionKey
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import ChannelAllowanceRow

log = structlog.get_logger(__name__)

GAS: Final = 200_000
"""More than `fundWithAllowance` takes by a contract's signature."""
_TOP_UPS: Final = 4
"""Transactions that one sending of gas is for."""


@dataclass(frozen=True, slots=True)
class AllowanceLeft:
    row: ChannelAllowanceRow
    spent: int
    revoked: bool
    left: int


class Funds(Protocol):
    async def fund(
        self, key: SessionKey, channel: Channel, app_id: str, least: int, wanted: int
    ) -> int:
        """Moves `wanted`, or as much as may be, but `least` at least, into the channel. Raises
        `NoAllowance`, `PausedFunds` or `GatewayNotReady`."""
        ...

    async def allowances(self, payer: str) -> list[AllowanceLeft]: ...


class ChainFunds:
    def __init__(
        self,
        database: Database,
        web3: AsyncWeb3[Any],
        deployment: Deployment,
        dispatcher_key: str,
        clock: Clock,
        settings: GatewaySettings,
    ) -> None:
        self._database = database
        self._web3 = web3
        self._escrow = Escrow(web3, deployment.escrow)
        self._chain_id = deployment.chain_id
        self._dispatcher = Sender(web3, dispatcher_key, chain_id=self._chain_id)
        self._lending = asyncio.Lock()
        self._clock = clock
        self._settings = settings
        self._senders: dict[Address, Sender] = {}

    async def allowances(self, payer: str) -> list[AllowanceLeft]:
        """Raises `GatewayNotReady` when the node cannot be asked."""
        try:
            return await self._allowances(payer)
        except NODE_FAILED as failure:
            raise GatewayNotReady("the node could not be asked for allowances") from failure

    async def _allowances(self, payer: str) -> list[AllowanceLeft]:
        async with self._database.read() as session:
            rows = await calls.allowances_of(session, payer)
        now_s = self._clock.now_ms() // 1000
        found = []
        for row in rows:
            state = await self._escrow.allowance(to_address(row.payer), Digest(row.digest))
            open_ = not state.revoked and row.expires_at_s >= now_s
            left = max(0, row.cap - state.spent) if open_ else 0
            found.append(AllowanceLeft(row, state.spent, state.revoked, left))
        return found

    async def fund(
        self, key: SessionKey, channel: Channel, app_id: str, least: int, wanted: int
    ) -> int:
        try:
            return await self._fund(key, channel, app_id, least, wanted)
        except ContractError as refusal:
            raise PausedFunds(
                f"the escrow refused the transaction: {refusal.sentence}",
                "Look at GET /v1/allowances and at your account, then try again.",
            ) from refusal
        except (TransactionError, *NODE_FAILED) as failure:
            log.warning("funding_failed", channel=str(channel.provider), why=repr(failure)[:300])
            raise GatewayNotReady("the node did not take the channel's funding") from failure

    async def _fund(
        self, key: SessionKey, channel: Channel, app_id: str, least: int, wanted: int
    ) -> int:
        payer = channel.payer
        usable = [
            one
            for one in await self._allowances(payer)
            if one.row.signer == key.signer.lower()
            and one.row.purpose in (ZERO_DIGEST, app_id)
            and one.left > 0
        ]
        if not usable:
            raise NoAllowance(key.signer)
        most = max(usable, key=lambda one: one.left)
        available = (await self._escrow.account(payer)).available
        amount = min(wanted, most.left, available)
        if amount < least:
            raise _too_little(least, most.left, available)
        row = most.row
        allowance = ChannelAllowance(
            payer=payer,
            signer=key.signer,
            cap=row.cap,
            expires_at=row.expires_at_s,
            purpose=Digest(row.purpose),
            nonce=row.nonce,
        )
        await self._lend_gas(key)
        sender = self._senders.setdefault(
            key.signer, Sender(self._web3, key.private_key, chain_id=self._chain_id)
        )
        call = self._escrow.fund_with_allowance(
            allowance, row.signature, channel.provider, channel.salt, amount
        )
        mined = await sender.execute(call)
        log.info(
            "channel_funded",
            payer=payer,
            provider=channel.provider,
            amount=str(amount),
            tx=mined.tx_hash,
        )
        return amount

    async def _lend_gas(self, key: SessionKey) -> None:
        """Ether for the next transactions, if the key has too little for one."""
        async with self._lending:
            one_wei = GAS * (await self._dispatcher.fees()).max_fee_wei
            has_wei = int(await self._web3.eth.get_balance(_checksum(key.signer)))
            if has_wei >= one_wei:
                return
            async with self._database.read() as session:
                row = await calls.session_key(session, key.signer)
            lent_wei = 0 if row is None else row.gas_wei
            wei = min(_TOP_UPS * one_wei - has_wei, self._settings.session_gas_wei - lent_wei)
            if has_wei + wei < one_wei:
                raise PausedFunds(
                    f"the session key {key.signer} has {has_wei} wei for gas and was lent "
                    f"{lent_wei} of at most {self._settings.session_gas_wei}",
                    f"Send ether for gas to {key.signer}.",
                )
            # Noted first: lent twice after a crash would be the dispatcher's money.
            async with self._database.transaction() as session:
                await calls.note_gas(session, key.signer, lent_wei + wei)
            await self._dispatcher.execute(Call(key.signer, b"", wei))


def _too_little(least: int, left: int, available: int) -> PausedFunds:
    if available < least:
        return PausedFunds(
            f"your account has {available} available and the call needs {least} in the channel",
            f"Deposit {least - available} or more into your escrow account.",
        )
    return PausedFunds(
        f"your allowance has {left} left and the call needs {least} in the channel",
        "Sign a ChannelAllowance with a larger cap and POST /v1/allowances.",
    )


def _checksum(address: Address) -> Any:
    return address
