"""docker runtime against a real engine
├── 108 inside: no capabilities, no new privileges, seccomp on, not root, read-only root
├── 109, 110 fork, memory and disk bombs stay in their box
├── 113 no network; 117 nothing of the agent's inside
├── 116 what ignores SIGTERM is gone in time; what is held stands still, and is gone as well
├── own containers only; found again after a restart
└── images: local by id, unpinned refused, registries inside the network refused
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider.errors import ImageRefused, RuntimeFailure, RuntimeUnsafe
from tallystick_provider.runtime import (
    Finding,
    LogCursor,
    RunRef,
    RunSpec,
    RunState,
    TaskDirectory,
    sockets,
)
from tallystick_provider.runtime.docker import (
    DockerRuntime,
    _engine,
    api_finding,
    findings,
    log_messages,
    log_pieces,
    log_read,
    release_of,
    require_socket,
    runc_finding,
    state_of,
    to_ms,
    toolkit_is_fixed,
)
from tallystick_provider.runtime.images import refuse_internal_registry
from tests.provider.runtime.engines import busybox_image
from tests.provider.waiting import until

PROVIDER = Address("0x" + os.urandom(20).hex())
MIB = 1024 * 1024
Make = Callable[..., RunSpec]


def engine() -> Any:
    try:
        require_socket("")  # the SDK would leave a socket open
        api = docker.APIClient(version="auto", timeout=60)
        api.ping()
    except (DockerException, OSError) as error:
        pytest.skip(f"no Docker engine answers: {error}")
    return api


@pytest.fixture(scope="module")
def image() -> str:
    api = engine()
    made = busybox_image(api)
    api.close()
    return made


@pytest.fixture
def make(tmp_path: Path, image: str) -> Make:
    def make(script: str, **changes: Any) -> RunSpec:
        directory = TaskDirectory(tmp_path / "task")
        for place in (directory.input, directory.output):
            place.mkdir(parents=True, exist_ok=True)
        tmp_path.chmod(0o755)
        (directory.input / "data").write_text("input")
        values: dict[str, Any] = {
            "provider": PROVIDER,
            "task_id": TaskId(Digest("0x" + os.urandom(32).hex())),
            "fence": 1,
            "image": image,
            "command": ("/bin/sh", "-c", script),
            "env": {"NAME": "value"},
            "directory": directory,
            "gpu_ids": (),
            "gpus_simulated": True,
            "cpu_milli": 500,
            "memory_mib": 64,
            "disk_mib": 16,
            "max_output_mib": 16,
        }
        return RunSpec(**{**values, **changes})

    return make


@pytest.fixture
async def runtime(image: str) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(PROVIDER)
    yield runtime
    for ref in await runtime.own():
        await runtime.remove(ref)
    await runtime.close()


async def ended(runtime: DockerRuntime, ref: RunRef, within_s: float = 60) -> RunState:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        state = await runtime.state(ref)
        if state.status == "exited":
            return state
        await asyncio.sleep(0.1)
    raise AssertionError("the container did not end in time")


async def said(runtime: DockerRuntime, ref: RunRef) -> str:
    read = await runtime.logs(ref, LogCursor())
    return "".join(piece.text for piece in read.pieces)


async def run(runtime: DockerRuntime, spec: RunSpec) -> tuple[RunState, str]:
    ref = await runtime.start(spec)
    state = await ended(runtime, ref)
    return state, await said(runtime, ref)


@pytest.mark.docker
async def test_state_inside_is_as_narrow_as_promised(runtime: DockerRuntime, make: Make) -> None:
    state, text = await run(
        runtime,
        make(
            "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; busybox id -u;"
            "echo x > /rootfile; mount -t tmpfs x /task/work; cat /task/in/data;"
            "echo x > /task/in/data; echo result > /task/out/r && echo wrote".replace(
                "grep", "busybox grep"
            )
        ),
    )
    assert "CapEff:\t0000000000000000" in text
    assert "CapBnd:\t0000000000000000" in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    (user,) = [int(line) for line in text.splitlines() if line.isdigit()]
    assert user >= 65_532 if os.geteuid() == 0 else user == os.geteuid()
    assert "/rootfile: Read-only file system" in text
    assert "mount: " in text
    assert "input" in text
    assert "/task/in/data: Read-only file system" in text
    assert "wrote" in text
    assert state.exit_code == 0
    assert state.started_ms is not None
    assert state.ended_ms is not None
    assert abs(state.ended_ms - time.time() * 1000) < 60_000


@pytest.mark.docker
async def test_nothing_of_the_agent_is_inside(
    runtime: DockerRuntime, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TALLYSTICK_PROVIDER_KEY_FILE", "CANARY-env")
    (tmp_path / "operator.key").write_text("CANARY-file")
    _, text = await run(
        runtime,
        make(
            "env; busybox grep -rl CANARY / --exclude-dir=proc --exclude-dir=sys 2>/dev/null;"
            "cat /proc/*/environ /proc/*/cmdline 2>/dev/null; busybox ls -a /run /var 2>&1;"
            "busybox find / -xdev -name '*.sock' 2>/dev/null; echo end".replace(
                "grep -rl CANARY", "grep -rl CANAR[Y]"
            )
        ),
    )
    assert "CANARY" not in text
    assert "docker.sock" not in text
    assert "NAME=value" in text
    assert text.endswith("end\n")


@pytest.mark.docker
async def test_there_is_no_network(runtime: DockerRuntime, make: Make) -> None:
    _, text = await run(
        runtime,
        make(
            "busybox ip link; busybox ip route; for to in 169.254.169.254 172.17.0.1 1.1.1.1; do"
            " busybox wget -T 2 -O - http://$to/ && echo REACHED;"
            " busybox ping -c 1 -W 1 $to && echo REACHED; done;"
            "busybox nslookup example.org 1.1.1.1 && echo REACHED; echo end"
        ),
    )
    interfaces = [line for line in text.splitlines() if line[:1].isdigit() and ": " in line]
    assert all("UP" not in line or ": lo:" in line for line in interfaces), text
    assert "REACHED" not in text
    assert " via " not in text
    assert "end\n" in text


@pytest.mark.docker
async def test_a_fork_bomb_stays_in_its_box(runtime: DockerRuntime, make: Make) -> None:
    # Memory for all of them, so that it is the limit on processes that holds.
    ref = await runtime.start(
        make(
            "i=0; while [ $i -lt 2000 ]; do sleep 60 & i=$((i+1)); done; echo all; sleep 60",
            memory_mib=1024,
        )
    )

    async def refused() -> bool:
        return "fork" in await said(runtime, ref)

    await until(refused, 60)
    started = time.monotonic()
    await (await asyncio.create_subprocess_exec("true")).wait()
    assert time.monotonic() - started < 2
    await runtime.stop(ref, 1)
    text = await said(runtime, ref)
    assert "all" not in text.splitlines()


@pytest.mark.docker
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("x=aaaaaaaa; while true; do x=$x$x; done", id="heap"),
        pytest.param("dd if=/dev/zero of=/task/work/x bs=1M count=512", id="tmpfs"),
        pytest.param("dd if=/dev/zero of=/dev/shm/x bs=1M count=512", id="shared memory"),
    ],
)
async def test_memory_bombs_are_killed_or_refused(
    runtime: DockerRuntime, make: Make, script: str
) -> None:
    state, _ = await run(runtime, make(script, disk_mib=512))
    assert state.exit_code != 0


@pytest.mark.docker
async def test_disk_bombs_hit_their_cap(runtime: DockerRuntime, make: Make, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    state, text = await run(
        runtime,
        make(
            "dd if=/dev/zero of=/big bs=1M count=100 2>&1;"
            "for i in 1 2 3; do dd if=/dev/zero of=/task/work/$i bs=1M count=10 2>&1; done;"
            "dd if=/dev/zero of=/task/out/big bs=1M count=100"
        ),
    )
    assert state.exit_code != 0
    assert "Read-only file system" in text
    assert "No space left" in text
    assert (tmp_path / "task/out/big").stat().st_size <= 16 * MIB
    assert free - shutil.disk_usage(tmp_path).free < 200 * MIB


@pytest.mark.docker
async def test_an_endless_log_is_bounded(runtime: DockerRuntime, make: Make) -> None:
    ref = await runtime.start(make("while true; do echo 0123456789012345678901234567890; done"))
    await asyncio.sleep(2)
    await runtime.stop(ref, 1)
    read = await runtime.logs(ref, LogCursor())
    assert sum(len(piece.text) for piece in read.pieces) <= 8 * MIB


@pytest.mark.docker
async def test_what_ignores_sigterm_is_gone_in_time(runtime: DockerRuntime, make: Make) -> None:
    ref = await runtime.start(make("trap '' TERM; echo up; while true; do sleep 1; done"))

    async def up() -> bool:
        return "up" in await said(runtime, ref)

    await until(up)
    started = time.monotonic()
    await runtime.stop(ref, 1)
    assert time.monotonic() - started < 10
    assert (await runtime.state(ref)).exit_code == 137
    await runtime.remove(ref)
    assert (await runtime.state(ref)).status == "gone"
    await runtime.remove(ref)


@pytest.mark.docker
async def test_a_new_agent_finds_its_containers_and_no_others(
    runtime: DockerRuntime, make: Make
) -> None:
    spec = make("echo one; sleep 2; echo two >&2; exit 5")
    ref = await runtime.start(spec)
    again = DockerRuntime(PROVIDER)
    assert await again.start(spec) == ref
    assert list(await again.own()) == [ref]
    assert (await ended(again, ref)).exit_code == 5
    stranger = DockerRuntime(Address("0x" + "99" * 20))
    assert list(await stranger.own()) == []
    for verb in (stranger.remove(ref), stranger.stop(ref, 1), stranger.state(ref)):
        with pytest.raises(RuntimeUnsafe, match="not this provider's"):
            await verb
    assert (await again.state(ref)).status == "exited"
    await again.close()
    await stranger.close()


@pytest.mark.docker
async def test_logs_continue_where_they_were_left(runtime: DockerRuntime, make: Make) -> None:
    ref = await runtime.start(make("for i in 1 2 3 4 5; do echo $i; sleep 0.3; done"))
    text, cursor = "", LogCursor()
    while (await runtime.state(ref)).status == "running":
        read = await runtime.logs(ref, cursor)
        text += "".join(piece.text for piece in read.pieces)
        cursor = LogCursor(read.cursor.position)
        await asyncio.sleep(0.1)
    text += "".join(p.text for p in (await runtime.logs(ref, cursor)).pieces)
    assert text == "1\n2\n3\n4\n5\n"


@pytest.mark.docker
async def test_what_is_held_stands_still_and_can_be_ended(
    runtime: DockerRuntime, make: Make
) -> None:
    ref = await runtime.start(make("i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"))

    async def lines() -> int:
        return len((await said(runtime, ref)).splitlines())

    async def begun() -> bool:
        return await lines() > 0

    await until(begun)
    await runtime.hold(ref)
    await runtime.hold(ref)
    state = await runtime.state(ref)
    assert (state.status, state.held) == ("running", True)
    if os.geteuid() == 0:
        assert state.log_bytes
    await asyncio.sleep(0.3)
    before = await lines()
    await asyncio.sleep(0.5)
    assert await lines() == before
    await runtime.go_on(ref)
    await runtime.go_on(ref)
    assert not (await runtime.state(ref)).held
    await asyncio.sleep(0.5)
    assert await lines() > before
    await runtime.hold(ref)
    await runtime.stop(ref, 1)
    assert (await runtime.state(ref)).status == "exited"
    await runtime.hold(ref)
    await runtime.remove(ref)
    await runtime.hold(ref)
    await runtime.go_on(ref)


@pytest.mark.docker
async def test_what_is_held_can_be_removed(runtime: DockerRuntime, make: Make) -> None:
    ref = await runtime.start(make("sleep 60"))
    await runtime.hold(ref)
    await runtime.remove(ref)
    assert (await runtime.state(ref)).status == "gone"


@pytest.mark.docker
async def test_what_is_in_its_sockets_counts_as_memory(runtime: DockerRuntime, make: Make) -> None:
    """Case 109: by itself on cgroup v2; on v1 the kernel counts it for itself, without a bound."""
    controller = sockets._controller(sockets.MOUNTS)
    if controller is None:
        pytest.skip("cgroup v2")
    ref = await runtime.start(make("sleep 30"))
    group = controller / sockets.PARENT / ref.handle
    assert (group / sockets.BOUND).read_text().strip() == str(64 * MIB)
    await runtime.remove(ref)
    assert not group.exists()


@pytest.mark.docker
async def test_an_image_that_is_not_here_is_the_tasks_fault(runtime: DockerRuntime) -> None:
    with pytest.raises(ImageRefused, match="not on this provider"):
        await runtime.prepare("sha256:" + "12" * 32)


@pytest.mark.docker
async def test_a_command_that_is_not_there_is_the_tasks_fault(
    runtime: DockerRuntime, make: Make
) -> None:
    with pytest.raises(ImageRefused, match="does not start"):
        await runtime.start(make("", command=("/no/such/program",)))
    assert list(await runtime.own()) == []


@pytest.mark.docker
async def test_the_engine_here_keeps_what_tasks_rely_on(image: str) -> None:
    runtime = DockerRuntime(PROVIDER, runc_accepted="any")
    report = await runtime.probe()
    await runtime.close()
    assert report.safe, [f for f in report.findings if not f.ok]


async def test_no_engine_says_what_to_do() -> None:
    runtime = DockerRuntime(PROVIDER, "unix:///no/such/docker.sock")
    with pytest.raises(RuntimeFailure, match="systemctl start docker"):
        await runtime.probe()


def test_an_engine_that_ends_in_the_middle_of_an_answer_does_not_answer() -> None:
    """A task's log is read as it comes over the wire; the task goes on without us."""
    with pytest.raises(RuntimeFailure, match="no container engine answers"), _engine(""):
        raise ProtocolError("Connection broken: IncompleteRead(0 bytes read)")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"SecurityOptions": []}, "docker seccomp"),
        ({"PidsLimit": False}, "docker process limit"),
        ({"MemoryLimit": False}, "docker memory limit"),
        ({"CpuCfsQuota": False}, "docker CPU limit"),
        ({"CgroupVersion": "1", "CgroupDriver": "systemd"}, "docker socket memory"),
    ],
)
def test_an_engine_without_a_protection_is_named(change: dict[str, Any], name: str) -> None:
    info = {
        "SecurityOptions": ["name=seccomp,profile=default"],
        "MemoryLimit": True,
        "SwapLimit": True,
        "PidsLimit": True,
        "CpuCfsQuota": True,
        "CgroupVersion": "2",
        **change,
    }
    version = {"ApiVersion": "1.41", "Components": [{"Name": "runc", "Version": "1.3.3"}]}
    bad = [finding for finding in findings(info, version) if not finding.ok]
    assert [finding.name for finding in bad] == [name]
    assert bad[0].fix


