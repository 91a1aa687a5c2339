"""A gateway on a real bus and a real database, with a provider behind it. The chain's part is
played by rows, as the index would write them; `test_funding` has a real chain."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tallystick.protocol.app_manifest import (
    AppManifest,
    FunctionHandler,
    app_manifest_digest,
)
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId, Digest
from tallystick.protocol.wire import Resources
from tallystick_backend.access import hash_of_token
from tallystick_backend.api.context import Backend
from tallystick_backend.app import assemble, http_app
from tallystick_backend.clock import SystemClock
from tallystick_backend.dispatch import nats_config
from tallystick_backend.dispatch.nats_config import BusKeys
from tallystick_backend.gateway.bus import NatsCallBus
from tallystick_backend.gateway.errors import NoAllowance, PausedFunds
from tallystick_backend.gateway.funding import AllowanceLeft
from tallystick_backend.gateway.keys import SessionKey
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.metrics import Metrics
from tallystick_backend.settings import Settings
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AnnouncementRow,
    ApiKeyRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    CallRow,
    ChannelRow,
    CursorRow,
    GatewayJournalRow,
    ManifestRow,
    OperatorKeyRow,
    PayingChannelRow,
    SessionRow,
    Table,
)
from tests.backend.api.world import DEPLOYMENT, NoChain
from tests.support.anvil import (
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    Person,
    digest_of_word,
)
from tests.support.call_provider import TestProvider
from tests.support.nats import nats_server

KEYS = BusKeys.from_issuer_seed(nats_config.new_issuer_seed())
APP_ID = AppId(digest_of_word(0xA99))
PRICE = Price(flat=0, fee_per_call=10, rate_per_gpu_second=0)
MANIFEST = AppManifest(
    name="echo",
    image="process",
    handler=FunctionHandler(entry="app:handler"),
    resources=Resources(),
    timeout_s=5,
    ready_timeout_s=5,
)
DOMAIN = DEPLOYMENT.domain
PAST_S = 1_700_000_000


@dataclass(frozen=True)
class BusServer:
    url: str
    """As the backend connects."""
    provider_url: str


@contextlib.contextmanager
def bus_server(folder: Path) -> Iterator[BusServer]:
    """nats-server as we ship it, with one more user who need not log in by the chain."""

    def config(port: int) -> str:
        text = nats_config.render(KEYS, port=port)
        text = text.replace(f"users: [ {{ nkey: {KEYS.backend} }} ]", _USERS % KEYS.backend)
        return text.replace(f"{KEYS.backend} ]\n  }}", f'{KEYS.backend}, "tests" ]\n  }}')

    with nats_server(folder, config) as server:
        yield BusServer(server.url, f"nats://tests:tests@127.0.0.1:{server.port}")


_USERS = 'users: [ { nkey: %s }, { user: "tests", password: "tests" } ]'


@dataclass
class RowFunds:
    """Where a chain would be: a payer's account and allowance, and channels as rows."""

    database: Database
    available: int = 10**12
    cap: int = 10**12
    allowed: bool = True
    sent: list[tuple[str, int]] = field(default_factory=list)
    """Provider and amount of each funding."""

    async def fund(
        self, key: SessionKey, channel: Channel, app_id: str, least: int, wanted: int
    ) -> int:
        if not self.allowed:
            raise NoAllowance(key.signer)
        amount = min(wanted, self.available, self.cap)
        if amount < least:
            raise PausedFunds(f"{self.available} available and {least} needed", "Deposit more.")
        self.available -= amount
        self.cap -= amount
        self.sent.append((channel.provider.lower(), amount))
        async with self.database.transaction() as session:
            name = channel_id(channel)
            row = await session.get(ChannelRow, name)
            if row is None:
                row = ChannelRow(
                    channel_id=name,
                    payer=channel.payer.lower(),
                    signer=channel.signer.lower(),
                    provider=channel.provider.lower(),
                    salt=channel.salt,
                    opened_at_s=PAST_S + len(self.sent),
                )
            row.deposited += amount
            session.add(row)
            await new_block(session)
        return amount

    async def allowances(self, payer: str) -> list[AllowanceLeft]:
        return []


async def new_block(session: Any) -> None:
    cursor = await session.get(CursorRow, 1)
    cursor.block_number += 1
    cursor.block_hash = f"0x{cursor.block_number:064x}"
    session.add(cursor)


