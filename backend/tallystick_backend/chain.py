"""The only door to the chain: one RPC provider, and answers that were checked before anybody sees
them.

A node lies in many ways: it answers another request, forgets the newest logs, mixes two branches,
gives up on large ranges. What cannot be trusted raises a `ChainError`; nothing half-checked is ever
returned. CCIP-read stays off, so no contract makes this process fetch an address.

ChainError
├── RpcUnavailable    no usable answer: unreachable, timed out, cut off, overloaded
├── RpcRefused        the node answered with an error of its own
│   └── RpcReverted   the error is the contract's: the call reverted
├── AskForLess        the node will not answer for a range this large
└── RpcInconsistent   the answer contradicts itself or another answer
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, cast

import aiohttp
from eth_typing import URI
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.types import RPCEndpoint, RPCResponse

from tallystick.protocol.types import Address, Digest
from tallystick.protocol.web3 import without_shared_lock
from tallystick_backend.errors import BackendError

REQUEST_TIMEOUT_S = 10.0
LARGEST_RANGE_BLOCKS = 10_000
_HEADERS_AT_ONCE = 8
_TRIES = 6
"""For a page, at once one after the other; after that the caller waits before it asks again."""


class ChainError(BackendError):
    """The node gave nothing that may be believed; the same question may do better later."""

    next_step = "It is asked again; if it stays, look at the RPC node or name another RPC_URL."


class RpcUnavailable(ChainError):
    """No usable answer."""


class RpcRefused(ChainError):
    """The node answered with an error."""

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"{method} was refused with {code}: {text[:200]}")
        self.code = code


class RpcReverted(RpcRefused):
    """A contract refused the call: the node did its work, and there is nothing to ask again."""


class AskForLess(ChainError):
    """The range is too large for the node, in results, bytes or time."""


class RpcInconsistent(ChainError):
    """An answer contradicts itself or another one."""


# --- transport --------------------------------------------------------------------------------


class Rpc(Protocol):
    """One JSON-RPC request: the result, or a `ChainError`."""

    async def request(self, method: str, params: Sequence[Any]) -> Any: ...

    async def close(self) -> None: ...


class HttpRpc:
    """JSON-RPC over HTTP through web3's provider, without its silent retries."""

    def __init__(self, url: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._provider = _CheckedProvider(
            URI(url),
            request_kwargs={"timeout": aiohttp.ClientTimeout(total=timeout_s)},
            exception_retry_configuration=None,
        )
        # For those that need contract calls; `eth.call` reads this switch on the provider.
        self._provider.global_ccip_read_enabled = False
        without_shared_lock(self._provider)
        self.web3: AsyncWeb3[Any] = AsyncWeb3(self._provider)

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        try:
            response = await self._provider.make_request(RPCEndpoint(method), list(params))
        except ChainError:
            raise
        except TimeoutError:
            raise AskForLess(f"{method} was not answered in time") from None
        except aiohttp.ClientResponseError as error:
            if error.status in (413, 429):
                raise AskForLess(f"{method} was refused with HTTP {error.status}") from None
            raise RpcUnavailable(f"{method} was answered with HTTP {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RpcUnavailable(f"{method} failed: {type(error).__name__}") from None
        return _result(method, response)

    async def close(self) -> None:
        await self._provider.disconnect()


class _CheckedProvider(AsyncHTTPProvider):
    """Refuses an answer to another request, which a confused proxy may well give."""

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        request = self.encode_rpc_request(method, params)
        raw = await self._make_request(method, request)
        try:
            response = json.loads(raw)
        except (ValueError, RecursionError):
            raise RpcUnavailable(f"{method} was answered with something that is no JSON") from None
        if not isinstance(response, dict):
            raise RpcInconsistent(f"{method} was answered with {type(response).__name__}")
        has_error = response.get("error") is not None
        if response.get("jsonrpc") != "2.0" or not ("result" in response or has_error):
            raise RpcInconsistent(f"{method} was answered with something that is no JSON-RPC")
        expected = json.loads(request)["id"]
        # An error may come without an id: the node could not read the request.
        if response.get("id") != expected and not (
            response.get("id") is None and "error" in response
        ):
            raise RpcInconsistent(
                f"{method}: expected the answer to request {expected}, got {response.get('id')!r}"
            )
        return cast(RPCResponse, response)


_TOO_MUCH = re.compile(
    r"too many|more than|limit|too large|range|response size|timed? ?out|exceed", re.IGNORECASE
)


def _result(method: str, response: RPCResponse) -> Any:
    error: Any = response.get("error")
    if error is None:
        return response["result"]
    code = error.get("code", 0) if isinstance(error, dict) else 0
    text = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    if code == -32005 or (method == "eth_getLogs" and _TOO_MUCH.search(text)):
        raise AskForLess(f"{method} was refused with {code}: {text[:200]}")
    # 3 is what most nodes give a revert (EIP-1474 names none for it); others only say the word.
    reverted = method == "eth_call" and (code == 3 or "revert" in text.lower())
    raise (RpcReverted if reverted else RpcRefused)(
        method, code if isinstance(code, int) else 0, text
    )


# --- what is read -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    number: int
    hash: Digest
    parent_hash: Digest
    timestamp_s: int
    logs_bloom: bytes

    def may_hold(self, address: Address) -> bool:
        """False when the block certainly has no log of `address`."""
        digest = keccak(hexstr=address)
        for at in (0, 2, 4):
            bit = int.from_bytes(digest[at : at + 2]) & 0x7FF
            if not self.logs_bloom[255 - bit // 8] >> (bit % 8) & 1:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Log:
    address: Address
    topics: tuple[Digest, ...]
    data: bytes
    block_number: int
    block_hash: Digest
    tx_hash: Digest
    tx_index: int
    log_index: int


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks `first..last` with all logs of our contracts, in chain order. `headers` has at least
    the last block and every block with a log; all of them when the page was asked `linked`."""

    first: int
    last: int
    headers: tuple[Header, ...]
    logs: tuple[Log, ...]


class Chain:
    """What the index asks of the chain."""

    def __init__(
        self,
        rpc: Rpc,
        contracts: Iterable[Address],
        *,
        largest_range_blocks: int = LARGEST_RANGE_BLOCKS,
    ) -> None:
        self._rpc = rpc
        self._contracts = tuple(Address(to_checksum_address(a)) for a in contracts)
        self._largest_range = largest_range_blocks
        self._range = min(1000, largest_range_blocks)

    @property
    def range_blocks(self) -> int:
        """How many blocks are asked for at once, as far as this node was found to bear it."""
        return self._range

    async def chain_id(self) -> int:
        return _quantity(await self._rpc.request("eth_chainId", []), "eth_chainId")

    async def head(self) -> Header:
        return _header(await self._rpc.request("eth_getBlockByNumber", ["latest", False]))

    async def header(self, number: int) -> Header | None:
        """The block at `number` on the node's branch; None above its head."""
        answer = await self._rpc.request("eth_getBlockByNumber", [hex(number), False])
        if answer is None:
            return None
        header = _header(answer)
        if header.number != number:
            raise RpcInconsistent(f"asked for block {number}, got block {header.number}")
        return header

    async def has_code(self, address: Address) -> bool:
        code = await self._rpc.request("eth_getCode", [address, "latest"])
        return len(_bytes(code, "code")) > 0

    async def address_of(self, contract: Address, view: str) -> Address | None:
        """What a view such as `escrow()` answers; None if the contract has no such view."""
        word = await self._word(contract, view)
        return None if word is None else Address(to_checksum_address(word[-20:]))

    async def number_of(self, contract: Address, view: str) -> int | None:
        word = await self._word(contract, view)
        return None if word is None else int.from_bytes(word)

    async def call(self, contract: Address, data: bytes, number: int) -> bytes:
        """What a view answers at the block `number`."""
        asked = {"to": contract, "data": "0x" + data.hex()}
        return _bytes(await self._rpc.request("eth_call", [asked, hex(number)]), "answer of a view")

    async def pages(self, first: int, last: int, *, linked: bool) -> AsyncIterator[Page]:
        """`first..last` in pages as large as the node bears: halved when it refuses, a quarter more
        when it answers. With `linked` every header is read and each must name the one before. A
        page that cannot be used is read again a few times: a long branch would else never be read
        whole from a node of which one answer in twenty is wrong."""
        tries = 0
        tip: Header | None = None
        while first <= last:
            until = min(last, first + self._range - 1)
            try:
                page = await self._page(first, until, linked=linked)
            except AskForLess:
                if until == first:
                    raise
                self._range = max(1, (until - first + 1) // 2)
                continue
            except ChainError:
                tries += 1
                if tries == _TRIES:
                    raise
                # Of many questions one fails with nearly every try: fewer get through.
                self._range = max(1, (until - first + 1) // 4)
                continue
            tries = 0
            if linked:
                if tip is not None and page.headers[0].parent_hash != tip.hash:
                    raise RpcInconsistent(f"block {first} does not follow {tip.number}")
                tip = page.headers[-1]
            yield page
            if until - first + 1 == self._range:
                self._range = min(self._largest_range, self._range + self._range // 4 + 1)
            first = until + 1

    async def _page(self, first: int, last: int, *, linked: bool) -> Page:
        logs = await self._logs(first, last)
        wanted = (
            range(first, last + 1)
            if linked
            else sorted({last} | {log.block_number for log in logs})
        )
        headers = await self._headers(wanted)
        by_number = {header.number: header for header in headers}
        for log in logs:
            if by_number[log.block_number].hash != log.block_hash:
                raise RpcInconsistent(
                    f"block {log.block_number} is {by_number[log.block_number].hash}, "
                    f"its log says {log.block_hash}"
                )
        if linked:
            for before, after in pairwise(headers):
                if after.parent_hash != before.hash:
                    raise RpcInconsistent(f"block {after.number} does not follow {before.number}")
            await self._check_again(headers, logs)
            logs = await self._with_forgotten(headers, logs)
        else:
            await self._check_far_below(headers[-1], first, logs)
        return Page(first, last, headers, logs)

    async def _check_again(self, headers: Sequence[Header], logs: tuple[Log, ...]) -> None:
        """What was forgotten of a block that came with some logs shows when it is asked for by
        itself."""
        of_block: dict[int, list[Log]] = {}
        for log in logs:
            of_block.setdefault(log.block_number, []).append(log)
        for header in headers:
            if header.number not in of_block:
                continue
            try:
                wanted = {"blockHash": header.hash, "address": list(self._contracts)}
                again = self._checked(await self._rpc.request("eth_getLogs", [wanted]))
            except (RpcRefused, AskForLess):
                again = await self._logs_of_receipts(header.number)
            if list(again) != of_block[header.number]:
                raise RpcInconsistent(f"block {header.number} has other logs when asked again")

    async def _check_far_below(self, tip: Header, first: int, logs: tuple[Log, ...]) -> None:
        """Most headers of these blocks are not read, so nothing else would show what was forgotten;
        and a tip with a false hash would look like a reorganisation later on."""
        if await self._logs(first, tip.number) != logs:
            raise RpcInconsistent(f"blocks {first}..{tip.number} have other logs when asked again")
        after = await self.header(tip.number + 1)
        if after is not None and after.parent_hash != tip.hash:
            raise RpcInconsistent(f"block {after.number} does not follow {tip.number}")

    async def _headers(self, numbers: Iterable[int]) -> tuple[Header, ...]:
        gate = asyncio.Semaphore(_HEADERS_AT_ONCE)

        async def one(number: int) -> Header:
            async with gate:
                header = await self.header(number)
            if header is None:
                raise RpcInconsistent(f"block {number} is gone although the head is above it")
            return header

        return tuple(await asyncio.gather(*(one(number) for number in numbers)))

    async def _logs(self, first: int, last: int) -> tuple[Log, ...]:
        span = {"fromBlock": hex(first), "toBlock": hex(last), "address": list(self._contracts)}
        try:
            answer = await self._rpc.request("eth_getLogs", [span])
        except AskForLess:
            if first < last:
                raise
            return await self._logs_of_receipts(first)
        logs = self._checked(answer)
        for log in logs:
            if not first <= log.block_number <= last:
                raise RpcInconsistent(
                    f"asked for logs of blocks {first}..{last}, got one of {log.block_number}"
                )
        return logs

    async def _with_forgotten(
        self, headers: Sequence[Header], logs: tuple[Log, ...]
    ) -> tuple[Log, ...]:
        """Some nodes answer no logs for their newest block and have them a moment later. A block
        whose bloom filter speaks of us and that came without logs is read again from its receipts;
        these also tell a filter that spoke by chance."""
        with_logs = {log.block_number for log in logs}
        found = list(logs)
        for header in headers:
            if header.number not in with_logs and any(map(header.may_hold, self._contracts)):
                again = await self._logs_of_receipts(header.number)
                if any(log.block_hash != header.hash for log in again):
                    raise RpcInconsistent(f"block {header.number} changed while it was read")
                found += again
        return tuple(sorted(found, key=_place)) if len(found) > len(logs) else logs

    async def _logs_of_receipts(self, number: int) -> tuple[Log, ...]:
        """Logs of one block from its receipts: no node limits that, and none forgets them."""
        answer = await self._rpc.request("eth_getBlockByNumber", [hex(number), False])
        header = _header(answer)
        hashes = answer.get("transactions")
        if not isinstance(hashes, list):
            raise RpcInconsistent(f"block {number} came without its transactions")
        found: list[Any] = []
        for tx_hash, receipt in zip(hashes, await self._receipts(number, hashes), strict=True):
            if not isinstance(receipt, dict) or not isinstance(receipt.get("logs"), list):
                raise RpcInconsistent(f"the receipt of transaction {tx_hash} is missing")
            if receipt.get("blockHash") != header.hash:
                raise RpcInconsistent(f"the receipt of {tx_hash} belongs to another block")
            found += receipt["logs"]
        ours = {address.lower() for address in self._contracts}
        return self._checked([raw for raw in found if str(raw.get("address")).lower() in ours])

    async def _receipts(self, number: int, hashes: Sequence[Any]) -> Sequence[Any]:
        """All at once, or one at a time where the node cannot."""
        try:
            answer = await self._rpc.request("eth_getBlockReceipts", [hex(number)])
        except (RpcRefused, AskForLess):
            return [
                await self._rpc.request("eth_getTransactionReceipt", [tx_hash])
                for tx_hash in hashes
            ]
        if not isinstance(answer, list) or len(answer) != len(hashes):
            raise RpcInconsistent(f"block {number} has other receipts than transactions")
        return answer

    def _checked(self, answer: Any) -> tuple[Log, ...]:
        if not isinstance(answer, list):
            raise RpcInconsistent(f"expected a list of logs, got {type(answer).__name__}")
        logs = sorted((_log(raw) for raw in answer), key=_place)
        for log in logs:
            if log.address not in self._contracts:
                raise RpcInconsistent(f"asked for logs of our contracts, got one of {log.address}")
        for before, after in pairwise(logs):
            if _place(before) == _place(after):
                raise RpcInconsistent(
                    f"log {after.log_index} of block {after.block_number} came twice"
                )
            if before.block_number == after.block_number and before.block_hash != after.block_hash:
                raise RpcInconsistent(f"block {after.block_number} came with two hashes")
        return tuple(logs)

    async def _word(self, contract: Address, view: str) -> bytes | None:
        call = {"to": contract, "data": "0x" + keccak(text=view)[:4].hex()}
        try:
            answer = await self._rpc.request("eth_call", [call, "latest"])
        except RpcRefused:
            return None
        data = _bytes(answer, view)
        return data if len(data) == 32 else None


def _place(log: Log) -> tuple[int, int]:
    return log.block_number, log.log_index


# --- from JSON, trusting nothing --------------------------------------------------------------

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_DIGEST = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")


def _header(answer: Any) -> Header:
    if not isinstance(answer, dict):
        raise RpcInconsistent(f"expected a block, got {type(answer).__name__}")
    bloom = _bytes(answer.get("logsBloom"), "logsBloom")
    if len(bloom) != 256:
        raise RpcInconsistent(f"a bloom filter has 256 bytes, got {len(bloom)}")
    return Header(
        number=_quantity(answer.get("number"), "block number"),
        hash=_digest(answer.get("hash"), "block hash"),
        parent_hash=_digest(answer.get("parentHash"), "parent hash"),
        timestamp_s=_quantity(answer.get("timestamp"), "block time"),
        logs_bloom=bloom,
    )


def _log(answer: Any) -> Log:
    if not isinstance(answer, dict):
        raise RpcInconsistent(f"expected a log, got {type(answer).__name__}")
    if answer.get("removed"):
        raise RpcInconsistent("got a log that was removed by a reorganisation")
    address = answer.get("address")
    topics = answer.get("topics")
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise RpcInconsistent(f"expected the address of a log, got {address!r}")
    if not isinstance(topics, list) or len(topics) > 4:
        raise RpcInconsistent("expected up to four topics of a log")
    return Log(
        address=Address(to_checksum_address(address)),
        topics=tuple(_digest(topic, "topic") for topic in topics),
        data=_bytes(answer.get("data"), "data of a log"),
        block_number=_quantity(answer.get("blockNumber"), "block number of a log"),
        block_hash=_digest(answer.get("blockHash"), "block hash of a log"),
        tx_hash=_digest(answer.get("transactionHash"), "transaction hash of a log"),
        tx_index=_quantity(answer.get("transactionIndex"), "transaction index of a log"),
        log_index=_quantity(answer.get("logIndex"), "index of a log"),
    )


def _quantity(value: Any, what: str) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise RpcInconsistent(f"expected {what} as a hex number, got {value!r:.80}")
    return int(value, 16)


def _digest(value: Any, what: str) -> Digest:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise RpcInconsistent(f"expected {what} of 32 bytes, got {value!r:.80}")
    return Digest(value.lower())


def _bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise RpcInconsistent(f"expected {what} as hex, got {value!r:.80}")
    return bytes.fromhex(value[2:])
