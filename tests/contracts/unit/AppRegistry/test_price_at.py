"""priceAt equals `tallystick.protocol.apps` to the unit, and keeps what it once answered

├── the kernel's history, read from events alone, answers as the contract does, 2,400 times (case 6)
├── whatever a publisher does: a quote up to now never changes, a quote within the notice never
│   rises and never goes away, a discount once announced is never reduced (cases 19, 24 and 31)
└── a discount's rounding is the kernel's (case 7)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from brownie.exceptions import VirtualMachineError

from tallystick.protocol.apps import AppHistory, history
from tallystick.protocol.errors import QuoteError
from tallystick.protocol.pricing import Price, discounted_up
from tests.contracts.apps import Apps, row
from tests.contracts.stage import DAY_S

AMOUNTS = (0, 1, 9_999, 10_000, 10**6, 10**18, 2**128 - 1)


def test_a_discount_rounds_as_the_kernel_does(harness: Any) -> None:
    chance = random.Random(7)
    cases = [[amount(chance), chance.randint(0, 10_000)] for _ in range(1_990)]
    cases += [[most, bps] for most in (0, 1, 2**128 - 1) for bps in (0, 1, 9_999, 10_000)]
    for start in range(0, len(cases), 250):
        part = cases[start : start + 250]
        left = [int(units) for units in harness.discountedUp(part)]
        assert left == [discounted_up(units, bps) for units, bps in part]
        for (units, bps), rest in zip(part, left, strict=True):
            # Above the exact rest, by less than one unit.
            assert 0 <= rest * 10_000 - units * (10_000 - bps) < 10_000


def amount(chance: random.Random) -> int:
    return chance.choice((chance.choice(AMOUNTS), chance.getrandbits(chance.randint(1, 128))))


def test_the_kernels_history_answers_as_the_contract(apps: Apps) -> None:
    """Three publishers' worth of random changes; times at every edge and between."""
    asked = 0
    for seed in range(3):
        chance = random.Random(seed)
        app_id = apps.publish(f"app {seed}", price=some_price(chance))
        live(apps, app_id, chance, acts=30)
        if seed == 2:
            apps.retire(app_id)
        known = history(apps.told(app_id))
        assert known.app_id == app_id
        for _ in range(800):
            version = chance.choice((*range(1, len(known.versions) + 1),) * 8 + (0, 99))
            time_s = chance.choice(times(known, chance))
            expected = quoted(known.price_at, time_s, version=version)
            actual = quoted(apps.price_at, app_id, time_s, version)
            assert actual == expected, (seed, version, time_s)
            asked += 1
    assert asked >= 2_000


def times(known: AppHistory, chance: random.Random) -> list[int]:
    edges = [point.from_s for version in known.versions for point in version.prices]
    edges += [edge for w in known.discounts for edge in (w.start_s, w.end_s, w.end_s + 1)]
    edges += [known.retired_at_s or edges[0]]
    around = [edge + step for edge in edges for step in (-1, 0, 1)]
    return [*around, chance.randint(min(edges) - 10, max(edges) + DAY_S)]


def quoted(ask: Callable[..., Price], *values: Any, **more: Any) -> Price | None:
    """None where there is no price."""
    try:
        return ask(*values, **more)
    except (QuoteError, VirtualMachineError):
        return None


def some_price(chance: random.Random) -> Price:
    return Price(amount(chance), amount(chance), amount(chance))


def live(apps: Apps, app_id: str, chance: random.Random, acts: int) -> None:
    """A publisher's life: whatever it tries, refused or not."""
    versions = 1
    for _ in range(acts):
        with apps.at(apps.now() + chance.choice((1, 60, DAY_S // 2, DAY_S, 2 * DAY_S))):
            if act(apps, app_id, chance, versions) == "addVersion":
                versions += 1


def act(apps: Apps, app_id: str, chance: random.Random, versions: int) -> str:
    what = chance.choice(("setPrice", "setPrice", "setDiscount", "setDiscount", "addVersion"))
    try:
        if what == "addVersion":
            apps.add_version(app_id, price=some_price(chance))
        elif what == "setPrice":
            apps.set_price(app_id, some_price(chance), version=chance.randint(1, versions))
        else:
            _, first, last = apps.discount(app_id)
            start = chance.choice((apps.now() + 3 * DAY_S, first, first - 60))
            end = max(start, last) + chance.choice((0, 60, 3 * DAY_S))
            apps.set_discount(app_id, chance.randint(1, 10_000), max(start, 0), end)
    except VirtualMachineError:
        return "refused"
    return what


def test_no_quote_is_taken_back(apps: Apps) -> None:
    chance = random.Random(24)
    app_id = apps.publish("kept", price=some_price(chance))
    born, versions, done = apps.now(), 1, []
    for step in range(60):
        present = apps.now()
        watched = sorted(
            {present, *(chance.randint(born, present) for _ in range(3))}
            | {present + chance.randint(2, DAY_S) for _ in range(4)}
        )
        before = {t: quoted(apps.price_at, app_id, t) for t in watched}
        off = {t: int(apps.registry.discountAt(app_id, t)) for t in watched}
        acted_at = present + chance.choice((1, 1, 1, 60, DAY_S // 3))
        with apps.at(acted_at):
            if step == 59:
                apps.retire(app_id)
            else:
                done.append(act(apps, app_id, chance, versions))
                versions += done[-1] == "addVersion"
        for time_s in watched:
            was, now = before[time_s], quoted(apps.price_at, app_id, time_s)
            assert was is not None, "version 1 is quoted from its publication on"
            assert int(apps.registry.discountAt(app_id, time_s)) >= off[time_s]
            if time_s <= acted_at:
                assert now == was
            else:
                assert now is not None
                assert all(new <= old for new, old in zip(row(now), row(was), strict=True))
    assert set(done) == {"setPrice", "setDiscount", "addVersion", "refused"}
