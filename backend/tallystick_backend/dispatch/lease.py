"""The rules of `rules.py`, written down: each function is one step of one lease in the caller's
transaction, and answers whether it happened.

Every update names task, fence and token (`store.repositories.work`), so a step decided on stale
rows does nothing. A repeat of a step does nothing either.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.wire import Finished, LeaseBeat
from tallystick_backend.dispatch import assign, rules
from tallystick_backend.dispatch.assign import Signer
from tallystick_backend.dispatch.receipts import CheckedReceipt
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import events, work
from tallystick_backend.store.repositories.events import TaskEventKind
from tallystick_backend.store.repositories.work import Held
from tallystick_backend.store.tables import (
    LeaseRow,
    ReceiptRow,
    TaskChainRow,
    TaskOrderRow,
    TaskWorkRow,
)
from tallystick_backend.tasks import LIVE_LEASES, LeaseState

_IN_HAND = ("leased", "running")

MAX_INT32 = 2**31 - 1
"""What the integer columns hold; a stranger's number beyond it names nothing of ours."""

MAX_INT63 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease to be given, decided by the matcher."""

    task_id: str
    provider: str
    fence: int
    gpus: int
    gpu_class: str


def standing(order: TaskOrderRow, chain: TaskChainRow | None) -> rules.Standing:
    return rules.Standing(
        secured=order.secured,
        deadline_s=int(order.terms["deadline"]),
        withdrawn_at_ms=order.withdrawn_at_ms,
        chain_state=None if chain is None else chain.state,
        chain_end_s=0 if chain is None else chain.end_s,
        cancelled_at_s=None if chain is None else chain.cancelled_at_s,
        orphaned_at_ms=None if chain is None else chain.orphaned_at_ms,
    )


async def give(
    session: AsyncSession,
    grant: Grant,
    *,
    stands: rules.Standing,
    now_ms: int,
    signer: Signer,
    settings: DispatchSettings,
) -> LeaseRow | None:
    """Gives the next fence to the provider; None when somebody else did, or the task moved on."""
    await work.begin_work(session, grant.task_id)
    raised = await work.move_work(
        session,
        grant.task_id,
        grant.fence - 1,
        before=("waiting",),
        state="leased",
        fence=grant.fence,
        needs_key_provider=None,
    )
    if not raised:
        return None
    now_s = now_ms // 1000
    until_s = min(now_s + settings.lease_seconds, stands.end_s)
    lease = LeaseRow(
        task_id=grant.task_id,
        fence=grant.fence,
        provider=grant.provider,
        token=secrets.token_hex(16),
        state="offered",
        gpus=grant.gpus,
        gpu_class=grant.gpu_class,
        lease_from_s=now_s,
        lease_until_s=until_s,
        assignment_signature=signer.sign(
            assign.assignment(grant.task_id, grant.provider, grant.fence, now_s, until_s)
        ),
        gpu_ms=0,
        updated_at_ms=now_ms,
    )
    session.add(lease)
    await session.flush()
    return lease


async def accept(session: AsyncSession, lease: LeaseRow, now_ms: int) -> bool:
    """The provider took the offer."""
    moved = await work.move_lease(
        session,
        lease.task_id,
        lease.fence,
        lease.token,
        before=("offered",),
        state="accepted",
        updated_at_ms=now_ms,
    )
    if moved:
        await _tell(session, lease, "leased", now_ms)
    return moved


async def end(
    session: AsyncSession,
    held: Held,
    ending: rules.Ending,
    *,
    reason: str,
    now_ms: int,
    settings: DispatchSettings,
) -> bool:
    """A lease ends without a receipt; `rules.after_lease` says what becomes of the task."""
    stands = standing(held.order, held.chain)
    after = rules.after_lease(
        rules.WorkLeft(held.work.fence, held.work.attempts, tuple(held.work.excluded)),
        ending,
        provider=held.lease.provider,
        reason=reason,
        lease_until_s=held.lease.lease_until_s,
        now_ms=now_ms,
        standing=stands,
        settings=settings,
    )
    state = _ended_as(ending, stands)
    moved = await work.move_lease(
        session,
        held.lease.task_id,
        held.lease.fence,
        held.lease.token,
        before=("offered",) if ending in ("declined", "undelivered") else LIVE_LEASES,
        until_s=held.lease.lease_until_s,
        state=state,
        stage=work.PROVIDER_FAILED if ending == "failed_provider" else held.lease.stage,
        message=reason[:200],
        updated_at_ms=now_ms,
    )
    if not moved:
        return False
    await work.move_work(
        session,
        held.lease.task_id,
        held.lease.fence,
        before=_IN_HAND,
        state=after.state,
        attempts=after.attempts,
        excluded=list(after.excluded),
        not_before_ms=after.not_before_ms,
        failure=after.failure,
    )
    await _tell_the_end(session, held.lease, state, after, reason, now_ms)
    return True


def _ended_as(ending: rules.Ending, stands: rules.Standing) -> LeaseState:
    if ending in ("declined", "undelivered"):
        return "declined"
    if rules.unwanted(stands) is not None:
        return "stopped"
    return "lost" if ending == "lost" else "failed"


async def _tell_the_end(
    session: AsyncSession,
    lease: LeaseRow,
    state: LeaseState,
    after: rules.AfterLease,
    reason: str,
    now_ms: int,
) -> None:
    if state in ("declined", "lost"):
        kind: TaskEventKind = "declined" if state == "declined" else "lost"
        await _tell(session, lease, kind, now_ms, reason=reason)
    elif state == "failed" and after.state != "failed":
        await _tell(session, lease, "lost", now_ms, reason=reason)
    if after.state == "failed":
        await _tell(session, lease, "failed", now_ms, reason=after.failure or reason)


async def beat(
    session: AsyncSession,
    held: Held,
    said: LeaseBeat,
    *,
    now_ms: int,
    signer: Signer,
    settings: DispatchSettings,
) -> LeaseRow | None:
    """A heartbeat renews the lease and says how far the work is; None when it is not renewable.

    Renewing late is safe as long as the lease was not given up: no higher fence exists then.
    """
    lease, stands = held.lease, standing(held.order, held.chain)
    if lease.state not in rules.RENEWABLE or held.work.fence != lease.fence:
        return None
    finished = lease.state in ("finished", "done")
    until_s = rules.lease_until(
        stands,
        now_s=now_ms // 1000,
        lease_from_s=lease.lease_from_s,
        current_until_s=lease.lease_until_s,
        max_seconds=int(held.order.terms["max_seconds"]),
        finished=finished,
        settings=settings,
    )
    state = lease.state if finished else _state_said(lease.state, said)
    changed = LeaseRow(**lease.model_dump())
    changed.state = state
    if until_s != lease.lease_until_s:
        changed.lease_until_s = until_s
        changed.assignment_signature = signer.sign(
            assign.assignment(
                lease.task_id, lease.provider, lease.fence, lease.lease_from_s, until_s
            )
        )
    changed.stage = said.stage
    changed.percent = said.percent
    changed.eta_seconds = None if said.eta_seconds is None else min(said.eta_seconds, MAX_INT32)
    changed.message = printable(said.message)
    changed.gpu_ms = rules.gpu_ms_counted(
        said.gpu_ms,
        lease.gpu_ms,
        gpus=lease.gpus,
        lease_from_s=lease.lease_from_s,
        now_ms=now_ms,
    )
    if said.energy_mj is not None and 0 <= said.energy_mj <= MAX_INT63:
        changed.energy_mj = max(said.energy_mj, lease.energy_mj or 0)
    changed.updated_at_ms = now_ms
    moved = await work.move_lease(
        session,
        lease.task_id,
        lease.fence,
        lease.token,
        before=(lease.state,),
        until_s=lease.lease_until_s,
        **changed.model_dump(include=_BEATEN),
    )
    if not moved:
        return None
    if lease.state == "offered":
        await _tell(session, lease, "leased", now_ms)
    if state == "running" and lease.state != "running":
        await work.move_work(
            session, lease.task_id, lease.fence, before=("leased",), state="running"
        )
        await _tell(session, lease, "running", now_ms)
    if not finished and _shown(changed) != _shown(lease):
        await _tell(
            session,
            lease,
            "progress",
            now_ms,
            stage=changed.stage,
            percent=changed.percent,
            eta_seconds=changed.eta_seconds,
            message=changed.message,
        )
    return changed


_BEATEN = {
    "state",
    "lease_until_s",
    "assignment_signature",
    "stage",
    "percent",
    "eta_seconds",
    "message",
    "gpu_ms",
    "energy_mj",
    "updated_at_ms",
}


def _state_said(state: str, said: LeaseBeat) -> str:
    if said.stage in ("running", "uploading"):
        return "running"
    return "accepted" if state == "offered" else state


def _shown(lease: LeaseRow) -> tuple[object, ...]:
    return (lease.stage, lease.percent, lease.message)


async def finish(
    session: AsyncSession,
    lease: LeaseRow,
    checked: CheckedReceipt,
    said: Finished,
    now_ms: int,
) -> bool:
    """Keeps the receipt; the work is finished and no fence will rise any more."""
    moved = await work.move_lease(
        session,
        lease.task_id,
        lease.fence,
        lease.token,
        before=LIVE_LEASES,
        state="finished",
        stage="finished",
        percent=100,
        eta_seconds=0,
        updated_at_ms=now_ms,
    )
    if not moved:
        return False
    done = await work.move_work(
        session, lease.task_id, lease.fence, before=_IN_HAND, state="finished"
    )
    assert done, "a live lease is the highest fence of work in hand"
    await _keep(session, lease, checked, said, now_ms)
    return True


async def take_proven(
    session: AsyncSession,
    lease: LeaseRow,
    checked: CheckedReceipt,
    said: Finished,
    now_ms: int,
) -> None:
    """Keeps the receipt of a lease that was given up, where the chain has taken that very receipt:
    the provider proved alone while nobody here heard it, and what is paid for is the consumer's."""
    await work.move_lease(
        session,
        lease.task_id,
        lease.fence,
        lease.token,
        before=(lease.state,),
        state="finished",
        stage="finished",
        percent=100,
        eta_seconds=0,
        updated_at_ms=now_ms,
    )
    await work.move_work(
        session,
        lease.task_id,
        lease.fence,
        before=("waiting", "failed", *_IN_HAND),
        state="finished",
    )
    await _keep(session, lease, checked, said, now_ms)


