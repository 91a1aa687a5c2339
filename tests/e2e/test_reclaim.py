"""Nobody does it: after the end anyone may bring the ceiling back (law L6, case U15)."""

from __future__ import annotations

from pathlib import Path

from tallystick.devnet import MarketPlan, ProviderPlan
from tests.e2e.scenario import Scenario

YEAR_SECONDS = 365 * 86_400


def plan(directory: Path) -> MarketPlan:
    return MarketPlan(directory, runtime="process", providers=(ProviderPlan(gpus=1),))


def test_ceilings_come_back_after_the_end(scenario: Scenario) -> None:
    before = scenario.consumer()
    started = scenario.submit(steps=300)
    scenario.running(started, percent=1)
    waiting = scenario.submit()
    scenario.wait_for(waiting, "funded")
    assert {o.reason for o in scenario.client.explain(waiting).offers} == {"gpus_busy"}
    held = started.max_charge.units + waiting.max_charge.units
    assert scenario.consumer()["locked"] - before["locked"] == held

    scenario.kill("provider-1")  # the only one, in the middle of the first task, for ever
    scenario.advance(YEAR_SECONDS)
    for job in (started, waiting):
        scenario.client.reclaim(job)
        scenario.wait_for(job, "refunded")
        scenario.ledger.wait_until_indexed(job.id)
        assert scenario.ledger.payments(job.id) == []
    assert scenario.consumer() == before
    assert scenario.ledger.disagreements() == []