def test_the_engines_own_filter_does_not_matter_for_tasks() -> None:
    options = {"SecurityOptions": ["name=seccomp,profile=unconfined"]}
    (found,) = [f for f in findings(options, {}) if f.name == "docker seccomp"]
    assert found.ok


def runc(version: str, accepted: str = "", **info: Any) -> Finding:
    parts = {"Components": [{"Name": "runc", "Version": version}]}
    return runc_finding({"DefaultRuntime": "runc", **info}, parts, accepted)


@pytest.mark.parametrize(
    "version",
    [
        *("1.2.8", "v1.2.8", "1.2.9", "1.2.10", "1.2.8+ds1-1+deb13u1", "1.2.8-0ubuntu1~24.04.2"),
        *(
            "1.3.3",
            "1.3.3-1.el9",
            "1.3.10",
            "1.4.0",
            "1.4.0-rc.3",
            "1.4.0~rc4+ds",
            "1.4.1",
            "2.0.0",
        ),
        *("1.4.0-rc.10", "runc version 1.3.3"),
    ],
)
def test_a_runc_with_its_holes_closed_is_taken(version: str) -> None:
    """Cases 115 and 123, whatever a distribution adds to the number."""
    assert runc(version).ok


@pytest.mark.parametrize(
    "version",
    [
        *(
            "1.1.5+ds1",
            "1.1.15",
            "1.2.7",
            "1.2.8-rc.1",
            "1.2.8~rc1+ds1",
            "1.3.2",
            "1.3.0",
            "1.3.3-rc1",
        ),
        *(
            "1.3.3+dev",
            "1.4.0-rc.2",
            "1.4.0-rc.1",
            "1.4.0-alpha",
            "0.9.9",
            "",
            "unknown",
            "1.2",
            "8",
        ),
        *("go1.22.3", "1.2.8.1", "-1.2.7", "\u0661.\u0662.\u0668", "a" * 10_000, "1." * 10_000),
    ],
)
def test_any_other_runc_is_refused_until_the_provider_vouches_for_it(version: str) -> None:
    refused = runc(version)
    assert not refused.ok
    assert "CVE-2025-31133" in refused.fix
    assert runc(version, "any").ok
    assert "RUNC_ACCEPTED" in runc(version, "any").found
    assert runc(version, version).ok == bool(version)
    assert not runc(version, "1.1.4").ok


