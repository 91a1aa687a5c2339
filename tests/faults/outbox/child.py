"""One settler in a process of its own, killed at a marked step or left to end by itself.

Beside tasks it redeems a voucher, as the agent does: whenever the chain says that it is not.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.contracts import Call, Escrow
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Channel
from tallystick.protocol.web3 import close, connect
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import ProviderError
from tallystick_provider.journal import Journal
from tallystick_provider.ledger import ChainLedger, node_trouble
from tallystick_provider.settle import Settler
from tests.support.anvil import OPERATOR, PROVIDER

PASSES = 5
STEPS = ("read", "signed", "bound", "broadcast", "mined", "landed", "decided", "closed")

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.outbox.child"])


@dataclass(frozen=True, slots=True)
class Job:
    journal: Path
    deployment: Deployment
    url: str
    clock_ms: int
    fatal: str
    """`<step>:<occurrence>`; empty: it lives."""
    channel: Channel
    voucher: SignedVoucher

    @property
    def said(self) -> Path:
        return self.journal.with_suffix(".said")


def start(job: Job) -> BaseProcess:
    process = _PROCESSES.Process(target=_main, args=(job,))
    process.start()
    return process


def _main(job: Job) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(_settle(job))


async def _settle(job: Job) -> None:
    seen: Counter[str] = Counter()

    def reached(step: str) -> None:
        seen[step] += 1
        if f"{step}:{seen[step]}" == job.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    clock = ManualClock(job.clock_ms)
    journal = Journal(job.journal, clock)
    web3 = connect(job.url, timeout_s=1)
    escrow = Escrow(web3, job.deployment.escrow)

    async def redemption() -> Call | None:
        with node_trouble():
            held = await escrow.channel(job.channel)
        if held.due(job.voucher.voucher.total) == 0:
            return None
        return escrow.redeem(PROVIDER.address, [job.voucher])

    settler = Settler(
        journal,
        ChainLedger(web3, job.deployment, OPERATOR.key),
        clock,
        acceptance_wait_s=15,
        stuck_s=60,
        redemption=redemption,
        reached=reached,
    )
    problems: set[str] = set()
    for _ in range(PASSES):
        try:
            await settler.pass_once()
            problems.add(settler.problem)
        except (ProviderError, ProtocolError) as error:
            problems.add(str(error))
        await asyncio.sleep(0.03)
    job.said.write_text("\n".join(sorted(problems - {""})))
    await close(web3)
    journal.close()
