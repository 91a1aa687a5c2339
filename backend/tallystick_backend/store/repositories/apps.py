"""Apps and channels, as the index wrote them. Writes nothing.

Which price follows from what was announced is not decided here: `moments` hands the rows to
`tallystick.protocol.apps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.apps import (
    AppHistory,
    DiscountWindow,
    PricePoint,
    VersionHistory,
    with_discount,
)
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, Digest, to_address
from tallystick_backend.store.tables import (
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChannelRow,
)

Newest = tuple[int, str]
"""Where a page of apps or channels ended: its last one's time and id."""


def version_place(app_id: str, version: int) -> str:
    """A version's id: of one width, so that an app's versions sort by it."""
    return f"{app_id.lower()}/{version:010d}"


async def app(session: AsyncSession, app_id: str) -> AppRow | None:
    return await session.get(AppRow, app_id)


async def newest_apps(
    session: AsyncSession,
    *,
    publisher: str | None = None,
    salt: str | None = None,
    text: str | None = None,
    retired: bool | None = None,
    now_s: int,
    after: Newest | None = None,
    limit: int,
) -> Sequence[AppRow]:
    """Last published first; `text` is part of the manifest's address, or how the id begins."""
    query = select(AppRow)
    if publisher is not None:
        query = query.where(col(AppRow.publisher) == publisher.lower())
    if salt is not None:
        query = query.where(col(AppRow.salt) == salt)
    if text is not None:
        query = query.where(
            or_(
                col(AppRow.manifest_uri).icontains(text, autoescape=True),
                col(AppRow.app_id).startswith(text.lower(), autoescape=True),
            )
        )
    if retired is True:
        query = query.where(col(AppRow.retired_at_s) <= now_s)
    if retired is False:
        query = query.where(
            or_(col(AppRow.retired_at_s).is_(None), col(AppRow.retired_at_s) > now_s)
        )
    if after is not None:
        time_s, app_id = after
        query = query.where(
            or_(
                col(AppRow.published_at_s) < time_s,
                and_(col(AppRow.published_at_s) == time_s, col(AppRow.app_id) > app_id),
            )
        )
    query = query.order_by(col(AppRow.published_at_s).desc(), col(AppRow.app_id)).limit(limit)
    return (await session.exec(query)).all()


async def version(session: AsyncSession, app_id: str, number: int) -> AppVersionRow | None:
    return (await versions_of(session, {app_id: number})).get(app_id)


