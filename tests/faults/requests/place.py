"""A real backend to be rude to: the program itself on loopback, with chain, bus and database of its
own, a consumer with a way in and one object of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from sqlalchemy import text

from tallystick.protocol import deployments
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.manifest import canonical_json
from tallystick_backend.clock import SystemClock
from tallystick_backend.dispatch import nats_config
from tallystick_backend.dispatch.nats_config import BusKeys
from tallystick_backend.settings import PREFIX
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import AppVersionRow, KeepWarmRow, ManifestRow, Table
from tests.backend.api.called import PaidChannel, manifest
from tests.backend.api.order import order_body
from tests.backend.api.test_apps import publish
from tests.backend.api.world import PUBLIC_URL, World
from tests.faults.campaign import Broken
from tests.support.anvil import (
    CONSUMER,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    Person,
    bind_key,
    deploy_market,
    deposit,
    fund,
    stake,
    start_anvil,
)
from tests.support.nats import NatsServer, nats_server

START_S = 240.0
INPUT = json.dumps(
    {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 9}},
        "required": ["text"],
        "additionalProperties": False,
    }
)
"""What the one app takes. Nobody serves it: an input that fits would be told so, by a 503."""


class Live(World):
    """The people of `World`, against a backend that is a program of its own."""

    deployment: Deployment

    def order(self, person: Person = CONSUMER, **options: Any) -> dict[str, Any]:
        return order_body(self.deployment, person, now_s=int(time.time()), **options)


@dataclass
class Place:
    """Everything runs; `ask` of `wire.py` talks to it."""

    port: int
    pid: int
    deployment: Deployment
    chain: LocalChain
    bus: NatsServer
    keys: BusKeys
    database_url: str
    log: Path
    world: Live
    loop: asyncio.AbstractEventLoop
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    tokens: dict[str, str] = field(default_factory=dict)
    """Ways in, by what they are: the consumer's, another's, keys of each scope, ended ones."""
    ids: dict[str, str] = field(default_factory=dict)
    """One object of every kind, all of them the consumer's, by its name in paths."""
    paid: PaidChannel = field(default_factory=lambda: PaidChannel(CONSUMER.address))
    manifest: AppManifest = field(default_factory=lambda: manifest(input_schema=INPUT))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""

        async def count() -> dict[str, int]:
            async with self.world.database.engine.connect() as connection:
                found = {}
                for table in Table.metadata.sorted_tables:
                    query = text(f"SELECT COUNT(*) FROM {table.name}")
                    found[table.name] = int((await connection.execute(query)).scalar_one())
                return found

        counted: dict[str, int] = self.run(count())
        return counted

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Broken("the backend is gone")

    def check_log(self) -> None:
        """Nothing in it that a request may not cause."""
        if self.process.poll() is not None:
            raise Broken(f"the backend ended with {self.process.returncode}: see {self.log}")
        for line in self.log.read_text(errors="replace").splitlines():
            told = "Traceback" in line or '"level": "error"' in line
            if told or "request_failed" in line or "message_failed" in line:
                raise Broken(f"the backend's log has: {line[:1500]}")


