"""Who runs a task: pure rules over what is known of it and of the providers.

Every provider is either eligible or passed over for the first constraint it fails, said as a code,
a sentence with the values, and the cheapest change that would pass that constraint. The same input
gives the same answer, in any order of the candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Reason: TypeAlias = Literal[
    "offline",
    "draining",
    "key_unbound",
    "jailed",
    "class_missing",
    "gpus_too_few",
    "gpus_busy",
    "gpu_memory_too_small",
    "cpu_too_small",
    "memory_too_small",
    "disk_too_small",
    "runtime_not_allowed",
    "runtime_not_process",
    "class_not_priced",
    "price_above_ceiling",
    "stake_too_low",
    "excluded",
    "key_not_sealed",
]

PROCESS_IMAGE = "process"


@dataclass(frozen=True, slots=True)
class Request:
    """What a task needs. The defaults need nothing, so that a listing can ask for less."""

    task_id: str = ""
    gpu_class: str = ""
    gpus: int = 0
    gpu_memory_mib: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    image: str = ""
    rate_per_gpu_second: int | None = None
    """What the terms pay, smallest unit; None asks for any price."""
    stake_unit: int = 0
    allow_process_runtime: bool = False
    excluded: frozenset[str] = frozenset()
    """Providers that lost, declined or failed this task before."""
    ask_excluded: bool = False
    """Whether they may be asked again when nobody else can serve."""
    sealed_for: frozenset[str] | None = None
    """Providers that can open the input under the next fence; None when there is no input."""


@dataclass(frozen=True, slots=True)
class GpuClass:
    """Cards of one class at one provider."""

    total: int
    memory_mib: int
    """Of the smallest card."""
    leased: int = 0
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider as it stands now: announced capacity less live leases."""

    provider: str
    hpke_key: str
    hpke_signature: str
    runtime: str
    silent_ms: int
    """Since it was last heard of."""
    online_ms: int
    """How long it may be silent."""
    stake: int
    """Bonded, without what is set aside for seats."""
    jailed: bool = False
    draining: bool = False
    key_bound: bool = True
    gpus: Mapping[str, GpuClass] = field(default_factory=dict)
    gpus_registered: int = 0
    """On chain; caps what it may lease, whatever it announces."""
    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    rates: Mapping[str, int] = field(default_factory=dict)
    images: frozenset[str] = frozenset()
    recent_losses: int = 0

    @property
    def gpus_leased(self) -> int:
        return sum(gpus.leased for gpus in self.gpus.values())

    def gpus_total(self, gpu_class: str) -> int:
        gpus = self.gpus.get(gpu_class)
        return 0 if gpus is None else min(gpus.total, self.gpus_registered)

    def gpus_free(self, gpu_class: str) -> int:
        gpus = self.gpus.get(gpu_class)
        if gpus is None:
            return 0
        return max(0, min(gpus.total - gpus.leased, self.gpus_registered - self.gpus_leased))


@dataclass(frozen=True, slots=True)
class Change:
    """One field that, set to `value`, passes the constraint that failed."""

    of: Literal["task", "provider"]
    field: str
    value: int | str | bool


@dataclass(frozen=True, slots=True)
class Fault:
    reason: Reason
    detail: str
    change: Change | None = None
    """None when no single field would do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One provider, eligible or passed over."""

    candidate: Candidate
    fault: Fault | None
    last_resort: bool = False
    """Eligible only because nobody else is: it was excluded."""

    @property
    def eligible(self) -> bool:
        return self.fault is None


@dataclass(frozen=True, slots=True)
class Match:
    verdicts: tuple[Verdict, ...]
    """Everybody: the eligible in order of preference, then the others."""
    needs_key: Candidate | None
    """Set when nobody is eligible and this one only lacks a sealed input key."""

    @property
    def choice(self) -> Candidate | None:
        first = self.verdicts[0] if self.verdicts else None
        return first.candidate if first is not None and first.eligible else None


def match(request: Request, candidates: Iterable[Candidate]) -> Match:
    judged = [(candidate, first_fault(request, candidate)) for candidate in candidates]
    judged.sort(key=lambda pair: preference(request, pair[0]))
    again = request.ask_excluded and all(fault is not None for _, fault in judged)
    verdicts: list[Verdict] = []
    for candidate, fault in judged:
        if again and fault is not None and fault.reason == "excluded":
            rest = first_fault(request, candidate, forgiven=True)
            verdicts.append(Verdict(candidate, rest, last_resort=rest is None))
        else:
            verdicts.append(Verdict(candidate, fault))
    verdicts.sort(key=lambda verdict: not verdict.eligible)
    return Match(tuple(verdicts), _who_needs_a_key(verdicts))


