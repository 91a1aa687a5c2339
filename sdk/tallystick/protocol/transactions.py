"""Sending transactions from one key.

A transaction is simulated first, so a refusal is a sentence and costs nothing; then signed with an
explicit nonce. A signed one can be stored and broadcast again after a crash: it is the same
transaction, mined once at most.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account as EthAccount
from web3 import AsyncWeb3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError
from web3.types import TxParams, Wei

from tallystick.protocol.contracts import Block, Call, call_contract, refusal
from tallystick.protocol.errors import (
    ContractError,
    TransactionError,
    TransactionReverted,
    TransactionTimeout,
)
from tallystick.protocol.signatures import PrivateKey, address_of, private_key_bytes
from tallystick.protocol.types import Address, BlockNumber, Digest, to_digest

__all__ = ["Fees", "Mined", "Sender", "SignedTransaction"]

_GAS_MARGIN_PERCENT: Final = 25
_FALLBACK_TIP_WEI: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559, wei per gas."""

    max_fee_wei: int
    tip_wei: int

    def raised(self, percent: int = 15) -> Fees:
        """For replacing a transaction that got stuck; nodes ask for a tenth more at least."""
        return Fees(
            self.max_fee_wei * (100 + percent) // 100 + 1, self.tip_wei * (100 + percent) // 100 + 1
        )


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    tx_hash: Digest
    nonce: int
    raw: bytes = field(repr=False)
    fees: Fees
    gas: int


@dataclass(frozen=True, slots=True)
class Mined:
    tx_hash: Digest
    block_number: BlockNumber
    block_hash: Digest
    gas_used: int
    logs: tuple[Any, ...] = field(repr=False)
    """web3's; `events.raw_log` translates one."""


class Sender:
    """One key's transactions. One `Sender` per key and process: it hands out nonces under a
    lock."""

    def __init__(self, web3: AsyncWeb3[Any], private_key: PrivateKey) -> None:
        self._web3 = web3
        self._key = private_key_bytes(private_key)
        self.address: Address = address_of(private_key)
        self._chain_id: int | None = None
        self._lock = asyncio.Lock()

    async def execute(self, call: Call, *, timeout_s: float = 60.0) -> Mined:
        """Simulate, send, wait until mined. Raises `ContractError` or a `TransactionError`."""
        return await self.wait(await self.send(call), timeout_s=timeout_s)

    async def send(self, call: Call, *, nonce: int | None = None) -> Digest:
        async with self._lock:
            signed = await self.sign(call, nonce=nonce)
            await self.broadcast(signed.raw)
        return signed.tx_hash

    async def simulate(self, call: Call, *, block: Block = "pending") -> bytes:
        """What the call would answer; raises `ContractError` if the contract would refuse."""
        return await call_contract(self._web3, call, sender=self.address, block=block)

    async def sign(
        self,
        call: Call,
        *,
        nonce: int | None = None,
        fees: Fees | None = None,
        gas: int | None = None,
    ) -> SignedTransaction:
        """Nothing is sent. Simulated and its gas estimated, unless `gas` is given."""
        if gas is None:
            await self.simulate(call)
            gas = await self._estimate_gas(call)
        fees = fees or await self.fees()
        nonce = await self.next_nonce() if nonce is None else nonce
        signed = EthAccount.sign_transaction(
            {
                "type": 2,
                "chainId": await self._chain(),
                "nonce": nonce,
                "to": call.to,
                "data": call.data,
                "value": call.value,
                "gas": gas,
                "maxFeePerGas": fees.max_fee_wei,
                "maxPriorityFeePerGas": fees.tip_wei,
            },
            self._key,
        )
        return SignedTransaction(
            tx_hash=to_digest(bytes(signed.hash)),
            nonce=nonce,
            raw=bytes(signed.raw_transaction),
            fees=fees,
            gas=gas,
        )

    async def broadcast(self, raw: bytes) -> None:
        """Harmless to repeat: a node that has it already is no failure."""
        try:
            await self._web3.eth.send_raw_transaction(raw)
        except Web3RPCError as failure:
            reason = str(failure.message or failure)
            if not any(text in reason.lower() for text in ("already known", "already imported")):
                raise TransactionError(
                    f"the node refused the transaction: {reason[:300]}"
                ) from failure

    async def wait(self, tx_hash: Digest, *, timeout_s: float = 60.0, poll_s: float = 0.1) -> Mined:
        """Until it is in a block; how deep that must be is the caller's question."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (receipt := await self._receipt(tx_hash)) is None:
            if asyncio.get_running_loop().time() >= deadline:
                raise TransactionTimeout(
                    f"transaction {tx_hash} was not mined in {timeout_s:g} s: it may still be; "
                    "wait on, or send it again with the same nonce and higher fees",
                    tx_hash,
                )
            await asyncio.sleep(poll_s)
        if receipt["status"] != 1:
            raise await self._why_reverted(tx_hash, receipt["blockNumber"])
        return Mined(
            tx_hash=tx_hash,
            block_number=BlockNumber(receipt["blockNumber"]),
            block_hash=to_digest(bytes(receipt["blockHash"])),
            gas_used=receipt["gasUsed"],
            logs=tuple(receipt["logs"]),
        )

    async def mined(self, tx_hash: Digest) -> bool:
        return await self._receipt(tx_hash) is not None

    async def next_nonce(self) -> int:
        """Behind the transactions of this key that wait in the node."""
        return int(await self._web3.eth.get_transaction_count(_checksum(self.address), "pending"))

    async def fees(self) -> Fees:
        """Twice the present base fee: enough for six full blocks in a row."""
        block = await self._web3.eth.get_block("latest")
        try:
            tip_wei = int(await self._web3.eth.max_priority_fee)
        except Web3RPCError:
            tip_wei = _FALLBACK_TIP_WEI
        return Fees(2 * int(block.get("baseFeePerGas", 0)) + tip_wei, tip_wei)

    async def _estimate_gas(self, call: Call) -> int:
        params: TxParams = {
            "from": self.address,
            "to": call.to,
            "data": call.data,
            "value": Wei(call.value),
        }
        try:
            gas = int(await self._web3.eth.estimate_gas(params, "pending"))
        except ContractLogicError as failure:
            raise refusal(failure) from failure
        except Web3RPCError as failure:
            raise TransactionError(
                f"the node cannot estimate the gas: {str(failure.message or failure)[:300]}"
            ) from failure
        return gas * (100 + _GAS_MARGIN_PERCENT) // 100

    async def _chain(self) -> int:
        if self._chain_id is None:
            self._chain_id = int(await self._web3.eth.chain_id)
        return self._chain_id

    async def _receipt(self, tx_hash: Digest) -> Any:
        try:
            return await self._web3.eth.get_transaction_receipt(_hash(tx_hash))
        except TransactionNotFound:
            return None

    async def _why_reverted(self, tx_hash: Digest, block_number: int) -> Exception:
        """The same call on the block before: most often the same refusal."""
        reverted = TransactionReverted(
            f"transaction {tx_hash} was mined in block {block_number} and refused", tx_hash
        )
        try:
            sent: Any = await self._web3.eth.get_transaction(_hash(tx_hash))
            call = Call(sent["to"], bytes(sent["input"]), sent["value"])
            await self.simulate(call, block=block_number - 1)
        except ContractError as why:
            return why
        except Exception:  # the reason is a courtesy; the revert itself is what happened
            return reverted
        return reverted


def _hash(tx_hash: Digest) -> Any:
    return tx_hash


def _checksum(address: Address) -> Any:
    return address
