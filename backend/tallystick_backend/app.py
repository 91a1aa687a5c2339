"""Where everything is joined: settings in, one application out.

Six parts run beside HTTP, each supervised: the index follows the chain, the reconciler holds its
rows against the contracts, the dispatcher leases, the gateway answers calls, the auth callout lets
providers onto the bus, the housekeeper forgets what expired. They meet in the rows; the events
passed here only spare them a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan, Receive, Scope, Send
from web3 import AsyncWeb3

from tallystick.protocol import deployments
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import DeploymentError
from tallystick.protocol.signatures import address_of
from tallystick.protocol.web3 import close, connect
from tallystick_backend import __version__
from tallystick_backend.access import CapabilityUrls, Seals
from tallystick_backend.api import (
    analytics,
    apps,
    auth,
    blobs,
    calls,
    deployment,
    embed,
    errors,
    explorer,
    guard,
    health,
    keep_warm,
    keys,
    offers,
    openapi,
    overview,
    pages,
    prices,
    providers,
    receipts,
    serving,
    spending,
    streams,
    summaries,
    tasks,
    vouchers,
)
from tallystick_backend.api.call_door import CallDoor
from tallystick_backend.api.context import Backend, Wallets
from tallystick_backend.api.kept import Kept
from tallystick_backend.api.limits import Limits, StreamGate
from tallystick_backend.blobs import BlobStore
from tallystick_backend.chain import Chain, HttpRpc, Rpc
from tallystick_backend.clock import Clock, SystemClock
from tallystick_backend.dispatch.assign import KeySigner
from tallystick_backend.dispatch.bus import NatsBus
from tallystick_backend.dispatch.callout import AuthCallout
from tallystick_backend.dispatch.loop import Dispatcher
from tallystick_backend.dispatch.nats_config import bus_keys_of
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.gateway.bus import CallBus, NatsCallBus
from tallystick_backend.gateway.funding import ChainFunds, Funds
from tallystick_backend.gateway.running import Gateway
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.reconcile import Reconciler, ReconcileSettings
from tallystick_backend.index.start import followed
from tallystick_backend.market import Market
from tallystick_backend.metrics import Metrics
from tallystick_backend.orders import Policy
from tallystick_backend.settings import PREFIX, Settings, SettingsError
from tallystick_backend.store.repositories import access
from tallystick_backend.store.repositories import calls as call_rows
from tallystick_backend.store.session import Database
from tallystick_backend.supervise import Supervisor
from tallystick_backend.wallets import ChainWallets

HOUSEKEEPING_EVERY_S = 300
ROUTED = (
    health,
    auth,
    keys,
    deployment,
    offers,
    providers,
    apps,
    calls,
    receipts,
    summaries,
    spending,
    serving,
    keep_warm,
    analytics,
    prices,
    explorer,
    overview,
    embed,
    vouchers,
    blobs,
    streams,  # before tasks: `/events` must not be taken for a task's id
    tasks,
)

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The whole backend; nothing is opened before the lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, app.state.metrics) as backend:
            app.state.backend = backend
            yield
            backend.stopping.set()
            app.state.backend = None

    return http_app(settings, lifespan=lifespan)


def http_app(
    settings: Settings,
    *,
    backend: Backend | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """HTTP alone: routes, guards, errors, documentation. Tests hand in a `backend` of their own."""
    app = _App(
        title=openapi.TITLE,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # pages that load scripts from elsewhere have no place here
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.backend = backend
    app.state.metrics = Metrics() if backend is None else backend.metrics
    # The routes themselves: an included router is read anew by each application, at its first
    # request, which takes a quarter of a second in which nothing else is answered.
    app.router.routes += [route for module in ROUTED for route in module.router.routes]
    errors.install(app)
    openapi.install(app)
    app.add_middleware(
        guard.BodyGuard,
        max_bytes=settings.max_json_bytes,
        timeout_s=settings.body_timeout_s,
        raw_prefix="/v1/blobs/",
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=(
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                "Prefer",
                "Tallystick-Max-Charge",
                "Tallystick-Signer",
                "Tallystick-Webhook",
            ),
            expose_headers=("Idempotency-Replayed", "Retry-After", "X-Request-Id"),
            allow_credentials=False,
        )
    app.add_middleware(pages.Pages, folder=settings.dapp_dir, rpc_url=settings.browser_rpc_url)
    metrics: Metrics = app.state.metrics

    def measure(scope: Scope, status: int, seconds: float) -> None:
        metrics.request_served(scope["method"], route_of(scope), status, seconds)

    app.add_middleware(guard.Edge, measure=measure)
    app.door = CallDoor(
        super(_App, app).__call__,
        lambda: app.state.backend,
        measure=metrics.request_served,
        origins=settings.cors_origins,
        body_timeout_s=settings.body_timeout_s,
    )
    return app


class _App(FastAPI):
    """With the door for calls in front of everything: a call meets nothing of the rest."""

    door: CallDoor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.door(scope, receive, send)


def route_of(scope: Scope) -> str:
    """The route's template, so that callers cannot grow the number of series."""
    route = scope.get("route")
    return str(getattr(route, "path", "(none)"))


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[Backend]:
    """Opens everything, starts the parts, and ends them in reverse."""
    private_key = settings.read_dispatcher_key()
    found = load_deployment(settings)
    bus_keys = bus_keys_of(settings)
    clock = SystemClock()
    database = Database(settings.database_url)
    rpc = HttpRpc(settings.rpc_url)
    web3 = connect(settings.rpc_url)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        stack.push_async_callback(rpc.close)
        stack.push_async_callback(close, web3)
        await database.migrate()
        supervisor = Supervisor(on_restart=metrics.part_restarted)
        backend_bus = NatsBus(settings.nats_url, bus_keys.backend_seed, "tallystick-backend")
        callout_bus = NatsBus(settings.nats_url, bus_keys.callout_seed, "tallystick-callout")

        def parts() -> Mapping[str, str]:
            return supervisor.conditions() | {
                "node": index.condition,
                "contracts": reconciler.condition,
                "gateway": backend.gateway.condition,
                "bus": "ok" if backend_bus.connected else "not connected",
                "callout_bus": "ok" if callout_bus.connected else "not connected",
            }

        backend = await assemble(
            settings,
            found,
            private_key,
            database=database,
            rpc=rpc,
            clock=clock,
            metrics=metrics,
            parts=parts,
            call_bus=lambda: NatsCallBus(settings.nats_url, bus_keys.backend_seed),
            web3=web3,
        )
        signer = KeySigner(found.domain, private_key)
        urls = CapabilityUrls(backend.seals, settings.public_url, clock)
        index = Index(
            database,
            Chain(rpc, followed(found)),
            found,
            clock,
            IndexSettings(
                poll_ms=settings.poll_ms,
                confirmations=settings.confirmations,
                finality_blocks=settings.finality_blocks,
            ),
            moved=backend.wake_dispatch,
        )
        reconciler = Reconciler(
            database,
            Chain(rpc, followed(found)),
            found,
            clock,
            ReconcileSettings(
                every_blocks=settings.reconcile_blocks, every_s=settings.reconcile_seconds
            ),
        )
        dispatcher = Dispatcher(
            database,
            backend_bus,
            signer,
            urls,
            backend.dispatch,
            clock,
            backend.wake_dispatch,
        )
        callout = AuthCallout(
            database, callout_bus, bus_keys, found.domain, backend.dispatch, clock
        )
        stack.push_async_callback(supervisor.end)
        supervisor.start("index", index.run)
        supervisor.start("reconciler", reconciler.run)
        # The callout first: the bus lets nobody in before it answers.
        supervisor.start("callout", callout.run)
        supervisor.start("dispatch", dispatcher.run)
        supervisor.start("gateway", backend.gateway.run)
        supervisor.start("housekeeping", Housekeeper(backend).run)
        log.info("backend_started", chain_id=found.chain_id, escrow=found.escrow)
        yield backend
    log.info("backend_stopped")


