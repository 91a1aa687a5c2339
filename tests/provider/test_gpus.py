"""gpus
├── simulated: labelled, ids of this provider only, energy exact to the millijoule
├── NVML: readings a card has not are None, never zero; no driver is an error with a fix
├── clear: nobody computes on it and little is in use, before and after it is overwritten; a card
│   that the driver cannot vouch for, or that is split, is never clear (security case 118)
├── class_of: the owner's patterns, then known cards, then a slug
└── pick: free cards of the class, lowest first
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import GpuError
from tallystick_provider.gpus import GpuInfo, NvmlGpus, SimulatedGpus, class_of, open_source, pick

PROVIDER = "0x" + "Ab" * 20


class NvmlError(Exception):
    pass


def nvml(**answers: Any) -> Any:
    """A driver of one card that answers what a test says and refuses everything else."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise NvmlError("Not Supported")

    questions = (
        "nvmlInit",
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses",
    )
    given: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "card",
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
        **answers,
    }
    functions = {
        q: (lambda *_, value=given[q], **__: value) if q in given else refuse for q in questions
    }
    return SimpleNamespace(
        NVMLError=NvmlError,
        NVML_TEMPERATURE_GPU=0,
        NVML_DEVICE_MIG_ENABLE=1,
        nvmlMemory_v2=2,
        **functions,
    )


def test_simulated_cards_say_so_and_carry_the_providers_address() -> None:
    source = SimulatedGpus(PROVIDER, 2, "gpu1", 24576, ManualClock())
    cards = source.read()
    assert source.simulated
    assert all(card.simulated and card.to_body().simulated for card in cards)
    assert [card.gpu_id for card in cards] == [f"SIM-{'ab' * 20}-0", f"SIM-{'ab' * 20}-1"]


def test_simulated_energy_is_exact() -> None:
    clock = ManualClock()
    source = SimulatedGpus(PROVIDER, 1, "gpu1", 24576, clock)
    before = source.read()[0].energy_mj
    clock.advance_ms(12_345)
    after = source.read()[0].energy_mj
    assert before is not None
    assert after == before + 150 * 12_345


def test_readings_the_driver_cannot_give_are_none() -> None:
    (card,) = NvmlGpus({}, nvml(nvmlDeviceGetPowerUsage=71_000)).read()
    assert card.power_mw == 71_000
    assert card.energy_mj is None
    assert card.temperature_c is None
    assert card.utilization_percent is None
    assert card.memory_used_mib is None
    assert card.driver is None
    assert not card.simulated


def test_reads_what_the_driver_gives() -> None:
    (card,) = NvmlGpus(
        {},
        nvml(
            nvmlDeviceGetName=b"NVIDIA H100 80GB HBM3",
            nvmlDeviceGetMemoryInfo=SimpleNamespace(total=80 << 30, used=3 << 20),
            nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=93),
            nvmlDeviceGetTotalEnergyConsumption=123_456,
        ),
    ).read()
    assert (card.model, card.gpu_class) == ("NVIDIA H100 80GB HBM3", "h100")
    assert (card.memory_mib, card.memory_used_mib) == (81_920, 3)
    assert (card.utilization_percent, card.energy_mj) == (93, 123_456)


def test_no_driver_names_the_fix() -> None:
    broken = nvml()

    def fail() -> None:
        raise NvmlError("NVML Shared Library Not Found")

    broken.nvmlInit = fail
    with pytest.raises(GpuError, match=r"Library Not Found.*TALLYSTICK_PROVIDER_GPUS=none"):
        NvmlGpus({}, broken)


def test_a_machine_without_nvidia_says_what_to_do() -> None:
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(GpuError, match="simulated:2xgpu1:24576"):
            open_source("nvml", PROVIDER, {}, ManualClock())
    else:
        assert open_source("nvml", PROVIDER, {}, ManualClock()).read()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("Tesla T4", "t4"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA Imaginary 3000 Ti!", "imaginary-3000-ti"),
        ("", "unknown"),
    ],
)
def test_class_of_known_and_unknown_models(model: str, expected: str) -> None:
    assert class_of(model, {}) == expected


def test_the_owners_patterns_come_first() -> None:
    assert class_of("NVIDIA A100-SXM4-80GB", {"*A100*80GB*": "gpu1"}) == "gpu1"


def test_pick_takes_free_cards_of_the_class_only() -> None:
    cards = [GpuInfo(f"GPU-{i}", "x", "gpu1" if i else "other", 1) for i in range(4)]
    assert pick(cards, frozenset({"GPU-1"}), "gpu1", 2) == ("GPU-2", "GPU-3")
    assert pick(cards, frozenset({"GPU-1"}), "gpu1", 3) is None
    assert pick(cards, frozenset(), "other", 1) == ("GPU-0",)