async def _keep(
    session: AsyncSession,
    lease: LeaseRow,
    checked: CheckedReceipt,
    said: Finished,
    now_ms: int,
) -> None:
    session.add(
        ReceiptRow(
            task_id=lease.task_id,
            fence=lease.fence,
            provider=lease.provider,
            digest=checked.digest,
            receipt=checked.receipt.to_body().model_dump(mode="json"),
            signature=checked.signature,
            exit_code=said.exit_code,
            result_digest=said.result_digest,
            result_bytes=said.result_bytes,
            energy_mj=said.energy_mj,
            peak_gpu_memory_mib=said.peak_gpu_memory_mib,
            simulated=said.simulated,
            runtime=said.runtime,
            at_ms=now_ms,
        )
    )
    await session.flush()
    await _tell(
        session, lease, "finished", now_ms, receipt=checked.digest, exit_code=said.exit_code
    )


async def note_late_result(
    session: AsyncSession, lease: LeaseRow, reason: str, now_ms: int
) -> None:
    """A result that came too late is told once, and paid never."""
    if not await work.has_event(session, lease.task_id, "late_result", lease.fence):
        await _tell(session, lease, "late_result", now_ms, reason=reason)


async def note_stopping(session: AsyncSession, lease: LeaseRow, reason: str, now_ms: int) -> None:
    if not await work.has_event(session, lease.task_id, "stopping", lease.fence):
        await _tell(session, lease, "stopping", now_ms, reason=reason)


