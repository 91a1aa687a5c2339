"""A published image, from its first call to its answer, in a real engine
├── is pulled or found, started without a network, called over its socket, paid for
├── has every wall that a task has
├── is held back when it floods its log, also before it is ready (case 109)
├── is gone with its agent, and a leftover of a killed one is removed
└── an image that names no command is refused as a worker, in words
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.app.project import read_project
from tallystick.app_images import built
from tallystick.devnet.images import engine_answers
from tallystick.protocol.app_manifest import AppManifest
from tallystick.scaffold import write_project
from tallystick_provider.calls.workers import remove_leftovers
from tallystick_provider.errors import ImageRefused
from tallystick_provider.runtime import TaskDirectory, WorkerSpec
from tallystick_provider.runtime.docker import DockerRuntime
from tests.provider.calls.conftest import World
from tests.provider.runtime.engines import busybox_image
from tests.provider.waiting import until
from tests.support.anvil import PROVIDER

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    if not engine_answers():
        pytest.skip("no Docker engine answers: start one with `tools/docker-engine start`")
    import docker

    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="module")
def hello(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> AppManifest:
    directory = tmp_path_factory.mktemp("image") / "hello"
    write_project("hello", directory)
    image = built(directory, "hello", None, lambda step, detail: None)
    return read_project(directory).manifest(image)


def containers(engine: Any) -> list[Any]:
    filters = {"label": ["tallystick.worker", f"tallystick.provider={PROVIDER.address.lower()}"]}
    return list(engine.containers.list(all=True, filters=filters))


async def test_a_call_of_an_image(world: World, engine: Any, hello: AppManifest) -> None:
    end = await world.start(
        runtime="docker", runc_accepted="any", rate="gpu1=1,=0", memory_mib=8192
    )
    payer = await world.payer(hello)
    reply = await payer.call(b'{"name": "Ada", "language": "zh"}')
    assert reply.answer is not None, reply.refusal
    assert reply.content == '{"greeting":"你好, Ada!"}'.encode()
    assert 0 < reply.answer.cold_start_ms <= reply.answer.queued_ms
    warm = await payer.call(b'{"name": "Bo"}')
    assert warm.answer is not None
    assert warm.answer.cold_start_ms == 0
    (container,) = containers(engine)
    held = container.attrs["HostConfig"]
    assert held["NetworkMode"] == "none"
    assert held["ReadonlyRootfs"] is True
    assert held["CapDrop"] == ["ALL"]
    assert held["Memory"] == held["MemorySwap"] == hello.resources.memory_mib * 1024 * 1024
    assert any(option.startswith("seccomp=") for option in held["SecurityOpt"])
    assert not container.attrs["Config"]["User"].startswith("0")
    await end()
    assert containers(engine) == []
    assert list((world.home / "data" / "workers").iterdir()) == []


SERVER = """
import http.server, os, socketserver

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.say(200 if self.path == "/health" else 404, b"")

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        self.say(418 if b"teapot" in asked else 200, b"you said " + asked)

    def address_string(self):
        return "-"

class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

Server(os.environ["TALLYSTICK_SOCKET"], Answers).serve_forever()
"""


def own_server(directory: Path, source: str, *arguments: str) -> AppManifest:
    """Published as an image of its own, with the socket of its own."""
    (directory / "server.py").write_text(source)
    command = json.dumps(["python", "/srv/server.py", *arguments])
    (directory / "Dockerfile").write_text(
        f"ARG BASE\nFROM $BASE\nCOPY server.py /srv/\nUSER 65534\nCMD {command}\n"
    )
    image = built(directory, "own-server", None, lambda step, detail: None)
    return AppManifest.model_validate(
        {
            "name": "own-server",
            "image": image,
            "handler": {
                "kind": "http",
                "socket": "/run/own/server.sock",
                "path": "/say",
                "ready_path": "/health",
            },
            "resources": {"cpu_milli": 500, "memory_mib": 256, "disk_mib": 16},
            "concurrency": 2,
        }
    )


async def test_a_server_of_its_own_on_a_socket_of_its_own(
    world: World, engine: Any, hello: AppManifest, tmp_path: Path
) -> None:
    manifest = own_server(tmp_path, SERVER)
    await world.start(runtime="docker", runc_accepted="any")
    payer = await world.payer(manifest)
    reply = await payer.call(b'"hello"')
    assert reply.answer is not None, reply.refusal
    assert (reply.content, reply.answer.media_type) == (b'you said "hello"', "text/plain")
    refused = await payer.call(b'"teapot"')
    assert refused.refusal is not None
    assert refused.refusal.detail == 'http_418: you said "teapot"'
    assert (await payer.call(b"1")).content == b"you said 1"


async def test_what_a_killed_agent_left_is_removed(
    world: World, engine: Any, hello: AppManifest
) -> None:
    runtime = DockerRuntime(PROVIDER.address, volumes_in=world.home, runc_accepted="any")
    place = TaskDirectory(world.home / "workers" / "wleft")
    place.output.mkdir(parents=True)
    try:
        await runtime.start_worker(spec_of(hello.image, place))
        assert [ref.name for ref in await runtime.own_workers()] == ["wleft"]
        assert list(await runtime.own()) == []  # a worker is no task's run
        await remove_leftovers(runtime, world.home)
        assert containers(engine) == []
        assert not place.root.exists()
    finally:
        await runtime.close()


async def test_an_image_without_a_command(world: World, engine: Any) -> None:
    image = busybox_image(engine.api)
    runtime = DockerRuntime(PROVIDER.address, runc_accepted="any")
    place = TaskDirectory(world.home / "workers" / "wnone")
    place.output.mkdir(parents=True)
    try:
        with pytest.raises(ImageRefused, match="names no command"):
            await runtime.start_worker(spec_of(image, place))
    finally:
        await runtime.close()
    assert containers(engine) == []


def spec_of(image: str, place: TaskDirectory) -> WorkerSpec:
    return WorkerSpec(
        provider=PROVIDER.address,
        name=Path(place.root).name,
        image=image,
        project=None,
        directory=place,
        socket_path="/run/tallystick/worker.sock",
        gpu_ids=(),
        gpus_simulated=False,
        cpu_milli=200,
        memory_mib=256,
        disk_mib=16,
    )


FLOODING = """
import os, sys

def flood():
    while True:
        os.write(1, bytes([10]) * 4096)

if sys.argv[1:]:
    flood()
"""


@pytest.mark.parametrize("when", ["before it is ready", "in a call"])
async def test_a_worker_that_floods_its_log_is_held_back(
    world: World, engine: Any, tmp_path: Path, when: str
) -> None:
    server = FLOODING + SERVER.replace("        asked =", "        flood()\n        asked =")
    manifest = own_server(tmp_path, server, *(["flood"] if when == "before it is ready" else []))
    end = await world.start(runtime="docker", runc_accepted="any")
    payer = await world.payer(manifest)
    call = asyncio.create_task(payer.call(b'"hello"'))
    await until(lambda: "paused" in [one.status for one in containers(engine)], 60, "the pause")
    call.cancel()
    await end()
    assert containers(engine) == []
