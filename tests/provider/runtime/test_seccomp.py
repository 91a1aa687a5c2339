"""seccomp (case 111)
├── every system call of the machine's headers is decided, in one place
├── the profile says what the tables say, for the machine's own ABI only
└── ordinary programs run under it, as does one whose call no engine knows
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from tallystick.devnet.images import engine_answers, python_image
from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.runtime import RunSpec, TaskDirectory, seccomp
from tallystick_provider.runtime.container import refuse_unsafe, request_for
from tests.provider.runtime import ordinary

HEADERS = (
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm/unistd_64.h"),
)
GENERIC = Path("/usr/include/asm-generic/unistd.h")
LAST_DECIDED = 469
SINCE_6_2 = """
    cachestat fchmodat2 file_getattr file_setattr futex_requeue futex_wait futex_wake getxattrat
    listmount listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack
    mseal open_tree_attr removexattrat setxattrat statmount uprobe uretprobe
"""
"""Newer than many machines' headers."""
NOT_64_BIT = re.compile(
    r".*time(_interval)?64|.*_(get|set)time64|fstatat64|fstat64|sync_file_range2|arch_specific_syscall"
)


def decided() -> list[str]:
    allowed = " ".join(seccomp.ALLOWED.values())
    refused = " ".join((*seccomp.ABSENT, *seccomp.REFUSED))
    return [*f"{allowed} {seccomp.TRACING} {refused}".split(), *seccomp.CONDITIONAL]


def known() -> set[str]:
    header = next((path for path in HEADERS if path.exists()), None)
    if header is None or not GENERIC.exists():
        pytest.skip("this machine has no kernel headers of x86_64 (linux-libc-dev)")
    found = re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text())
    # What aarch64 takes of the table that most architectures share.
    found += re.findall(r"#define __NR_(\w+)\s+(\d+)", GENERIC.read_text())
    return {name for name, number in found if int(number) <= LAST_DECIDED} - {
        name for name, _ in found if NOT_64_BIT.fullmatch(name)
    }


def test_no_call_is_decided_twice() -> None:
    assert [name for name, times in Counter(decided()).items() if times > 1] == []


def test_every_call_of_the_headers_is_decided() -> None:
    assert known() - set(decided()) - {"syscalls"} == set()


def test_nothing_is_decided_that_no_kernel_has() -> None:
    assert set(decided()) - known() - set(SINCE_6_2.split()) == set()


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(seccomp.profile())["syscalls"]
    return found


def test_what_is_not_named_is_refused() -> None:
    whole = json.loads(seccomp.profile())
    assert whole["defaultAction"] == "SCMP_ACT_ERRNO"
    named = {name for rule in rules() for name in rule["names"]}
    assert named.isdisjoint(" ".join(seccomp.REFUSED).split())


def test_only_the_machines_own_abi_is_allowed() -> None:
    architectures = json.loads(seccomp.profile())["archMap"]
    assert [found["subArchitectures"] for found in architectures] == [[], []]


@pytest.mark.parametrize("name", [*seccomp.CONDITIONAL])
def test_a_conditional_call_is_never_allowed_as_a_whole(name: str) -> None:
    found = [rule for rule in rules() if name in rule["names"]]
    assert found
    assert all(rule["args"] for rule in found)


def allows(name: str, *arguments: int) -> bool:
    return any(
        all(arguments[a["index"]] & a["value"] == a["valueTwo"] for a in rule.get("args", ()))
        for rule in rules()
        if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"
    )


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ((1, 1 | 0o2000000, 0), True),
        ((1, 5, 0), True),
        ((2, 1 | 0o2004000, 6), True),
        ((2, 2, 17), True),
        ((10, 1, 0), True),
        ((16, 3, 0), True),
        ((1 << 32 | 2, 1, 0), True),  # the kernel does not look at the upper half
        ((2, 3, 0), False),  # raw
        ((2, 6, 0), False),  # DCCP
        ((2, 1, 132), False),  # SCTP
        ((2, 1, 262), False),  # MPTCP
        ((10, 2, 58), False),  # ping
        ((16, 3, 12), False),  # the firewall
        ((17, 3, 0x300), False),  # frames
        ((38, 5, 0), False),  # the kernel's cryptography
        ((40, 1, 0), False),  # the hypervisor
        ((1 << 32 | 40, 1, 0), False),
    ],
)
def test_sockets(arguments: tuple[int, int, int], allowed: bool) -> None:
    assert allows("socket", *arguments) is allowed


