"""Calls over the whole market: chain, bus, backend with its gateway, a provider's workers.

an app published on chain
    is called over HTTP, paid on a channel that the session key opened, at the registry's price
    is called many times at once, and the vouchers, the rows and the receipts agree to the unit
    is called across a killed backend: the same key is the same call
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick import GPUClient
from tallystick.devnet import LocalMarket, MarketPlan, people
from tallystick.devnet.market import ProviderPlan
from tallystick.protocol import deployments, messages
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest, image_digest
from tallystick.protocol.apps import app_id
from tallystick.protocol.contracts import Registry
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import ChannelAllowance
from tallystick.protocol.pricing import Price
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import ZERO_DIGEST, Digest, to_address, to_digest
from tallystick.protocol.web3 import close, connect
from tests.e2e.scenario import PATIENCE_S

FEE = 10
HANDLER = """
from tallystick.app import handler


@handler
def greet(name: str) -> dict[str, str]:
    return {"hello": name}
"""
PROJECT = """
name = "greet"
[handler]
kind = "function"
entry = "handler:greet"
"""
MANIFEST = AppManifest.model_validate(
    {
        "name": "greet",
        "image": "process",
        "handler": {"kind": "function", "entry": "handler:greet"},
        "resources": {"cpu_milli": 100, "memory_mib": 1024, "disk_mib": 16},
        "concurrency": 4,
        "timeout_s": 20,
    }
)


class AppMarket(LocalMarket):
    """Its providers find the app's code in a folder."""

    def provider_environment(self, number: int) -> dict[str, str]:
        apps = self.plan.directory.parent / "apps"
        found = super().provider_environment(number)
        return found | {"TALLYSTICK_PROVIDER_APPS_DIR": str(apps)}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMarket]:
    folder = tmp_path_factory.mktemp("calls")
    project = folder / "apps" / "greet"
    project.mkdir(parents=True)
    (project / "handler.py").write_text(HANDLER)
    (project / "tallystick.toml").write_text(PROJECT)
    plan = MarketPlan(folder / "market", providers=(ProviderPlan(),), runtime="process")
    with AppMarket(plan) as up:
        yield up


class Caller:
    """The consumer with a session, an allowance, and an app to call."""

    def __init__(self, market: LocalMarket, app: str) -> None:
        self.market = market
        self.app = app
        self.token = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def call(self, name: str, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.market.url}/v1/apps/{self.app}/calls",
            json={"name": name},
            headers=self.headers | headers,
            timeout=PATIENCE_S,
        )

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.market.url}{path}", headers=self.headers, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def caller(market: LocalMarket) -> Iterator[Caller]:
    app = asyncio.run(publish(market, MANIFEST))
    caller = Caller(market, app)
    with GPUClient(**market.client_settings()) as client:
        client.deposit("100")
        caller.token = client.create_api_key("calls", ("calls", "tasks:write")).secret
        put = httpx.put(
            f"{market.url}/v1/manifests/{app_manifest_digest(MANIFEST)}",
            content=canonical_json(MANIFEST),
            headers=caller.headers,
        )
        assert put.status_code == 200, put.text
        _allow(market, caller)
        yield caller


async def publish(market: LocalMarket, manifest: AppManifest) -> str:
    found = deployments.load(str(market.deployment_file))
    web3 = connect(market.rpc_url)
    salt = to_digest(secrets.token_bytes(32))
    call = Registry(web3, found.registry).publish(
        salt,
        image_digest("process"),
        app_manifest_digest(manifest),
        "http://127.0.0.1:9/manifest",
        Price(flat=0, fee_per_call=FEE, rate_per_gpu_second=0),
    )
    await Sender(web3, people.DEPLOYER.private_key).execute(call)
    await close(web3)
    return app_id(found.chain_id, found.registry, people.DEPLOYER.address, salt)


def _allow(market: LocalMarket, caller: Caller) -> None:
    found = deployments.load(str(market.deployment_file))
    signer = caller.get("/v1/session-key")["signer"]
    allowance = ChannelAllowance(
        payer=people.CONSUMER.address,
        signer=to_address(signer),
        cap=10**18,
        expires_at=int(time.time()) + 86_400,
        purpose=Digest(ZERO_DIGEST),
        nonce=1,
    )
    signature = messages.sign(found.domain, allowance, people.CONSUMER.private_key)
    body = {"allowance": allowance.to_body().model_dump(mode="json"), "signature": signature}
    answer = httpx.post(f"{market.url}/v1/allowances", json=body, headers=caller.headers)
    assert answer.status_code == 201, answer.text


def test_a_call_is_answered_and_paid_at_the_registry_s_price(caller: Caller) -> None:
    answer = caller.call("Ada")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"hello": "Ada"}
    assert answer.headers["tallystick-charge"] == str(FEE)
    view = caller.get(f"/v1/calls/{answer.headers['tallystick-call-id']}")
    assert (view["state"], view["charge"], view["seq"]) == ("completed", str(FEE), 1)


def test_many_at_once_agree_to_the_unit(caller: Caller) -> None:
    before = int(caller.call("first").headers["tallystick-total"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: caller.call(str(n)), range(40)))
    assert [a.status_code for a in answers] == [200] * 40
    assert [a.json()["hello"] for a in answers] == [str(n) for n in range(40)]
    totals = sorted(int(a.headers["tallystick-total"]) for a in answers)
    assert totals == [before + FEE * n for n in range(1, 41)]


def test_the_same_key_across_a_killed_backend(caller: Caller, tmp_path: Path) -> None:
    first = caller.call("Grace", **{"Idempotency-Key": "once"})
    assert first.status_code == 200, first.text
    backend = caller.market.services["backend"]
    backend.kill()
    caller.market.start_backend()
    again = caller.call("Grace", **{"Idempotency-Key": "once"})
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["tallystick-call-id"] == first.headers["tallystick-call-id"]
    follow = caller.call("Alan")
    until_s = time.monotonic() + PATIENCE_S
    while follow.status_code == 503 and time.monotonic() < until_s:
        time.sleep(0.5)  # the provider has to be heard of again
        follow = caller.call("Alan")
    assert follow.status_code == 200, follow.text
    grown = int(follow.headers["tallystick-total"]) - int(first.headers["tallystick-total"])
    assert grown == FEE
