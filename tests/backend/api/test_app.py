"""The whole backend as it is served: chain, bus, index, dispatcher, HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from tallystick.protocol import deployments
from tallystick.protocol.deployments import Deployment
from tallystick_backend.app import create_app
from tallystick_backend.dispatch import nats_config
from tallystick_backend.settings import Settings
from tests.backend.api.world import Consumer
from tests.support import anvil
from tests.support.anvil import CONSUMER, DISPATCHER, TOKEN, LocalChain
from tests.support.nats import NatsServer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(chain: LocalChain, deployment: Deployment, tmp_path: Path) -> Settings:
    import json

    place = tmp_path / "deployment.json"
    place.write_text(json.dumps(deployments.to_json(deployment)))
    key = tmp_path / "dispatcher.key"
    key.touch(mode=0o600)
    key.write_text(DISPATCHER.key)
    port = _free_port()
    return Settings.from_environment(
        {
            f"TALLYSTICK_BACKEND_{name}": str(value)
            for name, value in {
                "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/backend.db",
                "RPC_URL": chain.url,
                "DEPLOYMENT": place,
                "NATS_URL": f"nats://127.0.0.1:{_free_port()}",
                "NATS_ISSUER_SEED": nats_config.new_issuer_seed(),
                "DISPATCHER_KEY_FILE": key,
                "BLOB_DIR": tmp_path / "blobs",
                "PUBLIC_URL": f"http://127.0.0.1:{port}",
                "PORT": port,
                "POLL_MS": 20,
                "STREAM_POLL_MS": 20,
            }.items()
        }
    )


@pytest.fixture
def bus(settings: Settings, tmp_path: Path) -> Iterator[None]:
    port = int(settings.nats_url.rpartition(":")[2])
    config = tmp_path / "nats.conf"
    config.write_text(nats_config.render(nats_config.bus_keys_of(settings), port=port))
    with NatsServer(port, config).runs():
        yield


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=settings.port, log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=settings.public_url, timeout=20) as http:
        while not server.started:
            assert not running.done(), "the server ended before it began"
            await asyncio.sleep(0.02)
        yield http
    server.should_exit = True
    await asyncio.wait_for(running, 20)


async def _until_ready(http: httpx.AsyncClient, status: int = 200) -> dict[str, object]:
    until = time.monotonic() + 20
    while True:
        answer = await http.get("/readyz")
        if answer.status_code == status:
            body: dict[str, object] = answer.json()
            return body
        assert time.monotonic() < until, answer.text
        await asyncio.sleep(0.05)


async def test_it_is_ready_with_chain_and_bus(
    bus: None, http: httpx.AsyncClient, deployment: Deployment
) -> None:
    ready = await _until_ready(http)
    assert ready["checks"] == dict.fromkeys(
        (
            "database",
            "index",
            "node",
            "reconciler",
            "contracts",
            "books",
            "callout",
            "dispatch",
            "gateway",
            "housekeeping",
            "bus",
            "callout_bus",
            "chain",
        ),
        "ok",
    )
    said = (await http.get("/v1/deployment")).json()
    assert (said["token_symbol"], said["token_decimals"]) == ("TALLY", 18)
    assert said["escrow"] == deployment.escrow
    assert said["dispatcher"] == DISPATCHER.address


async def test_what_happens_on_chain_is_seen(
    bus: None, http: httpx.AsyncClient, chain: LocalChain, deployment: Deployment
) -> None:
    await _until_ready(http)
    await asyncio.to_thread(anvil.fund, chain, deployment, CONSUMER, 7 * TOKEN)
    await asyncio.to_thread(anvil.deposit, chain, deployment, CONSUMER, 7 * TOKEN)
    until = time.monotonic() + 20
    while True:
        account = (await http.get(f"/v1/accounts/{CONSUMER.address}")).json()
        if account["available"] == str(7 * TOKEN):
            break
        assert time.monotonic() < until, account
        await asyncio.sleep(0.05)


async def test_a_stream_follows_a_task_and_ends_with_it(
    bus: None, http: httpx.AsyncClient, settings: Settings, deployment: Deployment
) -> None:
    from tallystick.protocol import signatures
    from tests.backend.api.order import order_body

    await _until_ready(http)
    nonce = (await http.post("/v1/auth/nonce")).json()["nonce"]
    text = (
        f"127.0.0.1:{settings.port} wants you to sign in with your Ethereum account:\n"
        f"{CONSUMER.address}\n\nSign in.\n\nURI: {settings.public_url}\nVersion: 1\n"
        f"Chain ID: {deployment.chain_id}\nNonce: {nonce}\nIssued At: 2026-11-21T03:00:00Z"
    )
    login = {"message": text, "signature": signatures.sign_text(text, CONSUMER.key)}
    token = (await http.post("/v1/auth/login", json=login)).json()["token"]
    me = Consumer(CONSUMER, http, token)
    body = order_body(deployment, CONSUMER, now_s=int(time.time()))
    task = (await me.post("/v1/tasks", json=body)).json()

    kinds: list[str] = []
    path = f"/v1/tasks/{task['id']}/events"
    async with http.stream("GET", path, headers=me.headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if len(kinds) == 1:
                    await me.post(f"/v1/tasks/{task['id']}/cancel")
    assert kinds == ["ordered", "cancelled", "end"]


async def test_without_a_bus_it_serves_and_says_so(http: httpx.AsyncClient) -> None:
    degraded = await _until_ready(http, 503)
    assert degraded["status"] == "degraded"
    checks = degraded["checks"]
    assert isinstance(checks, dict)
    assert checks["bus"] == "not connected"
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/v1/deployment")).status_code == 200
