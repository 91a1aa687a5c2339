"""The cards of this machine. The only module that touches NVML.

A reading the driver cannot give is None: never a zero, never an exception. Machines without a card
use the simulated set behind the same `GpuSource`; it says `simulated` in everything it reports.

A source also clears cards: it finds who computes on one, and has its memory overwritten by
`scrub.py`. Who has which card, and what becomes of one that cannot be cleared, is in `cards.py`.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from tallystick.protocol import wire
from tallystick_provider import scrub
from tallystick_provider.clock import Clock
from tallystick_provider.errors import GpuError
from tallystick_provider.settings import SIMULATED

MIB = 1024 * 1024
BASELINE_MIB = 64
"""Memory that may be in use on a card that is nobody's. What the driver reserves for itself is not
counted; a card that also draws a screen has more."""
SCRUB_SECONDS = 60
SETTLE_SECONDS = 5.0
"""How long the driver may need to give a process's memory back after its end."""

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


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a card cannot be cleared."""

    why: str
    passing: bool
    """It ends with whoever uses the card; otherwise the owner has something to put right."""


class GpuSource(Protocol):
    """Whoever knows the cards. `hindrance` and `clear` may take a while: call them in a thread."""

    @property
    def simulated(self) -> bool: ...

    def read(self) -> tuple[GpuInfo, ...]:
        """All cards, with the readings of this moment."""

    def hindrance(self, gpu_id: str) -> Hindrance | None:
        """What stands in the way of clearing this card now. Changes nothing."""

    def clear(self, gpu_id: str) -> None:
        """Nobody computes on it and nothing is left in its memory. Raises GpuError."""

    def lend(self, gpu_id: str) -> None:
        """From here on its tenant writes what it likes. Raises GpuError if it is not clear."""


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

    def hindrance(self, gpu_id: str) -> Hindrance | None:
        return Hindrance(f"there is no card {gpu_id}", passing=False)

    def clear(self, gpu_id: str) -> None:
        raise GpuError(f"there is no card {gpu_id}; set TALLYSTICK_PROVIDER_GPUS")

    def lend(self, gpu_id: str) -> None:
        raise GpuError(f"there is no card {gpu_id}; set TALLYSTICK_PROVIDER_GPUS")


class SimulatedGpus:
    """Cards that do not exist, for machines without one.

    Power is constant, so the energy of a run is exactly `WATTS` millijoules for each millisecond
    of it: what the meter says can be checked to the unit. Ids carry the provider's address,
    because two providers must never name the same card.

    Their memory is simulated as far as clearing goes: a card that was lent, or that this process
    does not know yet, holds something of somebody's, and is not lent again before it is cleared.
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
        self._uncleared = set(self._ids)
        self.foreign: dict[str, str] = {}
        """Who computes on a card that is nobody's, by card; for tests and demonstrations."""

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

    def hindrance(self, gpu_id: str) -> Hindrance | None:
        who = self.foreign.get(gpu_id)
        return None if who is None else Hindrance(f"{gpu_id} is used by {who}", passing=True)

    def clear(self, gpu_id: str) -> None:
        if hindrance := self.hindrance(gpu_id):
            raise GpuError(hindrance.why)
        self._uncleared.discard(gpu_id)

    def lend(self, gpu_id: str) -> None:
        if gpu_id in self._uncleared:
            raise GpuError(f"{gpu_id} still holds what another task left in its memory")
        self._uncleared.add(gpu_id)


class NvmlGpus:
    """The cards NVIDIA's driver knows."""

    simulated = False

    def __init__(
        self,
        classes: Mapping[str, str],
        nvml: Any = None,
        run_scrub: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._classes = classes
        self._run_scrub = run_scrub or scrub_card
        self._sleep = sleep
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

    def hindrance(self, gpu_id: str) -> Hindrance | None:
        found = self._in_use(gpu_id)
        if found is not None:
            return found
        try:
            scrub_card(gpu_id, look=True)
        except GpuError as error:
            return Hindrance(str(error), passing=False)
        return None

    def clear(self, gpu_id: str) -> None:
        self._await_unused(gpu_id)
        self._run_scrub(gpu_id)
        self._await_unused(gpu_id)

    def lend(self, gpu_id: str) -> None:
        """The card itself changes from here on; there is nothing to note."""

    def _await_unused(self, gpu_id: str) -> None:
        """A process that has just ended keeps its memory for a moment."""
        waited_s, step_s = 0.0, 0.1
        while (found := self._in_use(gpu_id)) is not None:
            if not found.passing or waited_s >= SETTLE_SECONDS:
                raise GpuError(found.why)
            self._sleep(step_s)
            waited_s += step_s

    def _in_use(self, gpu_id: str) -> Hindrance | None:
        """In doubt it is: a card that NVML cannot vouch for is no tenant's."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(gpu_id)
            mig = self._ask(nvml.nvmlDeviceGetMigMode, handle)
            if mig is not None and mig[0] == nvml.NVML_DEVICE_MIG_ENABLE:
                return Hindrance(
                    f"{gpu_id} is split (MIG), and only whole cards are offered: nvidia-smi -i "
                    f"{gpu_id} -mig 0",
                    passing=False,
                )
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        except nvml.NVMLError as error:
            return Hindrance(
                f"the driver cannot say who uses {gpu_id} ({error}); it has to be 510 or later",
                passing=False,
            )
        if processes:
            pids = ", ".join(str(process.pid) for process in processes)
            return Hindrance(f"{gpu_id} is computed on by process {pids}; end it", passing=True)
        # Drivers differ in whether `used` counts what they reserve; this does not.
        used_mib = (int(memory.total) - int(memory.free) - int(memory.reserved)) // MIB
        if used_mib > BASELINE_MIB:
            return Hindrance(
                f"{used_mib} MiB of {gpu_id} are in use, {BASELINE_MIB} are borne; end what uses "
                "it (a card that draws a screen cannot be offered)",
                passing=True,
            )
        return None

    def _ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """The answer, or None when this card or driver has none."""
        with suppress(self._nvml.NVMLError):
            return question(*args)
        return None


def scrub_card(gpu_id: str, *, look: bool = False, program: str = scrub.__file__) -> None:
    """Runs `scrub.py` on one card. Raises GpuError when it did not overwrite all it should."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    try:
        ended = subprocess.run(
            [sys.executable, "-I", program, *(["--look"] if look else []), gpu_id],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            # No other card is even visible to it.
            env={**kept, "CUDA_VISIBLE_DEVICES": gpu_id, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            timeout=SCRUB_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GpuError(f"{gpu_id} was not cleared within {SCRUB_SECONDS} s; see dmesg") from None
    except OSError as error:
        raise GpuError(f"{gpu_id} cannot be cleared: {error}") from error
    try:
        said = json.loads(ended.stdout)
    except ValueError:
        said = {}
    if ended.returncode != 0 or not isinstance(said, dict) or "overwritten" not in said:
        why = said.get("problem") if isinstance(said, dict) else None
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = why or " ".join((f"scrubbing ended with {ended.returncode}", *last))
        raise GpuError(f"{gpu_id} cannot be cleared: {why}"[:400])


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
