"""A market in use: money in the consumer's account, a provider with two GPUs and a hot key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from web3 import AsyncWeb3

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.web3 import close, connect
from tests.support.anvil import (
    CONSUMER,
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    bind_key,
    deposit,
    fund,
    stake,
)


@pytest.fixture
async def web3(chain: LocalChain) -> AsyncIterator[AsyncWeb3[Any]]:
    connection = connect(chain.url)
    yield connection
    await close(connection)


@pytest.fixture
def market(chain: LocalChain, deployment: Deployment) -> LocalChain:
    """The chain with everybody ready to trade."""
    fund(chain, deployment, CONSUMER, 100 * TOKEN)
    deposit(chain, deployment, CONSUMER, 50 * TOKEN)
    stake(chain, deployment, PROVIDER, gpu_ids=("GPU-1", "GPU-2"))
    bind_key(chain, deployment, PROVIDER, OPERATOR)
    return chain
