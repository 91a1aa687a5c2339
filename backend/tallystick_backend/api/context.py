"""What an endpoint may use: everything it needs comes in through here, nothing is global."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.market_views import ConfigBody
from tallystick.protocol.messages import Domain
from tallystick.protocol.types import Address
from tallystick.protocol.wire import DeploymentBody
from tallystick_backend.access import Seals
from tallystick_backend.api.kept import Kept
from tallystick_backend.api.limits import Limits, StreamGate
from tallystick_backend.api.refusals import ServiceNotReady
from tallystick_backend.blobs import BlobStore
from tallystick_backend.clock import Clock
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.gateway.running import Gateway
from tallystick_backend.metrics import Metrics
from tallystick_backend.orders import Policy
from tallystick_backend.settings import Settings
from tallystick_backend.store.session import Database


class Wallets(Protocol):
    """Asks a contract wallet on chain (EIP-1271); False for an address without code."""

    async def accepts(self, wallet: Address, digest: bytes, signature: str) -> bool: ...


@dataclass(frozen=True)
class Backend:
    """One running backend, as HTTP sees it."""

    settings: Settings
    database: Database
    clock: Clock
    domain: Domain
    policy: Policy
    dispatch: DispatchSettings
    contracts: Deployment
    deployment: Callable[[], Awaitable[DeploymentBody]]
    """Reads the token's name on chain the first time; a `ChainError` when that fails."""
    config: Callable[[], Awaitable[ConfigBody]]
    """In the same way."""
    wallets: Wallets
    seals: Seals
    blobs: BlobStore
    limits: Limits
    streams: StreamGate
    metrics: Metrics
    gateway: Gateway
    kept: Kept
    parts: Callable[[], Mapping[str, str]]
    """Each supervised part and "ok", or what is wrong with it."""
    wake_dispatch: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something was written that dispatch wants to see before its next look."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process ends: open streams end too."""

    def seen_since_ms(self) -> int:
        """Providers heard of since then are online."""
        return self.clock.now_ms() - self.dispatch.online_ms

    def now_s(self) -> int:
        return self.clock.now_ms() // 1000


def backend_of(connection: HTTPConnection) -> Backend:
    backend = getattr(connection.app.state, "backend", None)
    if backend is None:
        raise ServiceNotReady("the backend is starting")
    return cast(Backend, backend)


Ctx = Annotated[Backend, Depends(backend_of)]
