"""One local chain for the whole run; every test that touches it gets it as it was deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tallystick.protocol.deployments import Deployment
from tests.support.anvil import LocalChain, deploy_market, start_anvil
from tests.support.effort import tries

# A machine that is busy with something else says nothing about the code.
settings.register_profile(
    "untimed",
    deadline=None,
    max_examples=tries(50, long=500),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anvil() -> Iterator[LocalChain]:
    with start_anvil() as chain:
        yield chain


@pytest.fixture(scope="session")
def deployment(anvil: LocalChain) -> Deployment:
    return deploy_market(anvil)


@pytest.fixture
def chain(anvil: LocalChain, deployment: Deployment) -> Iterator[LocalChain]:
    """What a test does to it is undone; `deployment` tells where the contracts are."""
    snapshot = anvil.snapshot()
    yield anvil
    anvil.revert(snapshot)
    # How it mines is in no snapshot; a test that seals its own blocks would stop all that follow.
    anvil.rpc("evm_setAutomine", True)