async def assemble(
    settings: Settings,
    found: Deployment,
    private_key: str,
    *,
    database: Database,
    rpc: Rpc,
    clock: Clock,
    metrics: Metrics,
    parts: Callable[[], Mapping[str, str]] = dict,
    wallets: Wallets | None = None,
    call_bus: Callable[[], CallBus] | None = None,
    web3: AsyncWeb3[Any] | None = None,
    funds: Funds | None = None,
) -> Backend:
    """What HTTP needs, from what was opened."""
    blob_store = BlobStore(settings.blob_dir)
    await asyncio.to_thread(blob_store.prepare)
    dispatcher = address_of(private_key)
    seals = Seals.from_private_key(private_key)
    calls_as = gateway_settings(settings)
    gateway = Gateway(
        database,
        call_bus or (lambda: NatsCallBus(settings.nats_url, "")),
        funds
        or ChainFunds(
            database, web3 or connect(settings.rpc_url), found, private_key, clock, calls_as
        ),
        seals,
        found.domain,
        clock,
        calls_as,
        errors.document_of,
        metrics.call_ended,
    )
    gateway.webhooks.body_of = calls.webhook_body
    market = Market(
        found,
        dispatcher,
        settings.dispatcher_bps,
        settings.challenge_window_seconds,
        network_name=settings.network_name,
        rpc_url=settings.browser_rpc_url,
        explorer_url=settings.explorer_url,
    )
    return Backend(
        settings=settings,
        database=database,
        clock=clock,
        domain=found.domain,
        policy=Policy(
            dispatcher=dispatcher,
            dispatcher_bps=settings.dispatcher_bps,
            min_challenge_seconds=found.min_challenge_seconds,
            max_challenge_seconds=found.max_challenge_seconds,
        ),
        dispatch=DispatchSettings(
            stake_unit=found.stake_unit,
            lease_seconds=settings.lease_seconds,
            lease_margin_seconds=settings.lease_margin_seconds,
            allow_process_runtime=settings.allow_process_runtime,
            orphan_grace_seconds=settings.orphan_grace_seconds,
            poll_ms=min(settings.poll_ms, 250),
        ),
        contracts=found,
        deployment=lambda: market.body(rpc),
        config=lambda: market.config(rpc),
        wallets=wallets or ChainWallets(rpc),
        seals=seals,
        blobs=blob_store,
        limits=Limits(
            login=settings.login_limit,
            read=settings.read_limit,
            write=settings.write_limit,
            call=settings.call_limit,
        ),
        streams=StreamGate(total=settings.max_streams, per_caller=settings.max_streams_per_caller),
        metrics=metrics,
        gateway=gateway,
        kept=Kept(),
        parts=parts,
    )


