"""The cards of this machine. The only module that touches NVML.

A reading the driver cannot give is None: never a zero, never an exception. Machines without a card
use the simulated set behind the same `GpuSource`; it says `simulated` in everything it reports.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from tallystick.protocol import wire
from tallystick_provider.clock import Clock
from tallystick_provider.errors import GpuError
from tallystick_provider.settings import SIMULATED

MIB = 1024 * 1024

KNOWN_CLASSES: tuple[tuple[str, str], ...] = (
    ("*B200*", "b200"),
    ("*GH200*", "gh200"),
    ("*H200*", "h200"),
    ("*H100*", "h100"),
    ("*A100*", "a100"),
    ("*L40S*", "l40s"),
    ("*L40*", "l40"),
    ("*A10G*", "a10g"),
    ("* L4*", "l4"),
    ("* T4*", "t4"),
    ("*RTX 5090*", "rtx5090"),
    ("*RTX 4090*", "rtx4090"),
    ("*RTX 3090*", "rtx3090"),
)


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """One card, and what its driver says of it now."""

    gpu_id: str
    model: str
    gpu_class: str
    memory_mib: int
    driver: str | None = None
    simulated: bool = False
    utilization_percent: int | None = None
    memory_used_mib: int | None = None
    temperature_c: int | None = None
    power_mw: int | None = None
    energy_mj: int | None = None
    """Counter since the driver was loaded; only differences mean something."""

    def to_body(self) -> wire.GpuBody:
        return wire.GpuBody(
            gpu_id=self.gpu_id,
            model=self.model,
            gpu_class=self.gpu_class,
            memory_mib=self.memory_mib,
            driver=self.driver,
            simulated=self.simulated,
            utilization_percent=self.utilization_percent,
            memory_used_mib=self.memory_used_mib,
            temperature_c=self.temperature_c,
            power_mw=self.power_mw,
            energy_mj=self.energy_mj,
        )


class GpuSource(Protocol):
    """Whoever knows the cards."""

    @property
    def simulated(self) -> bool: ...

    def read(self) -> tuple[GpuInfo, ...]:
        """All cards, with the readings of this moment."""


def open_source(setting: str, provider: str, classes: Mapping[str, str], clock: Clock) -> GpuSource:
    """`nvml`, `none` or `simulated:<count>x<class>:<memory_mib>`."""
    if setting == "none":
        return NoGpus()
    if setting == "nvml":
        return NvmlGpus(classes)
    match = SIMULATED.match(setting)
    if match is None:
        raise GpuError(f"{setting!r} names no GPUs; use nvml, none or simulated:<n>x<class>:<mib>")
    return SimulatedGpus(
        provider, int(match["count"]), match["gpu_class"], int(match["memory_mib"]), clock
    )


def class_of(model: str, classes: Mapping[str, str]) -> str:
    """The owner's patterns first, then the known cards, then the model's name as a slug."""
    for pattern, gpu_class in (*classes.items(), *KNOWN_CLASSES):
        if fnmatch.fnmatchcase(model, pattern):
            return gpu_class
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return slug.removeprefix("nvidia-") or "unknown"


class NoGpus:
    """A provider of CPU time only."""

    simulated = False

    def read(self) -> tuple[GpuInfo, ...]:
        return ()


class SimulatedGpus:
    """Cards that do not exist, for machines without one.

    Power is constant, so the energy of a run is exactly `WATTS` millijoules for each millisecond
    of it: what the meter says can be checked to the unit. Ids carry the provider's address,
    because two providers must never name the same card.
    """

    simulated = True
    WATTS = 150

    def __init__(
        self, provider: str, count: int, gpu_class: str, memory_mib: int, clock: Clock
    ) -> None:
        self._ids = tuple(f"SIM-{provider[2:].lower()}-{index}" for index in range(count))
        self._gpu_class = gpu_class
        self._memory_mib = memory_mib
        self._clock = clock

    def read(self) -> tuple[GpuInfo, ...]:
        energy_mj = self.WATTS * self._clock.now_ms()
        return tuple(
            GpuInfo(
                gpu_id=gpu_id,
                model=f"simulated {self._gpu_class}",
                gpu_class=self._gpu_class,
                memory_mib=self._memory_mib,
                simulated=True,
                power_mw=self.WATTS * 1000,
                energy_mj=energy_mj,
            )
            for gpu_id in self._ids
        )


class NvmlGpus:
    """The cards NVIDIA's driver knows."""

    simulated = False

    def __init__(self, classes: Mapping[str, str], nvml: Any = None) -> None:
        self._classes = classes
        self._nvml = nvml if nvml is not None else _load_nvml()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise GpuError(
                f"the NVIDIA driver cannot be asked ({error}); install it, or set "
                "TALLYSTICK_PROVIDER_GPUS=none to offer CPU time, or simulated:2xgpu1:24576 to try"
            ) from error

    def read(self) -> tuple[GpuInfo, ...]:
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise GpuError(
                f"the NVIDIA driver stopped answering ({error}); see nvidia-smi"
            ) from error
        driver = self._ask(nvml.nvmlSystemGetDriverVersion)
        return tuple(self._card(handle, _text(driver)) for handle in handles)

    def _card(self, handle: Any, driver: str | None) -> GpuInfo:
        nvml = self._nvml
        try:
            gpu_id = _text(nvml.nvmlDeviceGetUUID(handle)) or ""
            model = _text(nvml.nvmlDeviceGetName(handle)) or ""
        except nvml.NVMLError as error:
            raise GpuError(f"a card has no id or name ({error}); see nvidia-smi") from error
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        return GpuInfo(
            gpu_id=gpu_id,
            model=model,
            gpu_class=class_of(model, self._classes),
            memory_mib=0 if memory is None else int(memory.total) // MIB,
            driver=driver,
            utilization_percent=None if rates is None else int(rates.gpu),
            memory_used_mib=None if memory is None else int(memory.used) // MIB,
            temperature_c=_whole(
                self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_mw=_whole(self._ask(nvml.nvmlDeviceGetPowerUsage, handle)),
            energy_mj=_whole(self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)),
        )

    def _ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """The answer, or None when this card or driver has none."""
        with suppress(self._nvml.NVMLError):
            return question(*args)
        return None


def pick(
    gpus: Sequence[GpuInfo], busy: frozenset[str], gpu_class: str, count: int
) -> tuple[str, ...] | None:
    """Ids of `count` free cards of the class, lowest first; None when there are not enough."""
    free = sorted(g.gpu_id for g in gpus if g.gpu_class == gpu_class and g.gpu_id not in busy)
    return tuple(free[:count]) if len(free) >= count else None


def _load_nvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise GpuError(
            "nvidia-ml-py is not installed; install tallystick[provider], or set "
            "TALLYSTICK_PROVIDER_GPUS to none or simulated:2xgpu1:24576"
        ) from error
    return pynvml


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None
