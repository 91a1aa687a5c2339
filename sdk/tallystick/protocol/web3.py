"""Connections to a node, made the one safe way.

CCIP-read (EIP-3668) stays off: with it any contract that is called could make this process fetch an
address of its choice.
"""

from __future__ import annotations

from typing import Any

from aiohttp import ClientTimeout
from web3 import AsyncHTTPProvider, AsyncWeb3

from tallystick.protocol.errors import ProtocolError

__all__ = ["close", "connect", "without_shared_lock"]


def connect(url: str, timeout_s: float = 10.0) -> AsyncWeb3[Any]:
    """Nothing is sent yet. Call `close` when done."""
    if not url.startswith(("http://", "https://")):
        raise ProtocolError(f"{url!r} is not an RPC address: expected http:// or https://")
    provider = AsyncHTTPProvider(url, request_kwargs={"timeout": ClientTimeout(total=timeout_s)})
    provider.global_ccip_read_enabled = False
    without_shared_lock(provider)
    return AsyncWeb3(provider)


def without_shared_lock(provider: AsyncHTTPProvider) -> None:
    """web3 guards its sessions with one thread lock for the whole process, and a request that is
    cancelled while it waits keeps that lock: every later request of the process then waits for
    ever. A provider that is used on one event loop needs no lock."""
    provider._request_session_manager._lock = _NoLock()  # type: ignore[assignment]


class _NoLock:
    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return

    def locked(self) -> bool:
        return False


async def close(web3: AsyncWeb3[Any]) -> None:
    await web3.provider.disconnect()