def test_a_version_that_was_vouched_for_is_not_another() -> None:
    assert runc("1.1.5+ds1", "1.1.5+ds1").ok
    assert not runc("1.1.5+ds1-1", "1.1.5+ds1").ok


@pytest.mark.parametrize("default", ["runsc", "kata-runtime", "crun"])
def test_an_engine_that_starts_tasks_in_something_else_says_so(default: str) -> None:
    found = runc("1.1.5", DefaultRuntime=default)
    assert found.ok
    assert default in found.found


def test_nvidias_runtime_hands_on_to_runc() -> None:
    assert not runc("1.1.5", DefaultRuntime="nvidia").ok
    assert not runc_finding({}, {}, "").ok


@pytest.mark.parametrize(
    ("version", "ok"),
    [
        *(("1.41", True), ("1.50", True), ("2.0", True)),
        *(("1.40", False), ("1.9", False), ("", False), ("1.41beta", False)),
    ],
)
def test_an_engine_that_drops_fields_is_refused(version: str, ok: bool) -> None:
    assert api_finding(version).ok == ok


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.8", True),
        ("NVIDIA Container Toolkit CLI version 1.17.8-rc.1", False),
        ("NVIDIA Container Toolkit CLI version 1.18.0-rc.2", True),
        ("NVIDIA Container Toolkit CLI version 1.17.7", False),
        ("NVIDIA Container Toolkit CLI version 1.9.20", False),
        ("1.17.8-1", True),
        ("", False),
        ("not a version", False),
    ],
)
def test_the_floor_of_nvidias_toolkit(said: str, ok: bool) -> None:
    assert toolkit_is_fixed(said) == ok


