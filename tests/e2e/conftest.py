"""A real market for each module: chain, contracts, bus, backend, providers, as own processes.

Modules that need an unusual market define `plan(directory)`; the others get `DEFAULT_PLAN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallystick import GPUClient
from tallystick.devnet import LocalMarket, MarketPlan
from tallystick.devnet.ledger import Ledger
from tests.e2e.scenario import Scenario


@pytest.fixture(scope="module")
def market(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalMarket]:
    make_plan: Callable[[Path], MarketPlan] = getattr(
        request.module, "plan", lambda directory: MarketPlan(directory, runtime="process")
    )
    with LocalMarket(make_plan(tmp_path_factory.mktemp("market") / "market")) as up:
        yield up


@pytest.fixture(scope="module")
def client(market: LocalMarket) -> Iterator[GPUClient]:
    with GPUClient(**market.client_settings()) as opened:
        opened.deposit("400")
        yield opened


@pytest.fixture(scope="module")
def ledger(market: LocalMarket) -> Ledger:
    return Ledger(market)


@pytest.fixture
def scenario(market: LocalMarket, client: GPUClient, ledger: Ledger) -> Scenario:
    return Scenario(market, client, ledger)