@pytest.mark.parametrize("bit", range(32))
def test_clone_makes_no_namespace(bit: int) -> None:
    new = {17, *range(25, 31)}  # CLONE_NEWNS, and from CLONE_NEWCGROUP to CLONE_NEWNET
    assert allows("clone", 17 | 1 << bit) is (bit not in new)


def test_socket_pairs_and_personalities() -> None:
    assert allows("socketpair", 1, 1, 0)
    assert not allows("socketpair", 30, 1, 0)
    assert not allows("personality", 0x0040_0000)  # READ_IMPLIES_EXEC
    assert not allows("personality", 0x0008)  # a 32-bit machine


@pytest.fixture
def api() -> Iterator[Any]:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    if platform.machine() != "x86_64":
        pytest.skip("the programs know the system calls of x86_64 only")
    with closing(docker.APIClient(version="auto", timeout=60)) as api:
        yield api


def run(api: Any, place: Path, *command: str) -> tuple[int, str]:
    directory = TaskDirectory(place / "task")
    for path in (directory.input, directory.output):
        path.mkdir(parents=True)
    for path in (place, place.parent):
        path.chmod(0o755)
    (directory.input / "ordinary.py").write_text(Path(ordinary.__file__).read_text())
    spec = RunSpec(
        provider=Address("0x" + os.urandom(20).hex()),
        task_id=TaskId(Digest("0x" + os.urandom(32).hex())),
        fence=1,
        image=python_image(),
        command=command,
        env={},
        directory=directory,
        gpu_ids=(),
        gpus_simulated=True,
        cpu_milli=1000,
        memory_mib=512,
        disk_mib=16,
        max_output_mib=16,
    )
    body = request_for(spec, user="65532:65532")
    refuse_unsafe(body, spec)
    made = api.create_container_from_config(body, f"tallystick-ordinary-{os.urandom(4).hex()}")
    try:
        api.start(made["Id"])
        deadline = time.monotonic() + 120
        while api.inspect_container(made["Id"])["State"]["Running"]:
            assert time.monotonic() < deadline, api.logs(made["Id"]).decode()[-2000:]
            time.sleep(0.1)
        code = api.inspect_container(made["Id"])["State"]["ExitCode"]
        return code, api.logs(made["Id"]).decode()[-3000:]
    finally:
        api.remove_container(made["Id"], force=True)


@pytest.mark.docker
def test_ordinary_programs_run(api: Any, tmp_path: Path) -> None:
    code, said = run(api, tmp_path, "/usr/bin/python3", "/task/in/ordinary.py")
    assert (code, said) == (0, "every one works\n")


TRAIN = """
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
rows, labels = make_classification(200, random_state=1)
model = RandomForestClassifier(8, n_jobs=2, random_state=1).fit(rows, labels)
print(model.score(rows, labels) > 0.9)
"""


@pytest.mark.docker
def test_a_model_is_trained(api: Any, tmp_path: Path) -> None:
    code, said = run(api, tmp_path, "/usr/bin/python3", "-c", TRAIN)
    assert (code, said.splitlines()[-1]) == (0, "True")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("number", "error"),
    [(9_999, "ENOSYS"), (435, "ENOSYS"), (425, "ENOSYS"), (272, "EPERM"), (250, "EPERM")],
)
def test_what_programs_are_told(api: Any, tmp_path: Path, number: int, error: str) -> None:
    """A call of later kernels, clone3 and io_uring are absent; unshare and keyctl are refused."""
    ask = (
        "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True);"
        f"assert libc.syscall(ctypes.c_long({number}), 0, 0, 0, 0) == -1;"
        "print(errno.errorcode[ctypes.get_errno()])"
    )
    assert run(api, tmp_path, "/usr/bin/python3", "-c", ask) == (0, error + "\n")
