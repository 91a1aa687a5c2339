"""What a node may answer, and what of it is believed.

HttpRpc
├── the answer is not one to this request        -> refused
├── the node is away, slow or cut off            -> RpcUnavailable, or AskForLess
└── the node asks for less                       -> AskForLess
Chain
├── a block or log is malformed or misplaced     -> RpcInconsistent
├── the range is too large                       -> halved down to one block, then by receipt
└── logs are missing that the bloom speaks of    -> read from the receipts
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3.exceptions import OffchainLookup

from tallystick_backend.chain import (
    AskForLess,
    Chain,
    ChainError,
    HttpRpc,
    Page,
    RpcInconsistent,
    RpcRefused,
    RpcUnavailable,
)
from tallystick_backend.index.start import followed
from tests.backend.index.node import CONSUMERS, DEPLOYMENT, Market, Node, address, created, digest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONTRACTS = followed(DEPLOYMENT)

# --- over HTTP (cases 76, 77) -----------------------------------------------------------------


def answer(body: object, status: str = "200 OK") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


async def request_answered_with(
    respond: Callable[[int], bytes], *, timeout_s: float = 5.0, hold_open: bool = False
) -> Any:
    """Sends eth_chainId to a server that answers `respond(id of the request)`."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(respond((await _request(reader))["id"]))
        if hold_open:
            await done.wait()

    async with serving(serve) as url:
        rpc = HttpRpc(url, timeout_s=timeout_s)
        try:
            return await rpc.request("eth_getLogs", [])
        finally:
            done.set()
            await rpc.close()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on a free port of the loopback; every connection is closed at the end."""
    handled: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await handler(reader, writer)
            await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*handled, return_exceptions=True)
        await server.wait_closed()


async def _request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    ]
    request: dict[str, Any] = json.loads(await reader.readexactly(length))
    return request


async def test_an_answer_to_the_request_is_given_back() -> None:
    result = await request_answered_with(
        lambda number: answer({"jsonrpc": "2.0", "id": number, "result": ["a"]})
    )
    assert result == ["a"]


def error(code: int, message: str) -> Callable[[int], bytes]:
    return lambda number: answer(
        {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
    )


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        pytest.param(
            lambda number: answer({"jsonrpc": "2.0", "id": number + 1, "result": []}),
            RpcInconsistent,
            id="the answer to another request",
        ),
        pytest.param(
            lambda _: answer({"jsonrpc": "2.0", "result": []}), RpcInconsistent, id="no id"
        ),
        pytest.param(
            lambda number: answer({"jsonrpc": "2.0", "id": number}),
            RpcInconsistent,
            id="neither result nor error",
        ),
        pytest.param(
            lambda number: answer({"id": number, "result": []}),
            RpcInconsistent,
            id="not JSON-RPC",
        ),
        pytest.param(lambda _: answer([]), RpcInconsistent, id="a list"),
        pytest.param(lambda _: answer(b"null"), RpcInconsistent, id="null"),
        pytest.param(lambda _: answer(b""), RpcUnavailable, id="nothing"),
        pytest.param(
            lambda _: answer(b'{"jsonrpc":"2.0","id":1,"resu'), RpcUnavailable, id="cut JSON"
        ),
        pytest.param(
            lambda number: answer({"jsonrpc": "2.0", "id": number, "result": []})[:-4],
            RpcUnavailable,
            id="a connection cut off",
        ),
        pytest.param(lambda _: b"", RpcUnavailable, id="a connection closed at once"),
        pytest.param(
            lambda _: answer(b"<html>502</html>", "502 Bad Gateway"),
            RpcUnavailable,
            id="an HTML page with 502",
        ),
        pytest.param(lambda _: answer(b"<html>"), RpcUnavailable, id="an HTML page with 200"),
        pytest.param(lambda _: answer(b"", "413 Too Large"), AskForLess, id="HTTP 413"),
        pytest.param(lambda _: answer(b"", "429 Slow Down"), AskForLess, id="HTTP 429"),
        pytest.param(error(-32005, "limit"), AskForLess, id="-32005"),
        pytest.param(
            error(-32602, "query returned more than 10000 results"), AskForLess, id="too many"
        ),
        pytest.param(error(-32000, "block range is too wide"), AskForLess, id="too wide"),
        pytest.param(error(-32601, "no such method"), RpcRefused, id="another error"),
        pytest.param(
            lambda number: answer({"jsonrpc": "2.0", "id": number, "error": "no"}),
            RpcRefused,
            id="an error that is only text",
        ),
    ],
)
async def test_another_answer_is_refused(
    respond: Callable[[int], bytes], expected: type[ChainError]
) -> None:
    with pytest.raises(expected):
        await request_answered_with(respond)


async def test_an_answer_that_only_drips_in_is_given_up() -> None:
    with pytest.raises(AskForLess, match="in time"):
        await request_answered_with(
            lambda number: answer({"jsonrpc": "2.0", "id": number, "result": []})[:-1],
            timeout_s=0.2,
            hold_open=True,
        )


async def test_a_node_that_is_away_is_unavailable() -> None:
    async def nobody(_r: asyncio.StreamReader, _w: asyncio.StreamWriter) -> None: ...

    async with serving(nobody) as url:
        pass
    rpc = HttpRpc(url)
    with pytest.raises(RpcUnavailable):
        await rpc.request("eth_chainId", [])
    await rpc.close()


async def test_a_contract_cannot_make_us_fetch_an_address() -> None:
    """Case 88: an OffchainLookup is an error, not a request to the URL it names."""
    fetched = asyncio.Event()

    async def bait(_: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        fetched.set()

    async with serving(bait) as bait_url:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await _request(reader)
            said: dict[str, Any] = {"result": "0x1"}
            if request["method"] == "eth_call":
                data = _offchain_lookup(address("hostile"), bait_url)
                said = {"error": {"code": 3, "message": "execution reverted", "data": data}}
            writer.write(answer({"jsonrpc": "2.0", "id": request["id"], **said}))

        async with serving(serve) as url:
            rpc = HttpRpc(url)
            with pytest.raises(OffchainLookup):
                await rpc.web3.eth.call({"to": address("hostile"), "data": "0x"})
            await rpc.close()
    assert not fetched.is_set()


def _offchain_lookup(sender: str, url: str) -> str:
    kinds = ["address", "string[]", "bytes", "bytes4", "bytes"]
    selector = keccak(text=f"OffchainLookup({','.join(kinds)})")[:4]
    values = [sender, [url], b"", b"\0\0\0\0", b""]
    return "0x" + (selector + encode(kinds, values)).hex()


# --- ranges (case 76) -------------------------------------------------------------------------


@pytest.fixture
def node() -> Node:
    return Node()


async def all_pages(chain: Chain, last: int, *, linked: bool = False) -> list[Page]:
    return [page async for page in chain.pages(1, last, linked=linked)]


def check_no_gap(pages: list[Page], node: Node) -> None:
    assert [page.first for page in pages] == [1, *(page.last + 1 for page in pages[:-1])]
    assert pages[-1].last == node.head.number
    expected = [log["transactionHash"] for block in node.blocks for log in block.logs]
    assert [log.tx_hash for page in pages for log in page.logs] == expected


@pytest.mark.parametrize("most_logs", [1, 3, 10, 100, 10_000])
async def test_a_limit_on_results_is_found_and_leaves_no_gap(node: Node, most_logs: int) -> None:
    market = Market(node, seed=most_logs)
    for _ in range(80):
        market.mine()
    node.most_logs = most_logs
    check_no_gap(await all_pages(Chain(node, CONTRACTS), node.head.number), node)


@pytest.mark.parametrize("largest", [1, 2, 7, 64, 1000])
async def test_a_limit_on_blocks_is_found_and_leaves_no_gap(node: Node, largest: int) -> None:
    market = Market(node, seed=largest)
    for _ in range(80):
        market.mine()
    node.largest_range = largest
    check_no_gap(await all_pages(Chain(node, CONTRACTS), node.head.number), node)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_block_with_more_logs_than_the_limit_is_read_by_receipt(
    node: Node, at_once: bool
) -> None:
    node.mine(*created("a", CONSUMERS[0], 1), *created("b", CONSUMERS[1], 1))
    node.most_logs = 1
    node.knows_block_receipts = at_once
    [page] = await all_pages(Chain(node, CONTRACTS), 1)
    assert len(page.logs) == 4
    # Twice: what is forgotten far below the head would show nowhere else.
    assert node.asked["eth_getTransactionReceipt"] == (0 if at_once else 8)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda a, _p: a[:-1], id="one too few"),
        pytest.param(lambda _a, _p: None, id="none"),
        pytest.param(lambda a, _p: [None for _ in a], id="empty ones"),
        pytest.param(
            lambda a, _p: [{**receipt, "blockHash": digest("x")} for receipt in a],
            id="of another block",
        ),
    ],
)
async def test_receipts_that_do_not_fit_their_block_are_refused(
    node: Node, fault: Callable[[Any, Any], Any]
) -> None:
    node.mine(*created("a", CONSUMERS[0], 1))
    node.most_logs = 1
    node.faults["eth_getBlockReceipts"] = fault
    with pytest.raises(RpcInconsistent):
        await all_pages(Chain(node, CONTRACTS), 1)


async def test_the_range_halves_and_grows_back(node: Node) -> None:
    for _ in range(600):
        node.mine()
    chain = Chain(node, CONTRACTS, largest_range_blocks=512)
    node.largest_range = 100
    await all_pages(chain, 600)
    assert chain.range_blocks <= 125
    node.largest_range = 10_000
    for _ in range(5):
        await all_pages(chain, 600)
    assert chain.range_blocks == 512
    assert node.ranges[0] == (1, 512)
    assert node.ranges[1] == (1, 256)


# --- answers that contradict (cases 74, 77, 80) -----------------------------------------------


def _first_log(**changes: Any) -> Callable[[Any, Any], Any]:
    def fault(logs: Any, _: Any) -> Any:
        logs[0].update(changes)
        return logs

    return fault


def _header(**changes: Any) -> Callable[[Any, Any], Any]:
    def fault(header: Any, _: Any) -> Any:
        return header and {**header, **changes}

    return fault


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        pytest.param("eth_getLogs", lambda _a, _p: None, id="no list of logs"),
        pytest.param("eth_getLogs", lambda a, _p: a + a, id="every log twice"),
        pytest.param("eth_getLogs", _first_log(removed=True), id="a removed log"),
        pytest.param("eth_getLogs", _first_log(blockNumber="0x9"), id="outside the range"),
        pytest.param("eth_getLogs", _first_log(blockHash=digest("x")), id="of another block"),
        pytest.param("eth_getLogs", _first_log(address=address("x")), id="of another contract"),
        pytest.param("eth_getLogs", _first_log(address="0x12"), id="no address"),
        pytest.param("eth_getLogs", _first_log(topics=["0x12"]), id="a short topic"),
        pytest.param("eth_getLogs", _first_log(data="0x1"), id="half a byte"),
        pytest.param("eth_getLogs", _first_log(logIndex=0), id="an index that is no hex"),
        pytest.param("eth_getLogs", _first_log(logIndex="0x01"), id="a padded number"),
        pytest.param("eth_getLogs", _first_log(blockNumber=None), id="a pending log"),
        pytest.param("eth_getLogs", lambda a, _p: [*a, "log"], id="a log that is text"),
        pytest.param("eth_getBlockByNumber", lambda _a, _p: None, id="a block that is gone"),
        pytest.param("eth_getBlockByNumber", lambda _a, _p: "block", id="a block that is text"),
        pytest.param("eth_getBlockByNumber", _header(number="0x7"), id="another block"),
        pytest.param("eth_getBlockByNumber", _header(hash="0x"), id="a short hash"),
        pytest.param("eth_getBlockByNumber", _header(logsBloom="0x00"), id="a short bloom"),
        pytest.param("eth_getBlockByNumber", _header(timestamp=1), id="a time that is no hex"),
        pytest.param("eth_getBlockByNumber", _header(parentHash=digest("x")), id="another parent"),
    ],
)
async def test_an_answer_that_contradicts_is_refused(
    node: Node, method: str, fault: Callable[[Any, Any], Any]
) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))
    node.mine(*created("another", CONSUMERS[1], 1))
    node.faults[method] = fault
    with pytest.raises(RpcInconsistent):
        await all_pages(Chain(node, CONTRACTS), 2, linked=True)


async def test_logs_out_of_order_are_put_in_order(node: Node) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))
    node.mine(*created("another", CONSUMERS[1], 1))
    node.faults["eth_getLogs"] = lambda logs, _: logs[::-1]
    [page] = await all_pages(Chain(node, CONTRACTS), 2)
    places = [(log.block_number, log.log_index) for log in page.logs]
    assert places == [(1, 0), (1, 1), (2, 0), (2, 1)]


async def test_a_block_that_changes_while_it_is_read_is_refused(node: Node) -> None:
    node.mine(*created("a task", CONSUMERS[0], 1))

    def reorganised_after(logs: Any, _: Any) -> Any:
        node.roll_back(1)
        node.mine(*created("a task", CONSUMERS[0], 1), salt=f"{node.asked}")
        return logs

    node.faults["eth_getLogs"] = reorganised_after
    with pytest.raises(RpcInconsistent, match="its log says"):
        await all_pages(Chain(node, CONTRACTS), 1)


async def test_two_nodes_that_disagree_behind_one_address_give_no_page(node: Node) -> None:
    """Case 75: headers of one, logs of the other; neither is believed until they agree."""
    node.mine(*created("a task", CONSUMERS[0], 1))
    other = Node()
    other.mine(*created("another task", CONSUMERS[0], 1), salt="the other node's")
    node.faults["eth_getLogs"] = lambda _logs, asked: other._answer("eth_getLogs", asked)
    with pytest.raises(RpcInconsistent):
        await all_pages(Chain(node, CONTRACTS), 1)
    node.faults.clear()
    [page] = await all_pages(Chain(node, CONTRACTS), 1)
    assert {log.block_hash for log in page.logs} == {page.headers[0].hash}


async def test_a_bloom_filter_that_speaks_by_chance_adds_nothing(node: Node) -> None:
    node.mine()
    node.faults["eth_getBlockByNumber"] = _header(logsBloom="0x" + "ff" * 256)
    [page] = await all_pages(Chain(node, CONTRACTS), 1)
    assert page.logs == ()


async def test_a_view_that_the_contract_lacks_is_none(node: Node) -> None:
    chain = Chain(node, CONTRACTS)
    assert await chain.address_of(DEPLOYMENT.market, "escrow()") == DEPLOYMENT.escrow
    assert await chain.address_of(DEPLOYMENT.market, "owner()") is None
    assert await chain.number_of(DEPLOYMENT.staking, "unit()") == DEPLOYMENT.stake_unit


async def test_a_page_is_read_again_and_in_smaller_parts(node: Node) -> None:
    """Case 77: of a long branch some answer is always wrong."""
    for number in range(40):
        node.mine(*created(f"task {number}", CONSUMERS[0], 1))

    def every_seventh(answer: Any, _: Any) -> Any:
        if node.asked["eth_getBlockByNumber"] % 7 == 0:
            raise RpcUnavailable("no answer")
        return answer

    node.faults["eth_getBlockByNumber"] = every_seventh
    pages = await all_pages(Chain(node, CONTRACTS), 40, linked=True)
    assert [h.number for page in pages for h in page.headers] == list(range(1, 41))


async def test_a_log_that_is_forgotten_once_is_missed(node: Node) -> None:
    """Case 74: one of several logs of a block, near the head and far below it."""
    node.mine(*created("a task", CONSUMERS[0], 1), *created("another", CONSUMERS[1], 1))
    node.mine()
    for linked in (True, False):
        forgotten: list[Any] = []

        def forgets_once(logs: Any, _: Any, forgotten: list[Any] = forgotten) -> Any:
            if not forgotten:
                forgotten.append(logs.pop())
            return logs

        node.faults["eth_getLogs"] = forgets_once
        [page] = await all_pages(Chain(node, CONTRACTS), 1, linked=linked)
        assert forgotten
        assert len(page.logs) == 4


@pytest.mark.parametrize(
    "answer",
    [b"[" * 200_000, b'{"jsonrpc": "2.0", "id": 0, "error": null}', b'{"jsonrpc": "2.0", "id": 0}'],
    ids=["nested too deep", "an error that is none", "neither"],
)
async def test_an_answer_that_is_none_is_an_error_of_the_node(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 77."""
    rpc = HttpRpc("http://127.0.0.1:1")

    async def said(_method: Any, _request: Any) -> bytes:
        return answer

    monkeypatch.setattr(rpc._provider, "_make_request", said)
    with pytest.raises(ChainError):
        await rpc.request("eth_chainId", [])
    await rpc.close()
