"""`tallystick-provider start` as people run it: a process of its own, a real chain, a real bus
├── connects, announces, and ends with 0 on SIGTERM, also while its backend is out of reach
└── refuses a chain that holds other contracts
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest

from tallystick.protocol import wire
from tallystick.protocol.deployments import Deployment, to_json
from tallystick_provider.settings import PREFIX, table
from tests.provider.test_inbox import server  # noqa: F401 - the fixture
from tests.provider.waiting import until
from tests.support.anvil import OPERATOR, PROVIDER, ROOT, LocalChain
from tests.support.nats import NatsServer


def environment(path: Path, chain: LocalChain, deployment: Deployment, url: str) -> dict[str, str]:
    key = path / "operator.key"
    key.write_text(OPERATOR.key)
    key.chmod(0o600)
    (path / "deployment.json").write_text(json.dumps(to_json(deployment)))
    settings = {
        "ADDRESS": PROVIDER.address,
        "KEY_FILE": str(key),
        "DATA_DIR": str(path / "data"),
        "RPC_URL": chain.url,
        "DEPLOYMENT": str(path / "deployment.json"),
        "NATS_URL": url,
        "RUNTIME": "process",
        "GPUS": "simulated:2xgpu1:24576",
        "RATE": "gpu1=1,=0",
    }
    return {
        "PATH": os.environ["PATH"],
        **{PREFIX + name: value for name, value in settings.items()},
    }


@asynccontextmanager
async def agent_of(given: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended when the test is, however that ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tallystick_provider",
        "start",
        "--log-json",
        env=given,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.fixture
async def backend(server: NatsServer) -> AsyncIterator[Any]:  # noqa: F811
    line = await nats.connect(server.url)
    yield line
    await line.close()


async def test_serves_until_told_to_stop(
    chain: LocalChain,
    deployment: Deployment,
    server: NatsServer,  # noqa: F811
    backend: Any,
    tmp_path: Path,
) -> None:
    announced: list[wire.Announcement] = []

    async def answer(message: Any) -> None:
        announced.append(wire.Announcement.model_validate_json(message.data))
        reply = wire.AnnouncementReply(lease_seconds=30, heartbeat_seconds=1)
        await message.respond(reply.model_dump_json().encode())

    subject = f"tallystick.backend.{PROVIDER.address.lower()}.announce"
    await backend.subscribe(subject, cb=answer)
    async with agent_of(environment(tmp_path, chain, deployment, server.url)) as agent:
        await until(lambda: bool(announced), 60, "the announcement")
        agent.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(agent.communicate(), 30)
    assert agent.returncode == 0, told.decode()
    assert announced[0].operator_key == OPERATOR.address
    assert (tmp_path / "data" / "sealing.key").stat().st_mode & 0o777 == 0o600
    assert b"WITHOUT a container" in told
    assert OPERATOR.key.removeprefix("0x").encode() not in told


async def test_stops_while_its_backend_is_out_of_reach(
    chain: LocalChain, deployment: Deployment, tmp_path: Path
) -> None:
    async with agent_of(environment(tmp_path, chain, deployment, "nats://127.0.0.1:9")) as agent:
        assert agent.stderr is not None
        async with asyncio.timeout(60):
            while b"backend_unreachable" not in await agent.stderr.readline():
                assert not agent.stderr.at_eof()
        agent.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(agent.communicate(), 20)
    assert agent.returncode == 0, told.decode()


async def test_refuses_a_chain_with_other_contracts(
    chain: LocalChain, deployment: Deployment, tmp_path: Path
) -> None:
    wrong = replace(deployment, escrow=deployment.token, token=deployment.escrow)
    async with agent_of(environment(tmp_path, chain, wrong, "nats://127.0.0.1:9")) as agent:
        _, told = await asyncio.wait_for(agent.communicate(), 60)
    assert agent.returncode == 1
    assert b"Traceback" not in told
    assert b"deployment" in told


def test_the_readme_shows_the_settings_as_they_are() -> None:
    assert table() in (ROOT / "provider" / "README.md").read_text()