@contextlib.contextmanager
def place(folder: Path, *, database_url: str | None = None, **settings: str) -> Iterator[Place]:
    """`settings` by their variable's name without prefix, over ours: limits out of the way, and
    whatever waits for time waits a second."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = BusKeys.from_issuer_seed(nats_config.new_issuer_seed())
    config = lambda port: nats_config.render(keys, port=port)  # noqa: E731
    with start_anvil() as chain, nats_server(folder, config) as bus:
        deployment = deploy_market(chain)
        fund(chain, deployment, CONSUMER, 1_000 * TOKEN)
        deposit(chain, deployment, CONSUMER, 500 * TOKEN)
        stake(chain, deployment, PROVIDER, gpu_ids=("GPU-0", "GPU-1"))
        bind_key(chain, deployment, PROVIDER, OPERATOR)
        file = folder / "deployment.json"
        file.write_text(json.dumps(deployments.to_json(deployment)))
        port = free_port()
        url = database_url or f"sqlite+aiosqlite:///{folder / 'backend.db'}"
        unlimited = "100000000/second"
        environment = {
            "DATABASE_URL": url,
            "RPC_URL": chain.url,
            "DEPLOYMENT": str(file),
            "NATS_URL": bus.url,
            "NATS_ISSUER_SEED": keys.issuer_seed,
            "DISPATCHER_KEY": DISPATCHER.key,
            "BLOB_DIR": str(folder / "blobs"),
            "PUBLIC_URL": PUBLIC_URL,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "POLL_MS": "200",
            "RECONCILE_SECONDS": "1",
            "LOG_LEVEL": "warning",
            "MAX_STREAMS": "300",
            **{f"{kind}_LIMIT": unlimited for kind in ("LOGIN", "READ", "WRITE", "CALL")},
        } | settings
        with _backend(environment, folder / "backend.log") as process:
            _until_ready(process, port, folder / "backend.log")
            yield from _furnished(
                chain, bus, keys, deployment, url, port, process, folder, environment
            )


def _furnished(
    chain: LocalChain,
    bus: NatsServer,
    keys: BusKeys,
    deployment: Deployment,
    database_url: str,
    port: int,
    process: subprocess.Popen[bytes],
    folder: Path,
    environment: Mapping[str, str],
) -> Iterator[Place]:
    loop = asyncio.new_event_loop()
    database = Database(database_url)
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
    clock: Any = SystemClock()
    backend: Any = SimpleNamespace(database=database, now_s=lambda: int(time.time()))
    app: Any = None
    world = Live(backend, app, http, clock)
    world.deployment = deployment
    here = Place(
        port,
        process.pid,
        deployment,
        chain,
        bus,
        keys,
        database_url,
        folder / "backend.log",
        world,
        loop,
        environment,
        process,
    )
    try:
        loop.run_until_complete(_furnish(here))
        yield here
    finally:

        async def end() -> None:
            await http.aclose()
            await database.close()

        loop.run_until_complete(end())
        loop.close()


async def _compared(here: Place) -> None:
    head = here.chain.head()
    async with asyncio.timeout(START_S):
        while True:
            async with here.world.database.read() as session:
                compared = await rows.books(session)
            if compared is not None and compared.block_number >= head:
                return
            await asyncio.sleep(0.1)


async def _furnish(here: Place) -> None:
    """Through the API where it can be, else as rows. The chain knows nothing of those, so they come
    after the backend held its rows against the contracts: without a new block it does not again."""
    world = here.world
    await _compared(here)
    consumer = await world.consumer()
    here.tokens["consumer"] = consumer.token
    here.tokens["stranger"] = (await world.stranger()).token
    here.tokens["provider"] = (await world.consumer(PROVIDER)).token
    await world.has_provider()
    digest = await world.uploaded(consumer)
    task = await world.ordered(consumer, input_digest=digest)
    await world.finished(task)
    await world.wrote(task, "a secret line")
    key = (await consumer.post("/v1/keys", json={"name": "mine"})).json()
    wanted = {"scope": "workspace", "period": "day", "limit": "5"}
    limit = (await consumer.put("/v1/spend-limits", json=wanted)).json()
    app = await publish(world, 0xA9, publisher=CONSUMER)
    digest_of_manifest = app_manifest_digest(here.manifest)
    shown = canonical_json(here.manifest).decode()
    now_ms = world.clock.now_ms()
    await world.write(
        ManifestRow(digest=digest_of_manifest, text=shown, created_at_ms=now_ms),
        AppVersionRow(
            place=f"{app}/{1:010d}",
            app_id=app,
            version=1,
            image_digest="0x" + "1a" * 32,
            manifest_digest=digest_of_manifest,
            manifest_uri="urn:any",
            published_at_s=now_ms // 1000 - 7200,
        ),
    )
    paid = here.paid
    call = paid.call("call-0001", at_ms=now_ms)
    await world.write(paid.row(deposited=10**21), call)
    warm = KeepWarmRow(
        id="ab" * 8,
        account=CONSUMER.address.lower(),
        app_id=app,
        every_s=54,
        until_ms=world.clock.now_ms() + 3_600_000,
        created_at_ms=world.clock.now_ms(),
    )
    await world.write(warm)
    here.ids = {
        "task_id": task["id"],
        "digest": digest,
        "key_id": key["id"],
        "limit_id": limit["id"],
        "call_id": "call-0001",
        "warm_id": warm.id,
        "channel": paid.id,
        "app": app,
        "address": PROVIDER.address,
    }


# --- programs ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _backend(settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TALLYSTICK_")}
    environment |= {PREFIX + name: value for name, value in settings.items()}
    program = Path(sys.executable).with_name("tallystick-backend")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(program), "serve"], env=environment, stdout=out, stderr=out, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the backend did not start: {log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
