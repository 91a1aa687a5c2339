"""Nobody could do it: after the end anyone may bring the ceiling back (law L6, case U15)."""

from __future__ import annotations

from tests.e2e.scenario import Scenario

YEAR_SECONDS = 365 * 86_400


def test_the_ceiling_comes_back_after_the_end(scenario: Scenario) -> None:
    before = scenario.consumer()
    job = scenario.submit(gpu_memory_mib=900_000)
    scenario.wait_for(job, "funded")
    explained = scenario.client.explain(job)
    assert {offer.reason for offer in explained.offers} == {"gpu_memory_too_small"}
    assert scenario.consumer()["locked"] - before["locked"] == job.max_charge.units

    scenario.advance(YEAR_SECONDS)
    scenario.client.reclaim(job)
    scenario.wait_for(job, "refunded")
    scenario.ledger.wait_until_indexed(job.id)
    assert scenario.consumer() == before
    assert scenario.ledger.payments(job.id) == []
    assert scenario.ledger.disagreements() == []
