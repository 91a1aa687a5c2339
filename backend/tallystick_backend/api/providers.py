"""Who offers what, and what an account holds: public, as the chain and the providers say."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tallystick.protocol.wire import (
    AccountBody,
    GpuListing,
    GpuPage,
    ProviderBody,
    ProviderPage,
)
from tallystick_backend.api import bodies
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.problems import problems
from tallystick_backend.api.refusals import BadCursor, UnknownProvider
from tallystick_backend.api.schemas import AddressPath
from tallystick_backend.store.repositories import chain, views

router = APIRouter(prefix="/v1", tags=["market"])

_BATCH = 100


class ProviderQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    online: Annotated[bool | None, Field(description="true: only providers heard of lately.")] = (
        None
    )
    cursor: Cursor = None
    limit: Limit = 50


class GpuQuery(ProviderQuery):
    gpu_class: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Only this class.")
    ] = None


@router.get(
    "/providers",
    operation_id="listProviders",
    summary="Providers",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_providers(backend: Ctx, query: Annotated[ProviderQuery, Query()]) -> ProviderPage:
    of = f"providers:{query.online}"
    after = "" if query.cursor is None else str(open_cursor(backend.seals, of, query.cursor)[0])
    since_ms = backend.seen_since_ms()
    async with backend.database.read() as session:
        found = await views.provider_views(
            session,
            after=after,
            limit=query.limit + 1,
            seen_since_ms=since_ms if query.online else None,
        )
    shown = found[: query.limit]
    items = (bodies.provider_body(view, seen_since_ms=since_ms) for view in shown)
    more = len(found) > query.limit
    return ProviderPage(
        items=tuple(item for item in items if query.online is not False or not item.online),
        next_cursor=make_cursor(backend.seals, of, [shown[-1].provider.address]) if more else None,
    )


@router.get(
    "/providers/{address}",
    operation_id="getProvider",
    summary="One provider",
    dependencies=[Public],
    responses=problems(UnknownProvider),
)
async def get_provider(backend: Ctx, address: AddressPath) -> ProviderBody:
    async with backend.database.read() as session:
        found = await views.provider_view(session, address)
    if found is None:
        raise UnknownProvider(address)
    return bodies.provider_body(found, seen_since_ms=backend.seen_since_ms())


@router.get(
    "/gpus",
    operation_id="listGpus",
    summary="Cards of all providers",
    description="As their drivers report them; which card of a class a lease holds is the "
    "provider's choice, so as many are shown busy as leases hold.",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_gpus(backend: Ctx, query: Annotated[GpuQuery, Query()]) -> GpuPage:
    of = f"gpus:{query.online}:{query.gpu_class}"
    provider, card = "", -1
    if query.cursor is not None:
        provider, card = open_cursor(backend.seals, of, query.cursor)
    since_ms = backend.seen_since_ms()
    found: list[tuple[GpuListing, list[str | int]]] = []
    async with backend.database.read() as session:
        resumed = await views.provider_view(session, provider) if provider else None
        waiting = [] if resumed is None else [resumed]
        while len(found) <= query.limit:
            if not waiting:
                waiting = await views.provider_views(session, after=provider, limit=_BATCH)
                if not waiting:
                    break
            view = waiting.pop(0)
            for place, gpu in enumerate(bodies.gpu_listings(view, seen_since_ms=since_ms)):
                if view.provider.address == provider and place <= card:
                    continue
                if query.gpu_class not in (None, gpu.gpu.gpu_class):
                    continue
                if query.online in (None, gpu.online):
                    found.append((gpu, [view.provider.address, place]))
            provider, card = view.provider.address, 2**31
    more = len(found) > query.limit
    shown = found[: query.limit]
    return GpuPage(
        items=tuple(gpu for gpu, _ in shown),
        next_cursor=make_cursor(backend.seals, of, shown[-1][1]) if more else None,
    )


@router.get(
    "/accounts/{address}",
    operation_id="getAccount",
    summary="Balances inside the escrow",
    description="As of `block`; zeros for an address the escrow never saw.",
    dependencies=[Public],
    responses=problems(),
)
async def get_account(backend: Ctx, address: AddressPath) -> AccountBody:
    async with backend.database.read() as session:
        row = await chain.account(session, address)
        cursor = await chain.cursor(session)
    return bodies.account_body(row, 0 if cursor is None else cursor.block_number)
