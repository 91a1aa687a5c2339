"""A provider dies in the middle (cases 92, 93, N25): the task ends elsewhere, paid once.

killed with SIGKILL while the task runs
    the lease ends, the next fence goes to the other provider
    only that one is paid
    restarted, the first removes the work it lost and serves again
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.scenario import PATIENCE_S, Scenario


def test_a_killed_provider_is_replaced_and_not_paid(scenario: Scenario, tmp_path: Path) -> None:
    job = scenario.submit(steps=40, step_seconds=0.5)
    first = scenario.running(job)
    victim = scenario.number_of(first.provider)
    credit = scenario.credit(victim)
    scenario.kill(f"provider-{victim}")

    second = scenario.wait_for(job, "running", when=lambda now: now.provider != first.provider)
    assert second.fence is not None
    assert first.fence is not None
    assert second.fence > first.fence

    result = scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    assert (result.outputs / "counted.txt").read_text() == "40\n"
    scenario.wait_for(job, "settled")
    scenario.assert_paid_once(job, second.provider)
    assert scenario.credit(victim) == credit

    scenario.market.start_provider(victim)
    again = scenario.submit(count=4)
    scenario.client.result(again, to=tmp_path / "again", timeout=PATIENCE_S)
    scenario.assert_paid_once(again, scenario.wait_for(again, "settled").provider)
    assert scenario.credit(victim) == credit or (
        scenario.client.get_job_status(again.id).provider == first.provider
    )
