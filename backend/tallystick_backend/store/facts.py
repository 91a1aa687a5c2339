"""From rows to the facts that `tasks.state_of` folds."""

from __future__ import annotations

from typing import cast

from tallystick_backend import tasks
from tallystick_backend.store.tables import TaskChainRow, TaskOrderRow, TaskWorkRow


def state_of(
    order: TaskOrderRow | None, chain: TaskChainRow | None, work: TaskWorkRow | None, now_s: int
) -> tasks.TaskState:
    """The state of a task from its rows; each may be missing."""
    return tasks.state_of(order_fact(order), chain_fact(chain), work_fact(work), now_s)


def order_fact(row: TaskOrderRow | None) -> tasks.Order | None:
    if row is None:
        return None
    return tasks.Order(
        deadline_s=int(row.terms["deadline"]),
        secured=row.secured,
        withdrawn=row.withdrawn_at_ms is not None,
    )


def chain_fact(row: TaskChainRow | None) -> tasks.OnChain | None:
    if row is None:
        return None
    return tasks.OnChain(
        state=cast(tasks.ChainState, row.state), cancelled=row.cancelled_at_s is not None
    )


def work_fact(row: TaskWorkRow | None) -> tasks.Work | None:
    return None if row is None else tasks.Work(state=cast(tasks.WorkState, row.state))
