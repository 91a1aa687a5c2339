"""Ending a task early, here and on chain, and getting a locked ceiling back."""

from __future__ import annotations

from tallystick import watching
from tallystick.errors import ChainError, Conflict
from tallystick.jobs import Job, JobState, JobStatus, Sent
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.wire import TaskBody
from tallystick.receipts import check_terms
from tallystick.session import Session

_NOTHING_TO_CANCEL = frozenset({"WrongStatus", "AlreadyCancelled", "DeadlinePassed"})
"""Refusals of the contract that mean: it was never created, is proven, or ended already."""


async def cancel(session: Session, job: Job | str) -> JobStatus:
    """Withdraws the order, so that nothing starts any more and what runs is stopped; then ends the
    chain's clock, so that the ceiling is free again an hour later instead of at the deadline.

    The second is tried whatever the index knows: it may not have seen the creation yet.
    """
    task_id = watching.task_id_of(job)
    refused: Conflict | None = None
    try:
        await session.connection.post_and_forget(f"/v1/tasks/{task_id}/cancel")
    except Conflict as over:
        refused = over
    task = await watching.look(session, task_id)
    seen = await watching.shown(session, task)
    # A task that failed is over for the backend, yet its ceiling is still locked.
    if refused is not None and not (task.secured and seen.state is JobState.FAILED):
        raise refused
    over_on_chain = seen.has_result or seen.state is JobState.REFUNDED
    if task.secured and not over_on_chain and session.has_wallet:
        await _cancel_on_chain(session, task)
        return await watching.shown(session, await watching.look(session, task_id))
    return seen


async def reclaim(session: Session, job: Job | str) -> Sent:
    task = await watching.look(session, watching.task_id_of(job))
    if task.created_tx is None:
        raise Conflict(
            f"Task {task.id} has nothing locked on chain.",
            next_step="Nothing is to be reclaimed; cancel the order if it is still open.",
        )
    chain = await session.need_chain()
    return await chain.reclaim(session.wallet, await _terms(session, task))


async def _cancel_on_chain(session: Session, task: TaskBody) -> None:
    chain = await session.chain()
    if chain is None:
        return
    try:
        await chain.cancel_task(session.wallet, await _terms(session, task))
    except ChainError as refusal:
        if refusal.values.get("error") not in _NOTHING_TO_CANCEL:
            raise


async def _terms(session: Session, task: TaskBody) -> TaskTerms:
    return check_terms(await session.domain(), task.id, task, session.wallet.address)
