"""kill -9 at every marked step of the outbox, then go on (cases 86, 93)
├── accepted work: paid once, one transaction
├── an unsecured order without acceptance: created once, proven once, paid once after the window
└── two dead agents in a row
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tallystick.protocol.contracts import Escrow
from tallystick.protocol.deployments import Deployment, to_json
from tallystick.protocol.pricing import split_charge_down
from tallystick.protocol.web3 import close, connect
from tallystick_provider.clock import ManualClock
from tallystick_provider.journal import Journal
from tests.provider import settle_child
from tests.provider.orders import DAY_S
from tests.provider.settling import Finished, accept, finish, open_market
from tests.support.anvil import OPERATOR, PROVIDER, LocalChain

# Real processes, forked from one that has imported everything: a death costs milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.provider.settle_child"])
STEPS = ("read", "signed", "bound", "broadcast", "mined", "landed", "decided", "closed")


@dataclass(slots=True)
class Bench:
    chain: LocalChain
    deployment: Deployment
    path: Path
    clock: ManualClock

    def settle(self, fatal: str = "") -> int:
        """Runs the child; its exit status, negative when a signal ended it."""
        process = PROCESSES.Process(
            target=settle_child.main,
            args=(
                str(self.path / "journal.sqlite"),
                str(self.path / "deployment.json"),
                self.chain.url,
                self.clock.at_ms,
                fatal,
            ),
        )
        process.start()
        process.join(120)
        code = process.exitcode
        process.close()
        assert code in (0, -signal.SIGKILL), self.said
        return code

    @property
    def said(self) -> str:
        path = self.path / "journal.sqlite.said"
        return path.read_text() if path.exists() else "nothing"

    def finish(self, secured: bool) -> Finished:
        journal = Journal(self.path / "journal.sqlite", self.clock)
        done = finish(self.chain, self.deployment, journal, self.clock, secured=secured)
        if secured:
            accept(self.deployment, journal, done)
        journal.close()
        return done

    async def require_paid_once(self, done: Finished, transactions: int) -> None:
        journal = Journal(self.path / "journal.sqlite", self.clock)
        lease = journal.lease(done.lease.task_id, 1)
        journal.close()
        assert lease is not None
        assert lease.outcome == "paid"
        web3 = connect(self.chain.url)
        try:
            credit = (await Escrow(web3, self.deployment.escrow).payee(PROVIDER.address)).credit
        finally:
            await close(web3)
        due = split_charge_down(done.terms, done.signed.receipt.total).provider
        assert credit == due > 0
        sent = int(self.chain.rpc("eth_getTransactionCount", OPERATOR.address, "latest"), 16)
        assert sent == transactions


@pytest.fixture
def bench(chain: LocalChain, deployment: Deployment, tmp_path: Path) -> Bench:
    open_market(chain, deployment)
    (tmp_path / "deployment.json").write_text(json.dumps(to_json(deployment)))
    clock = ManualClock(0)
    Journal(tmp_path / "journal.sqlite", clock).close()
    return Bench(chain, deployment, tmp_path, clock)


@pytest.mark.parametrize("step", STEPS)
async def test_accepted_work_is_paid_once(bench: Bench, step: str) -> None:
    done = bench.finish(secured=True)
    assert bench.settle(f"{step}:1") == -signal.SIGKILL, bench.said
    assert bench.settle() == 0
    await bench.require_paid_once(done, transactions=1)


@pytest.mark.slow
@pytest.mark.parametrize("occurrence", [1, 2])
@pytest.mark.parametrize("step", STEPS[:6])
async def test_a_silent_consumers_order_is_paid_once(
    bench: Bench, step: str, occurrence: int
) -> None:
    done = bench.finish(secured=False)
    bench.clock.advance_ms(16_000)
    assert bench.settle(f"{step}:{occurrence}") == -signal.SIGKILL, bench.said
    assert bench.settle() == 0  # created and proven now, the window is open
    bench.chain.wait(DAY_S + 1)
    assert bench.settle() == 0
    await bench.require_paid_once(done, transactions=3)


async def test_two_agents_die_one_after_the_other(bench: Bench) -> None:
    done = bench.finish(secured=True)
    assert bench.settle("bound:1") == -signal.SIGKILL, bench.said
    assert bench.settle("mined:1") == -signal.SIGKILL, bench.said
    assert bench.settle() == 0
    await bench.require_paid_once(done, transactions=1)
