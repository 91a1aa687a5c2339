"""The harness itself: a step that is named is there, an armed one is fatal, and once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign, run_seed
from tests.faults.every import campaigns
from tests.faults.load.marks import Board, resolve
from tests.faults.load.steps import STEPS, Step

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_every_step_is_a_function_of_the_product(step: Step) -> None:
    assert resolve(step.function)


def test_steps_cover_the_whole_way() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS) >= 40
    stages = {step.stage for step in STEPS}
    assert {"submit", "index", "lease", "start", "heartbeat", "result"} <= stages
    assert {"receipt", "voucher", "outbox", "redeem"} <= stages


def test_every_row_of_every_campaign_says_what_was_tried_and_what_held() -> None:
    for campaign in campaigns():
        assert campaign.seeds > 0
        for row in campaign.rows.values():
            assert row.tried
            assert row.holds


def test_an_armed_step_is_fatal_once(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    step = next(s for s in STEPS if s.function.endswith("record:_move_cursor"))
    board.arm(step)
    passes = f"""
import os, sys
from pathlib import Path
from tests.faults.load.marks import Board
print(os.getpid(), flush=True)
board = Board(Path(sys.argv[1]))
for _ in range(3):
    board.pass_by({STEPS.index(step)})
"""
    ends = []
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", passes, board.path], cwd=ROOT, capture_output=True, check=False
        )
        ends.append((child.returncode, board.killed(int(child.stdout))))
    assert ends == [(-signal.SIGKILL, True), (0, False)]
    assert not board.armed
    assert board.passed(step) == 1 + 3


def test_a_clock_is_wrong_for_one_program_only(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    board.set_clock("provider-1", -5000)
    assert board.wrong_by_ms("provider-1") == -5000
    assert board.wrong_by_ms("provider-2") == board.wrong_by_ms("consumer") == 0


def test_a_seed_that_hangs_fails_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleeper() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("tests.faults.campaign.SHORT_MOST_S", 1)
    hangs = Campaign("hangs", "Nothing", {}, lambda _: asyncio.run(sleeper()), seeds=1)
    done = run_seed(hangs, 1, False, tmp_path, lambda _: None)
    assert "did not end within 1 s" in done.problem
    assert "sleeper (test_load.py" in done.problem
