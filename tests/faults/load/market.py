"""A local market whose programs are killed on purpose, with one consumer who never rests."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick import GPUClient
from tallystick.devnet.market import LocalMarket, MarketPlan, ProviderPlan
from tallystick.devnet.processes import Service, clean_environment, program
from tests.faults.campaign import Broken
from tests.faults.load import consumer
from tests.faults.load.marks import Board
from tests.faults.load.zygote import Forked, Zygote

APPS = Path(__file__).resolve().parents[3] / "benchmarks" / "calls" / "apps"
PROVIDERS = 2
ORDERS = 2
"""Tasks that the consumer has open at once."""
LANES = 3
"""Calls that it has open at once."""
PATIENCE_S = 90.0
LEASE_SECONDS = 8


@dataclass
class FaultyMarket(LocalMarket):
    """Backend and agents are forked, not started, so that a death costs little."""

    zygotes: dict[str, Zygote] = field(default_factory=dict, repr=False)

    @property
    def board_file(self) -> Path:
        return self.plan.directory / "board"

    def _prepare(self) -> None:
        super()._prepare()
        Board(self.board_file)
        for name in ("backend", "provider", "consumer"):
            log = self.plan.directory / "logs" / f"{name}-zygote.log"
            self.zygotes[name] = Zygote(name, self.board_file, log)

    def down(self) -> None:
        super().down()
        for zygote in self.zygotes.values():
            zygote.close()
        self.zygotes.clear()

    def _service(self, name: str, argv: list[str], env: dict[str, str]) -> Service:
        service = super()._service(name, argv, env)
        kind = name.partition("-")[0]
        if kind in self.zygotes:
            forked = Forked(name, argv, env, service.cwd, service.log, on_start=service.on_start)
            forked.zygote = self.zygotes[kind]
            service = self.services[name] = forked
        return service

    def provider_environment(self, number: int) -> dict[str, str]:
        own = {
            "APPS_DIR": str(APPS),
            "CREDIT_CALLS": "16",
            "SETTLE_SECONDS": "0.2",
            "POLL_SECONDS": "0.1",
            "STUCK_SECONDS": "5",
            "REDEEM_COST": "1000",
            "REDEEM_AT": "1",
            "WARM_WORKERS": "1",
            "MEMORY_MIB": "32768",
        }
        return super().provider_environment(number) | {
            f"TALLYSTICK_PROVIDER_{name}": value for name, value in own.items()
        }

    def backend_environment(self) -> dict[str, str]:
        own = {"GATEWAY_LEASE_SECONDS": "0.6", "CHANNEL_CALLS": "40"}
        return super().backend_environment() | {
            f"TALLYSTICK_BACKEND_{name}": value for name, value in own.items()
        }

    def start_consumer(self, settings: dict[str, Any]) -> None:
        env = {consumer.SETTINGS: json.dumps(settings)}
        self._service("consumer", ["consumer"], env).start()


@dataclass
class Stage:
    """The market under load."""

    market: FaultyMarket
    client: GPUClient
    app_id: str
    home: Path
    """The consumer's: on another disk than the market."""
    settings: dict[str, Any]

    @property
    def directory(self) -> Path:
        return self.market.plan.directory

    def book(self) -> consumer.Book:
        return consumer.Book(self.home / "consumer.jsonl")

    def begin(self) -> None:
        (self.home / "stop").unlink(missing_ok=True)
        self.market.start_consumer(self.settings)

    def end(self) -> None:
        """Nothing new is begun; returns when the consumer has all its answers."""
        (self.home / "stop").touch()
        service = self.market.services["consumer"]
        wait_until(
            lambda: not service.alive,
            "the consumer to get its last answers",
            PATIENCE_S,
            lambda: f"open: {', '.join(self.book().open_tasks())}",
        )

    def dead(self) -> list[str]:
        kinds = self.market.zygotes
        return [
            n
            for n, s in self.market.services.items()
            if n.partition("-")[0] in kinds and not s.alive
        ]

    def ports(self) -> list[int]:
        """On loopback, of everything that a provider reaches."""
        market = self.market
        return [int(url.rsplit(":", 1)[1]) for url in (market.url, market.rpc_url, market.nats_url)]

    def move_away(self, name: str, namespace: str) -> None:
        """Starts a provider again in another network namespace."""
        service = self.market.services[name]
        assert isinstance(service, Forked)
        service.stop()
        service.namespace = namespace
        service.start()

    def require_sentence(self, name: str, after: str) -> None:
        """A program that ended by itself says why in a sentence; its service manager starts it
        again."""
        text = self.market.services[name].log.read_text(errors="replace")
        if "Traceback" in text or name in ("backend", "consumer"):
            raise Broken(f"{name} ended after {after}: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        said = self.market.services[name].log.read_text(errors="replace").splitlines()
        return " | ".join(line.strip()[:500] for line in said[-3:])

    def start_again(self, name: str) -> None:
        if name == "backend":
            self.market.start_backend()
        elif name == "consumer":
            self.market.start_consumer(self.settings)
        else:
            self.market.services[name].start()


@contextmanager
def stage(directory: Path, database_url: str = "") -> Iterator[Stage]:
    """`database_url`: PostgreSQL instead of a file in the market's directory."""
    plan = MarketPlan(
        directory / "market" / "market",
        tuple(ProviderPlan(gpus=4) for _ in range(PROVIDERS)),
        runtime="process",
        acceptance_wait_seconds=15,
        lease_seconds=LEASE_SECONDS,
        database_url=database_url or None,
    )
    with FaultyMarket(plan) as market:
        app_id = _deploy(market)
        with GPUClient(**market.client_settings()) as client:
            client.deposit("500")
            client.grant_allowance("400")
            key = client.create_api_key("load", ["calls"])
            home = directory / "consumer"
            home.mkdir()
            consumer_settings = {
                "directory": str(home),
                "client": market.client_settings(),
                "image": market.image,
                "url": market.url,
                "app": app_id,
                "api_key": key.secret,
                "lanes": LANES,
                "orders": ORDERS,
                "pause_s": 0.4,
            }
            yield Stage(market, client, app_id, home, consumer_settings)


def lease_is_over_after_s() -> float:
    """After so long without a word a provider's tasks are others' for sure."""
    return LEASE_SECONDS + MarketPlan.lease_margin_seconds + 1.0


def wait_until(
    true: Callable[[], object], what: str, patience_s: float, now: Callable[[], str] = str
) -> None:
    """`now` says how far it came, when it did not come all the way."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise Broken(f"waited {patience_s:.0f} s for {what}; {now()}")
        time.sleep(0.1)


def _deploy(market: FaultyMarket) -> str:
    argv = [program("tallystick"), "app", "deploy", "--dir", str(APPS / "echo")]
    argv += ["--image", "process", "--price-call", "0.001"]
    argv += ["--deployment", str(market.deployment_file), "--yes", "--json"]
    done = subprocess.run(
        argv,
        env=clean_environment(market.consumer_environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Broken(f"the app could not be deployed.\n{done.stdout}{done.stderr}")
    return str(json.loads(done.stdout)["app"])
