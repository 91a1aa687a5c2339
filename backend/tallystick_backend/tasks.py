"""The life of a task: pure rules, no rows, no clock, no network.

Three parties know something of a task: the consumer's order, the chain, and the work. `state_of`
folds what they know into the one word people see. The chain has the last word about money; the work
about what runs; the order about what is wanted.

TaskError
├── UnknownTask          nobody here knows this id
├── IllegalMove          a state that does not follow from the present one
├── TaskIsOver           settled, refunded, cancelled or failed: nothing can be asked of it any more
├── NothingToAccept      no receipt yet
├── AcceptanceMismatch   the acceptance names another receipt or another total
└── StaleFence           said by a provider whose lease was given to somebody else
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tallystick_backend.errors import BackendError

TaskState: TypeAlias = Literal[
    "ordered",
    "funded",
    "leased",
    "running",
    "finished",
    "proven",
    "disputed",
    "settled",
    "refunded",
    "cancelled",
    "failed",
    "orphaned",
]
ChainState: TypeAlias = Literal["open", "proven", "disputed", "settled", "refunded", "orphaned"]
WorkState: TypeAlias = Literal["waiting", "leased", "running", "finished", "failed", "stopped"]
LeaseState: TypeAlias = Literal[
    "offered", "accepted", "running", "finished", "declined", "failed", "lost", "stopped", "done"
]

TASK_STATES: tuple[TaskState, ...] = get_args(TaskState)

EXPLAINED: Mapping[TaskState, str] = {
    "ordered": "The order is signed; its money is not locked on chain.",
    "funded": "The ceiling is locked on chain; the task waits for a provider.",
    "leased": "A provider holds the lease and prepares the container.",
    "running": "The container runs.",
    "finished": "The provider handed in its receipt; the proof is not on chain yet.",
    "proven": "The provider proved the work alone; it is paid when the challenge window ends.",
    "disputed": "The consumer doubts the result; the court says within days who is paid.",
    "settled": "Paid, and the rest of the ceiling is available again.",
    "refunded": "Never proven, or found wrong by the court; the money is available again.",
    "cancelled": "Withdrawn, and nothing is owed.",
    "failed": "Every attempt is spent; nothing is paid, and the ceiling comes back by reclaim.",
    "orphaned": "A reorganisation of the chain took the creation away; the work is not paid for "
    "unless it comes back.",
}

TERMINAL: frozenset[TaskState] = frozenset({"settled", "refunded", "cancelled", "failed"})
"""Nothing is done for the task any more. The chain may still speak: a failed task is refunded when
somebody reclaims it, and a proof that the contract takes settles any."""

EXPIRY_MARGIN_S = 120
"""How long after its deadline an order that never reached the chain is given up: a proof in time
may still be on its way to us."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the consumer wants."""

    deadline_s: int
    secured: bool = True
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class OnChain:
    """What the chain says. `cancelled`: the consumer called `cancel`."""

    state: ChainState
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Where the work stands."""

    state: WorkState = "waiting"


def state_of(
    order: Order | None, chain: OnChain | None, work: Work | None, now_s: int
) -> TaskState:
    """The one word for what the three know together."""
    if chain is not None and chain.state == "orphaned" and order is not None and not order.secured:
        # It never needed a creation: the provider can prove again with the consumer's signature.
        chain = None
    step = work.state if work is not None else "waiting"
    unwanted = (order is not None and order.withdrawn) or (chain is not None and chain.cancelled)

    if chain is not None:
        match chain.state:
            case "settled" | "proven" | "disputed" | "orphaned":
                return chain.state
            case "refunded":
                return "cancelled" if unwanted else "refunded"
            case "open":
                pass
    if step in ("failed", "running", "leased"):
        return step
    if chain is None and order is not None and now_s > order.deadline_s + EXPIRY_MARGIN_S:
        return "cancelled"
    if step == "finished":
        return "finished"
    if unwanted:
        return "cancelled"
    return "ordered" if chain is None else "funded"


# --- which state may follow which -------------------------------------------------------------

_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    "ordered": frozenset({"funded", "leased", "cancelled", "failed"}),
    "funded": frozenset({"leased", "cancelled", "failed", "refunded"}),
    # A lease that was lost, declined or stopped puts the task back in the line.
    "leased": frozenset(
        {"running", "finished", "ordered", "funded", "cancelled", "failed", "refunded"}
    ),
    "running": frozenset({"finished", "ordered", "funded", "cancelled", "failed", "refunded"}),
    "finished": frozenset({"cancelled", "refunded"}),
    "proven": frozenset({"settled", "disputed"}),
    "disputed": frozenset({"settled", "refunded", "cancelled"}),
    "settled": frozenset(),
    "refunded": frozenset(),
    "cancelled": frozenset(),
    # The ceiling came back.
    "failed": frozenset({"cancelled", "refunded"}),
    # The creation came back, and with it whatever the work came to meanwhile.
    "orphaned": frozenset({"funded", "leased", "running", "finished", "cancelled", "failed"}),
}

_BEYOND_PROOF: frozenset[TaskState] = frozenset({"disputed", "settled", "refunded"})


def may_follow(before: TaskState, after: TaskState, *, reorganised: bool = False) -> bool:
    """Whether `after` can come straight after `before`.

    The contract takes a proof whatever was thought of the task here: one inside its lease, or with
    the consumer's own acceptance. With `reorganised` blocks were taken back in between, and any
    state may come back.
    """
    if before == after or after in _MOVES[before] or reorganised:
        return True
    return after in ("proven", "settled") and before not in _BEYOND_PROOF


def check_move(before: TaskState, after: TaskState, *, reorganised: bool = False) -> None:
    if not may_follow(before, after, reorganised=reorganised):
        raise IllegalMove(before, after)


_WORK_MOVES: Mapping[WorkState, frozenset[WorkState]] = {
    "waiting": frozenset({"leased", "failed", "stopped"}),
    "leased": frozenset({"running", "waiting", "finished", "failed", "stopped"}),
    "running": frozenset({"waiting", "finished", "failed", "stopped"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "stopped": frozenset(),
}

_LEASE_MOVES: Mapping[LeaseState, frozenset[LeaseState]] = {
    # The answer to an offer can be lost while its heartbeats, its receipt or its failure arrive.
    "offered": frozenset(
        {"accepted", "running", "finished", "declined", "failed", "lost", "stopped"}
    ),
    "accepted": frozenset({"running", "finished", "failed", "lost", "stopped"}),
    "running": frozenset({"finished", "failed", "lost", "stopped"}),
    "finished": frozenset({"done"}),
    "declined": frozenset(),
    "failed": frozenset(),
    "lost": frozenset(),
    "stopped": frozenset(),
    "done": frozenset(),
}

LIVE_LEASES: frozenset[LeaseState] = frozenset({"offered", "accepted", "running"})


def check_work_move(before: WorkState, after: WorkState) -> None:
    if before != after and after not in _WORK_MOVES[before]:
        raise IllegalMove(before, after)


def check_lease_move(before: LeaseState, after: LeaseState) -> None:
    if before != after and after not in _LEASE_MOVES[before]:
        raise IllegalMove(before, after)


# --- what may be asked of a task --------------------------------------------------------------


def check_can_be_leased(task_id: str, state: TaskState) -> None:
    """Only a task that waits for a provider gets one; whether its money suffices is another
    question."""
    if state in TERMINAL:
        raise TaskIsOver(task_id, state)
    if state not in ("ordered", "funded"):
        raise IllegalMove(state, "leased")


def check_can_be_withdrawn(task_id: str, state: TaskState) -> None:
    """A task that is proven or over cannot be called back."""
    if state in TERMINAL or state in ("proven", "disputed"):
        raise TaskIsOver(task_id, state)


def check_fence(task_id: str, given: int, current: int) -> None:
    """Only the highest fence given speaks for the task."""
    if given != current:
        raise StaleFence(task_id, given, current)


def check_acceptance(
    task_id: str,
    *,
    receipt_digest: str | None,
    receipt_total: int | None,
    accepted_digest: str,
    accepted_total: int,
) -> None:
    """An acceptance names exactly the receipt that lies here."""
    if receipt_digest is None or receipt_total is None:
        raise NothingToAccept(task_id)
    if (accepted_digest.lower(), accepted_total) != (receipt_digest.lower(), receipt_total):
        raise AcceptanceMismatch(
            task_id, (receipt_digest, receipt_total), (accepted_digest, accepted_total)
        )


# --- errors -----------------------------------------------------------------------------------


class TaskError(BackendError):
    """A move that the life of a task does not allow."""


class UnknownTask(TaskError):
    next_step = "Check the id; a task is shown to its own consumer only."

    def __init__(self, task_id: str) -> None:
        super().__init__(f"there is no task {task_id}")
        self.task_id = task_id


class IllegalMove(TaskError):
    next_step = "Read the task again: it has changed since."

    def __init__(self, before: str, after: str) -> None:
        super().__init__(f"a task or lease that is {before} cannot become {after}")
        self.before = before
        self.after = after


class TaskIsOver(TaskError):
    next_step = "Nothing is left to do; order a new task to run the work again."

    def __init__(self, task_id: str, state: TaskState) -> None:
        super().__init__(f"task {task_id} is {state}. {EXPLAINED[state]}")
        self.task_id = task_id
        self.state = state


class NothingToAccept(TaskError):
    next_step = "Wait until the task is finished, then accept the receipt it shows."

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id} has no receipt yet")
        self.task_id = task_id


class AcceptanceMismatch(TaskError):
    next_step = "Read the receipt again and sign its digest and its total."

    def __init__(self, task_id: str, expected: tuple[str, int], actual: tuple[str, int]) -> None:
        super().__init__(
            f"task {task_id}: the receipt is {expected[0]} over {expected[1]}, "
            f"the acceptance names {actual[0]} over {actual[1]}"
        )
        self.task_id = task_id


class StaleFence(TaskError):
    next_step = "Stop the container: the lease went to another provider and this work is not paid."

    def __init__(self, task_id: str, given: int, current: int) -> None:
        super().__init__(f"task {task_id}: fence {given} is over, the current one is {current}")
        self.task_id = task_id
        self.given = given
        self.current = current
