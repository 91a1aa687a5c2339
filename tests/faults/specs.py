"""Orders that ask for more than a container may have (case 107), field by field.

Whatever a consumer writes, and whatever a backend passes on: only what is on the list of
`runtime/container.py` reaches the engine. Needs no engine: the body of the call that would make the
container is what is looked at.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tallystick.protocol import wire
from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.errors import ImageRefused, OfferRefused, RuntimeUnsafe
from tallystick_provider.offers import check
from tallystick_provider.runtime import RunSpec, TaskDirectory, WorkerSpec
from tallystick_provider.runtime.container import (
    refuse_unsafe,
    request_for,
    security_options,
    worker_request_for,
)
from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.provider.orders import DOMAIN, NOW_S, manifest_of, offer_of, settings_of

IMAGE = "sha256:" + "ab" * 32
USER = "65532:65532"


def _words(text: str) -> list[str]:
    return text.split()


HOST_FIELDS = _words(
    """
    AutoRemove Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps
    BlkioDeviceWriteIOps BlkioWeight BlkioWeightDevice CapAdd CapDrop Capabilities Cgroup
    CgroupParent CgroupnsMode ConsoleSize ContainerIDFile CpuCount CpuPercent CpuPeriod CpuQuota
    CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus CpusetMems DeviceCgroupRules
    DeviceRequests Devices Dns DnsOptions DnsSearch ExtraHosts GroupAdd IOMaximumBandwidth
    IOMaximumIOps Init InitPath IpcMode Isolation KernelMemory KernelMemoryTCP Links LogConfig
    LxcConf MaskedPaths Memory MemoryReservation MemorySwap MemorySwappiness Mounts NanoCPUs
    NanoCpus NetworkMode Annotations OomKillDisable OomScoreAdj PidMode PidsLimit PortBindings
    Privileged PublishAllPorts ReadonlyPaths ReadonlyRootfs RestartPolicy Runtime SecurityOpt
    ShmSize StorageOpt Sysctls Tmpfs UTSMode Ulimits UsernsMode VolumeDriver VolumesFrom
    """
)
"""All that Docker's API has had under HostConfig from 1.12 to 1.50, and under Resources."""
BODY_FIELDS = _words(
    """
    ArgsEscaped AttachStderr AttachStdin AttachStdout Cmd Domainname Entrypoint Env ExposedPorts
    Healthcheck HostConfig Hostname Image Labels MacAddress NetworkDisabled NetworkingConfig
    OnBuild OpenStdin Platform Shell StdinOnce StopSignal StopTimeout Tty User Volumes
    WorkingDir
    """
)
ASKED = {
    "privileged": True,
    "host_config": {"Privileged": True},
    "binds": ["/:/host"],
    "mounts": [{"type": "bind", "source": "/", "target": "/host"}],
    "volumes": ["/var/run/docker.sock:/var/run/docker.sock"],
    "devices": ["/dev/mem"],
    "device_requests": [{"count": -1}],
    "cap_add": ["SYS_ADMIN"],
    "network_mode": "host",
    "networks": ["bridge"],
    "ports": {"22/tcp": 22},
    "pid_mode": "host",
    "ipc_mode": "host",
    "uts_mode": "host",
    "userns_mode": "host",
    "cgroup_parent": "/",
    "cgroupns": "host",
    "security_opt": ["seccomp=unconfined"],
    "sysctls": {"kernel.core_pattern": "|/x"},
    "runtime": "runc-unsafe",
    "user": "0:0",
    "group_add": ["docker"],
    "ulimits": [],
    "tmpfs": {"/etc": "rw"},
    "entrypoint": ["/bin/sh"],
    "working_dir": "/proc/self/fd/8",
    "hostname": "host",
    "dns": ["10.0.0.1"],
    "extra_hosts": {"metadata": "169.254.169.254"},
    "restart_policy": {"Name": "always"},
    "labels": {"tallystick.provider": "0x00"},
    "oom_score_adj": -1000,
    "pids_limit": -1,
    "shm_size": 2**40,
    "stdin_open": True,
    "healthcheck": {"Test": ["CMD", "x"]},
    "log_config": {"Type": "syslog"},
    "storage_opt": {"size": "1T"},
    "init": True,
    "platform": "linux/386",
}
"""What people write in compose files and SDKs, as an order would spell it."""
WEIRD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**63, 2**128, 1.5, "", "0", "host", "unconfined", "all", "/"),
    *([], {}, [None], [""], ["ALL"], {"": ""}, [[[]]], {"Name": "always"}, {"Type": "none"}),
    *("container:x", ["/:/host:rw"], {"/etc": "rw"}, [{"Driver": "nvidia", "Count": -1}]),
    *({"Type": "json-file", "Config": {"max-size": "-1", "max-file": "9999"}}, "\0", "x" * 10_000),
    *([{"Name": "nofile", "Soft": 2**30, "Hard": 2**30}], {"/task/work": "rw,size=1g"}, ["a=b"]),
    *({"/task/work": "rw,nosuid,nodev,size=99999999m", "/tmp": "rw,nosuid,nodev,size=1m"},),
    *([{"Name": n, "Soft": -1, "Hard": -1} for n in ("core", "fsize", "nofile")],),
)
ROUNDS, SHORT_ROUNDS = 400, 20