MIB = 1 << 20
RESERVED = 600 * MIB


def memory(used_mib: int) -> Any:
    free = 80 * 1024 * MIB - RESERVED - used_mib * MIB
    return SimpleNamespace(total=80 * 1024 * MIB, reserved=RESERVED, free=free)


def idle(**answers: Any) -> Any:
    """A whole card that nobody uses, to a driver that can say so."""
    values: dict[str, Any] = {
        "nvmlDeviceGetHandleByUUID": "card",
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlDeviceGetMemoryInfo": memory(3),
        **answers,
    }
    return nvml(**{name: value for name, value in values.items() if value is not None})


@dataclass
class Bench:
    """NvmlGpus on a driver of the test, and what was overwritten and waited for."""

    driver: Any
    scrubbed: list[str] = field(default_factory=list)
    waited_s: float = 0.0
    on_scrub: Callable[[], None] = lambda: None
    on_sleep: Callable[[], None] = lambda: None

    def clear(self) -> None:
        NvmlGpus({}, self.driver, self._scrub, self._sleep).clear("GPU-1")

    def _scrub(self, gpu_id: str) -> None:
        self.scrubbed.append(gpu_id)
        self.on_scrub()

    def _sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        self.on_sleep()


class TestClear:
    def test_an_idle_card_is_overwritten_at_once(self) -> None:
        bench = Bench(idle(nvmlDeviceGetMigMode=[0, 0]))
        bench.clear()
        assert (bench.scrubbed, bench.waited_s) == (["GPU-1"], 0)

    @pytest.mark.parametrize(
        ("answers", "why"),
        [
            (
                {"nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=77)]},
                "computed on by process 77",
            ),
            ({"nvmlDeviceGetMemoryInfo": memory(65)}, "65 MiB of GPU-1 are in use, 64 are borne"),
        ],
    )
    def test_a_card_in_use_is_waited_for_and_then_refused(
        self, answers: dict[str, Any], why: str
    ) -> None:
        bench = Bench(idle(**answers))
        with pytest.raises(GpuError, match=why):
            bench.clear()
        assert bench.scrubbed == []
        assert 5 <= bench.waited_s < 6

    @pytest.mark.parametrize(
        ("answers", "why"),
        [
            ({"nvmlDeviceGetMigMode": [1, 1]}, "split"),
            ({"nvmlDeviceGetHandleByUUID": None}, "cannot say who uses GPU-1"),
            ({"nvmlDeviceGetComputeRunningProcesses": None}, "cannot say who uses GPU-1"),
            ({"nvmlDeviceGetMemoryInfo": None}, "cannot say who uses GPU-1"),
        ],
    )
    def test_a_card_nobody_can_vouch_for_is_refused_at_once(
        self, answers: dict[str, Any], why: str
    ) -> None:
        bench = Bench(idle(**answers))
        with pytest.raises(GpuError, match=why):
            bench.clear()
        assert (bench.scrubbed, bench.waited_s) == ([], 0)

    def test_up_to_the_baseline_is_borne(self) -> None:
        bench = Bench(idle(nvmlDeviceGetMemoryInfo=memory(64)))
        bench.clear()
        assert bench.scrubbed == ["GPU-1"]

    def test_what_has_just_ended_gives_its_memory_back_in_a_moment(self) -> None:
        busy, free = memory(70_000), memory(0)
        bench = Bench(idle())
        bench.driver.nvmlDeviceGetMemoryInfo = lambda *_, **__: free if bench.waited_s > 1 else busy
        bench.clear()
        assert bench.scrubbed == ["GPU-1"]

    def test_memory_that_stays_in_use_after_overwriting_is_refused(self) -> None:
        bench = Bench(idle())

        def intrude() -> None:
            bench.driver.nvmlDeviceGetMemoryInfo = lambda *_, **__: memory(500)

        bench.on_scrub = intrude
        with pytest.raises(GpuError, match="500 MiB of GPU-1 are in use"):
            bench.clear()

    def test_what_scrubbing_says_is_passed_on(self) -> None:
        bench = Bench(idle())

        def fail() -> None:
            raise GpuError("the card is faulty")

        bench.on_scrub = fail
        with pytest.raises(GpuError, match="faulty"):
            bench.clear()

    def test_what_stands_in_the_way_passes_or_not(self) -> None:
        used = NvmlGpus({}, idle(nvmlDeviceGetMemoryInfo=memory(500))).hindrance("GPU-1")
        split = NvmlGpus({}, idle(nvmlDeviceGetMigMode=[1, 0])).hindrance("GPU-1")
        no_tool = NvmlGpus({}, idle()).hindrance("GPU-1")
        assert used is not None
        assert used.passing
        assert split is not None
        assert not split.passing
        assert no_tool is not None  # no card has that id, or there is no CUDA here
        assert not no_tool.passing
