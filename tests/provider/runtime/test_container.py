"""container (case 107)
├── request_for: whatever a manifest says, the container gets the same narrow set
├── refuse_unsafe: every field of HostConfig that is changed, added or left out is refused
└── images: digests only, no LD_ variables, no wild volumes
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.errors import ImageRefused, RuntimeUnsafe
from tallystick_provider.runtime import RunSpec, TaskDirectory, WorkerSpec, seccomp
from tallystick_provider.runtime.container import (
    check_environment,
    check_image,
    check_image_name,
    check_socket_path,
    refuse_unsafe,
    request_for,
    worker_request_for,
)

IMAGE = "sha256:" + "ab" * 32
USER = "65532:65532"
OPTIONS = ["no-new-privileges:true", f"seccomp={seccomp.profile()}"]


def spec_of(**changes: Any) -> RunSpec:
    values: dict[str, Any] = {
        "provider": Address("0x" + "11" * 20),
        "task_id": TaskId(Digest("0x" + "22" * 32)),
        "fence": 1,
        "image": IMAGE,
        "command": ("python", "/task/in/train.py"),
        "env": {},
        "directory": TaskDirectory(Path("/data/tasks/x")),
        "gpu_ids": ("GPU-1",),
        "gpus_simulated": False,
        "cpu_milli": 1500,
        "memory_mib": 512,
        "disk_mib": 128,
        "max_output_mib": 64,
    }
    return RunSpec(**{**values, **changes})


TEXT = st.text(max_size=40)


@settings(deadline=None)
@given(
    command=st.lists(TEXT, min_size=1, max_size=5),
    env=st.dictionaries(st.text("ABCDEFXYZ_", min_size=1, max_size=10), TEXT, max_size=5),
    gpus=st.integers(0, 4),
    simulated=st.booleans(),
    cpu=st.integers(100, 256_000),
    memory=st.integers(64, 10**6),
    disk=st.integers(16, 10**6),
)
def test_no_manifest_widens_the_container(
    command: list[str],
    env: dict[str, str],
    gpus: int,
    simulated: bool,
    cpu: int,
    memory: int,
    disk: int,
) -> None:
    spec = spec_of(
        command=tuple(command),
        env=env,
        gpu_ids=tuple(f"GPU-{i}" for i in range(gpus)),
        gpus_simulated=simulated,
        cpu_milli=cpu,
        memory_mib=memory,
        disk_mib=disk,
    )
    try:
        body = request_for(spec, user=USER)
    except ImageRefused:
        return
    refuse_unsafe(body, spec)
    host = body["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == OPTIONS
    assert host["Memory"] == host["MemorySwap"] == memory * 2**20
    assert {bind.split(":")[1] for bind in host["Binds"]} == {"/task/in", "/task/out"}
    asked = [i for request in host["DeviceRequests"] for i in request["DeviceIDs"]]
    assert asked == ([] if simulated else list(spec.gpu_ids))


FORBIDDEN = {
    "Privileged": True,
    "Binds": ["/:/host:rw"],
    "CapAdd": ["SYS_ADMIN"],
    "CapDrop": [],
    "CgroupnsMode": "host",
    "DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
    "IpcMode": "host",
    "Memory": 0,
    "MemorySwap": -1,
    "NanoCpus": 0,
    "NetworkMode": "host",
    "PidsLimit": -1,
    "ReadonlyRootfs": False,
    "SecurityOpt": ["seccomp=unconfined"],
    "RestartPolicy": {"Name": "always"},
    "AutoRemove": True,
    "ShmSize": 2**40,
    "Tmpfs": {"/task/work": "rw"},
    "Ulimits": [],
    "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://10.0.0.1:514"}},
    # Fields that no task's container has at all:
    "PidMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "Devices": [{"PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem"}],
    "DeviceCgroupRules": ["a *:* rwm"],
    "Mounts": [{"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/s"}],
    "VolumesFrom": ["other"],
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "GroupAdd": ["0"],
    "ExtraHosts": ["metadata:169.254.169.254"],
    "Dns": ["10.0.0.1"],
    "Links": ["other"],
    "PortBindings": {"22/tcp": [{"HostPort": "22"}]},
    "PublishAllPorts": True,
    "CgroupParent": "/",
    "OomScoreAdj": -1000,
    "OomKillDisable": True,
    "Runtime": "runc-unsafe",
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "Isolation": "process",
    "VolumeDriver": "nfs",
    "StorageOpt": {"size": "1T"},
    "Init": False,
    "ContainerIDFile": "/etc/cron.d/x",
}


@pytest.mark.parametrize("field", sorted(FORBIDDEN))
def test_every_other_host_config_is_refused(field: str) -> None:
    spec = spec_of()
    body = request_for(spec, user=USER)
    body["HostConfig"][field] = FORBIDDEN[field]
    with pytest.raises(RuntimeUnsafe, match=field):
        refuse_unsafe(body, spec)


@pytest.mark.parametrize(
    "options",
    [
        [],
        OPTIONS[:1],
        OPTIONS[1:],
        OPTIONS[::-1],
        [*OPTIONS, "seccomp=unconfined"],
        [*OPTIONS, "apparmor=unconfined"],
        [OPTIONS[0], "seccomp=unconfined"],
        [OPTIONS[0], "seccomp=" + '{"defaultAction":"SCMP_ACT_ALLOW"}'],
        [OPTIONS[0], OPTIONS[1].replace('"mseal"', '"io_uring_setup"')],
        ["no-new-privileges:false", OPTIONS[1]],
        tuple(OPTIONS),
    ],
)
def test_only_our_own_filter_is_taken(options: Any) -> None:
    spec = spec_of()
    body = request_for(spec, user=USER)
    assert body["HostConfig"]["SecurityOpt"] == OPTIONS
    body["HostConfig"]["SecurityOpt"] = options
    with pytest.raises(RuntimeUnsafe, match="SecurityOpt") as refused:
        refuse_unsafe(body, spec)
    assert len(str(refused.value)) < 500


def test_a_missing_protection_is_refused() -> None:
    spec = spec_of()
    whole = request_for(spec, user=USER)
    for field in whole["HostConfig"]:
        body = copy.deepcopy(whole)
        del body["HostConfig"][field]
        with pytest.raises(RuntimeUnsafe, match=field):
            refuse_unsafe(body, spec)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("User", "0:0"),
        ("User", "root"),
        ("User", ""),
        ("User", "1000"),
        ("Image", "python:latest"),
        ("NetworkDisabled", False),
        ("Env", ["LD_PRELOAD=/x.so"]),
        ("ExposedPorts", {"22/tcp": {}}),
        ("Volumes", {"/x": {}}),
        ("Healthcheck", {"Test": ["CMD", "x"]}),
        ("NetworkingConfig", {}),
        ("MacAddress", "02:42:ac:11:00:02"),
    ],
)
def test_every_other_body_is_refused(field: str, value: Any) -> None:
    spec = spec_of()
    body = {**request_for(spec, user=USER), field: value}
    with pytest.raises(RuntimeUnsafe, match=field):
        refuse_unsafe(body, spec)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Ulimits", [{"Name": n, "Soft": -1, "Hard": -1} for n in ("core", "fsize", "nofile")]),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "-1", "max-file": "99"}}),
        (
            "Tmpfs",
            {"/task/work": "rw,nosuid,nodev,size=99999999m", "/tmp": "rw,nosuid,nodev,size=1m"},
        ),
        ("PidsLimit", 1),
        ("Tmpfs", []),
        ("LogConfig", 1),
    ],
)
def test_a_size_of_its_own_is_refused(field: str, value: Any) -> None:
    """Case 107: the names in these were right, and nobody looked at the figures."""
    spec = spec_of()
    body = request_for(spec, user=USER)
    body["HostConfig"][field] = value
    with pytest.raises(RuntimeUnsafe, match=field):
        refuse_unsafe(body, spec)


@pytest.mark.parametrize("path", ["/etc", "/dev/shm", "/a/../etc", "/proc", "/run/x", "relative"])
def test_no_memory_disk_lies_over_the_systems_own(path: str) -> None:
    spec = spec_of()
    body = request_for(spec, user=USER, volumes=("/data",))
    refuse_unsafe(body, spec)
    body["HostConfig"]["Tmpfs"][path] = body["HostConfig"]["Tmpfs"]["/data"]
    with pytest.raises(RuntimeUnsafe, match="Tmpfs"):
        refuse_unsafe(body, spec)


def test_cards_of_others_are_refused() -> None:
    spec = spec_of(gpu_ids=("GPU-1",))
    other = request_for(spec_of(gpu_ids=("GPU-2",)), user=USER)
    with pytest.raises(RuntimeUnsafe, match="DeviceRequests"):
        refuse_unsafe(other, spec)


def test_the_images_own_command_is_not_mixed_in() -> None:
    body = request_for(spec_of(command=("sh",)), user=USER)
    assert (body["Entrypoint"], body["Cmd"]) == (["sh"], [])


def test_without_cards_the_gpu_hook_is_told_so() -> None:
    for spec in (spec_of(gpu_ids=()), spec_of(gpus_simulated=True)):
        assert "NVIDIA_VISIBLE_DEVICES=void" in request_for(spec, user=USER)["Env"]


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.11",
        "registry.example/app",
        "app@sha256:" + "AB" * 32,
        "app@sha256:" + "ab" * 31,
        "https://evil/app@sha256:" + "ab" * 32,
        "../x@sha256:" + "ab" * 32,
        " " + IMAGE,
        IMAGE + "\n",
        "",
    ],
)
def test_images_that_can_move_are_refused(image: str) -> None:
    with pytest.raises(ImageRefused, match="not pinned"):
        check_image_name(image)


def test_pinned_images_name_their_repository() -> None:
    assert check_image_name(IMAGE) is None
    assert check_image_name("ghcr.io/a/b@" + IMAGE) == "ghcr.io/a/b"
    assert check_image_name("localhost:5000/b@" + IMAGE) == "localhost:5000/b"


@pytest.mark.parametrize(
    "env",
    [
        {"LD_PRELOAD": "x"},
        {"ld_library_path": "x"},
        {"NVIDIA_VISIBLE_DEVICES": "all"},
        {"TALLYSTICK_TASK_ID": "0x"},
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"A=B": "x"},
        {"": "x"},
        {"A": "x\0y"},
    ],
)
def test_reserved_and_malformed_variables_are_refused(env: dict[str, str]) -> None:
    with pytest.raises(ImageRefused):
        check_environment(env)


def test_declared_volumes_become_bounded_memory() -> None:
    volumes = check_image({"Volumes": {"/data": {}}, "Env": ["PATH=/bin"]})
    body = request_for(spec_of(), user=USER, volumes=volumes)
    assert "size=64m" in body["HostConfig"]["Tmpfs"]["/data"]
    refuse_unsafe(body, spec_of())


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["LD_PRELOAD=/evil.so"]},
        {"Volumes": {"/proc": {}}},
        {"Volumes": {"/etc/x": {}}},
        {"Volumes": {"/a/../../b": {}}},
        {"Volumes": {"/a:rw": {}}},
        {"Volumes": {f"/v{i}": {} for i in range(9)}},
    ],
)
def test_images_with_other_wishes_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ImageRefused):
        check_image(config)


def worker_of(**changes: Any) -> WorkerSpec:
    values: dict[str, Any] = {
        "provider": Address("0x" + "11" * 20),
        "name": "w1",
        "image": IMAGE,
        "project": None,
        "directory": TaskDirectory(Path("/data/workers/w1")),
        "socket_path": "/run/tallystick/worker.sock",
        "gpu_ids": ("GPU-1",),
        "gpus_simulated": False,
        "cpu_milli": 1500,
        "memory_mib": 512,
        "disk_mib": 128,
    }
    return WorkerSpec(**{**values, **changes})


class TestWorkers:
    def test_have_every_wall_of_a_task(self) -> None:
        task, worker = spec_of(), worker_of()
        of_task = request_for(task, user=USER)["HostConfig"]
        of_worker = worker_request_for(worker, user=USER)["HostConfig"]
        assert of_worker.pop("Binds") == ["/data/workers/w1/out:/run/tallystick:rw"]
        of_task.pop("Binds")
        assert of_worker == of_task

    def test_run_what_their_image_says_where_it_says(self) -> None:
        body = worker_request_for(worker_of(), user=USER)
        refuse_unsafe(body, worker_of())
        assert not {"Entrypoint", "Cmd", "WorkingDir"} & set(body)
        assert "TALLYSTICK_SOCKET=/run/tallystick/worker.sock" in body["Env"]
        assert set(body["Labels"]) == {"tallystick.provider", "tallystick.worker"}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("Entrypoint", ["/bin/sh"]),
            ("Cmd", ["x"]),
            ("Labels", {"tallystick.provider": "x", "tallystick.task": "y"}),
            ("User", "0:0"),
            ("Env", ["LD_PRELOAD=x", "TALLYSTICK_SOCKET=/run/tallystick/worker.sock"]),
            ("Env", []),
            ("Hostname", "task"),
        ],
    )
    def test_another_field_is_refused(self, field: str, value: Any) -> None:
        body = {**worker_request_for(worker_of(), user=USER), field: value}
        with pytest.raises(RuntimeUnsafe, match=field):
            refuse_unsafe(body, worker_of())

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("Binds", ["/:/run/tallystick:rw"]),
            ("Binds", []),
            ("NetworkMode", "bridge"),
            ("Privileged", True),
            ("CapAdd", ["SYS_ADMIN"]),
            ("ReadonlyRootfs", False),
            ("Devices", [{"PathOnHost": "/dev/mem"}]),
        ],
    )
    def test_another_wall_is_refused(self, field: str, value: Any) -> None:
        body = worker_request_for(worker_of(), user=USER)
        body["HostConfig"][field] = value
        with pytest.raises(RuntimeUnsafe, match=f"HostConfig.{field}"):
            refuse_unsafe(body, worker_of())

    @pytest.mark.parametrize("path", ["/run/app/a.sock", "/srv/x.sock", "/var/run/app/a.b"])
    def test_socket_in_a_folder_of_its_own(self, path: str) -> None:
        check_socket_path(path)

    @pytest.mark.parametrize(
        "path",
        [
            "/a.sock",
            "a/b",
            "/run/a.sock",
            "/tmp/a.sock",
            "/tmp/x/a.sock",
            "/etc/app/a.sock",
            "/task/work/a.sock",
            "/run/../etc/a.sock",
            "/run//a.sock",
            "/run/app/",
            "/run/app/a:rw",
            "/usr/lib/a.sock",
            "/proc/1/a",
        ],
    )
    def test_socket_in_a_folder_of_the_systems(self, path: str) -> None:
        with pytest.raises(ImageRefused):
            check_socket_path(path)
