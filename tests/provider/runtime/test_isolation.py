"""What a task can reach from inside: one container as the agent makes it, many probes
├── case 111: no forbidden system call, file or device gets through; the same under gVisor
├── case 112: metadata service, gateway, this machine, the engine, another tenant: out of reach
└── case 113: DNS, ICMP and raw sockets leave no packet: the counters of its interfaces stay 0

There is one profile of the network, `none`: a task has no egress that could be allowed.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from tallystick.devnet.images import engine_answers, python_image
from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.runtime import RunSpec, TaskDirectory
from tallystick_provider.runtime.container import refuse_unsafe, request_for
from tallystick_provider.runtime.docker import ENGINE_FLOOR, findings, version_of
from tests.provider.runtime import probes

pytestmark = pytest.mark.docker
USER = "65532:65532"

REFUSED = {"EPERM", "EACCES", "ENOSYS", "EROFS"}
"""Refused by the filter, for want of a capability, by permissions, or by a read-only mount."""
ABSENT = {"ENOENT", "ENXIO", "ENODEV", "ENOTDIR", "ENOTSUP", "EAFNOSUPPORT"}
UNREACHABLE = {
    *REFUSED,
    *ABSENT,
    "ENETUNREACH",
    "EHOSTUNREACH",
    "EADDRNOTAVAIL",
    "ECONNREFUSED",  # by its own loopback, where nobody listens
}
OTHER = {
    "ptrace of an outsider": {"ESRCH"},  # it is not there
    "memory of an outsider": {"ESRCH"},
    "read /proc/1/mem": {"EIO"},  # its own first process, at an address that is not mapped
}
SYSCALLS = [name for name, _ in probes.syscalls()]
FILES = [name for name, _ in probes.files()]
SOCKETS = [name for name, _ in probes.sockets()]
LEAVE = [name for name, _ in probes.leave()]
PLACES = (
    "metadata service",
    "metadata service v6",
    "gateway of a bridge of the engine",
    "another tenant's container",
    "engine's socket",
    "engine's socket, its other path",
    "containerd's socket",
    "engine over TCP",
    "abstract socket of this machine",
    "this machine, 127.0.0.1",
    "this machine, its own address",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the container wrote, and what this machine saw of it meanwhile."""

    forbidden: dict[str, str]
    reach: dict[str, str]
    leave: dict[str, str]
    interfaces: str
    routes: str
    outside: str


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    if platform.machine() != "x86_64":
        pytest.skip("the probes know the system calls of x86_64 only")
    with closing(docker.APIClient(version="auto", timeout=60)) as api:
        yield api


@pytest.fixture(scope="module")
def seen(api: Any, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return probe(api, tmp_path_factory.mktemp("probed"))


def probe(api: Any, place: Path, runtime: str = "") -> Seen:
    image = python_image()
    directory = TaskDirectory(place / "task")
    for path in (directory.input, directory.output):
        path.mkdir(parents=True)
    for path in (place, place.parent):
        path.chmod(0o755)
    directory.output.chmod(0o777)
    (directory.input / "probes.py").write_text(Path(probes.__file__).read_text())
    spec = RunSpec(
        provider=Address("0x" + os.urandom(20).hex()),
        task_id=TaskId(Digest("0x" + os.urandom(32).hex())),
        fence=1,
        image=image,
        command=(
            "/usr/bin/python3",
            "/task/in/probes.py",
            "/task/out/found.json",
            "/task/in/targets.json",
        ),
        env={"OUTSIDER": str(os.getpid())},
        directory=directory,
        gpu_ids=(),
        gpus_simulated=True,
        cpu_milli=1000,
        memory_mib=256,
        disk_mib=16,
        max_output_mib=16,
    )
    body = request_for(spec, user=USER)
    refuse_unsafe(body, spec)
    if runtime:
        body["HostConfig"]["Runtime"] = runtime
    with ExitStack() as stack:
        targets = stack.enter_context(neighbourhood(api, image))
        (directory.input / "targets.json").write_text(json.dumps(targets))
        made = api.create_container_from_config(body, f"tallystick-probed-{os.urandom(4).hex()}")
        stack.callback(api.remove_container, made["Id"], force=True)
        api.start(made["Id"])
        found = directory.output / "found.json"
        deadline = time.monotonic() + 120
        while not found.exists():
            state = api.inspect_container(made["Id"])["State"]
            said = api.logs(made["Id"]).decode()[-2000:]
            assert state["Running"], said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        pid = api.inspect_container(made["Id"])["State"]["Pid"]
        values = json.loads(found.read_text())
        try:
            outside = Path(f"/proc/{pid}/net/dev").read_text()
        except PermissionError:  # only root may look at another's; the task's own view remains
            outside = values["interfaces"]
    return Seen(**values, outside=outside)


@contextmanager
def neighbourhood(api: Any, image: str) -> Iterator[list[dict[str, Any]]]:
    """Listeners that this machine reaches, so that a task not reaching them says something."""
    with ExitStack() as stack:
        bridge = api.create_network(f"tallystick-test-{os.urandom(4).hex()}", driver="bridge")["Id"]
        stack.callback(api.remove_network, bridge)
        gateway = api.inspect_network(bridge)["IPAM"]["Config"][0]["Gateway"]
        own = own_address() or gateway
        ports = {
            at: stack.enter_context(listener(at)).getsockname()[1]
            for at in dict.fromkeys((gateway, own, "127.0.0.1"))
        }
        name = f"tallystick-test-{os.urandom(8).hex()}"
        abstract = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        abstract.bind("\0" + name)
        abstract.listen()
        tenant = stack.enter_context(tenant_of(api, image, bridge))

        def tcp(address: str, port: int, family: str = "AF_INET") -> dict[str, Any]:
            return {"family": family, "address": [address, port]}

        def unix(path: str) -> dict[str, Any]:
            return {"family": "AF_UNIX", "address": path}

        where = (
            tcp("169.254.169.254", 80),
            tcp("fd00:ec2::254", 80, "AF_INET6"),
            tcp(gateway, ports[gateway]),
            tcp(*tenant),
            unix("/var/run/docker.sock"),
            unix("/run/docker.sock"),
            unix("/run/containerd/containerd.sock"),
            tcp(gateway, 2375),
            unix("@" + name),
            tcp("127.0.0.1", ports["127.0.0.1"]),
            tcp(own, ports[own]),
        )
        for at, port in (*ports.items(), tenant):
            assert reachable(at, port), "this machine itself does not reach it"
        yield [{"name": name, **at} for name, at in zip(PLACES, where, strict=True)]


def own_address() -> str:
    """Where this machine's route to the world begins; nothing is sent for the question."""
    code = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.connect(('192.0.2.1', 9)); print(s.getsockname()[0])"
    )
    return elsewhere(code).strip()


