"""A consumer that never accepts (L6): providers prove alone and are paid after the window.

a locked task is proven inside its lease
a signed order is created on chain first, with the consumer's own signature
nothing is paid before the challenge window ends; then both are, without the consumer
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tallystick.devnet import MarketPlan
from tests.e2e.scenario import Scenario

DAY_SECONDS = 86_400


def plan(directory: Path) -> MarketPlan:
    return MarketPlan(directory, runtime="process", acceptance_wait_seconds=1)


def test_credit_comes_after_the_challenge_window(scenario: Scenario) -> None:
    start = scenario.block()
    jobs = [scenario.submit(), scenario.submit(secured=False)]
    proven = [scenario.wait_for(job, "proven") for job in jobs]
    acts = Counter(act.act for act in scenario.ledger.transactions() if act.block > start)
    assert acts == {"createTask": 2, "proveAlone": 2}

    scenario.advance(jobs[0].terms.challenge_window - 600)
    assert [scenario.ledger.payments(job.id) for job in jobs] == [[], []]
    scenario.advance(DAY_SECONDS)

    earned: Counter[str | None] = Counter()
    for job, was in zip(jobs, proven, strict=True):
        done = scenario.wait_for(job, "settled")
        charge = scenario.assert_paid_once(job, was.provider)
        assert done.charge is not None
        assert done.charge.units == charge
        earned[was.provider] += charge - charge * job.terms.dispatcher_bps // 10_000
    for provider, units in earned.items():
        assert scenario.credit(scenario.number_of(provider)) == units
