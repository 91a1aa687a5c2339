"""An app as the registry's events tell it, and its price at any time, to the unit what
`AppRegistry.priceAt` answers.

    app = history([published, added, announced])
    app.price_for(receipt.started_at_ms, version=1)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

from eth_abi.abi import encode

from tallystick.protocol.errors import QuoteError
from tallystick.protocol.events import (
    AppEvent,
    AppPublished,
    AppRenounced,
    AppRetired,
    DiscountAnnounced,
    PriceAnnounced,
    VersionAdded,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.pricing import Price, discounted_price_up
from tallystick.protocol.types import Address, AppId, Digest

__all__ = [
    "AppHistory",
    "DiscountWindow",
    "PricePoint",
    "VersionHistory",
    "after",
    "app_id",
    "app_salt",
    "history",
    "with_discount",
]


def app_id(chain_id: int, registry: Address, publisher: Address, salt: Digest) -> AppId:
    """Known before the app is published; nobody but the publisher can take it."""
    kinds = ["uint256", "address", "address", "bytes32"]
    values = [chain_id, registry, publisher, bytes.fromhex(salt[2:])]
    return AppId(digest_of(encode(kinds, values)))


def app_salt(name: str) -> Digest:
    """What `tallystick app deploy` publishes an app of this name under, so that it is found again
    by publisher and name."""
    return digest_of(name.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class PricePoint:
    """`price` holds from `from_s` until the next point."""

    from_s: int
    price: Price


@dataclass(frozen=True, slots=True)
class DiscountWindow:
    """`bps` off from `start_s` to `end_s`, both included."""

    start_s: int
    end_s: int
    bps: int


@dataclass(frozen=True, slots=True)
class VersionHistory:
    image_digest: Digest
    manifest_digest: Digest
    manifest_uri: str
    """The publisher's text: to be shown and fetched with care. The digest decides."""
    prices: tuple[PricePoint, ...]
    """In the order of time; the first begins with the version."""


@dataclass(frozen=True, slots=True)
class AppHistory:
    app_id: AppId
    publisher: Address
    royalty_to: Address
    royalty_bps: int
    versions: tuple[VersionHistory, ...] = ()
    """Version 1 first."""
    discounts: tuple[DiscountWindow, ...] = ()
    """In the order of time, none reaching into another."""
    retired_at_s: int | None = None
    """First second without a price."""
    permanent: bool = False

    def price_for(self, started_at_ms: int, *, version: int) -> Price:
        """What a call is charged by: the price of the second in which it started."""
        return self.price_at(started_at_ms // 1000, version=version)

    def price_at(self, time_s: int, *, version: int) -> Price:
        """Raises `QuoteError` where `AppRegistry.priceAt` reverts."""
        if self.retired_at_s is not None and time_s >= self.retired_at_s:
            raise QuoteError(
                f"app {self.app_id} has no price at {time_s}: it is retired since "
                f"{self.retired_at_s}"
            )
        if not 1 <= version <= len(self.versions):
            raise QuoteError(
                f"app {self.app_id} has no version {version}: there are 1 to {len(self.versions)}"
            )
        points = self.versions[version - 1].prices
        found = bisect_right(points, time_s, key=lambda point: point.from_s)
        if found == 0:
            raise QuoteError(
                f"version {version} of app {self.app_id} was published at {points[0].from_s} and "
                f"has no price at {time_s}, before that"
            )
        price, bps = points[found - 1].price, self.discount_at(time_s)
        return discounted_price_up(price, bps) if bps else price

    def discount_at(self, time_s: int) -> int:
        """In basis points; 0 if there is none."""
        found = bisect_right(self.discounts, time_s, key=lambda window: window.start_s)
        if found == 0:
            return 0
        window = self.discounts[found - 1]
        return window.bps if time_s <= window.end_s else 0


def history(events: Iterable[AppEvent]) -> AppHistory:
    """One app's events, in the chain's order and beginning with `AppPublished`. They carry their
    block's time, so decode them with it."""
    app: AppHistory | None = None
    for event in events:
        app = after(app, event)
    if app is None:
        raise QuoteError("there are no events: read them from the block of AppPublished on")
    return app


def after(app: AppHistory | None, event: AppEvent) -> AppHistory:
    """The app with one more event."""
    if isinstance(event, AppPublished):
        return AppHistory(AppId(event.app_id), event.publisher, event.royalty_to, event.royalty_bps)
    if app is None or app.app_id != event.app_id:
        raise QuoteError(
            f"{type(event).__name__} of app {event.app_id} does not follow on "
            f"{app.app_id if app else 'anything'}: give one app's events from AppPublished on"
        )
    match event:
        case VersionAdded():
            added = VersionHistory(
                event.image_digest,
                event.manifest_digest,
                event.manifest_uri,
                (PricePoint(event.at.timestamp_s, event.price),),
            )
            return replace(app, versions=(*app.versions, added))
        case PriceAnnounced():
            known = app.versions[event.version - 1]
            announced = PricePoint(event.takes_effect_at, event.price)
            changed = replace(known, prices=(*known.prices, announced))
            before, behind = app.versions[: event.version - 1], app.versions[event.version :]
            return replace(app, versions=(*before, changed, *behind))
        case DiscountAnnounced():
            window = DiscountWindow(event.start, event.end, event.bps)
            return replace(app, discounts=with_discount(app.discounts, window))
        case AppRetired():
            return replace(app, retired_at_s=event.retired_at)
        case AppRenounced():
            return replace(app, permanent=True)


def with_discount(
    windows: tuple[DiscountWindow, ...], announced: DiscountWindow
) -> tuple[DiscountWindow, ...]:
    """From its start on it takes the place of what was announced before."""
    kept = (
        replace(earlier, end_s=min(earlier.end_s, announced.start_s - 1))
        for earlier in windows
        if earlier.start_s < announced.start_s
    )
    return (*kept, announced)
