"""Sending transactions from one key.

A transaction is simulated first, so a refusal is a sentence and costs nothing; then signed with an
explicit nonce. A signed one can be stored and broadcast again after a crash: it is the same
transaction, mined once at most.

A node may take a transaction and lose the answer, or answer and lose the transaction. So `execute`
never signs the same call under a second nonce while the first may still be mined: it says the same
bytes again, dearer ones on the same nonce when the fee got too low, and begins anew only once
another transaction has taken the nonce.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account as EthAccount
from web3 import AsyncWeb3
from web3.exceptions import (
    ContractLogicError,
    TransactionNotFound,
    Web3RPCError,
)
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
from tallystick.protocol.web3 import NODE_FAILED

__all__ = ["Fees", "Mined", "Sender", "SignedTransaction"]

_GAS_MARGIN_PERCENT: Final = 25
_FALLBACK_TIP_WEI: Final = 1_000_000_000
_SAID_AGAIN_EVERY_S: Final = 2.0
_MOST_REFUSALS: Final = 5
_FEE_CEILING: Final = 10
"""Times the market's fee: what does not get in at that is not held up by its fee."""

_KNOWN: Final = re.compile(
    r"already[ _]?known|already imported|already[ _]exists|known transaction", re.I
)
_NOT_TAKEN: Final = re.compile(
    r"insufficient (funds|balance)|intrinsic gas|gas limit|invalid (sender|chain)|oversized", re.I
)
"""What says for sure that the transaction is in nobody's pool. After anything else a node, or one
behind the same address, may have it all the same."""
_NONCE_TAKEN: Final = re.compile(r"nonce too low|nonce is too low|old nonce|nonce.{0,20}used", re.I)
_FEE_TOO_LOW: Final = re.compile(
    r"underpriced|fee too low|less than block base fee|gas price too low|below the minimum", re.I
)


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

    def __init__(
        self, web3: AsyncWeb3[Any], private_key: PrivateKey, *, chain_id: int | None = None
    ) -> None:
        """With `chain_id` nothing is ever signed for another chain, whatever the node says."""
        self._web3 = web3
        self._key = private_key_bytes(private_key)
        self.address: Address = address_of(private_key)
        self._chain_id = chain_id
        self._lock = asyncio.Lock()
        self._unsettled: dict[str, _Sending] = {}
        """By the hash that `execute` raised: what it still knows how to bring into a block."""

    async def execute(self, call: Call, *, timeout_s: float = 60.0) -> Mined:
        """Simulate, send, wait until mined, once. Raises `ContractError` or a `TransactionError`;
        with a `tx_hash` in it the transaction may still be mined."""
        sending = _Sending(self, call)
        deadline = asyncio.get_running_loop().time() + timeout_s
        await sending.begin()
        return await sending.follow(deadline)

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
            reason = _reason(failure)
            if not _KNOWN.search(reason):
                raise TransactionError(
                    f"the node refused the transaction: {reason[:300]}"
                ) from failure

    async def wait(self, tx_hash: Digest, *, timeout_s: float = 60.0, poll_s: float = 0.1) -> Mined:
        """Until it is in a block; how deep is the caller's question. One that `execute`
        gave up waiting for is said again meanwhile, as there."""
        sending = self._unsettled.pop(tx_hash, None)
        if sending is not None:
            return await sending.follow(asyncio.get_running_loop().time() + timeout_s)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (receipt := await self._heard_receipt(tx_hash)) is None:
            if asyncio.get_running_loop().time() >= deadline:
                raise TransactionTimeout(
                    f"transaction {tx_hash} was not mined in {timeout_s:g} s: it may still be; "
                    "wait on, or send it again with the same nonce and higher fees",
                    tx_hash,
                )
            await asyncio.sleep(poll_s)
        return await self._mined(tx_hash, receipt)

    async def _mined(self, tx_hash: Digest, receipt: Any) -> Mined:
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

    async def mined_nonce(self) -> int:
        """Behind the mined transactions of this key."""
        return int(await self._web3.eth.get_transaction_count(_checksum(self.address), "latest"))

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

    async def _heard_receipt(self, tx_hash: Digest) -> Any:
        """None, too, where the node cannot be heard: that says nothing of the transaction."""
        try:
            return await self._receipt(tx_hash)
        except NODE_FAILED:
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