@dataclass
class Market:
    backend: Backend
    app: FastAPI
    http: httpx.AsyncClient
    funds: RowFunds
    server: BusServer
    folder: Path
    settings: Settings
    manifest: AppManifest = MANIFEST
    price: Price = PRICE
    providers: list[TestProvider] = field(default_factory=list)
    token: str = ""
    _stop: asyncio.Event | None = None
    _running: asyncio.Task[None] | None = None

    @property
    def database(self) -> Database:
        return self.backend.database

    @property
    def provider(self) -> TestProvider:
        return self.providers[0]

    # --- the gateway --------------------------------------------------------------------------

    async def start(self) -> None:
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.backend.gateway.run(self._stop))
        await until(lambda: self.backend.gateway.condition == "ok", self._running)

    async def stop(self) -> None:
        """As a process ends that is told to."""
        if self._running is not None and self._stop is not None:
            self._stop.set()
            await asyncio.wait({self._running}, timeout=20)
            self._running = None

    async def kill(self) -> None:
        """All that was in memory is gone, and nothing is said to anybody."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def reborn(self) -> Market:
        """Another process on the same database."""
        other = await make_market(
            self.database,
            self.server,
            self.folder,
            funds=self.funds,
            seed=False,
            manifest=self.manifest,
            price=self.price,
        )
        other.providers = self.providers
        other.token = self.token
        return other

    # --- people -------------------------------------------------------------------------------

    async def logged_in(self, person: Person = CONSUMER) -> str:
        token = "ts_" + secrets.token_urlsafe(32)
        await self.write(
            SessionRow(
                token_hash=hash_of_token(token),
                address=person.address.lower(),
                expires_at_ms=self.backend.clock.now_ms() + 3_600_000,
            )
        )
        return token

    async def api_key(
        self, person: Person = CONSUMER, scopes: tuple[str, ...] = ("calls",)
    ) -> tuple[str, str]:
        """The secret and the key's id."""
        key_id = secrets.token_hex(8)
        secret = f"tk_{key_id[:8]}_{secrets.token_hex(32)}"
        await self.write(
            ApiKeyRow(
                id=key_id,
                address=person.address.lower(),
                name="test",
                prefix=secret[:11],
                secret_hash=hash_of_token(secret),
                scopes=list(scopes),
                created_at_ms=1,
            )
        )
        return secret, key_id

    async def joins(
        self, person: Person = PROVIDER, operator: Person = OPERATOR, **options: Any
    ) -> TestProvider:
        provider = TestProvider(
            self.server.provider_url,
            DOMAIN,
            app_history(self.price, self.manifest),
            self.chain_of,
            app_manifest_digest(self.manifest),
            person,
            operator,
            **options,
        )
        await provider.start()
        self.providers.append(provider)
        await self.write(
            AnnouncementRow(
                provider=provider.name,
                operator_key=operator.address.lower(),
                hpke_key="",
                runtime="process",
                agent_version="1",
                body={},
                last_seen_ms=self.backend.clock.now_ms(),
            ),
            OperatorKeyRow(key=operator.address.lower(), provider=provider.name),
        )
        return provider

    async def chain_of(self, channel: Channel) -> ChannelState:
        async with self.database.read() as session:
            row = await session.get(ChannelRow, channel_id(channel))
        if row is None:
            return ChannelState(0, 0, 0)
        return ChannelState(row.deposited, row.claimed, row.close_at_s or 0)

    # --- calls --------------------------------------------------------------------------------

    async def call(
        self, content: bytes = b'{"n":1}', *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            f"/v1/apps/{APP_ID}/calls",
            content=content,
            headers={
                "Authorization": f"Bearer {token or self.token}",
                "Content-Type": "application/json",
                **named,
            },
        )

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path, headers={"Authorization": f"Bearer {self.token}"})

    async def row(self, call_id: str) -> CallRow:
        await self.backend.gateway.projected()
        async with self.database.read() as session:
            row = await calls.call(session, call_id)
        assert row is not None
        return row

    async def rows(self, table: type[Table]) -> list[Any]:
        from sqlmodel import select

        await self.backend.gateway.projected()
        async with self.database.read() as session:
            return list((await session.exec(select(table))).all())

    async def channels(self) -> list[ChannelRow]:
        return await self.rows(ChannelRow)

    async def written(self) -> list[Any]:
        """Of the gateway's journal and what came of it."""
        return [
            row.model_dump()
            for table in (GatewayJournalRow, PayingChannelRow, CallRow)
            for row in await self.rows(table)
        ]

    async def change_channel(self, channel: str, **values: Any) -> None:
        async with self.database.transaction() as session:
            row = await session.get(ChannelRow, channel)
            assert row is not None
            for name, value in values.items():
                setattr(row, name, value)
            session.add(row)
            await new_block(session)

    async def write(self, *rows: Any) -> None:
        async with self.database.transaction() as session:
            for row in rows:
                await session.merge(row)

    async def set_price(self, price: Price) -> None:
        """From now on, for the index; a provider reads its own chain."""
        now_s = self.backend.now_s()
        await self.write(
            AppPriceRow(
                place=f"{APP_ID}/0000000001/{now_s:020d}",
                app_id=APP_ID,
                version=1,
                from_s=now_s,
                flat=price.flat,
                fee_per_call=price.fee_per_call,
                rate_per_gpu_second=price.rate_per_gpu_second,
            )
        )

    async def end(self) -> None:
        await self.stop()
        for provider in self.providers:
            await provider.stop()
        await self.http.aclose()
        await asyncio.sleep(0)  # what was begun last, a cancel on its way, ends before the loop