def gateway_settings(settings: Settings) -> GatewaySettings:
    return GatewaySettings(
        channel_calls=settings.channel_calls,
        channel_refill_percent=settings.channel_refill_percent,
        session_gas_wei=settings.session_gas_wei,
        max_calls=settings.max_calls,
        max_calls_per_account=settings.max_calls_per_caller,
        result_hours=settings.call_result_hours,
        lease_seconds=settings.gateway_lease_seconds,
        online_ms=settings.lease_seconds * 1000,
        chain_poll_s=min(settings.poll_ms, 250) / 1000,
        webhook_loopback=settings.webhook_loopback,
    )


@dataclass(frozen=True)
class Housekeeper:
    """Forgets nonces, sessions and answers that can no longer be used."""

    backend: Backend

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.clean()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), HOUSEKEEPING_EVERY_S)

    async def clean(self) -> dict[str, int]:
        now_ms = self.backend.clock.now_ms()
        kept_ms = self.backend.settings.idempotency_hours * 3_600_000
        async with self.backend.database.transaction() as session:
            gone = await access.forget_expired(session, now_ms, answers_before_ms=now_ms - kept_ms)
            gone["call_result"] = await call_rows.forget_results(session, now_ms)
        log.debug("housekeeping_done", **gone)
        return gone


def load_deployment(settings: Settings) -> Deployment:
    text = settings.deployment.strip()
    if not text:
        raise SettingsError(
            f"{PREFIX}DEPLOYMENT is not set: no contracts to follow",
            next_step="Name the deployment's JSON file, or a chain id with a known deployment.",
        )
    try:
        return deployments.load(int(text) if text.isascii() and text.isdigit() else text)
    except DeploymentError as error:
        raise SettingsError(f"{PREFIX}DEPLOYMENT cannot be used: {error}") from None
