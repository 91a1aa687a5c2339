"""Every process is killed and started again in the middle of a task (cases 50, 78, 93, 116).

agent, bus, backend and chain, one after the other
    the same container goes on under the same fence
    the task is paid once
"""

from __future__ import annotations

from pathlib import Path

from tallystick.devnet import MarketPlan
from tests.e2e.scenario import Scenario


def plan(directory: Path) -> MarketPlan:
    # Longer than all four take to come up again, one after the other, on a busy machine; how far
    # the task came is told every third of it.
    return MarketPlan(directory, runtime="process", lease_seconds=60)


def test_the_task_goes_on_through_every_restart(scenario: Scenario, tmp_path: Path) -> None:
    job = scenario.submit(steps=250, step_seconds=0.2)
    first = scenario.running(job, percent=5)
    agent = scenario.number_of(first.provider)

    scenario.kill(f"provider-{agent}")
    scenario.market.start_provider(agent)
    scenario.kill("nats")
    scenario.market.start_bus()
    scenario.kill("backend")
    scenario.market.start_backend()
    scenario.market.stop_chain()
    scenario.market.start_chain()

    result = scenario.client.result(job, to=tmp_path / "result", timeout=240)
    assert (result.outputs / "counted.txt").read_text() == "250\n"
    done = scenario.wait_for(job, "settled")
    assert (done.provider, done.fence) == (first.provider, first.fence)
    scenario.assert_paid_once(job, first.provider)
