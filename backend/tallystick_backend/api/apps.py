"""What can be called, at what price now and at any other time, and the channels that calls are paid
on: public, as the chain has it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.apps import app_salt
from tallystick.protocol.wire import (
    AppBody,
    AppPage,
    AppVersionPage,
    ChannelPage,
    ChannelView,
    DiscountPage,
    PricePage,
    QuoteBody,
)
from tallystick_backend.api import bodies
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.problems import problems
from tallystick_backend.api.refusals import (
    AppRetired,
    BadCursor,
    NotPublishedYet,
    UnknownApp,
    UnknownChannel,
    UnknownVersion,
)
from tallystick_backend.api.schemas import AppIdPath, ChannelIdPath
from tallystick_backend.store.repositories import apps, chain
from tallystick_backend.store.tables import AppRow

router = APIRouter(prefix="/v1", tags=["apps"])

Address = Annotated[str | None, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Version = Annotated[int, Field(ge=1, le=2**32 - 1)]


class PageQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: Cursor = None
    limit: Limit = 50


class AppQuery(PageQuery):
    publisher: Annotated[Address, Field(description="Only this account's apps.")] = None
    name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="Only apps whose id was made from this name, as `tallystick app deploy` "
            "does: a publisher has one of them. Anybody may use any name.",
        ),
    ] = None
    text: Annotated[
        str | None,
        Field(
            pattern=r"^[\x20-\x7e]{1,100}$",
            description="Part of the latest manifest's address, in either case, or how the app's "
            "id begins.",
        ),
    ] = None
    retired: Annotated[
        bool | None, Field(description="false: only apps that have a price now.")
    ] = None


class PriceHistoryQuery(PageQuery):
    version: Annotated[Version | None, Field(description="Only this version's.")] = None


class QuoteQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Annotated[Version | None, Field(description="Without it the latest.")] = None
    at: Annotated[
        int | None,
        Field(
            ge=0,
            le=2**64 - 1,
            description="Unix seconds, without it now. A call is charged by the second in which it "
            "started; of times to come, what is announced so far.",
        ),
    ] = None


class ChannelQuery(PageQuery):
    payer: Annotated[Address, Field(description="Only channels that this account pays.")] = None
    provider: Annotated[Address, Field(description="Only channels that pay this provider.")] = None


@router.get(
    "/apps",
    operation_id="listApps",
    summary="Apps, last published first",
    description="Each with its latest version and what a call of it costs now.",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_apps(backend: Ctx, query: Annotated[AppQuery, Query()]) -> AppPage:
    publisher = None if query.publisher is None else query.publisher.lower()
    salt = None if query.name is None else app_salt(query.name)
    of = f"apps:{publisher}:{query.retired}:{salt}:{query.text}"
    after = None
    if query.cursor is not None:
        time_s, app_id = open_cursor(backend.seals, of, query.cursor)
        after = (time_s, app_id)
    async with backend.database.read() as session:
        now_s = await _now_s(backend, session)
        found = await apps.newest_apps(
            session,
            publisher=publisher,
            salt=salt,
            text=query.text,
            retired=query.retired,
            now_s=now_s,
            after=after,
            limit=query.limit + 1,
        )
        shown = found[: query.limit]
        latest = {row.app_id: row.versions for row in shown}
        versions = await apps.versions_of(session, latest)
        moments = await apps.moments(session, shown, latest, now_s)
    more = len(found) > query.limit
    last = [shown[-1].published_at_s, shown[-1].app_id] if more else []
    return AppPage(
        items=tuple(
            bodies.app_body(row, versions[row.app_id], moments.get(row.app_id), now_s)
            for row in shown
        ),
        next_cursor=make_cursor(backend.seals, of, last) if more else None,
    )


@router.get(
    "/apps/{app}",
    operation_id="getApp",
    summary="One app",
    dependencies=[Public],
    responses=problems(UnknownApp),
)
async def get_app(backend: Ctx, app: AppIdPath) -> AppBody:
    async with backend.database.read() as session:
        now_s = await _now_s(backend, session)
        row = await _known(session, app)
        latest = {row.app_id: row.versions}
        version = (await apps.versions_of(session, latest))[row.app_id]
        moments = await apps.moments(session, [row], latest, now_s)
    return bodies.app_body(row, version, moments.get(row.app_id), now_s)


@router.get(
    "/apps/{app}/versions",
    operation_id="listAppVersions",
    summary="Versions of an app, the first first",
    dependencies=[Public],
    responses=problems(UnknownApp, BadCursor),
)
async def list_versions(
    backend: Ctx, app: AppIdPath, query: Annotated[PageQuery, Query()]
) -> AppVersionPage:
    of = f"versions:{app}"
    after = 0 if query.cursor is None else int(open_cursor(backend.seals, of, query.cursor)[0])
    async with backend.database.read() as session:
        row = await _known(session, app)
        found = await apps.versions(session, row.app_id, after=after, limit=query.limit + 1)
    shown = found[: query.limit]
    more = len(found) > query.limit
    return AppVersionPage(
        items=tuple(map(bodies.app_version_body, shown)),
        next_cursor=make_cursor(backend.seals, of, [shown[-1].version]) if more else None,
    )


@router.get(
    "/apps/{app}/price",
    operation_id="getAppPrice",
    summary="What a call costs that starts at a time",
    description="To the unit what `AppRegistry.priceAt` answers.",
    dependencies=[Public],
    responses=problems(UnknownApp, UnknownVersion, NotPublishedYet, AppRetired),
)
async def get_price(
    backend: Ctx, app: AppIdPath, query: Annotated[QuoteQuery, Query()]
) -> QuoteBody:
    async with backend.database.read() as session:
        at = await _now_s(backend, session) if query.at is None else query.at
        row = await _known(session, app)
        if row.retired_at_s is not None and at >= row.retired_at_s:
            raise AppRetired(row.app_id, row.retired_at_s, at)
        version = row.versions if query.version is None else query.version
        known = await apps.version(session, row.app_id, version)
        if known is None:
            raise UnknownVersion(row.app_id, row.versions, version)
        moment = (await apps.moments(session, [row], {row.app_id: version}, at)).get(row.app_id)
    if moment is None:
        raise NotPublishedYet(row.app_id, version, known.published_at_s, at)
    return bodies.quote_body(moment, version, at)


@router.get(
    "/apps/{app}/prices",
    operation_id="listAppPrices",
    summary="Every price of an app, by version and time",
    description="Before discounts; those announced for times to come are among them.",
    dependencies=[Public],
    responses=problems(UnknownApp, UnknownVersion, BadCursor),
)
async def list_prices(
    backend: Ctx, app: AppIdPath, query: Annotated[PriceHistoryQuery, Query()]
) -> PricePage:
    of = f"prices:{app}:{query.version}"
    after = (0, 0)
    if query.cursor is not None:
        version, from_s = open_cursor(backend.seals, of, query.cursor)
        after = (version, from_s)
    async with backend.database.read() as session:
        row = await _known(session, app)
        if query.version is not None and query.version > row.versions:
            raise UnknownVersion(row.app_id, row.versions, query.version)
        found = await apps.prices(
            session, row.app_id, version=query.version, after=after, limit=query.limit + 1
        )
    shown = found[: query.limit]
    more = len(found) > query.limit
    last = [shown[-1].version, shown[-1].from_s] if more else []
    return PricePage(
        items=tuple(map(bodies.price_point_body, shown)),
        next_cursor=make_cursor(backend.seals, of, last) if more else None,
    )


@router.get(
    "/apps/{app}/discounts",
    operation_id="listAppDiscounts",
    summary="Discounts of an app, in the order in which they were announced",
    description="From its start on, each takes the place of those before it.",
    dependencies=[Public],
    responses=problems(UnknownApp, BadCursor),
)
async def list_discounts(
    backend: Ctx, app: AppIdPath, query: Annotated[PageQuery, Query()]
) -> DiscountPage:
    of = f"discounts:{app}"
    after = "" if query.cursor is None else str(open_cursor(backend.seals, of, query.cursor)[0])
    async with backend.database.read() as session:
        row = await _known(session, app)
        found = await apps.discounts(session, row.app_id, after=after, limit=query.limit + 1)
    shown = found[: query.limit]
    more = len(found) > query.limit
    return DiscountPage(
        items=tuple(map(bodies.discount_body, shown)),
        next_cursor=make_cursor(backend.seals, of, [shown[-1].place]) if more else None,
    )


@router.get(
    "/channels",
    operation_id="listChannels",
    summary="Channels, last opened first",
    description="Anybody's: deposits, redemptions and closes are public on the chain. Vouchers "
    "that were not redeemed are not here.",
    dependencies=[Public],
    responses=problems(BadCursor),
)
async def list_channels(backend: Ctx, query: Annotated[ChannelQuery, Query()]) -> ChannelPage:
    payer = None if query.payer is None else query.payer.lower()
    provider = None if query.provider is None else query.provider.lower()
    of = f"channels:{payer}:{provider}"
    after = None
    if query.cursor is not None:
        time_s, channel_id = open_cursor(backend.seals, of, query.cursor)
        after = (time_s, channel_id)
    async with backend.database.read() as session:
        found = await apps.newest_channels(
            session, payer=payer, provider=provider, after=after, limit=query.limit + 1
        )
        block = await _block(session)
    shown = found[: query.limit]
    more = len(found) > query.limit
    last = [shown[-1].opened_at_s, shown[-1].channel_id] if more else []
    return ChannelPage(
        items=tuple(bodies.channel_view(row, block) for row in shown),
        next_cursor=make_cursor(backend.seals, of, last) if more else None,
    )


@router.get(
    "/channels/{channel}",
    operation_id="getChannel",
    summary="One channel",
    description="As of `block`; public, as it is on the chain.",
    dependencies=[Public],
    responses=problems(UnknownChannel),
)
async def get_channel(backend: Ctx, channel: ChannelIdPath) -> ChannelView:
    async with backend.database.read() as session:
        row = await apps.channel(session, channel)
        block = await _block(session)
    if row is None:
        raise UnknownChannel(channel)
    return bodies.channel_view(row, block)


async def _known(session: AsyncSession, app_id: str) -> AppRow:
    row = await apps.app(session, app_id)
    if row is None:
        raise UnknownApp(app_id)
    return row


async def _now_s(backend: Backend, session: AsyncSession) -> int:
    """By the clock, or by the chain where it is ahead: what it tells of has happened."""
    cursor = await chain.cursor(session)
    return max(backend.now_s(), 0 if cursor is None else cursor.block_timestamp_s)


async def _block(session: AsyncSession) -> int:
    cursor = await chain.cursor(session)
    return 0 if cursor is None else cursor.block_number
