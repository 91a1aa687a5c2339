"""One local chain for the whole run; every test that touches it gets it as it was deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallystick.protocol.deployments import Deployment
from tests.support.anvil import LocalChain, deploy_market, start_anvil


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
