"""From rows to what the matcher compares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.wire import Manifest
from tallystick_backend.dispatch import rules
from tallystick_backend.dispatch.match import Candidate, GpuClass, Request
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.tables import AnnouncementRow, ProviderRow, TaskOrderRow, TaskWorkRow

LOSSES_COUNT_FOR_MS = 3_600_000
"""How long a provider's lost and declined leases rank it behind others."""


@dataclass(frozen=True, slots=True)
class _InUse:
    """What live leases hold of one provider."""

    gpus: Mapping[str, int]
    cpu_milli: int
    memory_mib: int
    disk_mib: int


async def load(
    session: AsyncSession, *, now_ms: int, settings: DispatchSettings
) -> tuple[Candidate, ...]:
    """Everybody who ever announced, as it stands now."""
    announced = await work.announcements(session)
    in_use = await _in_use(session)
    losses = await work.recent_losses(session, now_ms - LOSSES_COUNT_FOR_MS)
    staked = {row.address: row for row in await chain.providers(session, limit=100_000)}
    bound = await work.announced_with_good_keys(session)
    found: list[Candidate] = []
    for row in announced:
        stake = staked.get(row.provider)
        found.append(
            _candidate(
                row,
                stake=0 if stake is None else at_work(stake, settings.stake_unit),
                jailed=stake is not None and stake.jailed_until_s is not None,
                gpus_registered=0 if stake is None else stake.gpus_registered,
                key_bound=row.provider in bound,
                in_use=in_use.get(row.provider, _InUse({}, 0, 0, 0)),
                recent_losses=losses.get(row.provider, 0),
                silent_ms=max(0, now_ms - row.last_seen_ms),
                settings=settings,
            )
        )
    return tuple(found)


def _candidate(
    row: AnnouncementRow,
    *,
    stake: int,
    jailed: bool,
    gpus_registered: int,
    key_bound: bool,
    in_use: _InUse,
    recent_losses: int,
    silent_ms: int,
    settings: DispatchSettings,
) -> Candidate:
    body = row.body
    return Candidate(
        provider=row.provider,
        hpke_key=row.hpke_key,
        hpke_signature=body["hpke_signature"],
        runtime=row.runtime,
        silent_ms=silent_ms,
        online_ms=settings.online_ms,
        stake=stake,
        jailed=jailed,
        draining=row.draining,
        key_bound=key_bound,
        gpus=_gpu_classes(body["gpus"], in_use.gpus),
        gpus_registered=gpus_registered,
        cpu_milli=body["cpu_milli"] - in_use.cpu_milli,
        memory_mib=body["memory_mib"] - in_use.memory_mib,
        disk_mib=body["disk_mib"] - in_use.disk_mib,
        rates={name: int(rate) for name, rate in body["rate_per_gpu_second"].items()},
        images=frozenset(body["images"]),
        recent_losses=recent_losses,
    )


def at_work(row: ProviderRow, unit: int) -> int:
    """What of a provider's stake stands behind GPUs: seats are set aside."""
    return max(0, row.stake - row.seats * unit)


def _gpu_classes(
    gpus: Sequence[Mapping[str, Any]], leased: Mapping[str, int]
) -> dict[str, GpuClass]:
    by_class: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for gpu in gpus:
        by_class[gpu["gpu_class"]].append(gpu)
    return {
        name: GpuClass(
            total=len(cards),
            memory_mib=min(card["memory_mib"] for card in cards),
            leased=leased.get(name, 0),
            simulated=any(card.get("simulated", False) for card in cards),
        )
        for name, cards in by_class.items()
    }


async def _in_use(session: AsyncSession) -> dict[str, _InUse]:
    held = await work.held(session)
    by_provider: dict[str, _InUse] = {}
    for row in held:
        needs = Manifest.model_validate(row.order.manifest).resources
        before = by_provider.get(row.lease.provider, _InUse({}, 0, 0, 0))
        gpus = dict(before.gpus)
        if row.lease.gpus:
            gpus[row.lease.gpu_class] = gpus.get(row.lease.gpu_class, 0) + row.lease.gpus
        by_provider[row.lease.provider] = _InUse(
            gpus,
            before.cpu_milli + needs.cpu_milli,
            before.memory_mib + needs.memory_mib,
            before.disk_mib + needs.disk_mib,
        )
    return by_provider


def request_of(
    order: TaskOrderRow,
    work_row: TaskWorkRow | None,
    *,
    now_ms: int,
    settings: DispatchSettings,
    sealed_for: frozenset[str] | None = None,
) -> Request:
    manifest = Manifest.model_validate(order.manifest)
    needs = manifest.resources
    return Request(
        task_id=order.task_id,
        gpu_class=needs.gpu_class if needs.gpus else "",
        gpus=needs.gpus,
        gpu_memory_mib=needs.gpu_memory_mib,
        cpu_milli=needs.cpu_milli,
        memory_mib=needs.memory_mib,
        disk_mib=needs.disk_mib,
        image=manifest.image,
        rate_per_gpu_second=int(order.terms["rate_per_gpu_second"]),
        stake_unit=settings.stake_unit,
        allow_process_runtime=settings.allow_process_runtime,
        excluded=frozenset() if work_row is None else frozenset(work_row.excluded),
        ask_excluded=work_row is not None
        and rules.may_ask_again(work_row.fence, work_row.not_before_ms, now_ms),
        sealed_for=sealed_for,
    )


def next_fence(work_row: TaskWorkRow | None) -> int:
    return 1 if work_row is None else work_row.fence + 1


def has_input(order: TaskOrderRow) -> bool:
    return order.manifest.get("input_digest") is not None


def after_grant(
    candidates: Iterable[Candidate], provider: str, request: Request
) -> tuple[Candidate, ...]:
    """The same providers once this one holds what the request asks for."""
    return tuple(
        _less(candidate, request) if candidate.provider == provider else candidate
        for candidate in candidates
    )


def _less(candidate: Candidate, request: Request) -> Candidate:
    gpus = dict(candidate.gpus)
    if request.gpus:
        held = gpus[request.gpu_class]
        gpus[request.gpu_class] = replace(held, leased=held.leased + request.gpus)
    return replace(
        candidate,
        gpus=gpus,
        cpu_milli=candidate.cpu_milli - request.cpu_milli,
        memory_mib=candidate.memory_mib - request.memory_mib,
        disk_mib=candidate.disk_mib - request.disk_mib,
    )
