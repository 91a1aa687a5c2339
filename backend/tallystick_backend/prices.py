"""What cards cost: now, by kind, from what providers announce; and what tasks paid, day by day.
Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tallystick.protocol.market_views import GpuPrices, PaidPrices
from tallystick_backend.offer_search import CardOffer

Kind = tuple[str, str, int, bool]
"""Class, model, memory in MiB, simulated."""


@dataclass(slots=True)
class PriceTable:
    """Takes providers one by one."""

    rates: dict[Kind, list[int]] = field(default_factory=lambda: defaultdict(list))
    free: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))
    providers: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, offers: Iterable[CardOffer]) -> None:
        """All of one provider."""
        seen: set[Kind] = set()
        for offer in offers:
            kind = (offer.gpu_class, offer.model, offer.memory_mib, offer.simulated)
            self.rates[kind] += [offer.rate_per_gpu_second] * offer.cards
            self.free[kind] += offer.free
            seen.add(kind)
        for kind in seen:
            self.providers[kind] += 1

    def rows(self) -> Iterable[GpuPrices]:
        """By class, model and memory."""
        for kind in sorted(self.rates):
            rates = sorted(self.rates[kind])
            gpu_class, model, memory_mib, simulated = kind
            yield GpuPrices(
                gpu_class=gpu_class,
                model=model,
                memory_mib=memory_mib,
                simulated=simulated,
                providers=self.providers[kind],
                cards=len(rates),
                cards_free=self.free[kind],
                min_rate=rates[0],
                median_rate=rates[(len(rates) - 1) // 2],
                max_rate=rates[-1],
            )


def card_offers(
    provider: str, runtime: str, announced: Mapping[str, Any], leased: Mapping[str, int]
) -> list[CardOffer]:
    """`leased` says how many cards of each class leases hold. Cards without a price are not for
    rent."""
    held = dict(leased)
    rates = announced["rate_per_gpu_second"]
    cards: dict[Kind, int] = defaultdict(int)
    free: dict[Kind, int] = defaultdict(int)
    for gpu in announced["gpus"]:
        gpu_class = gpu["gpu_class"]
        if rates.get(gpu_class) is None:
            continue
        kind = (gpu_class, gpu["model"], gpu["memory_mib"], bool(gpu.get("simulated", False)))
        cards[kind] += 1
        if held.get(gpu_class, 0) > 0:
            held[gpu_class] -= 1
        else:
            free[kind] += 1
    return [
        CardOffer(
            provider=provider,
            gpu_class=kind[0],
            model=kind[1],
            memory_mib=kind[2],
            simulated=kind[3],
            runtime=runtime,
            rate_per_gpu_second=int(rates[kind[0]]),
            cards=count,
            free=free[kind],
        )
        for kind, count in cards.items()
    ]


@dataclass(frozen=True, slots=True)
class Paid:
    """What one settled task paid."""

    at_s: int
    gpu_class: str
    charge: int
    gpu_ms: int

    @property
    def rate_per_gpu_second_down(self) -> int:
        return self.charge * 1000 // self.gpu_ms


def history(paid: Iterable[Paid]) -> Iterable[PaidPrices]:
    """By day (UTC), then by class. Tasks without a GPU's time have no such price."""
    days: dict[tuple[int, str], list[Paid]] = defaultdict(list)
    for one in paid:
        if one.gpu_ms > 0:
            days[(one.at_s // _DAY_S, one.gpu_class)].append(one)
    for (day, gpu_class), tasks in sorted(days.items()):
        rates = sorted(task.rate_per_gpu_second_down for task in tasks)
        yield PaidPrices(
            day=datetime.fromtimestamp(day * _DAY_S, UTC).date().isoformat(),
            start_ms=day * _DAY_S * 1000,
            gpu_class=gpu_class,
            tasks=len(tasks),
            gpu_ms=sum(task.gpu_ms for task in tasks),
            charge=sum(task.charge for task in tasks),
            min_rate=rates[0],
            median_rate=rates[(len(rates) - 1) // 2],
            max_rate=rates[-1],
        )


_DAY_S = 86_400
