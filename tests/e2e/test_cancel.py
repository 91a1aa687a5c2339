"""Cancel (U07, case 96): in the middle what was used is owed; before the start nothing is."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.scenario import PATIENCE_S, Scenario


def test_cancelled_in_the_middle_pays_for_what_was_used(scenario: Scenario, tmp_path: Path) -> None:
    before = scenario.consumer()
    job = scenario.submit(steps=1000, step_seconds=0.2)
    running = scenario.running(job, percent=1)
    scenario.client.cancel(job)

    scenario.wait_for(job, "finished", "settled")
    result = scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    counted = int((result.outputs / "counted.txt").read_text())
    assert 0 < counted < 1000
    assert result.exit_code != 0

    scenario.wait_for(job, "settled")
    charge = scenario.assert_paid_once(job, running.provider)
    assert 0 < charge < job.max_charge.units // 2
    after = scenario.consumer()
    assert before["available"] - after["available"] == charge
    assert after["locked"] == before["locked"]


def test_a_signed_order_cancelled_before_anybody_took_it_costs_nothing(
    scenario: Scenario,
) -> None:
    busy = [scenario.submit(count=4, steps=300) for _ in scenario.market.plan.providers]
    for job in busy:
        scenario.running(job, percent=1)
    before = scenario.consumer()

    job = scenario.submit(secured=False)
    assert scenario.client.get_job_status(job.id).state == "ordered"
    scenario.client.cancel(job)
    scenario.wait_for(job, "cancelled")
    assert scenario.consumer() == before
    for other in busy:
        scenario.client.cancel(other)
