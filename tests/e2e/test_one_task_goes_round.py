"""The story a newcomer reads first: from `submit` to a paid, checked, indexed task.

a locked task
    is matched, run, metered and proven with the consumer's acceptance
    brings its outputs back, and only the consumer can read them
    is paid once, the rest of its ceiling returned, and the index agrees
a signed order settles without any create transaction
the market tells what tasks paid, and its cards are searched
the same in a Docker container, when an engine answers
"""

from __future__ import annotations

import json
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallystick import GPUClient
from tallystick.devnet import LocalMarket, MarketPlan, images
from tallystick.devnet.ledger import Ledger
from tallystick.devnet.processes import clean_environment, program
from tallystick_backend.api.kept import KEPT_S
from tests.e2e.scenario import PATIENCE_S, Scenario


def test_a_locked_task_goes_round(scenario: Scenario, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("the halves match")
    before = scenario.consumer()

    job = scenario.submit(name="count", inputs=[words], env={"MARK": "!"}, time="10m")
    assert job.created_tx is not None
    assert job.max_charge.amount <= Decimal("0.5") / 6  # one GPU, at most 0.5 an hour, 10 minutes

    result = scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    assert (result.outputs / "counted.txt").read_text() == "5\n"
    assert (result.outputs / "loud.txt").read_text() == "THE HALVES MATCH!"
    assert result.exit_code == 0
    assert result.accepted

    done = scenario.wait_for(job, "settled")
    charge = scenario.assert_paid_once(job, done.provider)
    assert charge == result.charge.units
    assert done.simulated

    receipt = result.receipt
    terms = job.terms
    assert receipt.body.gpu_ms == receipt.body.ended_at_ms - receipt.body.started_at_ms
    assert charge == -(-terms.rate_per_gpu_second * receipt.body.gpu_ms // 1000)
    after = scenario.consumer()
    assert before["available"] - after["available"] == charge
    assert after["locked"] == before["locked"]

    log = [entry.text for entry in scenario.client.logs(job)]
    assert "step 5 of 5" in "".join(log)
    assert "::progress" not in "".join(log)


def test_a_signed_order_settles_without_a_create_transaction(
    scenario: Scenario, tmp_path: Path
) -> None:
    start = scenario.block()
    job = scenario.submit(secured=False)
    assert job.created_tx is None
    scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    done = scenario.wait_for(job, "settled")
    scenario.assert_paid_once(job, done.provider)
    acts = [act.act for act in scenario.ledger.transactions() if act.block > start]
    assert acts == ["proveOrder"]


def test_the_market_tells_its_prices_and_is_searched(scenario: Scenario, tmp_path: Path) -> None:
    job = scenario.submit()
    scenario.client.result(job, to=tmp_path / "result", timeout=PATIENCE_S)
    scenario.wait_for(job, "settled")
    time.sleep(KEPT_S)  # sums are that old at most
    paid = [row for row in cli(scenario, "history", "--days", "2") if row["gpu_class"] == "gpu1"]
    assert sum(row["tasks"] for row in paid) >= 1
    assert int(paid[-1]["median_rate"]) > 0
    found = cli(scenario, "search", "vram>=1 gpu in (gpu1) and free>=0", "--order=-free")
    assert {offer["gpu_class"] for offer in found} == {"gpu1"}
    assert cli(scenario, "search", "not simulated") == []


def cli(scenario: Scenario, *words: str) -> list[dict[str, Any]]:
    """`tallystick market ...`; the items that it tells programs of."""
    done = subprocess.run(
        [program("tallystick"), "market", *words, "--json"],
        env=clean_environment(scenario.market.consumer_environment()),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


@pytest.mark.docker
def test_in_a_container(tmp_path: Path) -> None:
    if not images.engine_answers():
        pytest.skip("no Docker engine answers on this machine")
    with (
        LocalMarket(MarketPlan(tmp_path / "market", runtime="docker")) as market,
        GPUClient(**market.client_settings()) as client,
    ):
        client.deposit("10")
        scenario = Scenario(market, client, Ledger(market))
        job = scenario.submit()
        result = client.result(job, to=tmp_path / "result", timeout=90)
        assert (result.outputs / "counted.txt").read_text() == "5\n"
        done = scenario.wait_for(job, "settled")
        assert done.runtime == "docker"
        scenario.assert_paid_once(job, done.provider)