def reachable(address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(({address!r}, {port}), 2); print('reached')"
    return "reached" in elsewhere(code)


def elsewhere(code: str) -> str:
    """In a process of its own: a test of ours may not speak to more than loopback."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout


def listener(address: str) -> socket.socket:
    return socket.create_server((address, 0))


@contextmanager
def tenant_of(api: Any, image: str, bridge: str) -> Iterator[tuple[str, int]]:
    """Another container, with a network and a listener."""
    serve = "import socket,time; s = socket.create_server(('', 8080)); time.sleep(600)"
    made = api.create_container(
        image,
        ["/usr/bin/python3", "-c", serve],
        name=f"tallystick-tenant-{os.urandom(4).hex()}",
        host_config=api.create_host_config(network_mode=bridge),
    )
    try:
        api.start(made["Id"])
        (network,) = api.inspect_container(made["Id"])["NetworkSettings"]["Networks"].values()
        at = network["IPAddress"]
        deadline = time.monotonic() + 60
        while not reachable(at, 8080):
            assert time.monotonic() < deadline, "the other tenant does not listen"
            time.sleep(0.1)
        yield at, 8080
    finally:
        api.remove_container(made["Id"], force=True)


def excuse_old_filter(api: Any, seen: Seen, name: str) -> None:
    """What the engine's own filter refuses from ENGINE_FLOOR on; below, `doctor` says so."""
    version = api.version()
    if name in ("io_uring_setup", "vsock") and version_of(version["Version"]) < ENGINE_FLOOR:
        (said,) = [f for f in findings(api.info(), version) if f.name == "docker version"]
        assert "io_uring" in said.fix
        assert "vsock" in said.fix
        if seen.forbidden[name] not in REFUSED | ABSENT:
            pytest.xfail(f"Docker {version['Version']} lets {name} through; doctor says so")


@pytest.mark.parametrize("name", SYSCALLS)
def test_no_forbidden_system_call_gets_through(seen: Seen, api: Any, name: str) -> None:
    excuse_old_filter(api, seen, name)
    assert seen.forbidden[name] in REFUSED | OTHER.get(name, set())


@pytest.mark.parametrize("name", FILES)
def test_no_forbidden_file_opens(seen: Seen, name: str) -> None:
    assert seen.forbidden[name] in REFUSED | ABSENT | OTHER.get(name, set())


@pytest.mark.parametrize("name", SOCKETS)
def test_no_forbidden_socket_opens(seen: Seen, api: Any, name: str) -> None:
    excuse_old_filter(api, seen, name)
    assert seen.forbidden[name] in REFUSED | ABSENT


def test_gvisor_lets_nothing_through_either(
    api: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if "runsc" not in (api.info().get("Runtimes") or {}):
        pytest.skip("this engine has no runtime runsc (gVisor)")
    seen = probe(api, tmp_path_factory.mktemp("gvisor"), "runsc")
    # It has system calls of its own to offer, harmless ones; devices and the network it has not.
    assert {name: seen.forbidden[name] for name in FILES if seen.forbidden[name] == ""} == {}
    assert {name for name, error in seen.reach.items() if error not in UNREACHABLE} == set()


@pytest.mark.parametrize("name", PLACES)
def test_nothing_around_the_task_is_reached(seen: Seen, name: str) -> None:
    assert seen.reach[name] in UNREACHABLE


@pytest.mark.parametrize("name", LEAVE)
def test_no_packet_finds_a_way(seen: Seen, name: str) -> None:
    assert seen.leave[name] in UNREACHABLE | {"no name"}


def test_the_counters_of_its_interfaces_stay_at_zero(seen: Seen) -> None:
    for table in (seen.interfaces, seen.outside):
        sent = {
            line.partition(":")[0].strip(): int(line.partition(":")[2].split()[8])
            for line in table.splitlines()
            if ":" in line
        }
        assert "lo" in sent
        assert {name: count for name, count in sent.items() if name != "lo" and count} == {}
    assert len(seen.routes.splitlines()) == 1, "a heading, and no route"