class _Sending:
    """One call on its way: the versions of it that were signed for one nonce, and what the node
    said last."""

    def __init__(self, sender: Sender, call: Call) -> None:
        self._sender = sender
        self._call = call
        self._versions: list[SignedTransaction] = []
        self._problem = ""
        self._refused = 0
        self._is_said = False
        self._said_at = 0.0

    async def begin(self) -> None:
        async with self._sender._lock:
            self._versions = [await self._sender.sign(self._call)]
            self._is_said = await self._say(first=True)
        self._said_at = asyncio.get_running_loop().time()

    async def follow(self, deadline: float) -> Mined:
        loop = asyncio.get_running_loop()
        while True:
            for version in reversed(self._versions):
                receipt = await self._sender._heard_receipt(version.tx_hash)
                if receipt is not None:
                    return await self._sender._mined(version.tx_hash, receipt)
            if loop.time() >= deadline:
                raise self._late()
            await asyncio.sleep(0.1)
            if not self._is_said or loop.time() - self._said_at >= _SAID_AGAIN_EVERY_S:
                self._is_said = await self._say(first=False)
                self._said_at = loop.time()

    async def _say(self, *, first: bool) -> bool:
        """Broadcasts the latest version; False when it is to be said again at once. Raises what
        the node refused while nothing can have been taken yet."""
        latest = self._versions[-1]
        try:
            await self._sender.broadcast(latest.raw)
        except TransactionError as refused:
            reason = str(refused)
            self._problem = reason
            if _NONCE_TAKEN.search(reason):
                return await self._anew_if_displaced(first)
            if _FEE_TOO_LOW.search(reason):
                return await self._raise_fee(first)
            if _NOT_TAKEN.search(reason):
                if first:
                    raise
                return True
            self._refused += 1
            if self._refused >= _MOST_REFUSALS:
                self._refused = 0
                self._sender._unsettled[latest.tx_hash] = self
                raise TransactionError(
                    f"{reason}; it may have it all the same: look for transaction "
                    f"{latest.tx_hash} before you send another",
                    latest.tx_hash,
                ) from refused
            return False
        except NODE_FAILED as unheard:
            self._problem = f"the node does not answer as it should ({type(unheard).__name__})"
        else:
            self._problem, self._refused = "", 0
            await self._outbid_base_fee()
        return True

    async def _anew_if_displaced(self, first: bool) -> bool:
        """Another transaction of the key was mined with this nonce, so none of ours ever can be.
        Asked twice: a node may know its count before its receipts."""
        for _ in range(2):
            for version in self._versions:
                try:
                    if await self._sender.mined(version.tx_hash):
                        return True
                except NODE_FAILED:
                    return True
            await asyncio.sleep(0.1)
        try:
            mined = await self._sender.mined_nonce()
            if mined <= self._versions[-1].nonce:
                return True
            if first:
                self._versions = [await self._sender.sign(self._call)]
            else:
                async with self._sender._lock:
                    self._versions = [await self._sender.sign(self._call)]
        except NODE_FAILED:
            return True
        return False

    async def _outbid_base_fee(self) -> None:
        """The base fee rose past what was offered: the node keeps the transaction, and no block
        takes it."""
        try:
            fees = await self._sender.fees()
        except NODE_FAILED:
            return
        base_wei = (fees.max_fee_wei - fees.tip_wei) // 2
        if self._versions[-1].fees.max_fee_wei < base_wei:
            await self._raise_fee(False, fees)

    async def _raise_fee(self, first: bool, now: Fees | None = None) -> bool:
        """The same call on the same nonce, dearer: only one of them can ever be mined. A nonce that
        somebody else's transaction waits with is left to it."""
        latest = self._versions[-1]
        try:
            now = now or await self._sender.fees()
            if first and "replacement" in self._problem:
                free = await self._sender.next_nonce()
                nonce = max(free, latest.nonce + 1)
                self._versions = [await self._sender.sign(self._call, nonce=nonce)]
                return False
            raised = latest.fees.raised()
            fees = Fees(max(now.max_fee_wei, raised.max_fee_wei), max(now.tip_wei, raised.tip_wei))
            if latest.fees.max_fee_wei >= _FEE_CEILING * now.max_fee_wei:
                return True
            self._versions.append(
                await self._sender.sign(self._call, nonce=latest.nonce, fees=fees, gas=latest.gas)
            )
        except NODE_FAILED:
            return True
        return False

    def _late(self) -> TransactionTimeout:
        tx_hash = self._versions[-1].tx_hash
        self._sender._unsettled[tx_hash] = self
        why = f" ({self._problem})" if self._problem else ""
        return TransactionTimeout(
            f"transaction {tx_hash} was not mined in time{why}: it may still be; wait on",
            tx_hash,
        )


def _reason(failure: Web3RPCError) -> str:
    return str(failure.message or failure)


def _hash(tx_hash: Digest) -> Any:
    return tx_hash


def _checksum(address: Address) -> Any:
    return address
