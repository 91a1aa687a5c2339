"""What cards cost now, by kind, from what providers announce. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.protocol.market_views import GpuPrices

Kind = tuple[str, str, int, bool]
"""Class, model, memory in MiB, simulated."""


@dataclass(slots=True)
class PriceTable:
    """Takes providers one by one."""

    rates: dict[Kind, list[int]] = field(default_factory=lambda: defaultdict(list))
    free: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))
    providers: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, announced: Mapping[str, Any], leased: Mapping[str, int]) -> None:
        """`leased` says how many cards of each class leases hold."""
        held = dict(leased)
        seen: set[Kind] = set()
        rates = announced["rate_per_gpu_second"]
        for gpu in announced["gpus"]:
            rate = rates.get(gpu["gpu_class"])
            if rate is None:
                continue  # without a price it is not for rent
            kind = (
                gpu["gpu_class"],
                gpu["model"],
                gpu["memory_mib"],
                bool(gpu.get("simulated", False)),
            )
            self.rates[kind].append(int(rate))
            if held.get(gpu["gpu_class"], 0) > 0:
                held[gpu["gpu_class"]] -= 1
            else:
                self.free[kind] += 1
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