async def versions(
    session: AsyncSession, app_id: str, *, after: int = 0, limit: int
) -> Sequence[AppVersionRow]:
    """Version 1 first."""
    query = (
        select(AppVersionRow)
        .where(col(AppVersionRow.app_id) == app_id, col(AppVersionRow.version) > after)
        .order_by(col(AppVersionRow.version))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def versions_of(session: AsyncSession, wanted: Mapping[str, int]) -> dict[str, AppVersionRow]:
    """One version of each app, by app."""
    query = select(AppVersionRow).where(col(AppVersionRow.place).in_(_places(wanted)))
    return {row.app_id: row for row in await session.exec(query)}


async def prices(
    session: AsyncSession,
    app_id: str,
    *,
    version: int | None = None,
    after: tuple[int, int] = (0, 0),
    limit: int,
) -> Sequence[AppPriceRow]:
    """By version and time; `after` is both of the last one seen."""
    seen_version, seen_from_s = after
    query = select(AppPriceRow).where(
        col(AppPriceRow.app_id) == app_id,
        or_(
            col(AppPriceRow.version) > seen_version,
            and_(col(AppPriceRow.version) == seen_version, col(AppPriceRow.from_s) > seen_from_s),
        ),
    )
    if version is not None:
        query = query.where(col(AppPriceRow.version) == version)
    query = query.order_by(col(AppPriceRow.version), col(AppPriceRow.from_s)).limit(limit)
    return (await session.exec(query)).all()


async def discounts(
    session: AsyncSession, app_id: str, *, after: str = "", limit: int
) -> Sequence[AppDiscountRow]:
    """In the order in which they were announced; `after` is the last one's place."""
    query = (
        select(AppDiscountRow)
        .where(col(AppDiscountRow.app_id) == app_id, col(AppDiscountRow.place) > after)
        .order_by(col(AppDiscountRow.place))
        .limit(limit)
    )
    return (await session.exec(query)).all()


async def prices_at(
    session: AsyncSession, wanted: Mapping[str, int], time_s: int
) -> dict[str, AppPriceRow]:
    """The price that one version of each app has at `time_s`, before discounts, by app."""
    point = aliased(AppPriceRow)
    # One look into an index for each, however long the history.
    last = (
        select(col(point.place))
        .where(
            col(point.app_id) == col(AppVersionRow.app_id),
            col(point.version) == col(AppVersionRow.version),
            col(point.from_s) <= time_s,
        )
        .order_by(col(point.from_s).desc())
        .limit(1)
        .correlate(AppVersionRow)
        .scalar_subquery()
    )
    query = (
        select(AppPriceRow)
        .join(AppVersionRow, col(AppPriceRow.place) == last)
        .where(col(AppVersionRow.place).in_(_places(wanted)))
    )
    return {row.app_id: row for row in await session.exec(query)}


async def discounts_at(
    session: AsyncSession, app_ids: Iterable[str], time_s: int
) -> dict[str, AppDiscountRow]:
    """Of each app the discount announced last of those that began until `time_s`: if it has not
    ended it is in force, and no other is. By app."""
    discount = aliased(AppDiscountRow)
    last = (
        select(col(discount.place))
        .where(col(discount.app_id) == col(AppRow.app_id), col(discount.start_s) <= time_s)
        .order_by(col(discount.place).desc())
        .limit(1)
        .correlate(AppRow)
        .scalar_subquery()
    )
    query = (
        select(AppDiscountRow)
        .join(AppRow, col(AppDiscountRow.place) == last)
        .where(col(AppRow.app_id).in_(list(app_ids)))
    )
    return {row.app_id: row for row in await session.exec(query)}


@dataclass(frozen=True, slots=True)
class Moment:
    """What the price of one version at one second hangs on."""

    history: AppHistory
    """Of an app with that version only, with that one price and at most one discount."""
    list_price: Price

    def price_at(self, time_s: int) -> Price:
        return self.history.price_at(time_s, version=1)


async def moments(
    session: AsyncSession, rows: Sequence[AppRow], wanted: Mapping[str, int], time_s: int
) -> dict[str, Moment]:
    """By app, for the version that `wanted` names; without those whose version is unknown or came
    after `time_s`. Whether the app was retired by then is left to the history."""
    versions = await versions_of(session, wanted)
    points = await prices_at(session, wanted, time_s)
    announced = await discounts_at(session, wanted, time_s)
    found = {}
    for row in rows:
        version, point = versions.get(row.app_id), points.get(row.app_id)
        if version is None or point is None:
            continue
        discount = announced.get(row.app_id)
        history = app_history(
            row, [version_history(version, [point])], [] if discount is None else [discount]
        )
        found[row.app_id] = Moment(history, list_price(point))
    return found


def app_history(
    row: AppRow, versions: Iterable[VersionHistory], announced: Iterable[AppDiscountRow]
) -> AppHistory:
    windows: tuple[DiscountWindow, ...] = ()
    for discount in announced:
        window = DiscountWindow(discount.start_s, discount.end_s, discount.bps)
        windows = with_discount(windows, window)
    return AppHistory(
        app_id=AppId(Digest(row.app_id)),
        publisher=to_address(row.publisher),
        royalty_to=to_address(row.royalty_to),
        royalty_bps=row.royalty_bps,
        versions=tuple(versions),
        discounts=windows,
        retired_at_s=row.retired_at_s,
        permanent=row.permanent,
    )


def version_history(row: AppVersionRow, points: Iterable[AppPriceRow]) -> VersionHistory:
    return VersionHistory(
        image_digest=Digest(row.image_digest),
        manifest_digest=Digest(row.manifest_digest),
        manifest_uri=row.manifest_uri,
        prices=tuple(PricePoint(point.from_s, list_price(point)) for point in points),
    )


def list_price(row: AppPriceRow) -> Price:
    """Before any discount."""
    return Price(row.flat, row.fee_per_call, row.rate_per_gpu_second)


async def channel(session: AsyncSession, channel_id: str) -> ChannelRow | None:
    return await session.get(ChannelRow, channel_id)


async def newest_channels(
    session: AsyncSession,
    *,
    payer: str | None = None,
    provider: str | None = None,
    after: Newest | None = None,
    limit: int,
) -> Sequence[ChannelRow]:
    """Last opened first."""
    query = select(ChannelRow)
    if payer is not None:
        query = query.where(col(ChannelRow.payer) == payer.lower())
    if provider is not None:
        query = query.where(col(ChannelRow.provider) == provider.lower())
    if after is not None:
        time_s, channel_id = after
        query = query.where(
            or_(
                col(ChannelRow.opened_at_s) < time_s,
                and_(
                    col(ChannelRow.opened_at_s) == time_s, col(ChannelRow.channel_id) > channel_id
                ),
            )
        )
    query = query.order_by(col(ChannelRow.opened_at_s).desc(), col(ChannelRow.channel_id))
    return (await session.exec(query.limit(limit))).all()


def _places(wanted: Mapping[str, int]) -> list[str]:
    return [version_place(app_id, version) for app_id, version in wanted.items()]
