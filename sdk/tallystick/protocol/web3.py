"""Connections to a node, made the one safe way.

CCIP-read (EIP-3668) stays off: with it any contract that is called could make this process fetch an
address of its choice. An answer that is no JSON, or to another request, is an `UnusableAnswer`;
what web3 makes of other nonsense is among `NODE_FAILED`, too.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

from aiohttp import ClientError, ClientTimeout
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, RPCResponse

from tallystick.protocol.errors import ProtocolError

__all__ = ["NODE_FAILED", "UnusableAnswer", "close", "connect", "without_shared_lock"]

NODE_FAILED: Final = (
    Web3Exception,
    ClientError,
    OSError,
    TimeoutError,
    # web3's formatters, over a field that is not what it should be
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)
"""What a question to the node may end in. After a transaction was sent none of them says that the
node did not take it."""


class UnusableAnswer(ConnectionError):
    """The node, or what stands before it, said something that is no answer to the question."""


def connect(url: str, timeout_s: float = 10.0) -> AsyncWeb3[Any]:
    """Nothing is sent yet. Call `close` when done."""
    if not url.startswith(("http://", "https://")):
        raise ProtocolError(f"{url!r} is not an RPC address: expected http:// or https://")
    provider = _CheckedProvider(url, request_kwargs={"timeout": ClientTimeout(total=timeout_s)})
    provider.global_ccip_read_enabled = False
    without_shared_lock(provider)
    return AsyncWeb3(provider)


def without_shared_lock(provider: AsyncHTTPProvider) -> None:
    """web3 guards its sessions with one thread lock for the whole process, and a request that is
    cancelled while it waits keeps that lock: every later request of the process then waits for
    ever. A provider that is used on one event loop needs no lock."""
    provider._request_session_manager._lock = _NoLock()  # type: ignore[assignment]


class _CheckedProvider(AsyncHTTPProvider):
    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        request = self.encode_rpc_request(method, params)
        raw = await self._make_request(method, request)
        try:
            response = json.loads(raw)
        except (ValueError, RecursionError):
            raise UnusableAnswer(f"{method} was answered with something that is no JSON") from None
        if not isinstance(response, dict) or response.get("jsonrpc") != "2.0":
            raise UnusableAnswer(f"{method} was answered with something that is no JSON-RPC")
        error = response.get("error")
        if error is not None and not (
            isinstance(error, dict)
            and isinstance(error.get("code"), int)
            and isinstance(error.get("message"), str)
        ):
            raise UnusableAnswer(f"{method} was refused with {str(error)[:80]!r}")
        if error is None and "result" not in response:
            raise UnusableAnswer(f"{method} was answered with neither a result nor an error")
        if response.get("id") != json.loads(request)["id"] and (error is None or "id" in response):
            raise UnusableAnswer(f"{method}: the answer is to another request")
        return cast(RPCResponse, response)


class _NoLock:
    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return

    def locked(self) -> bool:
        return False


async def close(web3: AsyncWeb3[Any]) -> None:
    await web3.provider.disconnect()