def preference(request: Request, candidate: Candidate) -> tuple[int, bool, int, bytes]:
    """Smaller is better. The price plays no part: the terms fix it for everybody."""
    free = candidate.gpus_free(request.gpu_class) if request.gpus else candidate.cpu_milli
    lot = hashlib.sha256(f"{request.task_id}|{candidate.provider}".encode()).digest()
    return (candidate.recent_losses, request.image not in candidate.images, -free, lot)


def first_fault(request: Request, candidate: Candidate, *, forgiven: bool = False) -> Fault | None:
    """The first constraint this provider fails, in the order below; `forgiven` skips exclusion."""
    for constraint in CONSTRAINTS:
        if forgiven and constraint is _not_excluded:
            continue
        fault = constraint(request, candidate)
        if fault is not None:
            return fault
    return None


def _who_needs_a_key(verdicts: list[Verdict]) -> Candidate | None:
    if any(verdict.eligible for verdict in verdicts):
        return None
    for verdict in verdicts:
        if verdict.fault is not None and verdict.fault.reason == "key_not_sealed":
            return verdict.candidate
    return None


# --- constraints, in the order they are tried -------------------------------------------------


def _is_online(_request: Request, candidate: Candidate) -> Fault | None:
    if candidate.silent_ms <= candidate.online_ms:
        return None
    return Fault(
        "offline",
        f"it was last heard of {candidate.silent_ms / 1000:.0f} s ago and counts as offline after "
        f"{candidate.online_ms / 1000:.0f} s: wait until its agent is back",
        Change("provider", "silent_ms", candidate.online_ms),
    )


def _is_not_draining(_request: Request, candidate: Candidate) -> Fault | None:
    if not candidate.draining:
        return None
    return Fault(
        "draining",
        "it finishes what it has and takes nothing new: wait, or choose another provider",
        Change("provider", "draining", False),
    )


def _key_is_bound(_request: Request, candidate: Candidate) -> Fault | None:
    if candidate.key_bound:
        return None
    return Fault(
        "key_unbound",
        "its operator key is not bound to it on chain, or was retired: the provider binds it with "
        "bindOperatorKey",
        Change("provider", "key_bound", True),
    )


def _is_not_jailed(_request: Request, candidate: Candidate) -> Fault | None:
    if not candidate.jailed:
        return None
    return Fault(
        "jailed",
        "it lost stake to a verdict and is jailed: the provider lifts that once its time is over, "
        "with `unjail` on the staking contract",
        Change("provider", "jailed", False),
    )


def _has_the_class(request: Request, candidate: Candidate) -> Fault | None:
    if request.gpus == 0 or request.gpu_class in candidate.gpus:
        return None
    has = ", ".join(f"{gpus.total} x {name}" for name, gpus in sorted(candidate.gpus.items()))
    return Fault(
        "class_missing",
        f"it has {has or 'no GPU'}, the task asks for {request.gpus} x {request.gpu_class}: "
        + ("submit with one of its classes" if has else "choose another provider"),
        Change("task", "gpu_class", min(candidate.gpus)) if candidate.gpus else None,
    )


def _has_enough_gpus(request: Request, candidate: Candidate) -> Fault | None:
    total = candidate.gpus_total(request.gpu_class)
    if request.gpus <= total:
        return None
    announced = candidate.gpus[request.gpu_class].total
    return Fault(
        "gpus_too_few",
        f"it has {announced} x {request.gpu_class} and registered {candidate.gpus_registered} on "
        f"chain, the task asks for {request.gpus}: "
        + (f"ask for {total} or fewer" if total else "the provider registers its GPUs first"),
        Change("task", "gpus", total)
        if total
        else Change("provider", "gpus_registered", request.gpus)
        if request.gpus <= announced
        else None,
    )


def _has_free_gpus(request: Request, candidate: Candidate) -> Fault | None:
    free = candidate.gpus_free(request.gpu_class)
    if request.gpus <= free:
        return None
    total = candidate.gpus_total(request.gpu_class)
    return Fault(
        "gpus_busy",
        f"{free} of its {total} x {request.gpu_class} are free, the task asks for {request.gpus}: "
        + (f"ask for {free}, or wait" if free else "wait until a lease ends"),
        Change("task", "gpus", free) if free else None,
    )


def _has_gpu_memory(request: Request, candidate: Candidate) -> Fault | None:
    if request.gpus == 0:
        return None
    has = candidate.gpus[request.gpu_class].memory_mib
    return _at_most("gpu_memory_too_small", "GPU memory", "gpu_memory_mib", request, has, "MiB")


