"""Who runs a task, and why the others do not."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_backend.dispatch.match import (
    CONSTRAINTS,
    Candidate,
    GpuClass,
    Request,
    first_fault,
    match,
)

UNIT = 1_000


def provider(name: str = "0xa", **changes: Any) -> Candidate:
    ready = Candidate(
        provider=name,
        hpke_key="0x" + "11" * 32,
        hpke_signature="0x" + "22" * 65,
        runtime="docker",
        silent_ms=0,
        online_ms=30_000,
        stake=8 * UNIT,
        gpus={"gpu1": GpuClass(total=4, memory_mib=24_000)},
        gpus_registered=4,
        cpu_milli=16_000,
        memory_mib=64_000,
        disk_mib=100_000,
        rates={"gpu1": 100, "": 0},
    )
    return dataclasses.replace(ready, **changes)


def task(**changes: Any) -> Request:
    wants = Request(
        task_id="0x01",
        gpu_class="gpu1",
        gpus=2,
        gpu_memory_mib=16_000,
        cpu_milli=2_000,
        memory_mib=4_000,
        disk_mib=1_000,
        image="sha256:1",
        rate_per_gpu_second=100,
        stake_unit=UNIT,
    )
    return dataclasses.replace(wants, **changes)


@pytest.mark.parametrize(
    ("request_changes", "provider_changes", "reason", "words"),
    [
        pytest.param({}, {"silent_ms": 30_001}, "offline", "30 s", id="silent for three beats"),
        pytest.param({}, {"draining": True}, "draining", "takes nothing new", id="it drains"),
        pytest.param({}, {"key_bound": False}, "key_unbound", "bindOperatorKey", id="key retired"),
        pytest.param({}, {"jailed": True}, "jailed", "`unjail`", id="a verdict jailed it"),
        pytest.param(
            {"gpu_class": "gpu9"}, {}, "class_missing", "4 x gpu1", id="it has another class"
        ),
        pytest.param({}, {"gpus": {}}, "class_missing", "no GPU", id="it has no GPU at all"),
        pytest.param({"gpus": 5}, {}, "gpus_too_few", "ask for 4", id="it never has that many"),
        pytest.param(
            {}, {"gpus_registered": 1}, "gpus_too_few", "registered 1", id="chain caps what it says"
        ),
        pytest.param(
            {},
            {"gpus": {"gpu1": GpuClass(4, 24_000, leased=3)}},
            "gpus_busy",
            "1 of its 4",
            id="most cards are leased",
        ),
        pytest.param(
            {},
            {"gpus": {"gpu1": GpuClass(4, 24_000), "gpu2": GpuClass(4, 24_000, leased=3)}},
            "gpus_busy",
            "1 of its 4",
            id="leases of another class use up what is registered",
        ),
        pytest.param(
            {"gpu_memory_mib": 24_001}, {}, "gpu_memory_too_small", "24000", id="cards too small"
        ),
        pytest.param({"cpu_milli": 16_001}, {}, "cpu_too_small", "16000", id="too few cores"),
        pytest.param({"memory_mib": 64_001}, {}, "memory_too_small", "64000", id="little memory"),
        pytest.param({"disk_mib": 100_001}, {}, "disk_too_small", "100000", id="little disk"),
        pytest.param(
            {},
            {"runtime": "process"},
            "runtime_not_allowed",
            "without a container",
            id="an image is never run as a bare process",
        ),
        pytest.param(
            {"image": "process"},
            {},
            "runtime_not_process",
            "name an image",
            id="a bare process is never run by docker",
        ),
        pytest.param({}, {"rates": {}}, "class_not_priced", "no price for gpu1", id="no price"),
        pytest.param(
            {"rate_per_gpu_second": 99}, {}, "price_above_ceiling", "offer 1 more", id="one wei low"
        ),
        pytest.param({}, {"stake": 2 * UNIT - 1}, "stake_too_low", "stakes 1 more", id="one short"),
        pytest.param(
            {},
            {"stake": 3 * UNIT, "gpus": {"gpu1": GpuClass(4, 24_000, leased=2)}},
            "stake_too_low",
            "4 units",
            id="the same stake stands behind one lease only",
        ),
        pytest.param(
            {"gpus": 0, "gpu_memory_mib": 0},
            {"stake": UNIT - 1},
            "stake_too_low",
            "1 unit of",
            id="a task without GPU asks one unit",
        ),
        pytest.param(
            {"excluded": frozenset({"0xa"})}, {}, "excluded", "nobody else", id="it lost it before"
        ),
        pytest.param(
            {"sealed_for": frozenset({"0xb"})}, {}, "key_not_sealed", "keys", id="cannot open it"
        ),
    ],
)
def test_passes_over_with_code_and_values(
    request_changes: dict[str, Any], provider_changes: dict[str, Any], reason: str, words: str
) -> None:
    result = match(task(**request_changes), [provider(**provider_changes)])
    (verdict,) = result.verdicts
    assert result.choice is None
    assert verdict.fault is not None
    assert verdict.fault.reason == reason
    assert words in verdict.fault.detail


@pytest.mark.parametrize(
    ("request_changes", "provider_changes"),
    [
        pytest.param({}, {}, id="everything fits exactly as announced"),
        pytest.param({"gpus": 4}, {}, id="all of its cards"),
        pytest.param({}, {"silent_ms": 30_000}, id="silent for three beats to the millisecond"),
        pytest.param({"rate_per_gpu_second": None}, {"rates": {"gpu1": 10**30}}, id="any price"),
        pytest.param({"gpus": 0, "gpu_memory_mib": 0}, {"gpus": {}}, id="a CPU task needs no card"),
        pytest.param({"image": "process"}, {"runtime": "process"}, id="asked for a bare process"),
        pytest.param({"allow_process_runtime": True}, {"runtime": "process"}, id="allowed by us"),
        pytest.param({"sealed_for": frozenset({"0xa"})}, {}, id="its key is sealed"),
    ],
)
def test_takes(request_changes: dict[str, Any], provider_changes: dict[str, Any]) -> None:
    chosen = match(task(**request_changes), [provider(**provider_changes)]).choice
    assert chosen is not None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param({"gpus_registered": 3}, {"recent_losses": 1}, id="reliable before roomy"),
        pytest.param({"images": frozenset({"sha256:1"}), "gpus_registered": 3}, {}, id="no pull"),
        pytest.param({}, {"gpus_registered": 3}, id="the emptier machine"),
    ],
)
def test_prefers(better: dict[str, Any], worse: dict[str, Any]) -> None:
    for names in (("0xa", "0xb"), ("0xb", "0xa")):
        pair = [provider(names[0], **better), provider(names[1], **worse)]
        chosen = match(task(), pair).choice
        assert chosen is not None
        assert chosen.provider == names[0]


def test_spreads_equals_by_a_lot_that_depends_on_the_task() -> None:
    equals = [provider(f"0x{n}") for n in range(4)]
    chosen = [match(task(task_id=f"0x{n:02x}"), equals).choice for n in range(64)]
    assert len({one.provider for one in chosen if one is not None}) == 4


def test_asks_an_excluded_provider_again_only_when_nobody_else_can() -> None:
    again = task(excluded=frozenset({"0xa"}), ask_excluded=True)
    alone = match(again, [provider("0xa")])
    assert alone.choice is not None
    assert alone.verdicts[0].last_resort
    both = match(again, [provider("0xa"), provider("0xb", recent_losses=9)])
    assert both.choice is not None
    assert both.choice.provider == "0xb"
    unfit = match(again, [provider("0xa", stake=0)])
    assert unfit.choice is None


def test_names_who_only_lacks_a_key() -> None:
    wants = task(sealed_for=frozenset())
    result = match(wants, [provider("0xa", draining=True), provider("0xb")])
    assert result.needs_key is not None
    assert result.needs_key.provider == "0xb"
    served = dataclasses.replace(wants, sealed_for=frozenset({"0xc"}))
    assert match(served, [provider("0xb"), provider("0xc")]).needs_key is None


# --- any market -------------------------------------------------------------------------------

classes = st.sampled_from(["gpu1", "gpu2"])
small = st.integers(0, 4)
gpu_classes = st.dictionaries(
    classes, st.builds(GpuClass, total=st.integers(1, 4), memory_mib=small, leased=small)
)
candidates = st.builds(
    Candidate,
    provider=st.sampled_from([f"0x{n}" for n in range(6)]),
    hpke_key=st.just("0x"),
    hpke_signature=st.just("0x"),
    runtime=st.sampled_from(["docker", "process"]),
    silent_ms=small,
    online_ms=st.just(2),
    stake=small,
    draining=st.booleans(),
    key_bound=st.booleans(),
    jailed=st.booleans(),
    gpus=gpu_classes,
    gpus_registered=small,
    cpu_milli=st.integers(-1, 3),
    memory_mib=small,
    disk_mib=small,
    rates=st.dictionaries(st.sampled_from(["gpu1", "gpu2", ""]), small),
    images=st.frozensets(st.sampled_from(["i", "j"])),
    recent_losses=small,
)
requests = st.builds(
    Request,
    task_id=st.sampled_from(["0x1", "0x2"]),
    gpu_class=classes,
    gpus=small,
    gpu_memory_mib=st.integers(0, 2),
    cpu_milli=st.integers(0, 2),
    memory_mib=st.integers(0, 2),
    disk_mib=st.integers(0, 2),
    image=st.sampled_from(["i", "process"]),
    rate_per_gpu_second=st.none() | small,
    stake_unit=st.integers(0, 2),
    allow_process_runtime=st.booleans(),
    excluded=st.frozensets(st.sampled_from([f"0x{n}" for n in range(6)]), max_size=2),
    ask_excluded=st.booleans(),
    sealed_for=st.none() | st.frozensets(st.sampled_from([f"0x{n}" for n in range(6)])),
)
markets = st.lists(candidates, max_size=6, unique_by=lambda one: one.provider)


@given(requests, markets, st.randoms(use_true_random=False))
def test_any_market_is_explained_whole_and_the_same_every_time(
    request_: Request, market: list[Candidate], shuffle: random.Random
) -> None:
    result = match(request_, market)
    shuffled = list(market)
    shuffle.shuffle(shuffled)

    assert {verdict.candidate.provider for verdict in result.verdicts} == {
        one.provider for one in market
    }
    assert len(result.verdicts) == len(market)
    for verdict in result.verdicts:
        assert verdict.eligible == (verdict.fault is None)
        assert verdict.fault is None or verdict.fault.detail
    assert match(request_, shuffled) == result


@given(requests, markets)
def test_the_choice_is_what_trying_everybody_finds(
    request_: Request, market: list[Candidate]
) -> None:
    fits = [one for one in market if all(rule(request_, one) is None for rule in CONSTRAINTS)]
    if not fits and request_.ask_excluded:
        pardoned = dataclasses.replace(request_, excluded=frozenset())
        fits = [one for one in market if all(rule(pardoned, one) is None for rule in CONSTRAINTS)]
    chosen = match(request_, market).choice
    assert (chosen is None) == (not fits)
    if chosen is None:
        return
    assert chosen in fits
    for other in fits:
        assert _rank(request_, chosen) <= _rank(request_, other)


def _rank(request_: Request, one: Candidate) -> tuple[int, bool, int]:
    free = one.gpus_free(request_.gpu_class) if request_.gpus else one.cpu_milli
    return (one.recent_losses, request_.image not in one.images, -free)


@given(requests, candidates)
def test_the_cheapest_change_passes_the_constraint_that_failed(
    request_: Request, candidate: Candidate
) -> None:
    """Change after change, the explanation leads to a lease or to a reason without a change."""
    seen: list[str] = []
    for _ in itertools.count():
        fault = first_fault(request_, candidate)
        if fault is None or fault.change is None:
            return
        change = {fault.change.field: fault.change.value}
        if fault.reason == "excluded":
            assert (
                match(dataclasses.replace(request_, ask_excluded=True), [candidate])
                .verdicts[0]
                .fault
                != fault
            )
            return
        if fault.change.of == "task":
            request_ = dataclasses.replace(request_, **change)  # type: ignore[arg-type]
        else:
            candidate = dataclasses.replace(candidate, **change)  # type: ignore[arg-type]
        after = first_fault(request_, candidate)
        assert after is None or after.reason != fault.reason, fault
        seen.append(fault.reason)
        assert len(seen) < 32