@given(st.text(max_size=60))
def test_no_version_text_breaks_the_reader(text: str) -> None:
    release = release_of(text)
    assert release is None or len(release[0]) == 3


NOON = "2026-01-02T12:00:00.000000001Z"
LATER = "2026-01-02T12:00:00.000000002Z"


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\1\0\0\0" + len(m).to_bytes(4, "big") + m for m in messages)


def test_a_stamp_that_a_program_wrote_is_text() -> None:
    """It once moved the cursor on for good, or broke the reader; blamed on the provider."""
    forged = "\r9999-12-31T23:59:59.999999999Z x\x0b2026-13-99Tx y\x1c9999 z\u2028" + LATER + " q\n"
    raw = framed(f"{NOON} {forged}".encode(), f"{LATER} next\n".encode())
    pieces, cursor = log_pieces(raw, "stdout", "")
    assert [piece.text for piece in pieces] == [forged, "next\n"]
    assert cursor == f"{LATER}#1"
    assert log_pieces(raw, "stdout", cursor) == ([], cursor)


def test_pieces_of_one_long_line_share_a_stamp() -> None:
    raw = [f"{NOON} {text}".encode() for text in ("a", "b", "c\n")]
    pieces, cursor = log_pieces(framed(*raw[:2]), "stdout", "")
    assert [piece.text for piece in pieces] == ["a", "b"]
    more, end = log_pieces(framed(*raw), "stdout", cursor)
    assert [piece.text for piece in more] == ["c\n"]
    assert end == f"{NOON}#3"
    assert log_pieces(framed(*raw), "stdout", NOON) == ([], f"{NOON}#{sys.maxsize}")


