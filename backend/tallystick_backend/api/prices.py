"""What cards cost: now, day by day, and those that fit a search; and the market's totals.

Public. What is added up over many rows is kept for a moment, so that looking often costs little.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tallystick.protocol.market_views import (
    CardOfferBody,
    CardSearch,
    NetworkTotals,
    PriceHistory,
    PriceList,
)
from tallystick.protocol.types import to_address
from tallystick_backend import offer_search
from tallystick_backend.api.callers import Public
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.cursors import Limit
from tallystick_backend.api.problems import problems
from tallystick_backend.offer_search import CardOffer
from tallystick_backend.prices import PriceTable, card_offers, history
from tallystick_backend.store.repositories import chain, explorer, settlements, views, work

router = APIRouter(prefix="/v1", tags=["market"])

MOST_PROVIDERS = 5_000
MOST_SETTLEMENTS = 20_000
DAY_S = 86_400
_BATCH = 500


@dataclass(frozen=True, slots=True)
class OnOffer:
    """Cards of the providers that are online and take work, provider by provider."""

    at_ms: int
    complete: bool
    providers: tuple[tuple[CardOffer, ...], ...]


async def on_offer(backend: Backend) -> OnOffer:
    return await backend.kept.get("on offer", lambda: _on_offer(backend))


async def _on_offer(backend: Backend) -> OnOffer:
    found: list[tuple[CardOffer, ...]] = []
    after = ""
    since_ms = backend.seen_since_ms()
    async with backend.database.read() as session:
        leased: dict[str, dict[str, int]] = defaultdict(dict)
        for (provider, gpu_class), gpus in (await work.busy_gpus(session)).items():
            leased[provider][gpu_class] = gpus
        while len(found) < MOST_PROVIDERS:
            rows = await explorer.announced(
                session, seen_since_ms=since_ms, after=after, limit=_BATCH
            )
            found += [
                tuple(
                    card_offers(row.provider, row.runtime, row.body, leased.get(row.provider, {}))
                )
                for row in rows
            ]
            if len(rows) < _BATCH:
                break
            after = rows[-1].provider
    return OnOffer(backend.clock.now_ms(), len(found) < MOST_PROVIDERS, tuple(found))


async def gpu_prices(backend: Backend) -> PriceList:
    found, table = await on_offer(backend), PriceTable()
    for offers in found.providers:
        table.add(offers)
    return PriceList(at_ms=found.at_ms, complete=found.complete, items=tuple(table.rows()))


@router.get(
    "/market/prices",
    operation_id="listGpuPrices",
    summary="What cards cost now, by class, model and memory",
    description="Of providers that are online and take work: lowest, middle and highest price per "
    "GPU-second, and how many cards are free.",
    dependencies=[Public],
    responses=problems(),
)
async def prices(backend: Ctx) -> PriceList:
    return await gpu_prices(backend)


class HistoryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    days: Annotated[int, Field(ge=1, le=400, description="Until now, whole days (UTC).")] = 30


@router.get(
    "/market/prices/history",
    operation_id="listPaidPrices",
    summary="What tasks paid for a GPU-second, day by day and class by class",
    description="Of the tasks that the chain settled, not of what was only asked for.",
    dependencies=[Public],
    responses=problems(),
)
async def price_history(backend: Ctx, query: Annotated[HistoryQuery, Query()]) -> PriceHistory:
    return await backend.kept.get(
        f"price history {query.days}", lambda: _price_history(backend, query.days)
    )


async def _price_history(backend: Backend, days: int) -> PriceHistory:
    until_s = backend.now_s()
    since_s = (until_s // DAY_S - days + 1) * DAY_S
    async with backend.database.read() as session:
        paid, complete = await settlements.paid_since(session, since_s, MOST_SETTLEMENTS)
    return PriceHistory(
        from_ms=since_s * 1000,
        until_ms=until_s * 1000,
        complete=complete,
        items=tuple(history(paid)),
    )


class CardQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    where: Annotated[
        str,
        Field(
            max_length=offer_search.MOST_CHARACTERS,
            description="Conditions, all of which hold: `vram>=24 gpu in (rtx3090, rtx4090) "
            'price<0.5 not simulated model ~ "geforce"`. Texts `gpu` (class), `model`, `provider`, '
            "`runtime` with `=`, `!=`, `~` (has in it), `in`, `not in`; numbers `vram` (GiB), "
            "`price` (tokens for a GPU and hour), `cards`, `free` with `=`, `!=`, `<`, `<=`, `>`, "
            "`>=`, `in`, `not in`; `simulated`. Empty: everything.",
        ),
    ] = ""
    order: Annotated[offer_search.Order, Field(description="With `-` the largest first.")] = "price"
    limit: Limit = 50


@router.get(
    "/market/search",
    operation_id="searchCards",
    summary="Cards on offer that fit a search",
    description="Of providers that are online and take work: one item for each kind of card at a "
    "provider.",
    dependencies=[Public],
    responses=problems(offer_search.SearchRefused),
)
async def search_cards(backend: Ctx, query: Annotated[CardQuery, Query()]) -> CardSearch:
    decimals = (await backend.config()).token.decimals
    holds = offer_search.parse(query.where, decimals)
    on = await on_offer(backend)
    found = [offer for offers in on.providers for offer in offers if holds(offer)]
    shown = offer_search.in_order(found, query.order)[: query.limit]
    return CardSearch(
        at_ms=on.at_ms,
        complete=on.complete,
        found=len(found),
        items=tuple(
            CardOfferBody(
                provider=to_address(offer.provider),
                gpu_class=offer.gpu_class,
                model=offer.model,
                memory_mib=offer.memory_mib,
                simulated=offer.simulated,
                runtime=offer.runtime,
                rate_per_gpu_second=offer.rate_per_gpu_second,
                cards=offer.cards,
                cards_free=offer.free,
            )
            for offer in shown
        ),
    )


async def _totals(backend: Backend) -> NetworkTotals:
    cards = (await gpu_prices(backend)).items
    async with backend.database.read() as session:
        row = await explorer.totals(session)
        by_state = await explorer.tasks_by_state(session)
        count = await explorer.app_count(session)
        online = await views.online_count(session, seen_since_ms=backend.seen_since_ms())
        cursor = await chain.cursor(session)
    return NetworkTotals(
        block=0 if cursor is None else cursor.block_number,
        block_at=0 if cursor is None else cursor.block_timestamp_s,
        escrowed=row.escrowed,
        staked=row.staked,
        delegated=row.delegated,
        slashed=row.slashed,
        tasks_settled=row.tasks_settled,
        task_charges=row.task_charges,
        redemptions=row.redemptions,
        call_charges=row.call_charges,
        fees=row.fees,
        tasks=by_state,
        apps=count,
        providers_online=online,
        cards_online=sum(each.cards for each in cards),
        cards_free=sum(each.cards_free for each in cards),
    )


@router.get(
    "/market/totals",
    operation_id="getNetworkTotals",
    summary="The whole market in figures",
    dependencies=[Public],
    responses=problems(),
)
async def totals(backend: Ctx) -> NetworkTotals:
    return await backend.kept.get("totals", lambda: _totals(backend))
