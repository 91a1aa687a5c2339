"""Why a task runs where it does, or why nobody takes it: the matcher's verdicts for people."""

from __future__ import annotations

from dataclasses import replace

from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.wire import ExplainBody, OfferBody
from tallystick_backend.dispatch import candidates, lease, rules
from tallystick_backend.dispatch.match import GpuClass, Match, Request, Verdict, match
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store import facts
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.tables import TaskChainRow, TaskOrderRow, TaskWorkRow


async def offers(
    session: AsyncSession, request: Request, *, now_ms: int, settings: DispatchSettings
) -> tuple[OfferBody, ...]:
    """Every provider for this request: the eligible ranked, then the others with their reason.
    The stake unit and the runtimes allowed come from the settings, whatever the request says."""
    asked = replace(
        request,
        stake_unit=settings.stake_unit,
        allow_process_runtime=request.allow_process_runtime or settings.allow_process_runtime,
    )
    found = await candidates.load(session, now_ms=now_ms, settings=settings)
    return offer_bodies(asked, match(asked, found))


async def explain_task(
    session: AsyncSession, task_id: str, *, now_ms: int, settings: DispatchSettings
) -> ExplainBody | None:
    """None when the order is not here."""
    order = (await work.orders(session, (task_id,))).get(task_id)
    if order is None:
        return None
    work_row = await work.work(session, task_id)
    chain_row = await chain.task(session, task_id)
    sealed = None
    if candidates.has_input(order):
        sealed = await work.sealed_providers(session, task_id, candidates.next_fence(work_row))
    request = candidates.request_of(
        order, work_row, now_ms=now_ms, settings=settings, sealed_for=sealed
    )
    result = match(request, await candidates.load(session, now_ms=now_ms, settings=settings))
    state = facts.state_of(order, chain_row, work_row, now_ms // 1000)
    return ExplainBody(
        task_id=task_id,
        state=state,
        summary=_summary(state, order, work_row, chain_row, result, now_ms),
        offers=offer_bodies(request, result),
    )


def offer_bodies(request: Request, result: Match) -> tuple[OfferBody, ...]:
    return tuple(_offer_body(request, verdict) for verdict in result.verdicts)


def _offer_body(request: Request, verdict: Verdict) -> OfferBody:
    candidate, fault = verdict.candidate, verdict.fault
    gpu_class = request.gpu_class if request.gpus else ""
    gpus = candidate.gpus.get(gpu_class, GpuClass(total=0, memory_mib=0))
    return OfferBody(
        provider=candidate.provider,
        hpke_key=candidate.hpke_key,
        hpke_signature=candidate.hpke_signature,
        runtime=candidate.runtime,
        simulated=gpus.simulated,
        gpu_class=gpu_class,
        gpus_free=candidate.gpus_free(gpu_class),
        gpus_total=candidate.gpus_total(gpu_class),
        gpu_memory_mib=gpus.memory_mib,
        rate_per_gpu_second=candidate.rates.get(gpu_class, 0),
        eligible=verdict.eligible,
        reason="" if fault is None else fault.reason,
        detail="" if fault is None else fault.detail,
    )


def _summary(
    state: str,
    order: TaskOrderRow,
    work_row: TaskWorkRow | None,
    chain_row: TaskChainRow | None,
    result: Match,
    now_ms: int,
) -> str:
    if state not in ("ordered", "funded"):
        return _of_the_work(state, order, work_row, chain_row)
    if state == "ordered" and order.secured:
        return "The order waits for its ceiling to be locked: send createTask from the wallet."
    if work_row is not None and work_row.not_before_ms > now_ms:
        wait_s = -(-(work_row.not_before_ms - now_ms) // 1000)
        return (
            f"The last lease ended without a result; the next may be given in {wait_s} s, when the "
            "old assignment can prove nothing more."
        )
    if result.choice is not None:
        return f"{result.choice.provider} is asked next."
    if result.needs_key is not None:
        return (
            f"Only {result.needs_key.provider} can serve, and the input key is not sealed to it "
            "yet: the consumer's SDK adds it."
        )
    if not result.verdicts:
        return "No provider ever announced itself: start one, or wait."
    return f"None of {len(result.verdicts)} providers can serve: see the reason of each."


def _of_the_work(
    state: str,
    order: TaskOrderRow,
    work_row: TaskWorkRow | None,
    chain_row: TaskChainRow | None,
) -> str:
    if work_row is not None and work_row.failure is not None:
        return f"The task failed: {work_row.failure}."
    why = rules.unwanted(lease.standing(order, chain_row))
    return f"The task is {state}." if why is None else f"The task is {state}: {why}."
