"""A call over the whole market with the walls that strangers' code gets: a project is written,
built into an image, published, and called by its name in a container without a network.

answered, charged by its receipt and verified against the chain
an input that does not fit the schema costs nothing
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tallystick import GPUClient, InvalidRequest
from tallystick.devnet import LocalMarket, MarketPlan, images
from tallystick.devnet.market import ProviderPlan
from tallystick.devnet.processes import clean_environment, program
from tallystick.scaffold import write_project

FEE = 10**15


def deploy(market: LocalMarket, project: Path) -> None:
    """As a publisher does: the image is built from the project's Dockerfile."""
    deployed = subprocess.run(
        [
            program("tallystick"),
            "app",
            "deploy",
            "--dir",
            str(project),
            "--price-call",
            "0.001",
            "-y",
        ],
        env=clean_environment(market.consumer_environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert deployed.returncode == 0, deployed.stderr


@pytest.mark.docker
@pytest.mark.slow
def test_an_image_is_published_called_and_paid(tmp_path: Path) -> None:
    if not images.engine_answers():
        pytest.skip("no Docker engine answers on this machine")
    project = tmp_path / "hello"
    write_project("hello", project)
    plan = MarketPlan(tmp_path / "market", providers=(ProviderPlan(),), runtime="docker")
    with LocalMarket(plan) as market, GPUClient(**market.client_settings()) as client:
        deploy(market, project)
        client.deposit("10")
        client.grant_allowance("5")

        first = client.call("hello", {"name": "Ada", "language": "zh"}, timeout="3m")
        assert first.output == {"greeting": "你好, Ada!"}
        assert first.charge.units == FEE
        assert (first.times.cold_start_ms or 0) > 0
        with pytest.raises(InvalidRequest, match=r"\$\.language"):
            client.call("hello", {"name": "Ada", "language": "xx"})
        warm = client.call("hello", {"name": "Bo"}, timeout="1m")
        assert (warm.total.units, warm.times.cold_start_ms) == (2 * FEE, 0)
        assert client.verify_receipt(warm).ok