def line(messages: int, at: str = NOON) -> list[bytes]:
    """One line, in messages as long as the engine makes them."""
    return [f"{at} {number:016,}".encode() * 400 for number in range(messages)]


def test_a_line_longer_than_one_read_does_not_end_the_log() -> None:
    """It once did: each read was of the same messages of that line."""
    said, seen, texts = [*line(100), f"{LATER} after\n".encode()], "", []
    for _ in range(100):
        pieces, seen = log_read(io.BytesIO(framed(*said)).read, "stdout", seen)
        texts += [piece.text for piece in pieces]
        if not pieces:
            break
    assert texts == [message.partition(b" ")[2].decode() for message in said]


def test_a_line_without_an_end_goes_on_when_the_file_begins_anew() -> None:
    seen, told = "", []
    for kept in (60, 200, 90, 90, 91):
        file, new = framed(*line(kept)), 0
        while True:
            pieces, seen = log_read(io.BytesIO(file).read, "stdout", seen)
            if not pieces:
                break
            new += len(pieces)
        told.append(new)
    assert told == [60, 140, 90, 0, 1]


@given(st.binary(max_size=200))
def test_any_bytes_of_a_log_can_be_read(raw: bytes) -> None:
    list(log_messages(raw))
    log_pieces(raw, "stdout", "")
    log_read(io.BytesIO(raw).read, "stdout", f"{NOON}#3")
    pieces, _ = log_pieces(framed(NOON.encode() + b" " + raw), "stdout", "")
    assert "".join(piece.text for piece in pieces) == raw.decode(errors="replace")


