"""The market in figures: a provider's earnings and pool, who delegates to whom, an app's load.

Public. What is added up over many rows is kept for a moment, so that looking often costs little.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tallystick.protocol.market_views import (
    AppLoadView,
    AppStartsView,
    CallsLately,
    DelegationBody,
    DelegationPage,
    EarnedBody,
    PoolBody,
    ProviderSummary,
    WorkersBody,
    WorkerStart,
)
from tallystick.protocol.types import to_address
from tallystick_backend.api import bodies
from tallystick_backend.api.callers import Public, Reader
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.refusals import (
    BadCursor,
    NotThePublisher,
    UnknownApp,
    UnknownProvider,
)
from tallystick_backend.api.schemas import AddressPath, AppIdPath
from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.store.repositories import (
    apps,
    chain,
    explorer,
    usage,
    views,
)
from tallystick_backend.store.tables import EarnedRow, PoolRow

router = APIRouter(prefix="/v1", tags=["market"])

_BATCH = 500
LATELY_S = 900
MOST_CALLS = 2_000

# --- providers ----------------------------------------------------------------------------------


@router.get(
    "/providers/{address}/summary",
    operation_id="getProviderSummary",
    summary="One provider with its earnings and its pool",
    description="Over its life, from the chain's events. Its tasks, stakes and payouts one by one: "
    "`GET /v1/explorer/events?address=`.",
    dependencies=[Public],
    responses=problems(UnknownProvider),
)
async def provider_summary(backend: Ctx, address: AddressPath) -> ProviderSummary:
    async with backend.database.read() as session:
        found = await views.provider_view(session, address)
        if found is None:
            raise UnknownProvider(address)
        earned = await explorer.earned(session, address)
        pool = await explorer.pool(session, address)
        account = await chain.account(session, address)
        cursor = await chain.cursor(session)
    now_s = max(backend.now_s(), 0 if cursor is None else cursor.block_timestamp_s)
    return ProviderSummary(
        provider=bodies.provider_body(found, seen_since_ms=backend.seen_since_ms()),
        seats=found.provider.seats,
        jailed_until=found.provider.jailed_until_s,
        credit=account.credit,
        earned=_earned(earned),
        pool=_pool(pool, now_s),
        block=0 if cursor is None else cursor.block_number,
    )


class DelegationQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    provider: Annotated[
        str | None, Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="Only this one's pool.")
    ] = None
    delegator: Annotated[
        str | None, Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="Only this account's.")
    ] = None
    cursor: Cursor = None
    limit: Limit = 50


@router.get(
    "/delegations",
    operation_id="listDelegations",
    summary="Who delegates to whom",
    description="By provider and delegator; those who left stay, with no shares.",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_delegations(
    backend: Ctx, query: Annotated[DelegationQuery, Query()]
) -> DelegationPage:
    provider = None if query.provider is None else query.provider.lower()
    delegator = None if query.delegator is None else query.delegator.lower()
    of = f"delegations:{provider}:{delegator}"
    after = "" if query.cursor is None else str(open_cursor(backend.seals, of, query.cursor)[0])
    async with backend.database.read() as session:
        found = await explorer.delegations(
            session, provider=provider, delegator=delegator, after=after, limit=query.limit + 1
        )
        shown = found[: query.limit]
        pools = await explorer.pools(session, [row.provider for row in shown])
    more = len(found) > query.limit
    return DelegationPage(
        items=tuple(
            DelegationBody(
                provider=to_address(row.provider),
                delegator=to_address(row.delegator),
                shares=row.shares,
                void=row.generation != pools[row.provider].generation,
                put_in=row.put_in,
                taken_out=row.taken_out,
                claimed=row.claimed,
            )
            for row in shown
        ),
        next_cursor=make_cursor(backend.seals, of, [shown[-1].place]) if more else None,
    )


@router.get(
    "/accounts/{address}/earned",
    operation_id="getEarned",
    summary="What an account earned over its life",
    description="As provider, dispatcher, publisher, checker and delegator; zeros if nothing.",
    dependencies=[Public],
    responses=problems(),
)
async def get_earned(backend: Ctx, address: AddressPath) -> EarnedBody:
    async with backend.database.read() as session:
        return _earned(await explorer.earned(session, address))


def _earned(row: EarnedRow) -> EarnedBody:
    return EarnedBody(**{name: getattr(row, name) for name in EarnedBody.model_fields})


def _pool(row: PoolRow, now_s: int) -> PoolBody:
    ahead = row.commission_at_s > now_s
    return PoolBody(
        delegated=row.delegated,
        undelegating=row.undelegating,
        delegators=row.delegators,
        fees=row.fees,
        commission_bps=row.commission_before_bps if ahead else row.commission_bps,
        next_commission_bps=row.commission_bps if ahead else None,
        next_commission_at=row.commission_at_s if ahead else None,
    )


# --- an app's load ------------------------------------------------------------------------------


@router.get(
    "/apps/{app}/load",
    operation_id="getAppLoad",
    summary="Who serves an app now, and how busy they are",
    description="Workers as their providers said last, and the calls that this backend carried in "
    "the last quarter of an hour.",
    dependencies=[Public],
    responses=problems(UnknownApp),
)
async def app_load(backend: Ctx, app: AppIdPath) -> AppLoadView:
    now_ms = backend.clock.now_ms()
    async with backend.database.read() as session:
        if await apps.app(session, app) is None:
            raise UnknownApp(app)
        found = await usage.calls_of_app_since(
            session, app, now_ms - LATELY_S * 1000, MOST_CALLS + 1
        )
    shown = found[:MOST_CALLS]
    took_ms = sorted(end - asked for state, asked, end in shown if state == "completed" and end)
    return AppLoadView(
        app_id=app,
        at_ms=now_ms,
        workers=_workers(backend, app),
        calls=CallsLately(
            window_s=LATELY_S,
            calls=len(shown),
            completed=len(took_ms),
            failed=sum(state == "failed" for state, _, _ in shown),
            p50_ms=_percentile(took_ms, 50),
            p95_ms=_percentile(took_ms, 95),
            complete=len(found) <= MOST_CALLS,
        ),
    )


@router.get(
    "/apps/{app}/starts",
    operation_id="listAppStarts",
    summary="How the workers of an app of mine started",
    description="Asked of the providers that serve it now: the last starts of each, and the end of "
    "what the program wrote until it was ready, or was given up. What it writes once calls come is "
    "told to nobody: a worker has no network, and its log is no way out either.",
    responses=problems(LOGGED_IN, UnknownApp, NotThePublisher),
)
async def app_starts(backend: Ctx, caller: Reader, app: AppIdPath) -> AppStartsView:
    async with backend.database.read() as session:
        row = await apps.app(session, app)
    if row is None:
        raise UnknownApp(app)
    if row.publisher.lower() != caller.address.lower():
        raise NotThePublisher(app)
    try:
        found = await backend.gateway.parts.fleet.starts(app)
    except GatewayNotReady:
        found = []
    return AppStartsView(
        app_id=app,
        items=tuple(
            WorkerStart(
                provider=provider,
                version=start.version,
                at_ms=start.at_ms,
                ready=start.ready,
                why=start.why,
                text=start.text,
            )
            for provider, start in found
        ),
    )


def _workers(backend: Backend, app: str) -> tuple[WorkersBody, ...]:
    """None while this process carries no calls: another one asks the providers then."""
    try:
        fleet = backend.gateway.parts.fleet
    except GatewayNotReady:
        return ()
    return tuple(
        WorkersBody(
            provider=provider,
            version=load.version,
            state=load.state,
            workers=load.workers,
            max_workers=load.max_workers,
            places=load.places,
            running=load.running,
            queued=load.queued,
            delay_ms=load.delay_ms,
            cold_start_ms=load.cold_start_ms,
            problem=load.problem,
        )
        for provider, load in fleet.loads(app)
    )


def _percentile(values_ms: list[int], percent: int) -> int | None:
    """Of sorted values, the nearest rank."""
    if not values_ms:
        return None
    return values_ms[max(0, -(-len(values_ms) * percent // 100) - 1)]
