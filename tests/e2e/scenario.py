"""Verbs that the end-to-end tests are written in."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick import GPUClient, Job, JobStatus
from tallystick.devnet import LocalMarket, people
from tallystick.devnet.ledger import Ledger

COUNT = Path(__file__).parent / "programs" / "count.py"
PATIENCE_S = 180.0
"""A busy machine stands still for a while; only what never comes is a failure."""


@dataclass
class Scenario:
    """One consumer on one real market."""

    market: LocalMarket
    client: GPUClient
    ledger: Ledger

    # --- the consumer ------------------------------------------------------------------------

    def submit(
        self, *, steps: int = 5, step_seconds: float = 0.2, time: str = "30m", **more: Any
    ) -> Job:
        """Orders the counting program on one GPU."""
        env = {"STEPS": str(steps), "STEP_SECONDS": str(step_seconds), **more.pop("env", {})}
        arguments = {"gpu": "gpu1", "count": 1, "image": self.market.image, **more}
        return self.client.submit(str(COUNT), time=time, env=env, **arguments)

    def wait_for(
        self,
        job: Job,
        *states: str,
        when: Callable[[JobStatus], bool] = lambda _: True,
        patience_s: float = PATIENCE_S,
    ) -> JobStatus:
        """The first status in one of `states` for which `when` holds; fails when time is up."""
        seen: list[str] = []
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            status = self.client.get_job_status(job.id)
            if not seen or seen[-1] != status.state:
                seen.append(str(status.state))
            if status.state in states and when(status):
                return status
            time.sleep(0.1)
        raise AssertionError(f"waited {patience_s} s for {states}, saw {seen}; last {status}")

    def running(self, job: Job, percent: int = 10) -> JobStatus:
        """Waits until the task runs and says that it came this far."""
        return self.wait_for(job, "running", when=lambda now: (now.percent or 0) >= percent)

    # --- the providers -----------------------------------------------------------------------

    def number_of(self, provider: str | None) -> int:
        """Which of the market's providers this address is."""
        numbers = range(1, len(self.market.plan.providers) + 1)
        return next(n for n in numbers if people.provider(n).address == provider)

    def kill(self, service: str) -> None:
        self.market.services[service].kill()

    def pause(self, service: str) -> None:
        self.market.services[service].signal(signal.SIGSTOP)

    def resume(self, service: str) -> None:
        self.market.services[service].signal(signal.SIGCONT)

    # --- chain -------------------------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        """Lets the chain's clock jump; processes keep theirs."""
        self.market.rpc("evm_increaseTime", seconds)
        self.market.rpc("evm_mine")

    def block(self) -> int:
        return int(self.market.rpc("eth_blockNumber"), 16)

    def credit(self, number: int) -> int:
        """What the provider has earned inside the escrow, smallest unit."""
        return self.ledger.balances()[people.provider(number).name]["credit"]

    def consumer(self) -> dict[str, int]:
        return self.ledger.balances()["consumer"]

    def assert_paid_once(self, job: Job, provider: str | None) -> int:
        """Exactly one settlement on chain, to this provider, and the index says the same."""
        payments = self.ledger.payments(job.id)
        assert [payment["provider"] for payment in payments] == [provider]
        self.ledger.wait_until_indexed(job.id)
        assert self.ledger.disagreements() == []
        return int(payments[0]["charge"])
