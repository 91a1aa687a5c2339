"""The Brownie scripts of delegators and of a provider they stand behind, on a real chain.

delegate puts stake behind a provider and shows its pool
undelegate starts a clock of its own, for a part or for all, and pays out when it has run
claim_rewards pays what has flowed; commission holds after its notice
nonsense is answered with what is wrong and what to do, never with a traceback
"""

from __future__ import annotations

import pytest

from tallystick.devnet import DevnetError, people
from tests.e2e.scenario import Scenario

DAY_S = 86_400


def test_a_delegator_comes_and_leaves(scenario: Scenario) -> None:
    run = scenario.market.run_script
    provider, delegator = people.provider(1), people.provider(2)

    def wallet() -> int:
        return int(scenario.ledger.balances()[delegator.name]["wallet"])

    run("fund", people.DEPLOYER, delegator.address, "120")
    held = wallet()
    assert "delegated        50 TALLY" in run("delegate", delegator, provider.address, "50")
    said = run("delegate", delegator, provider.address, "30.5", function="main")
    assert "its delegation   80.5 TALLY" in said
    assert "80.5 TALLY" in run("status", provider)
    assert wallet() == held - 805 * 10**17

    with pytest.raises(DevnetError, match="take out less, or `all`"):
        run("undelegate", delegator, provider.address, "80")
    assert "20.5 TALLY can be withdrawn" in run("undelegate", delegator, provider.address, "20.5")
    scenario.advance(DAY_S)
    assert "60 TALLY can be withdrawn" in run("undelegate", delegator, provider.address, "all")
    assert "nothing to withdraw now" in run("undelegate", delegator, function="withdraw")
    scenario.advance(20 * DAY_S + 600)
    said = run("undelegate", delegator, function="withdraw")
    assert "request 1: 60 TALLY waits" in said
    assert "20.5 TALLY paid" in said
    scenario.advance(DAY_S)
    run("undelegate", delegator, function="withdraw")
    assert wallet() == held
    with pytest.raises(DevnetError, match="has nothing behind"):
        run("undelegate", delegator, provider.address, "all")


def test_a_provider_sets_its_commission(scenario: Scenario) -> None:
    run, provider = scenario.market.run_script, people.provider(1)
    assert "is 12.5 % from" in run("set_commission", provider, "12.5")
    assert "commission         0 %, 12.5 % from" in run("status", provider)
    scenario.advance(7 * DAY_S)
    assert "commission         12.5 %" in run("status", provider)
    assert "is not jailed" in run("set_commission", provider, function="unjail")
    assert "no commission" in run("claim_rewards", provider, function="commission")
    assert "no bounty" in run("claim_rewards", provider, function="bounty")
    assert "nothing to claim" in run("claim_rewards", provider, provider.address)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("delegate", (), "behind whom"),
        ("delegate", ("0x123", "5"), "not an address"),
        ("delegate", (people.provider(1).address, "0.5"), "1 TALLY at least"),
        ("delegate", (people.provider(1).address, "1e12"), "are needed"),
        ("undelegate", (), "behind whom"),
        ("undelegate", (people.provider(1).address, "1000000"), "not 1000000 TALLY"),
        ("claim_rewards", (), "behind whom"),
        ("set_commission", ("101",), "per cent from 0 to 100"),
        ("set_commission", ("1.234",), "steps of 0.01"),
        ("set_commission", ("half",), "per cent"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    scenario: Scenario, script: str, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DevnetError) as refusal:
        scenario.market.run_script(script, people.provider(2), *arguments)
    assert "error: " in refusal.value.sentence
    assert said in refusal.value.sentence
    assert "Traceback" not in refusal.value.sentence
