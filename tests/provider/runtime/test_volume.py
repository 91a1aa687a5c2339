"""a task's output as a file system of its own (cases 110 and 121)
├── what is reserved holds the order and hardly more; made, mounted again, removed, all repeatable
├── ended by SIGKILL at any line: the next try makes it, and the next clean-up takes it away
├── in a container: small files, a big one, empty ones, holes: all end at the bound, the machine's
│   free space stays where it was
└── which tier is in force is said: not root, no tool, an engine that does not see our mounts
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from tallystick.protocol.types import Address, Digest, TaskId
from tallystick_provider import bundle
from tallystick_provider.errors import BundleError, RuntimeFailure
from tallystick_provider.runtime import LogCursor, RunSpec, RunState, TaskDirectory, volume
from tallystick_provider.runtime.docker import DockerRuntime, quota_finding, require_socket
from tests.provider.runtime.engines import busybox_image
from tests.provider.waiting import until

MIB = 1024 * 1024
ORDER_MIB = 8
DISK_MIB = 96
PROVIDER = Address("0x" + os.urandom(20).hex())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[TaskDirectory]:
    why = volume.why_not(tmp_path)
    if why:
        pytest.skip(f"no file systems can be mounted here: {why}")
    place = TaskDirectory(tmp_path / "task")
    place.output.mkdir(parents=True)
    yield place
    assert volume.remove(place.root)
    assert_nothing_left(tmp_path)


def assert_nothing_left(directory: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    assert f" {directory}" not in mounts, mounts
    assert loops(directory) == []


def loops(directory: Path) -> list[str]:
    """Images under the directory that a loop device holds."""
    held = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            held.append(file.read_text().strip())
        except OSError:
            continue  # let go of between the two
    return [image for image in held if image.startswith(f"{directory}/")]


def fill(path: Path, size_bytes: int) -> int:
    """Bytes that went in before the end."""

    def pour() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(size_bytes // 65536):
                file.write(bytes(65536))

    with pytest.raises(OSError, match="No space left"):
        pour()
    return path.stat().st_size


@pytest.mark.parametrize("size_mib", [1, 4, 64, 256, 3000])
def test_the_order_fits_and_hardly_more(place: TaskDirectory, size_mib: int) -> None:
    volume.make(place, size_mib, 1000)
    assert os.listdir(place.output) == []
    assert (place.output.stat().st_uid, place.output.stat().st_mode & 0o777) == (1000, 0o755)
    image = volume.image_of(place).stat()
    assert image.st_size == volume.image_bytes_up(size_mib) <= size_mib * MIB * 1.3
    assert image.st_blocks * 512 >= image.st_size  # reserved, with no hole
    free = os.statvfs(place.output)
    assert size_mib * MIB <= free.f_bavail * free.f_frsize <= size_mib * MIB * 1.001 + MIB // 4
    assert free.f_favail >= min(size_mib * 256, bundle.MAX_FILES)
    if size_mib < 100:
        went_in = fill(place.output / "big", 2 * size_mib * MIB)
        assert size_mib * MIB <= went_in <= size_mib * MIB + MIB // 4
        assert volume.image_of(place).stat().st_blocks == image.st_blocks


def test_every_step_can_be_repeated(place: TaskDirectory) -> None:
    volume.make(place, 1, 0)
    (place.output / "model").write_text("weights")
    volume.make(place, 1, 0)
    volume.reattach(place)
    assert (place.output / "model").read_text() == "weights"
    assert volume.remove(place.root)
    assert volume.remove(place.root)
    volume.reattach(place)
    assert not place.root.exists()


def test_a_restarted_machine_gets_the_output_back(place: TaskDirectory) -> None:
    volume.make(place, 1, 0)
    (place.output / "model").write_text("weights")
    subprocess.run(["umount", place.output], check=True)
    assert os.listdir(place.output) == []
    volume.reattach(place)
    assert (place.output / "model").read_text() == "weights"


def test_a_damaged_output_is_not_packed(place: TaskDirectory) -> None:
    volume.make(place, 1, 0)
    subprocess.run(["umount", place.output], check=True)
    with volume.image_of(place).open("r+b") as image:
        image.write(b"\0" * 256 * 1024)
    with pytest.raises(RuntimeFailure, match="damaged"):
        volume.reattach(place)


def test_an_open_file_does_not_keep_it(place: TaskDirectory, tmp_path: Path) -> None:
    volume.make(place, 1, 0)
    with (place.output / "open").open("w") as file:
        file.write("x")
        assert volume.remove(place.root)
        assert not place.root.exists()
    assert_nothing_left(tmp_path)


def test_nothing_is_deleted_through_a_mount(
    place: TaskDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.make(place, 1, 0)
    (place.output / "model").write_text("weights")
    with monkeypatch.context() as patch:
        patch.setattr(volume, "TOOL_PATH", "/nowhere")
        assert not volume.remove(place.root)
    assert (place.output / "model").read_text() == "weights"


def test_a_disk_without_room_is_said_before_the_task_begins(place: TaskDirectory) -> None:
    volume.make(place, 4, 0)
    inner = TaskDirectory(place.output / "task")
    inner.output.mkdir(parents=True)
    with pytest.raises(RuntimeFailure, match=r"cannot be reserved.*free some space"):
        volume.make(inner, 4, 0)
    assert not volume.image_of(inner).exists()
    assert sorted(os.listdir(inner.root)) == ["out"]


def die_at(line: int, action: Callable[[], object]) -> bool:
    """Runs it in a child that ends itself by SIGKILL before its nth line in volume.py; True if it
    came so far."""
    child = os.fork()
    if child == 0:
        left = line

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != volume.__file__:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_killed_at_any_line_of_making_it(place: TaskDirectory, tmp_path: Path) -> None:
    line = 0
    while die_at(line, lambda: volume.make(place, 1, 0)):
        if line % 2:  # the next start goes on
            volume.make(place, 1, 0)
            (place.output / "model").write_text("weights")
        assert volume.remove(place.root)  # or the clean-up comes first
        assert_nothing_left(tmp_path)
        place.output.mkdir(parents=True)
        line += 1
    assert line > 20


def test_killed_at_any_line_of_removing_it(place: TaskDirectory, tmp_path: Path) -> None:
    volume.make(place, 1, 0)
    line = 0
    while die_at(line, lambda: volume.remove(place.root)):
        assert volume.remove(place.root)
        assert_nothing_left(tmp_path)
        place.output.mkdir(parents=True)
        volume.make(place, 1, 0)
        line += 1
    assert line > 10


def test_a_killed_trial_is_taken_away_by_the_next(place: TaskDirectory, tmp_path: Path) -> None:
    line = 0
    while die_at(line, lambda: volume.why_not.__wrapped__(tmp_path)):
        line += 7
    assert line > 20
    assert volume.why_not.__wrapped__(tmp_path) == ""
    assert os.listdir(tmp_path) == ["task"]


# --- in a container -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    try:
        require_socket("")  # the SDK would leave a socket open
        api = docker.APIClient(version="auto", timeout=60)
    except (DockerException, OSError) as error:
        pytest.skip(f"no Docker engine answers: {error}")
    yield busybox_image(api)
    api.close()


@pytest.fixture
async def disk(tmp_path: Path, image: str) -> AsyncIterator[Path]:
    """A disk where nobody else writes, so that its free space can be counted to the byte."""
    why = volume.why_not(tmp_path)
    if why:
        pytest.skip(f"no file systems can be mounted here: {why}")
    outer = TaskDirectory(tmp_path / "disk")
    outer.output.mkdir(parents=True)
    volume.make(outer, DISK_MIB, 0)
    yield outer.output
    volume.remove(outer.output / "task")
    assert volume.remove(outer.root)
    await until(lambda: loops(tmp_path) == [], what="letting go of the loop devices")
    assert_nothing_left(tmp_path)


@pytest.fixture
async def runtime(disk: Path) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(PROVIDER, volumes_in=disk)
    yield runtime
    for ref in await runtime.own():
        await runtime.remove(ref)
    await runtime.close()


def spec_of(disk: Path, image: str, script: str) -> RunSpec:
    directory = TaskDirectory(disk / "task")
    for folder in (directory.input, directory.output):
        folder.mkdir(parents=True, exist_ok=True)
    return RunSpec(
        provider=PROVIDER,
        task_id=TaskId(Digest("0x" + os.urandom(32).hex())),
        fence=1,
        image=image,
        command=("/bin/sh", "-c", script),
        env={},
        directory=directory,
        gpu_ids=(),
        gpus_simulated=True,
        cpu_milli=1000,
        memory_mib=128,
        disk_mib=64,
        max_output_mib=ORDER_MIB,
    )


async def run(runtime: DockerRuntime, spec: RunSpec) -> tuple[RunState, str]:
    ref = await runtime.start(spec)

    async def over() -> bool:
        return (await runtime.state(ref)).status == "exited"

    await until(over, 60)
    state, read = await runtime.state(ref), await runtime.logs(ref, LogCursor())
    return state, "".join(piece.text for piece in read.pieces)


SMALL_FILES = "cd /task/out; i=0; while echo x > $i; do i=$((i+1)); done; echo $i; exit 7"
EMPTY_FILES = "cd /task/out; i=0; while : > $i; do i=$((i+1)); done; echo $i; exit 7"
BIG_FILE = "dd if=/dev/zero of=/task/out/big bs=64k count=4096 || exit 7"
HOLES_FILLED = """
cd /task/out
for i in 1 2 3 4; do dd if=/dev/zero of=$i bs=1 count=1 seek=8000000 2>/dev/null; done
echo holes
for i in 1 2 3 4; do dd if=/dev/zero of=$i bs=64k count=120 conv=notrunc || exit 7; done
"""


@pytest.mark.docker
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(SMALL_FILES, id="small files"),
        pytest.param(EMPTY_FILES, id="empty files"),
        pytest.param(BIG_FILE, id="one big file"),
        pytest.param(HOLES_FILLED, id="sparse files"),
    ],
)
async def test_whatever_is_written_ends_at_the_bound(
    runtime: DockerRuntime, disk: Path, image: str, script: str
) -> None:
    spec = spec_of(disk, image, script)
    untouched = shutil.disk_usage(disk).free
    ref = await runtime.start(spec)
    reserved = untouched - shutil.disk_usage(disk).free
    assert reserved <= volume.image_bytes_up(ORDER_MIB) + MIB // 4
    state, text = await run(runtime, spec)
    assert "No space left" in text
    assert state.exit_code in (1, 2, 7)
    assert not state.interrupted
    used = untouched - shutil.disk_usage(disk).free
    assert abs(used - reserved) <= 64 * 1024, "the machine's free space moved"
    written = os.statvfs(spec.directory.output)
    assert (written.f_blocks - written.f_bfree) * written.f_frsize <= (ORDER_MIB + 1) * MIB
    await runtime.remove(ref)
    assert volume.remove(spec.directory.root)
    await until(lambda: loops(disk) == [])
    await until(lambda: abs(shutil.disk_usage(disk).free - untouched) <= 64 * 1024)


@pytest.mark.docker
async def test_holes_are_refused_before_they_are_packed(
    runtime: DockerRuntime, disk: Path, image: str
) -> None:
    holes = "for i in 1 2 3; do dd if=/dev/zero of=/task/out/$i bs=1 count=1 seek=8000000; done"
    spec = spec_of(disk, image, holes)
    state, _ = await run(runtime, spec)
    assert state.exit_code == 0
    with pytest.raises(BundleError, match="over the ordered 8 MiB"):
        bundle.pack_result(spec.directory.output, {}, ORDER_MIB * MIB)


@pytest.mark.docker
async def test_the_whole_order_fits_a_containers_output(
    runtime: DockerRuntime, disk: Path, image: str
) -> None:
    script = (
        f"dd if=/dev/zero of=/task/out/model bs=1M count={ORDER_MIB} && busybox ls -a /task/out"
    )
    spec = spec_of(disk, image, script)
    state, text = await run(runtime, spec)
    assert state.exit_code == 0, text
    assert [line for line in text.splitlines() if line[:1] in ".lm"] == [".", "..", "model"]
    assert bundle.pack_result(spec.directory.output, {}, ORDER_MIB * MIB)


@pytest.mark.docker
async def test_an_engine_that_does_not_see_it_gets_the_plain_directory(
    runtime: DockerRuntime, disk: Path, image: str
) -> None:
    """The agent in a mount namespace of its own, as under some service managers."""
    spec = spec_of(disk, image, "echo result > /task/out/r")
    script = f"""
