"""`TaskCreated` is reorganised away and never comes back (case 83): flagged, and nothing paid."""

from __future__ import annotations

from tests.e2e.scenario import Scenario


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
    scenario.ledger.wait_until_indexed(job.id)
    assert scenario.ledger.payments(job.id) == []
    assert scenario.credit(scenario.number_of(running.provider)) == 0
    assert scenario.consumer() == before
    assert scenario.ledger.disagreements() == []
