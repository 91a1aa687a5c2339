"""No contract makes us fetch an address of its choice (security case 88)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiohttp import ClientResponseError
from eth_abi.abi import encode
from web3._utils.http_session_manager import HTTPSessionManager
from web3.utils import async_exception_handling

from tallystick.protocol.contracts import Call, Escrow, call_contract
from tallystick.protocol.errors import ContractError, ProtocolError, TransactionError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import Address, to_address
from tallystick.protocol.web3 import close, connect
from tests.support.anvil import CONSUMER, LocalChain

HOSTILE = to_address("0x" + "66" * 20)


class Canary:
    """Counts who comes."""

    def __init__(self) -> None:
        canary = self
        self.visits = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.visits += 1
                self.send_response(404)
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *values: object) -> None:
                del values

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


@pytest.fixture
def hostile(chain: LocalChain, canary: Canary) -> Address:
    """A contract that answers every call with `OffchainLookup` (EIP-3668) to the canary."""
    payload = keccak256(b"OffchainLookup(address,string[],bytes,bytes4,bytes)")[:4] + encode(
        ["address", "string[]", "bytes", "bytes4", "bytes"],
        [HOSTILE, [canary.url + "{sender}/{data}"], b"\x01", b"\x02" * 4, b""],
    )
    size = len(payload).to_bytes(2, "big").hex()
    # PUSH2 size, PUSH1 offset of payload, PUSH1 0, CODECOPY; PUSH2 size, PUSH1 0, REVERT
    code = f"61{size}600e600039" + f"61{size}6000fd" + payload.hex()
    chain.rpc("anvil_setCode", HOSTILE, "0x" + code)
    return HOSTILE


async def test_a_hostile_contract_gets_a_refusal_and_no_visit(
    web3: Any, hostile: Address, canary: Canary
) -> None:
    with pytest.raises(ContractError, match="fetch data from elsewhere"):
        await call_contract(web3, Call(hostile, b"\x01\x02\x03\x04"))
    with pytest.raises(ContractError, match="fetch data from elsewhere"):
        await Escrow(web3, hostile).account(CONSUMER.address)
    with pytest.raises((ContractError, TransactionError)):
        await Sender(web3, CONSUMER.key).execute(Call(hostile, b"\x01\x02\x03\x04"))
    assert canary.visits == 0


async def test_the_canary_would_have_sung(
    web3: Any, hostile: Address, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the switch the same call does visit: the test above proves something. The check web3
    has of its own, which some forms of a private address pass, stands aside."""
    web3.provider.global_ccip_read_enabled = True
    web3.provider.ccip_read_allow_http = True
    monkeypatch.setattr(async_exception_handling, "async_validate_ccip_url_host", _anything_goes)
    with pytest.raises(ClientResponseError):
        await web3.eth.call({"to": hostile, "data": "0x01020304"})
    assert canary.visits > 0


def test_every_connection_has_it_off() -> None:
    assert connect("http://127.0.0.1:1").provider.global_ccip_read_enabled is False


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ws://127.0.0.1", "file:///etc/passwd"])
def test_only_http_is_connected_to(url: str) -> None:
    with pytest.raises(ProtocolError, match="http:// or https://"):
        connect(url)


async def _anything_goes(url: str) -> None:
    del url


async def test_a_cancelled_request_holds_up_no_other_for_ever(chain: LocalChain) -> None:
    web3 = connect(chain.url)
    HTTPSessionManager._lock.acquire()  # as a cancelled request leaves it
    try:
        async with asyncio.timeout(10):
            assert await web3.eth.chain_id == 31337
    finally:
        HTTPSessionManager._lock.release()
        await close(web3)
