"""`TaskCreated` is reorganised away and never comes back (case 83): flagged, and nothing paid."""

from __future__ import annotations

import time
from pathlib import Path

from tallystick.devnet import MarketPlan
from tests.e2e.scenario import Scenario


def plan(directory: Path) -> MarketPlan:
    return MarketPlan(
        directory, runtime="process", orphan_grace_seconds=1, acceptance_wait_seconds=1
    )


def test_work_on_a_creation_that_vanished_is_flagged_and_unpaid(scenario: Scenario) -> None:
    scenario.market.rpc("anvil_mine", hex(5))
    before = scenario.consumer()
    start = scenario.block()
    job = scenario.submit(steps=200, step_seconds=0.2)
    running = scenario.running(job, percent=2)

    depth = scenario.block() - start
    scenario.market.rpc("anvil_reorg", depth, [])
    scenario.market.rpc("anvil_mine", hex(2))

    flagged = scenario.wait_for(job, "orphaned")
    assert flagged.charge is None
    # Long enough for the provider to be stopped, to hand in what it used, and to want its money.
    time.sleep(8)
    assert scenario.client.get_job_status(job.id).state == "orphaned"
    assert scenario.client.receipt(job).view.exit_code == 143
    scenario.ledger.wait_until_indexed(job.id)
    assert scenario.ledger.payments(job.id) == []
    assert scenario.credit(scenario.number_of(running.provider)) == 0
    assert scenario.consumer() == before
    assert scenario.ledger.disagreements() == []