def run(run: Run) -> None:
    chance = run.random
    rounds = ROUNDS if run.full else SHORT_ROUNDS
    for number in range(rounds):
        if number % 10 == 0:
            run.say(f"round {number} of {rounds}")
        run.count("engine", _at_the_engine(chance))
        run.count("plain", _plain_orders(chance, run.directory))
        run.count("orders", _at_the_api(chance))
        run.count("agent", _at_the_agent(chance, run.directory))


def _specs(chance: Random) -> Iterator[RunSpec | WorkerSpec]:
    common: dict[str, Any] = {
        "provider": Address("0x" + "11" * 20),
        "image": IMAGE,
        "gpu_ids": tuple(f"GPU-{n}" for n in range(chance.randrange(3))),
        "gpus_simulated": chance.random() < 0.5,
        "cpu_milli": chance.randrange(100, 256_000),
        "memory_mib": chance.randrange(64, 10**6),
        "disk_mib": chance.randrange(16, 10**6),
    }
    yield RunSpec(
        **common,
        task_id=TaskId(Digest("0x" + "22" * 32)),
        fence=chance.randrange(1, 10),
        command=("python", _text(chance)),
        env={"NAME": _text(chance)},
        directory=TaskDirectory(Path("/data/tasks/x")),
        max_output_mib=chance.randrange(1, 65_536),
    )
    yield WorkerSpec(
        **common,
        name="w1",
        project=None,
        directory=TaskDirectory(Path("/data/workers/w1")),
        socket_path="/run/tallystick/worker.sock",
    )


def _at_the_engine(chance: Random) -> int:
    """Every field that the engine knows, and some that it does not, with every odd value."""
    tried = 0
    for spec in _specs(chance):
        good = _body(spec)
        refuse_unsafe(good, spec)
        for field in (*HOST_FIELDS, _text(chance)):
            for value in (chance.choice(WEIRD), chance.choice(WEIRD)):
                body = copy.deepcopy(good)
                body["HostConfig"][field] = value
                tried += _must_refuse(body, good, spec, f"HostConfig.{field}")
        for field in (*BODY_FIELDS, _text(chance)):
            body = {**copy.deepcopy(good), field: chance.choice(WEIRD)}
            tried += _must_refuse(body, good, spec, field)
        for _ in range(20):
            body = copy.deepcopy(good)
            where = _change_something(body, chance)
            tried += _must_refuse(body, good, spec, where)
    return tried


def _body(spec: RunSpec | WorkerSpec) -> dict[str, Any]:
    if isinstance(spec, WorkerSpec):
        return worker_request_for(spec, user=USER)
    return request_for(spec, user=USER)


def _change_something(body: dict[str, Any], chance: Random) -> str:
    """A value somewhere inside; says where."""
    place: Any = body
    way: list[str] = []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        way.append(str(key))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            place = inner
            continue
        place[key] = chance.choice(WEIRD)
        return ".".join(way)


