"""One settler in a process of its own, which kills itself at a marked step (`<step>:<occurrence>`).

Without a step it settles until nothing is open, writes what it left to `<journal>.said`, and ends
with 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from tallystick.protocol.deployments import load
from tallystick.protocol.web3 import close, connect
from tallystick_provider.clock import ManualClock
from tallystick_provider.journal import Journal
from tallystick_provider.ledger import ChainLedger
from tallystick_provider.settle import Settler
from tests.support.anvil import OPERATOR

PASSES = 12


def main(path: str, deployment: str, url: str, clock_ms: int, fatal: str) -> None:
    asyncio.run(settle(path, deployment, url, clock_ms, fatal))


async def settle(path: str, deployment: str, url: str, clock_ms: int, fatal: str) -> None:
    seen: Counter[str] = Counter()

    def reached(step: str) -> None:
        seen[step] += 1
        if f"{step}:{seen[step]}" == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    clock = ManualClock(clock_ms)
    journal = Journal(Path(path), clock)
    web3 = connect(url)
    ledger = ChainLedger(web3, load(deployment), OPERATOR.key)
    settler = Settler(journal, ledger, clock, acceptance_wait_s=15, stuck_s=60, reached=reached)
    for _ in range(PASSES):
        await settler.pass_once()
        if not journal.open_leases():
            break
        await asyncio.sleep(0.05)  # a transaction needs a moment to be mined
    Path(f"{path}.said").write_text(f"{len(journal.open_leases())} open; {settler.problem}")
    await close(web3)
    journal.close()