def _has_cpu(request: Request, candidate: Candidate) -> Fault | None:
    has = candidate.cpu_milli
    return _at_most("cpu_too_small", "free CPU", "cpu_milli", request, has, "thousandths of a core")


def _has_memory(request: Request, candidate: Candidate) -> Fault | None:
    has = candidate.memory_mib
    return _at_most("memory_too_small", "free memory", "memory_mib", request, has, "MiB")


def _has_disk(request: Request, candidate: Candidate) -> Fault | None:
    has = candidate.disk_mib
    return _at_most("disk_too_small", "free disk", "disk_mib", request, has, "MiB")


def _at_most(
    reason: Reason, what: str, name: str, request: Request, has: int, unit: str
) -> Fault | None:
    asked: int = getattr(request, name)
    has = max(has, 0)
    if asked <= has:
        return None
    return Fault(
        reason,
        f"its {what} is {has} {unit}, the task asks for {asked}: ask for {has} or less",
        Change("task", name, has),
    )


def _runtime_is_allowed(request: Request, candidate: Candidate) -> Fault | None:
    if request.image == PROCESS_IMAGE and candidate.runtime != PROCESS_IMAGE:
        return Fault(
            "runtime_not_process",
            f"the task names no image and it runs {candidate.runtime} only: name an image",
            Change("provider", "runtime", PROCESS_IMAGE),
        )
    if candidate.runtime != PROCESS_IMAGE or request.image == PROCESS_IMAGE:
        return None
    if request.allow_process_runtime:
        return None
    return Fault(
        "runtime_not_allowed",
        "it runs tasks as plain processes, without a container: submit with image 'process' to "
        "take it all the same (development only)",
        Change("task", "image", PROCESS_IMAGE),
    )


def _has_a_price(request: Request, candidate: Candidate) -> Fault | None:
    gpu_class = _priced_class(request)
    if gpu_class in candidate.rates:
        return None
    return Fault(
        "class_not_priced",
        f"it names no price for {gpu_class or 'tasks without a GPU'}: the provider adds one to its "
        "rates",
    )


def _price_is_met(request: Request, candidate: Candidate) -> Fault | None:
    asks = candidate.rates[_priced_class(request)]
    pays = request.rate_per_gpu_second
    if pays is None or asks <= pays:
        return None
    return Fault(
        "price_above_ceiling",
        f"it asks {asks} per GPU-second, the task pays {pays}: offer {asks - pays} more",
        Change("task", "rate_per_gpu_second", asks),
    )


def _priced_class(request: Request) -> str:
    return request.gpu_class if request.gpus else ""


def _stake_covers(request: Request, candidate: Candidate) -> Fault | None:
    # The contract asks a unit per GPU of one task; we ask it of all leases at once, so that the
    # same stake never stands behind two.
    units = max(1, candidate.gpus_leased + request.gpus)
    needed = units * request.stake_unit
    if candidate.stake >= needed:
        return None
    return Fault(
        "stake_too_low",
        f"its stake is {candidate.stake}, {units} unit{'s' if units > 1 else ''} of "
        f"{request.stake_unit} must stand behind it: the provider stakes "
        f"{needed - candidate.stake} more",
        Change("provider", "stake", needed),
    )


def _not_excluded(request: Request, candidate: Candidate) -> Fault | None:
    if candidate.provider not in request.excluded:
        return None
    return Fault(
        "excluded",
        "it declined, lost or failed this task before: it is asked again only when nobody else can "
        "serve",
        Change("task", "ask_excluded", True),
    )


def _key_is_sealed(request: Request, candidate: Candidate) -> Fault | None:
    if request.sealed_for is None or candidate.provider in request.sealed_for:
        return None
    return Fault(
        "key_not_sealed",
        "the input key is not sealed to it for the next lease: the consumer's SDK adds it with "
        "POST /v1/tasks/{id}/keys",
    )


Constraint: TypeAlias = Callable[[Request, Candidate], Fault | None]

CONSTRAINTS: tuple[Constraint, ...] = (
    _is_online,
    _is_not_draining,
    _key_is_bound,
    _is_not_jailed,
    _has_the_class,
    _has_enough_gpus,
    _has_free_gpus,
    _has_gpu_memory,
    _has_cpu,
    _has_memory,
    _has_disk,
    _runtime_is_allowed,
    _has_a_price,
    _price_is_met,
    _stake_covers,
    _not_excluded,
    _key_is_sealed,
)