FREE = ("Env", "User")
"""Values may differ within their rules: a variable of the task's, a number that is not root's."""


def _must_refuse(
    body: dict[str, Any], good: dict[str, Any], spec: RunSpec | WorkerSpec, where: str
) -> int:
    if json.dumps(body, sort_keys=True) == json.dumps(good, sort_keys=True):
        return 0
    try:
        refuse_unsafe(body, spec)
    except RuntimeUnsafe as refused:
        if len(str(refused)) > 1_000:
            raise Broken(f"the refusal of {where} has {len(str(refused))} letters") from None
        return 1
    if where.partition(".")[0] in FREE:
        env = [entry for entry in body["Env"] if entry not in good["Env"]]
        if isinstance(body["User"], str) and not body["User"].startswith("0"):
            return 0 if all(isinstance(entry, str) for entry in env) else _let(where, body)
    return _let(where, body)


def _let(where: str, body: dict[str, Any]) -> int:
    raise Broken(f"{where} reaches the engine: {json.dumps(body)[:400]}")


def _plain_orders(chance: Random, directory: Path) -> int:
    """Whatever an order that is taken says, its container has every wall."""
    env = {chance.choice(("A", "PATH", "HOME", "NAME")): _text(chance) for _ in range(3)}
    spec = next(iter(_specs(chance)))
    assert isinstance(spec, RunSpec)
    spec = RunSpec(**{**_fields(spec), "env": env, "command": (_text(chance), _text(chance))})
    try:
        body = request_for(spec, user=USER)
    except ImageRefused:
        return 0
    refuse_unsafe(body, spec)
    host = body["HostConfig"]
    walls = (
        host["CapDrop"] == ["ALL"],
        host["CapAdd"] == [],
        host["NetworkMode"] == "none",
        host["ReadonlyRootfs"] is True,
        host["Privileged"] is False,
        host["SecurityOpt"] == security_options(),
        host["Memory"] == host["MemorySwap"] > 0,
        host["NanoCpus"] > 0,
        body["User"] == USER,
        {bind.split(":")[1] for bind in host["Binds"]} == {"/task/in", "/task/out"},
    )
    if not all(walls):
        raise Broken(f"an order moved a wall: {walls}")
    return 1


def _fields(spec: RunSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in RunSpec.__dataclass_fields__}


def _at_the_api(chance: Random) -> int:
    """The bodies of createTask and of an app's version: each wish in each place, one at a time."""
    tried = 0
    manifest = manifest_of(image=IMAGE).model_dump(mode="json")
    offer = offer_of(manifest=manifest_of(image=IMAGE)).model_dump(mode="json")
    order = {
        "terms": offer["terms"],
        "signature": offer["terms_signature"],
        "manifest": manifest,
        "sealed_keys": [],
        "secured": True,
    }
    handler = {"kind": "http", "port": 8000}
    app = AppManifest.model_validate({"image": IMAGE, "handler": handler}).model_dump(mode="json")
    wire.parse(wire.CreateTask, json.dumps(order))
    wire.parse(AppManifest, json.dumps(app))
    wishes = {**ASKED, **{name: chance.choice(WEIRD) for name in (*HOST_FIELDS, *BODY_FIELDS)}}
    places: tuple[tuple[type[wire.WireModel], dict[str, Any], tuple[str, ...]], ...] = (
        (wire.CreateTask, order, ("manifest",)),
        (wire.CreateTask, order, ("manifest", "resources")),
        (wire.CreateTask, order, ()),
        (AppManifest, app, ()),
        (AppManifest, app, ("resources",)),
        (AppManifest, app, ("handler",)),
    )
    for name, value in wishes.items():
        kind, good, way = chance.choice(places)
        body = copy.deepcopy(good)
        place = body
        for step in way:
            place = place[step]
        if name in place:
            continue
        place[name] = value
        try:
            wire.parse(kind, json.dumps(body))
        except ProtocolError as refused:
            if name not in str(refused):
                raise Broken(f"the refusal of {name} does not name it: {refused}") from None
            tried += 1
            continue
        raise Broken(f"{kind.__name__} takes {'.'.join((*way, name))}={value!r:.100}")
    for network in ("host", "bridge", "container:x", "", None, True, ["none"], {"mode": "none"}):
        body = copy.deepcopy(order)
        body["manifest"]["network"] = network
        try:
            wire.parse(wire.CreateTask, json.dumps(body))
        except ProtocolError:
            tried += 1
            continue
        raise Broken(f"createTask takes the network {network!r}")
    return tried


