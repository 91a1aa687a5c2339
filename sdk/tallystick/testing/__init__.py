"""A market in memory, for tests, examples and first steps: no real money and no real GPU.

    from tallystick.testing import InMemoryMarket

    market = InMemoryMarket()
    with market.client() as client:
        job = client.submit("train.py", "gpu1", 4, "8h")
        client.result(job, to="out")

The market is an httpx transport that answers as the backend does on the wire. Signatures, sealing,
receipts and prices are the real ones, so everything the SDK verifies is verified; only the chain,
the network and the GPUs are made up. Providers are labelled `simulated`.
"""

from __future__ import annotations

from tallystick.testing.chain import InMemoryChain
from tallystick.testing.market import InMemoryMarket
from tallystick.testing.work import Outcome, Work, echo, run_script

__all__ = ["InMemoryChain", "InMemoryMarket", "Outcome", "Work", "echo", "run_script"]