@pytest.mark.docker
async def test_a_log_cannot_forge_the_engines_stamps(runtime: DockerRuntime, make: Make) -> None:
    state, text = await run(
        runtime,
        make(
            r"printf 'a\r9999-99-99T99 b\r9999-12-31T23:59:59.999999999Z c\n'; echo next;"
            "busybox head -c 40000 /dev/zero | busybox tr '\\0' x; echo; echo end"
        ),
    )
    assert state.exit_code == 0
    assert text.startswith("a\r9999-99-99T99 b\r9999-12-31T23:59:59.999999999Z c\nnext\n")
    assert text.endswith("x\nend\n")
    assert text.partition("next")[2].count("x") == 40_000


@pytest.mark.docker
async def test_each_container_has_a_user_of_its_own(
    runtime: DockerRuntime, make: Make, tmp_path: Path
) -> None:
    """Case 109: what the kernel counts by user, one task cannot use up for another."""
    if os.geteuid() != 0:
        pytest.skip("only an agent that is root can give users out")
    refs = []
    for number in range(2):
        place = TaskDirectory(tmp_path / f"user-{number}")
        for folder in (place.input, place.output):
            folder.mkdir(parents=True)
        refs.append(
            await runtime.start(
                make("busybox id -u; echo mine > /task/out/x && echo wrote", directory=place)
            )
        )
    said_by = []
    for ref in refs:
        assert (await ended(runtime, ref)).exit_code == 0
        said_by.append((await said(runtime, ref)).split())
    users = {int(user) for user, _ in said_by}
    assert len(users) == 2
    assert min(users) > 65_535


@pytest.mark.parametrize(
    "repository", ["localhost/x", "127.0.0.1:5000/x", "10.0.0.1/x", "[::1]/x", "169.254.169.254/x"]
)
def test_registries_inside_the_network_are_not_asked(repository: str) -> None:
    with pytest.raises(ImageRefused):
        refuse_internal_registry(repository)


def test_the_default_registry_may_be_asked() -> None:
    refuse_internal_registry("library/python")
    refuse_internal_registry("python")


def test_times_are_whole_milliseconds_rounded_down() -> None:
    assert to_ms("2023-11-14T22:13:20.123999999Z") == 1_700_000_000_123
    assert to_ms("2023-11-14T22:13:20Z") == 1_700_000_000_000
    assert to_ms("0001-01-01T00:00:00Z") == 0


def test_a_container_that_never_ran_has_no_times() -> None:
    assert state_of({"Status": "created"}) == RunState("created")