def _at_the_agent(chance: Random, directory: Path) -> int:
    """A backend that lies: its offers are read again, and their orders judged here."""
    tried = 0
    settings = settings_of(directory, runtime="docker")
    for changes in (
        {"image": "python:latest"},
        {"image": "registry.example/app"},
        {"image": "process"},
        {"image": "../" + IMAGE},
        {"image": f"https://evil/x@{IMAGE}"},
        {"env": {"LD_PRELOAD": "/x.so"}},
        {"env": {"ld_audit": "/x.so"}},
        {"env": {"NVIDIA_VISIBLE_DEVICES": "all"}},
        {"env": {"NVIDIA_DRIVER_CAPABILITIES": "all"}},
        {"env": {"CUDA_VISIBLE_DEVICES": "0"}},
        {"env": {"TALLYSTICK_SOCKET": "/x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0y"}},
        {"env": {_text(chance) + "\n": "x"}},
        {"command": ()},
        {"command": ("x\0y",)},
    ):
        order: dict[str, Any] = {"image": IMAGE, **changes}
        offer = offer_of(manifest=manifest_of(**order))
        try:
            check(offer, DOMAIN, settings, NOW_S)
        except OfferRefused:
            tried += 1
            continue
        raise Broken(f"the agent takes an order with {changes}")
    good = offer_of(manifest=manifest_of(image=IMAGE))
    check(good, DOMAIN, settings, NOW_S)
    body = good.model_dump(mode="json")
    for name in chance.sample([*ASKED, *HOST_FIELDS], 20):
        for way in ((), ("manifest",), ("manifest", "resources"), ("assignment",)):
            changed = copy.deepcopy(body)
            place = changed
            for step in way:
                place = place[step]
            if name in place:
                continue
            place[name] = chance.choice(WEIRD)
            try:
                wire.parse(wire.Offer, json.dumps(changed))
            except ProtocolError:
                tried += 1
                continue
            raise Broken(f"an offer with {'.'.join((*way, name))} is read")
    # A manifest that is not the one the consumer signed, in any figure.
    for field, value in (("cpu_milli", 100_000), ("memory_mib", 10**6), ("disk_mib", 10**6)):
        changed = copy.deepcopy(body)
        changed["manifest"]["resources"][field] = value
        try:
            check(wire.parse(wire.Offer, json.dumps(changed)), DOMAIN, settings, NOW_S)
        except OfferRefused:
            tried += 1
            continue
        raise Broken(f"the agent takes a manifest that nobody signed: {field}={value}")
    return tried


def _text(chance: Random) -> str:
    letters = "abcXYZ019_-./:=,;|&$`'\"\\ \t\u202e\u00e9\U0001f600"
    return "".join(chance.choice(letters) for _ in range(chance.randrange(1, 30)))


CAMPAIGN = Campaign(
    name="specs",
    title="Orders that ask for more than a container may have",
    rows={
        "engine": Row(
            f"Bodies for the engine with a field changed, added or bent, of {len(HOST_FIELDS)} "
            f"fields under HostConfig and {len(BODY_FIELDS)} beside it",
            "refused before they are sent, unless they are on the list",
        ),
        "plain": Row("Orders with any command and variables", "the container has every wall"),
        "orders": Row(
            "Wishes in orders and apps' versions, as an API gets them",
            "refused by the field's name",
        ),
        "agent": Row("Orders that a lying backend passes on", "the agent refuses them by itself"),
    },
    run=run,
    seeds=1,
)