async def close(session: AsyncSession, lease: LeaseRow, now_ms: int) -> bool:
    """The chain is done with the task: nothing is left to deliver."""
    return await work.move_lease(
        session,
        lease.task_id,
        lease.fence,
        lease.token,
        before=("finished",),
        state="done",
        updated_at_ms=now_ms,
    )


async def stop_waiting(session: AsyncSession, row: TaskWorkRow) -> bool:
    """Nobody wants it any more and nobody works on it."""
    return await work.move_work(
        session, row.task_id, row.fence, before=("waiting",), state="stopped"
    )


async def ask_for_key(
    session: AsyncSession, task_id: str, fence: int, provider: str, now_ms: int
) -> bool:
    """The one provider that could serve cannot open the input: the consumer's SDK is asked."""
    await work.begin_work(session, task_id)
    row = await work.work(session, task_id)
    if row is None or row.needs_key_provider == provider:
        return False
    asked = await work.move_work(
        session, task_id, fence - 1, before=("waiting",), needs_key_provider=provider
    )
    if asked:
        data = {"provider": provider, "fence": fence}
        await events.append(session, task_id, "needs_key", data, now_ms)
    return asked


def printable(text: str) -> str:
    """PostgreSQL keeps no NUL in text."""
    return text.replace("\x00", "\ufffd")


async def _tell(
    session: AsyncSession, lease: LeaseRow, kind: TaskEventKind, now_ms: int, **data: object
) -> None:
    said = {"fence": lease.fence, "provider": lease.provider, **data}
    await events.append(session, lease.task_id, kind, said, now_ms)
