"""measure (case 105)
├── never bills more than gpus x elapsed, more than max_seconds, or before the lease
├── a clock that ran backwards bills nothing
└── energy: counter differences of the cards held; anything unknown makes it None
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick_provider.clock import ManualClock
from tallystick_provider.gpus import GpuInfo, SimulatedGpus
from tallystick_provider.meter import Sample, measure, running_gpu_ms, samples_of
from tallystick_provider.receipt import usage_samples

MS = st.integers(min_value=0, max_value=2**44)


@given(
    gpus=st.integers(0, 16),
    started=MS,
    ended=MS,
    lease_from=MS,
    max_seconds=st.integers(1, 10**6),
)
def test_usage_fits_what_the_contract_allows(
    gpus: int, started: int, ended: int, lease_from: int, max_seconds: int
) -> None:
    ids = [f"GPU-{i}" for i in range(gpus)]
    usage = measure(
        ids, started, ended, lease_from_ms=lease_from, max_seconds=max_seconds, samples=()
    )
    assert usage.started_at_ms <= usage.ended_at_ms
    assert usage.started_at_ms >= lease_from
    assert usage.elapsed_ms <= max_seconds * 1000
    assert usage.elapsed_ms <= max(0, ended - started)
    assert usage.gpu_ms == gpus * usage.elapsed_ms


def test_a_clock_that_ran_backwards_bills_nothing() -> None:
    usage = measure(["GPU-0"], 2_000, 1_000, lease_from_ms=0, max_seconds=60, samples=())
    assert (usage.elapsed_ms, usage.gpu_ms) == (0, 0)


def test_simulated_energy_of_a_run_is_exact() -> None:
    clock = ManualClock()
    source = SimulatedGpus("0x" + "11" * 20, 3, "gpu1", 1, clock)
    held = [card.gpu_id for card in source.read()[:2]]
    samples = list(samples_of(source.read(), held, clock.now_ms()))
    started = clock.now_ms()
    clock.advance_ms(10_000)
    samples += samples_of(source.read(), held, clock.now_ms())
    usage = measure(held, started, clock.now_ms(), lease_from_ms=0, max_seconds=60, samples=samples)
    assert usage.gpu_ms == 20_000
    assert usage.energy_mj == 2 * 150 * 10_000


def test_samples_are_of_the_cards_held_only() -> None:
    cards = [GpuInfo("GPU-0", "m", "c", 1), GpuInfo("GPU-1", "m", "c", 1)]
    assert [s.gpu_id for s in samples_of(cards, ["GPU-1"], 5)] == ["GPU-1"]


@given(
    counters=st.lists(st.one_of(st.none(), st.integers(0, 10**12)), max_size=6),
)
def test_energy_is_the_difference_of_a_rising_counter_or_none(
    counters: list[int | None],
) -> None:
    samples = [Sample(at, "GPU-0", counter, None) for at, counter in enumerate(counters)]
    energy = measure(["GPU-0"], 0, 1, lease_from_ms=0, max_seconds=1, samples=samples).energy_mj
    known = [c for c in counters if c is not None]
    if len(known) < 2 or known != sorted(known):
        assert energy is None
    else:
        assert energy == known[-1] - known[0]


def test_one_card_without_a_counter_makes_the_energy_unknown() -> None:
    samples = [Sample(0, "A", 5, None), Sample(1, "A", 9, None), Sample(0, "B", None, 7)]
    usage = measure(["A", "B"], 0, 1, lease_from_ms=0, max_seconds=1, samples=samples)
    assert usage.energy_mj is None
    assert usage.peak_gpu_memory_mib == 7


def test_no_cards_have_no_energy() -> None:
    assert measure([], 0, 1, lease_from_ms=0, max_seconds=1, samples=()).energy_mj is None


def test_progress_never_counts_backwards() -> None:
    assert running_gpu_ms(2, 1_000, 500) == 0
    assert running_gpu_ms(2, 1_000, 1_500) == 1_000


def test_audit_samples_count_energy_from_the_start_and_come_once() -> None:
    samples = [
        Sample(2, "A", 130, None),
        Sample(1, "A", 100, None),
        Sample(2, "A", 130, None),
        Sample(3, "A", 90, None),
    ]
    told = usage_samples(samples)
    assert [(s.at_ms, s.energy_mj) for s in told] == [(1, 0), (2, 30), (3, None)]
