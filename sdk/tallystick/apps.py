"""Apps and channels: what can be called, its prices, and the money that waits for a provider.

All of it is public and needs no key. Prices come from the backend's index; `history` gives what was
announced, from which anybody computes them again (`tallystick.protocol.apps`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from pydantic import BaseModel

from tallystick.errors import Conflict, InvalidRequest, NotFound
from tallystick.protocol import wire
from tallystick.protocol.apps import (
    AppHistory,
    DiscountWindow,
    PricePoint,
    VersionHistory,
    with_discount,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, Digest, to_address
from tallystick.session import Session

_LONGEST_PAGE = 200
_LONGEST_NAME = 200
_SHOWN = 5
"""Candidates named in a sentence."""
_DIGEST = re.compile(r"0x[0-9a-f]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x[0-9a-fA-F]*")


async def list_apps(
    session: Session,
    publisher: str | None,
    text: str | None,
    retired: bool | None,
    limit: int,
    *,
    name: str | None = None,
) -> tuple[wire.AppBody, ...]:
    params = {
        "publisher": publisher,
        "name": name,
        "text": text,
        "retired": None if retired is None else str(retired).lower(),
    }
    return await _first(limit, _pages(session, "/v1/apps", wire.AppPage, params))


async def find(session: Session, app: str) -> str:
    """The id that `app` means: an id is one already, `PUBLISHER/NAME` names one app, and a name is
    the caller's own app of that name, else the only one there is. Remembered while the client
    lives."""
    text = app.strip()
    if _DIGEST.fullmatch(text.lower()):
        return text.lower()
    known = session.app_ids.get(text)
    if known is None:
        known = session.app_ids[text] = await _find(session, text)
    return known


async def _find(session: Session, text: str) -> str:
    publisher, slash, name = text.partition("/")
    if not slash or not _ADDRESS.fullmatch(publisher):
        publisher, name = "", text
    # What is sent as an id and is none means no name.
    if not name or len(name) > _LONGEST_NAME or (not publisher and _HEX.fullmatch(name)):
        raise _no_id(text)
    if not publisher and session.has_credentials:
        own = await list_apps(session, await session.log_in(), None, False, 1, name=name)
        if own:
            return own[0].id
    found = await list_apps(session, publisher or None, None, False, _SHOWN + 1, name=name)
    if not found:
        raise NotFound(
            f"No app {text!r} is published.",
            next_step="`tallystick app list` shows apps with their ids; a name is that of "
            "tallystick.toml when it was published.",
        )
    if len(found) > 1:
        shown = ", ".join(f"{one.id} (of {one.publisher})" for one in found[:_SHOWN])
        more = " and more" if len(found) > _SHOWN else ""
        raise Conflict(
            f"{name!r} is the name of several apps, none of them yours: {shown}{more}.",
            next_step="Give the id, or PUBLISHER/NAME.",
            candidates=[one.id for one in found],
        )
    return found[0].id


async def app(session: Session, app_id: str) -> wire.AppBody:
    return await _get(session, f"/v1/apps/{_checked(app_id)}", wire.AppBody)


async def versions(session: Session, app_id: str) -> tuple[wire.AppVersionBody, ...]:
    path = f"/v1/apps/{_checked(app_id)}/versions"
    return await _first(None, _pages(session, path, wire.AppVersionPage))


async def price(
    session: Session, app_id: str, version: int | None, at: int | None
) -> wire.QuoteBody:
    path = f"/v1/apps/{_checked(app_id)}/price"
    return await _get(session, path, wire.QuoteBody, {"version": version, "at": at})


async def history(session: Session, app_id: str) -> AppHistory:
    """Everything announced so far, folded as the registry's events are."""
    found = await app(session, app_id)
    path = f"/v1/apps/{found.id}"
    points: dict[int, list[PricePoint]] = {}
    async for point in _pages(session, f"{path}/prices", wire.PricePage):
        at_s = PricePoint(point.takes_effect_at, price_of(point.price))
        points.setdefault(point.version, []).append(at_s)
    known = [
        VersionHistory(
            Digest(version.image_digest),
            Digest(version.manifest_digest),
            version.manifest_uri,
            tuple(points.get(version.version, ())),
        )
        async for version in _pages(session, f"{path}/versions", wire.AppVersionPage)
    ]
    windows: tuple[DiscountWindow, ...] = ()
    async for discount in _pages(session, f"{path}/discounts", wire.DiscountPage):
        window = DiscountWindow(discount.start, discount.end, discount.bps)
        windows = with_discount(windows, window)
    return AppHistory(
        app_id=AppId(Digest(found.id)),
        publisher=to_address(found.publisher),
        royalty_to=to_address(found.royalty_to),
        royalty_bps=found.royalty_bps,
        versions=tuple(known),
        discounts=windows,
        retired_at_s=found.retired_at,
        permanent=found.permanent,
    )


async def list_channels(
    session: Session, payer: str | None, provider: str | None, limit: int
) -> tuple[wire.ChannelView, ...]:
    params = {"payer": payer, "provider": provider}
    return await _first(limit, _pages(session, "/v1/channels", wire.ChannelPage, params))


async def channel(session: Session, channel_id: str) -> wire.ChannelView:
    return await _get(session, f"/v1/channels/{_checked(channel_id)}", wire.ChannelView)


async def upload_manifest(session: Session, file: bytes) -> str:
    """Answers its digest: the version's `manifestDigest`."""
    digest = digest_of(file)
    await session.connection.put_text(f"/v1/manifests/{digest}", file)
    return digest


def price_of(body: wire.AppPriceBody) -> Price:
    return Price(body.flat, body.fee_per_call, body.rate_per_gpu_second)


_Item = TypeVar("_Item", covariant=True)
_Body = TypeVar("_Body", bound=BaseModel)
_Params = dict[str, str | int | None]


class _Page(Protocol[_Item]):
    @property
    def items(self) -> tuple[_Item, ...]: ...
    @property
    def next_cursor(self) -> str | None: ...


async def _pages(
    session: Session,
    path: str,
    kind: type[_Page[_Item]],
    params: dict[str, str | None] | None = None,
) -> AsyncIterator[_Item]:
    cursor: str | None = None
    while True:
        query: _Params = {**(params or {}), "limit": _LONGEST_PAGE, "cursor": cursor}
        # Every page is a wire model, which a Protocol cannot say.
        page = await session.connection.get(path, kind, public=True, params=query)  # type: ignore[type-var]
        for item in page.items:
            yield item
        if (cursor := page.next_cursor) is None:
            return


async def _first(limit: int | None, items: AsyncIterator[_Item]) -> tuple[_Item, ...]:
    found: list[_Item] = []
    async for item in items:
        if limit is not None and len(found) >= limit:
            break
        found.append(item)
    return tuple(found)


async def _get(
    session: Session, path: str, kind: type[_Body], params: _Params | None = None
) -> _Body:
    return await session.connection.get(path, kind, public=True, params=params)


def _checked(an_id: str) -> str:
    """Of an app or a channel, before it becomes part of a path."""
    if _DIGEST.fullmatch(an_id):
        return an_id
    raise _no_id(an_id)


def _no_id(an_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"{an_id[:80]!r} is no id: expected 0x and 64 characters from 0 to 9 and a to f.",
        next_step="`tallystick app list` and `tallystick channel list` show them.",
    )
