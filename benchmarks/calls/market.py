"""Our contender: a local market of real programs, with one provider that serves one app.

    load -> backend (authentication, routing, voucher, journal) -> NATS -> provider agent -> worker

The runtime is `process`, so that everybody's worker is a plain process here; the credit is as large
as the load's connections, as a provider would give it to a payer it knows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.calls.load import Target
from tallystick import GPUClient
from tallystick.devnet.market import LocalMarket, MarketPlan, ProviderPlan
from tallystick.devnet.processes import clean_environment, program

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
CREDIT_CALLS = 256


@dataclass
class CallMarket(LocalMarket):
    """With the settings that a market for calls takes."""

    def provider_environment(self, number: int) -> dict[str, str]:
        own = {"APPS_DIR": str(APPS), "CREDIT_CALLS": str(CREDIT_CALLS)}
        return super().provider_environment(number) | {
            f"TALLYSTICK_PROVIDER_{name}": value for name, value in own.items()
        }

    def backend_environment(self) -> dict[str, str]:
        own = {"CHANNEL_CALLS": "1000000", "CALL_LIMIT": "100000000/minute", "POLL_MS": "500"}
        return super().backend_environment() | {
            f"TALLYSTICK_BACKEND_{name}": value for name, value in own.items()
        }


@dataclass(frozen=True, slots=True)
class Serving:
    """A market in which the app can be called."""

    market: CallMarket
    app_id: str
    api_key: str

    @property
    def target(self) -> Target:
        names = {"broker": "nats", "gateway": "backend", "agent and worker": "provider-1"}
        running = {name: self.market.services[of].running for name, of in names.items()}
        return Target(
            f"{self.market.url}/v1/apps/{self.app_id}/calls",
            b'{"text": "hello"}',
            {"content-type": "application/json", "authorization": f"Bearer {self.api_key}"},
            {name: one.pid for name, one in running.items() if one is not None},
        )


@contextmanager
def serving() -> Iterator[Serving]:
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as directory:
        plan = MarketPlan(Path(directory), (ProviderPlan(gpus=1),), runtime="process")
        market = CallMarket(plan)
        with market:
            app_id = _deploy(market)
            with GPUClient(**market.client_settings()) as client:
                client.deposit("500")
                client.grant_allowance("400")
                key = client.create_api_key("bench", ["calls"])
                client.call(app_id, {"text": "hello"}, timeout=60)
            assert key.secret is not None
            yield Serving(market, app_id, key.secret)


@contextmanager
def gateway() -> Iterator[Target]:
    with serving() as found:
        yield found.target


def _deploy(market: CallMarket) -> str:
    argv = [
        program("tallystick"),
        "app",
        "deploy",
        "--dir",
        str(APPS / "echo"),
        "--image",
        "process",
    ]
    argv += ["--deployment", str(market.deployment_file), "--yes", "--json"]
    environment = clean_environment(market.consumer_environment())
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench-calls: the app could not be deployed.\n{done.stdout}{done.stderr}")
    return str(json.loads(done.stdout)["app"])
