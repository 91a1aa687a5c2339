"""The life of a task, walked through completely: every state that any order of facts can reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_backend import tasks
from tallystick_backend.tasks import (
    EXPIRY_MARGIN_S,
    EXPLAINED,
    LIVE_LEASES,
    TASK_STATES,
    TERMINAL,
    AcceptanceMismatch,
    ChainState,
    IllegalMove,
    LeaseState,
    NothingToAccept,
    OnChain,
    Order,
    StaleFence,
    TaskIsOver,
    TaskState,
    Work,
    WorkState,
    may_follow,
    state_of,
)

DEADLINE_S = 1000
LATE_S = DEADLINE_S + EXPIRY_MARGIN_S + 1


# --- one word for three facts -----------------------------------------------------------------

SECURED = Order(DEADLINE_S)
UNSECURED = Order(DEADLINE_S, secured=False)
WITHDRAWN = Order(DEADLINE_S, withdrawn=True)


@pytest.mark.parametrize(
    ("order", "chain", "work", "now_s", "expected"),
    [
        pytest.param(SECURED, None, None, 0, "ordered", id="signed only"),
        pytest.param(SECURED, OnChain("open"), None, 0, "funded", id="locked"),
        pytest.param(None, OnChain("open"), None, 0, "funded", id="created without us"),
        pytest.param(UNSECURED, None, Work("leased"), 0, "leased", id="signed order, leased"),
        pytest.param(SECURED, OnChain("open"), Work("running"), 0, "running", id="it runs"),
        pytest.param(SECURED, OnChain("open"), Work("finished"), 0, "finished", id="receipt in"),
        pytest.param(SECURED, OnChain("open"), Work("failed"), 0, "failed", id="attempts spent"),
        pytest.param(SECURED, OnChain("refunded"), Work("failed"), 0, "refunded", id="reclaimed"),
        # The chain has the last word about money.
        pytest.param(
            WITHDRAWN, OnChain("proven"), Work("waiting"), 0, "proven", id="proven though withdrawn"
        ),
        pytest.param(
            SECURED, OnChain("settled", True), Work("failed"), LATE_S, "settled", id="settled"
        ),
        # Withdrawn, but something runs: it is stopped first.
        pytest.param(WITHDRAWN, OnChain("open"), Work("running"), 0, "running", id="being stopped"),
        pytest.param(WITHDRAWN, OnChain("open"), Work("stopped"), 0, "cancelled", id="stopped"),
        pytest.param(
            WITHDRAWN, OnChain("open"), Work("finished"), 0, "finished", id="stopped, part owed"
        ),
        pytest.param(WITHDRAWN, None, None, 0, "cancelled", id="withdrawn before anything"),
        pytest.param(SECURED, OnChain("open", True), None, 0, "cancelled", id="cancelled on chain"),
        pytest.param(
            SECURED, OnChain("refunded", True), None, 0, "cancelled", id="cancelled, reclaimed"
        ),
        # A creation that was reorganised away.
        pytest.param(
            SECURED, OnChain("orphaned"), Work("running"), 0, "orphaned", id="unpaid work"
        ),
        pytest.param(
            UNSECURED, OnChain("orphaned"), Work("finished"), 0, "finished", id="needs no creation"
        ),
        # Orders that never reached the chain end with their deadline and a margin.
        pytest.param(SECURED, None, None, LATE_S - 1, "ordered", id="deadline, within margin"),
        pytest.param(SECURED, None, None, LATE_S, "cancelled", id="deadline over"),
        pytest.param(
            UNSECURED, None, Work("finished"), LATE_S, "cancelled", id="finished, never proven"
        ),
        pytest.param(
            SECURED, OnChain("open"), None, LATE_S, "funded", id="locked: until reclaimed"
        ),
    ],
)
def test_the_state_of(
    order: Order | None,
    chain: OnChain | None,
    work: Work | None,
    now_s: int,
    expected: TaskState,
) -> None:
    assert state_of(order, chain, work, now_s) == expected


# --- every path -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    order: Order | None
    chain: OnChain | None
    work: Work
    now_s: int = 0

    @property
    def state(self) -> TaskState:
        return state_of(self.order, self.chain, self.work, self.now_s)


@dataclass(frozen=True)
class Move:
    before: Facts
    after: Facts
    reorganised: bool = False


def next_moves(facts: Facts) -> Iterator[Move]:
    """Everything that the consumer, the clock, the dispatcher, the contract or a reorganisation can
    do next, each by its own rules."""
    for after in (*_by_the_consumer(facts), *_by_the_clock(facts), *_by_the_dispatcher(facts)):
        yield Move(facts, after)
    for state, cancelled in _by_the_contract(facts):
        yield Move(facts, replace(facts, chain=OnChain(state, cancelled)))
    for state in _by_a_reorganisation(facts):
        for cancelled in {False, facts.chain is not None and facts.chain.cancelled}:
            yield Move(facts, replace(facts, chain=OnChain(state, cancelled)), reorganised=True)


def _by_the_consumer(facts: Facts) -> Iterator[Facts]:
    if facts.order is None or facts.order.withdrawn:
        return
    try:
        tasks.check_can_be_withdrawn("0x", facts.state)
    except TaskIsOver:
        return
    yield replace(facts, order=replace(facts.order, withdrawn=True))


def _by_the_clock(facts: Facts) -> Iterator[Facts]:
    if facts.now_s == 0:
        yield replace(facts, now_s=LATE_S)


def _by_the_dispatcher(facts: Facts) -> Iterator[Facts]:
    for after in get_args(WorkState):
        try:
            tasks.check_work_move(facts.work.state, after)
            if facts.work.state == "waiting":
                if after == "leased":
                    tasks.check_can_be_leased("0x", facts.state)
                elif facts.state in TERMINAL:
                    continue
        except tasks.TaskError:
            continue
        if after != facts.work.state:
            yield replace(facts, work=Work(after))


def _by_the_contract(facts: Facts) -> Iterator[tuple[ChainState, bool]]:
    if facts.chain is None or facts.chain.state == "orphaned":
        if facts.now_s == 0:
            yield "open", False
            yield "settled", False
        return
    cancelled = facts.chain.cancelled
    match facts.chain.state:
        case "open":
            yield "proven", cancelled
            yield "settled", cancelled
            yield "refunded", cancelled
            if not cancelled:
                yield "open", True
        case "proven":
            yield "settled", cancelled
            yield "disputed", cancelled
        case "disputed":
            yield "settled", cancelled
            yield "refunded", cancelled


def _by_a_reorganisation(facts: Facts) -> tuple[ChainState, ...]:
    if facts.chain is None:
        return ()
    earlier: dict[ChainState, tuple[ChainState, ...]] = {
        "open": ("open", "orphaned"),
        "proven": ("open", "orphaned"),
        "disputed": ("open", "proven", "orphaned"),
        "settled": ("open", "proven", "disputed", "orphaned"),
        "refunded": ("open", "disputed", "orphaned"),
        "orphaned": (),
    }
    return earlier[facts.chain.state]


BEGINNINGS = (
    Facts(SECURED, None, Work()),
    Facts(UNSECURED, None, Work()),
    Facts(None, OnChain("open"), Work()),
    Facts(None, OnChain("settled"), Work()),
)


@cache
def every_move() -> frozenset[Move]:
    seen, moves, queue = set(BEGINNINGS), set(), deque(BEGINNINGS)
    while queue:
        for move in next_moves(queue.popleft()):
            moves.add(move)
            if move.after not in seen:
                seen.add(move.after)
                queue.append(move.after)
    return frozenset(moves)


def test_no_order_of_facts_makes_an_illegal_move() -> None:
    illegal = {
        (move.before.state, move.after.state, move)
        for move in every_move()
        if not may_follow(move.before.state, move.after.state, reorganised=move.reorganised)
    }
    assert len(every_move()) > 3000
    assert illegal == set()


def test_every_state_is_reached_and_explained() -> None:
    assert {move.after.state for move in every_move()} == set(TASK_STATES)
    assert set(EXPLAINED) == set(TASK_STATES)
    assert all(text.endswith(".") for text in EXPLAINED.values())


def test_every_allowed_move_happens() -> None:
    """A rule that nothing uses would only hide mistakes."""
    happened = {(m.before.state, m.after.state) for m in every_move() if not m.reorganised}
    allowed = {
        (before, after)
        for before in TASK_STATES
        for after in TASK_STATES
        if before != after and may_follow(before, after)
    }
    created_and_proven_in_one_block = {("ordered", "proven"), ("orphaned", "proven")}
    assert allowed - happened == created_and_proven_in_one_block


def test_nothing_but_the_chain_leaves_a_terminal_state() -> None:
    for move in every_move():
        if move.before.state in TERMINAL and move.before.state != move.after.state:
            assert move.before.chain != move.after.chain


@given(st.data())
def test_any_walk_is_legal(data: st.DataObject) -> None:
    facts = data.draw(st.sampled_from(BEGINNINGS))
    for _ in range(20):
        moves = sorted(next_moves(facts), key=repr)
        if not moves:
            break
        move = data.draw(st.sampled_from(moves))
        tasks.check_move(facts.state, move.after.state, reorganised=move.reorganised)
        facts = move.after


# --- moves of work and leases -----------------------------------------------------------------


@pytest.mark.parametrize("over", ["finished", "failed", "stopped"])
def test_work_that_is_over_stays_over(over: WorkState) -> None:
    for after in get_args(WorkState):
        if after != over:
            with pytest.raises(IllegalMove):
                tasks.check_work_move(over, after)


@pytest.mark.parametrize("live", sorted(LIVE_LEASES))
def test_a_live_lease_can_be_lost_and_can_bring_a_receipt(live: LeaseState) -> None:
    tasks.check_lease_move(live, "lost")
    tasks.check_lease_move(live, "finished")


@pytest.mark.parametrize("over", ["declined", "failed", "lost", "stopped", "done"])
def test_a_lease_that_is_over_never_comes_back(over: LeaseState) -> None:
    for after in get_args(LeaseState):
        if after != over:
            with pytest.raises(IllegalMove):
                tasks.check_lease_move(over, after)


# --- what may be asked ------------------------------------------------------------------------


@pytest.mark.parametrize("state", TASK_STATES)
def test_only_a_task_that_can_still_be_called_back_is_withdrawn(state: TaskState) -> None:
    if state in TERMINAL or state in ("proven", "disputed"):
        with pytest.raises(TaskIsOver, match=state):
            tasks.check_can_be_withdrawn("0x1", state)
    else:
        tasks.check_can_be_withdrawn("0x1", state)


@pytest.mark.parametrize("state", TASK_STATES)
def test_only_a_waiting_task_is_leased(state: TaskState) -> None:
    if state in ("ordered", "funded"):
        tasks.check_can_be_leased("0x1", state)
    else:
        with pytest.raises(tasks.TaskError):
            tasks.check_can_be_leased("0x1", state)


@pytest.mark.parametrize("given_fence", [1, 3])
def test_another_fence_than_the_current_one_is_stale(given_fence: int) -> None:
    with pytest.raises(StaleFence, match="the current one is 2") as refused:
        tasks.check_fence("0x1", given_fence, 2)
    assert (refused.value.given, refused.value.current) == (given_fence, 2)


def test_the_current_fence_speaks_for_the_task() -> None:
    tasks.check_fence("0x1", 2, 2)


def test_an_acceptance_names_the_receipt_and_its_total() -> None:
    tasks.check_acceptance(
        "0x1",
        receipt_digest="0xab",
        receipt_total=5,
        accepted_digest="0xAB",
        accepted_total=5,
    )


@pytest.mark.parametrize(
    ("digest", "total"),
    [
        pytest.param("0xcd", 5, id="another receipt"),
        pytest.param("0xab", 4, id="a lower total"),
        pytest.param("0xab", 6, id="a higher total"),
    ],
)
def test_an_acceptance_of_something_else_is_refused(digest: str, total: int) -> None:
    with pytest.raises(AcceptanceMismatch, match="0xab over 5"):
        tasks.check_acceptance(
            "0x1",
            receipt_digest="0xab",
            receipt_total=5,
            accepted_digest=digest,
            accepted_total=total,
        )


def test_without_a_receipt_there_is_nothing_to_accept() -> None:
    with pytest.raises(NothingToAccept):
        tasks.check_acceptance(
            "0x1", receipt_digest=None, receipt_total=None, accepted_digest="0x", accepted_total=0
        )


def test_every_error_says_what_to_do_next() -> None:
    for error in tasks.TaskError.__subclasses__():
        assert error.next_step.endswith(".")
