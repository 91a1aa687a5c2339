"""A chain, a bus and a provider's agent for calls; a test names only what it changes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.pricing import Price
from tallystick_provider.__main__ import serve
from tallystick_provider.settings import PREFIX, from_environment
from tests.provider.calls.payer import PRICE, Payer, line_to, open_channel, publish, write_app
from tests.provider.test_start import environment
from tests.provider.waiting import until
from tests.support.anvil import (
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    bind_key,
    deploy_market,
    stake,
    start_anvil,
)
from tests.support.nats import NatsServer, nats_server


@pytest.fixture(scope="session")
def calls_anvil() -> Iterator[LocalChain]:
    """Its clock is the machine's: an agent in a process of its own has no other."""
    with start_anvil() as chain:
        yield chain


@pytest.fixture(scope="session")
def calls_deployment(calls_anvil: LocalChain) -> Deployment:
    deployment = deploy_market(calls_anvil)
    stake(calls_anvil, deployment, PROVIDER, gpu_ids=("GPU-1", "GPU-2"))
    bind_key(calls_anvil, deployment, PROVIDER, OPERATOR)
    return deployment


@pytest.fixture
def bus() -> Iterator[NatsServer]:
    with nats_server() as started:
        yield started


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: a socket's path has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="tc-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class World:
    chain: LocalChain
    deployment: Deployment
    bus: NatsServer
    home: Path
    line: Any
    stack: AsyncExitStack

    @property
    def apps(self) -> Path:
        return self.home / "apps"

    def given(self, **settings: Any) -> dict[str, str]:
        made = environment(self.home, self.chain, self.deployment, self.bus.url)
        made[f"{PREFIX}APPS_DIR"] = str(self.apps)
        made[f"{PREFIX}STOP_GRACE_SECONDS"] = "1"
        return made | {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}

    async def start(self, **settings: Any) -> Callable[[], Any]:
        """An agent in this process; what is answered stops it."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(from_environment(self.given(**settings)), stop))

        async def end() -> None:
            stop.set()
            await running

        self.stack.push_async_callback(end)
        await self.until_there(running)
        await self.until_journal_is_old()
        return end

    async def until_journal_is_old(self) -> None:
        """A channel funded in the second in which a journal begins counts as older than it."""
        begun_s = int(time.time())
        await until(lambda: int(time.time()) > begun_s, what="the next second")

    async def until_there(self, running: asyncio.Task[None] | None = None) -> None:
        subject = f"tallystick.provider.{PROVIDER.address.lower()}.load"

        async def answers() -> bool:
            if running is not None and running.done():
                running.result()
            try:
                await self.line.request(subject, b"{}")
            except Exception:  # nobody listens there yet
                return False
            return True

        await until(answers, 60, "the agent's first answer")

    def manifest(self, **changes: Any) -> AppManifest:
        return write_app(self.apps, **changes)

    def payer_of(self, channel: Any, app: Any, manifest: Any, **more: Any) -> Payer:
        return Payer(
            self.line, self.deployment, channel, more.pop("deposited", TOKEN), app, manifest, **more
        )

    async def payer(
        self,
        manifest: AppManifest | None = None,
        *,
        amount: int = TOKEN,
        price: Price = PRICE,
        **more: Any,
    ) -> Payer:
        """With an app that was published and brought, and a channel of its own."""
        made = manifest or self.manifest()
        app = publish(self.chain, self.deployment, made, price)
        channel = open_channel(self.chain, self.deployment, amount)
        payer = self.payer_of(channel, app, made, deposited=amount, **more)
        brought = await payer.bring()
        assert brought.accepted, brought.reason
        return payer

    def another(self, payer: Payer, amount: int = TOKEN) -> Payer:
        """One more channel for the same app."""
        channel = open_channel(self.chain, self.deployment, amount)
        return self.payer_of(channel, payer.app, payer.manifest, deposited=amount)


@pytest.fixture
async def world(
    calls_anvil: LocalChain, calls_deployment: Deployment, bus: NatsServer, home: Path
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(line_to(bus.url))
        yield World(calls_anvil, calls_deployment, bus, home, line, stack)
