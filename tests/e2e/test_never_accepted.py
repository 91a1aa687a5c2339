"""A consumer that never accepts (L6): the provider proves alone, is paid after the window.

The order of the tests matters: the last one lets the chain's clock run ahead of everybody's.
"""

from __future__ import annotations

from pathlib import Path

from tallystick.devnet import MarketPlan
from tests.e2e.scenario import Scenario

DAY_SECONDS = 86_400


def plan(directory: Path) -> MarketPlan:
    return MarketPlan(directory, runtime="process", acceptance_wait_seconds=1)


def test_an_unsecured_order_is_secured_and_proven_alone(scenario: Scenario) -> None:
    start = scenario.block()
    job = scenario.submit(secured=False)
    scenario.wait_for(job, "proven")
    acts = [act.act for act in scenario.ledger.transactions() if act.block > start]
    assert acts == ["createTask", "proveAlone"]


def test_credit_comes_after_the_challenge_window(scenario: Scenario) -> None:
    job = scenario.submit()
    proven = scenario.wait_for(job, "proven")
    number = scenario.number_of(proven.provider)
    assert proven.proven_tx is not None
    assert scenario.ledger.payments(job.id) == []
    credit = scenario.credit(number)

    scenario.advance(job.terms.challenge_window - 600)
    assert scenario.client.get_job_status(job.id).state == "proven"
    scenario.advance(DAY_SECONDS)

    done = scenario.wait_for(job, "settled")
    charge = scenario.assert_paid_once(job, proven.provider)
    share = charge * job.terms.dispatcher_bps // 10_000
    assert scenario.credit(number) - credit == charge - share
    assert done.charge is not None
    assert done.charge.units == charge