async def make_market(
    database: Database,
    server: BusServer,
    folder: Path,
    *,
    funds: RowFunds | None = None,
    seed: bool = True,
    manifest: AppManifest = MANIFEST,
    price: Price = PRICE,
    **changes: Any,
) -> Market:
    settings = Settings(
        public_url="http://backend.test:8000",
        blob_dir=folder / "blobs",
        nats_url=server.url,
        stream_poll_ms=10,
        poll_ms=20,
        gateway_lease_seconds=0.4,
        lease_seconds=600,
        webhook_loopback=True,
        **changes,
    )
    funds = funds or RowFunds(database)
    backend = await assemble(
        settings,
        DEPLOYMENT,
        DISPATCHER.key,
        database=database,
        rpc=NoChain(),
        clock=SystemClock(),
        metrics=Metrics(),
        call_bus=lambda: NatsCallBus(server.url, KEYS.backend_seed, reconnect_seconds=0.05),
        funds=funds,
    )
    hurry(backend.gateway.settings)
    app = http_app(settings, backend=backend)
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://backend.test:8000", timeout=60
    )
    market = Market(backend, app, http, funds, server, folder, settings, manifest, price)
    if seed:
        await market.write(*app_rows(price, manifest))
        market.token = await market.logged_in()
    return market


def hurry(settings: GatewaySettings) -> None:
    """Looks more often, so that tests need not wait; nothing depends on how often."""
    for name, value in {
        "poll_s": 0.05,
        "chain_poll_s": 0.02,
        "repeat_s": 0.2,
        "lost_after_polls": 3,
        "provider_funds_wait_s": 2.0,
        "queue_s": 5.0,
        "fund_wait_s": 5.0,
        "own_voucher_wait_s": 0.3,
    }.items():
        object.__setattr__(settings, name, value)


def app_rows(price: Price, manifest: AppManifest) -> list[Table]:
    digest = app_manifest_digest(manifest)
    return [
        CursorRow(
            id=1,
            chain_id=DEPLOYMENT.chain_id,
            genesis_hash="0x" + "01" * 32,
            escrow=DEPLOYMENT.escrow.lower(),
            market=DEPLOYMENT.market.lower(),
            staking=DEPLOYMENT.staking.lower(),
            block_number=1,
            block_hash="0x" + "02" * 32,
            block_timestamp_s=PAST_S,
            head_number=1,
        ),
        AppRow(
            app_id=APP_ID,
            publisher=CONSUMER.address.lower(),
            salt="0x" + "00" * 32,
            royalty_to=ZERO_ADDRESS,
            royalty_bps=0,
            published_at_s=PAST_S,
            versions=1,
            manifest_uri="ipfs://m",
        ),
        AppVersionRow(
            place=f"{APP_ID}/0000000001",
            app_id=APP_ID,
            version=1,
            image_digest="0x" + "03" * 32,
            manifest_digest=digest,
            manifest_uri="ipfs://m",
            published_at_s=PAST_S,
        ),
        AppPriceRow(
            place=f"{APP_ID}/0000000001/{PAST_S:020d}",
            app_id=APP_ID,
            version=1,
            from_s=PAST_S,
            flat=price.flat,
            fee_per_call=price.fee_per_call,
            rate_per_gpu_second=price.rate_per_gpu_second,
        ),
        ManifestRow(digest=digest, text=canonical_json(manifest).decode(), created_at_ms=1),
    ]


def app_history(price: Price, manifest: AppManifest) -> AppHistory:
    version = VersionHistory(
        Digest("0x" + "03" * 32),
        app_manifest_digest(manifest),
        "ipfs://m",
        (PricePoint(PAST_S, price),),
    )
    return AppHistory(APP_ID, CONSUMER.address, ZERO_ADDRESS, 0, (version,))


async def until(
    done: Callable[[], bool], running: asyncio.Task[Any] | None = None, timeout_s: float = 15
) -> None:
    """Waits for something that has no event of its own."""
    async with asyncio.timeout(timeout_s):
        while not done():
            if running is not None and running.done():
                running.result()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def ended(market: Market) -> AsyncIterator[Market]:
    try:
        yield market
    finally:
        await market.end()
