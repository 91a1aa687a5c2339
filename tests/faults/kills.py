"""kill -9 of each program at each marked step, under load, in one market that goes on.

A consumer orders tasks and makes calls without end. One step after the other is armed; whoever
passes it dies there, without a word, and is started again a moment later. When every step had its
death, the load ends, the market comes to rest, and the books are compared.
"""

from __future__ import annotations

import time

from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.faults.load import books
from tests.faults.load.market import Stage, stage
from tests.faults.load.marks import Board
from tests.faults.load.steps import STEPS, Step

SHORT = 6
"""Steps of a short run, of all that there are."""
REACH_S = 40.0
"""A step that the load does not reach within this time fails the run: it would show nothing."""
LONGEST_DEATH_S = 0.5


def run(run: Run) -> None:
    steps = list(STEPS)
    run.random.shuffle(steps)
    with stage(run.directory) as up:
        board = Board(up.market.board_file)
        up.begin()
        killed = 0
        steps = steps if run.full else steps[:SHORT]
        for number, step in enumerate(steps, start=1):
            run.say(f"{number} {step.name}")
            killed += kill_at(run, up, board, step)
        up.end()
        run.say("the books")
        books.settle(up)
        found = books.check(up)
    run.count("kills", killed)
    run.count("steps", len(steps))
    run.count("tasks", found["tasks"])
    run.count("calls", found["calls"])
    run.count("given_up", found["given_up"])


def kill_at(run: Run, up: Stage, board: Board, step: Step) -> int:
    """Returns once somebody died of it and is up again: how many did."""
    board.arm(step)
    deadline = time.monotonic() + REACH_S
    while not (dead := up.dead()):
        if time.monotonic() > deadline:
            raise Broken(f"nobody came by {step.name} in {REACH_S:.0f} s")
        time.sleep(0.01)
    time.sleep(run.random.uniform(0, LONGEST_DEATH_S))
    dead = up.dead()
    for name in dead:
        running = up.market.services[name].running
        if running is None or not board.killed(running.pid):
            raise Broken(f"{name} ended by itself: {up.last_words(name)}")
        up.start_again(name)
    return len(dead)


CAMPAIGN = Campaign(
    name="kills",
    title="kill -9 at marked steps",
    rows={
        "kills": Row("kill -9 at a marked step, under load", "nothing lost, nothing paid twice"),
        "steps": Row("marked steps", "each was fatal at least once"),
        **books.ROWS,
    },
    run=run,
    seeds=1,
)