import asyncio, os
from pathlib import Path
from tallystick_provider.runtime import RunSpec, TaskDirectory
from tallystick_provider.runtime.docker import DockerRuntime
async def main():
    directory = TaskDirectory(Path({str(spec.directory.root)!r}))
    spec = RunSpec({PROVIDER!r}, {spec.task_id!r}, 1, {image!r}, {spec.command!r}, {{}}, directory,
        (), True, 1000, 128, 64, {ORDER_MIB})
    runtime = DockerRuntime({PROVIDER!r}, volumes_in=Path({str(disk)!r}))
    ref = await runtime.start(spec)
    while (await runtime.state(ref)).status != "exited":
        await asyncio.sleep(0.1)
    await runtime.close()
    print("there", os.listdir(directory.output), os.path.ismount(directory.output))
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "output_not_bounded" in done.stdout + done.stderr
    assert "there ['r'] False" in done.stdout
    assert os.listdir(spec.directory.output) == ["r"]
    assert not volume.image_of(spec.directory).exists()


class Killed(BaseException):
    """Nothing of the agent runs after it."""


@pytest.mark.docker
@pytest.mark.parametrize("bounded", [False, True], ids=["before the mount", "after the mount"])
async def test_a_start_that_was_cut_off_is_finished_by_the_next_agent(
    runtime: DockerRuntime, disk: Path, image: str, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(disk, image, "echo result > /task/out/r")
    bound = DockerRuntime._bound_output

    def cut_off(self: DockerRuntime, *given: Any) -> None:
        if bounded:
            bound(self, *given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(DockerRuntime, "_bound_output", cut_off)
        with pytest.raises(Killed):
            await runtime.start(spec)
    state, _ = await run(runtime, spec)
    assert state.exit_code == 0
    assert len(await runtime.own()) == 1
    assert os.path.ismount(spec.directory.output)
    assert os.listdir(spec.directory.output) == ["r"]


@pytest.mark.docker
async def test_the_tier_in_force_is_among_the_findings(runtime: DockerRuntime) -> None:
    found = {finding.name: finding.found for finding in (await runtime.probe()).findings}
    assert found["output quota"] == "a file system per task"


# --- which tier ---------------------------------------------------------------------------------


def test_who_is_not_root_is_told_which_tier_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    why = volume.why_not.__wrapped__(tmp_path)
    assert why == "the agent is not root"
    finding = quota_finding(why)
    assert finding.found == "watched every 0.5 s, not enforced (the agent is not root)"
    assert finding.ok
    assert "as root" in finding.fix


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(volume, "TOOL_PATH", "/nowhere")
    assert volume.why_not.__wrapped__(tmp_path) == "mkfs.ext4 is not installed"


def test_a_bound_output_needs_no_advice() -> None:
    finding = quota_finding("")
    assert (finding.found, finding.fix) == ("a file system per task", "")
