"""The Brownie scripts, run as a provider runs them, on a market that has work to show.

status names stake, GPUs and credit, by `brownie run` as by the shell that the market keeps
withdraw_credit brings the pay to the wallet, less the protocol fee
unstake is refused while GPUs stand on the stake, then starts a clock of its own
nonsense is answered with what is wrong and what to do, never with a traceback
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tallystick.devnet import DevnetError, people
from tallystick.devnet.processes import clean_environment, program
from tallystick.devnet.scripts import checkout
from tests.e2e.scenario import PATIENCE_S, Scenario


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("stake", ("NaN",), "NaN"),
        ("stake", ("-5",), "above zero"),
        ("stake", ("1e60",), "does not fit"),
        ("stake", ("fourgpus",), "4gpus"),
        ("stake", (), "how much"),
        ("unstake", ("1000000",), "error: "),
        ("register_gpus", ("GPU-1", "GPU-1"), "twice"),
        ("status", ("0x123",), "not an address"),
        ("fund", ("nobody", "5"), "not an address"),
        ("withdraw_credit", ("0x123",), "not an address"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    scenario: Scenario, script: str, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DevnetError) as refusal:
        scenario.market.run_script(script, people.provider(1), *arguments)
    assert "error: " in refusal.value.sentence
    assert said in refusal.value.sentence
    assert "Traceback" not in refusal.value.sentence


@pytest.mark.skipif(
    "." in str(checkout()), reason="brownie run makes a module's name of the path: no dot in it"
)
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [((), 0, "400"), (("0x123",), 1, "not an address")],
)
def test_brownie_runs_a_script_itself(
    scenario: Scenario, arguments: tuple[str, ...], status: int, said: str
) -> None:
    environment = {
        "TALLYSTICK_RPC_URL": scenario.market.rpc_url,
        "TALLYSTICK_PRIVATE_KEY": people.provider(1).private_key,
        "TALLYSTICK_DEPLOYMENTS": str(scenario.market.deployment_file.parent),
    }
    done = subprocess.run(
        [program("brownie"), "run", "status", "main", *arguments, "--network", "tallystick"],
        cwd=checkout(),
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_second_deployment_is_refused(scenario: Scenario) -> None:
    with pytest.raises(DevnetError, match="has a deployment already"):
        scenario.market.run_script("deploy", people.DEPLOYER)


def test_a_provider_is_paid_and_leaves(scenario: Scenario, tmp_path: Path) -> None:
    job = scenario.submit()
    scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    number = scenario.number_of(scenario.wait_for(job, "settled").provider)
    provider = people.provider(number)
    run = scenario.market.run_script

    said = run("status", provider)
    assert provider.address in said
    assert "400" in said

    before = scenario.ledger.balances()[provider.name]
    assert before["credit"] > 0
    run("withdraw_credit", provider)
    after = scenario.ledger.balances()[provider.name]
    assert after["credit"] == 0
    paid = after["wallet"] - before["wallet"]
    assert paid == before["credit"] - before["credit"] // 100  # protocol fee 1 %, rounded down

    with pytest.raises(DevnetError, match="register fewer first"):
        run("unstake", provider, "400")
    run("register_gpus", provider, function="withdraw")
    assert "400" in run("unstake", provider, "400")
    held = scenario.ledger.balances()[provider.name]["wallet"]
    run("unstake", provider, function="withdraw")  # 21 days early: says so, moves nothing
    assert scenario.ledger.balances()[provider.name]["wallet"] == held
    scenario.advance(22 * 86_400)
    run("unstake", provider, function="withdraw")
    assert scenario.ledger.balances()[provider.name]["wallet"] == held + 400 * 10**18
