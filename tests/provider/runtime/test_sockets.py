"""what is in a container's sockets counts as its memory (case 109)
├── cgroup v2 does so by itself; v1 only where the agent can write the bound before the program runs
├── on v1 the bound is there before the container is, and nothing of it stays
├── an engine that keeps its containers elsewhere starts none
└── against a real engine: see test_docker.py
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tallystick_provider.errors import RuntimeFailure
from tallystick_provider.runtime import sockets

V1 = {"CgroupVersion": "1", "CgroupDriver": "cgroupfs"}
V2 = {"CgroupVersion": "2", "CgroupDriver": "systemd"}
CONTAINER = "c0" * 32
BYTES = 64 * 1024 * 1024


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    place = tmp_path / "memory"
    place.mkdir()
    (place / sockets.BOUND).write_text("9223372036854771712\n")
    return place


@pytest.fixture
def mounts(tmp_path: Path, controller: Path) -> Path:
    listed = tmp_path / "mounts"
    listed.write_text(
        "proc /proc proc rw 0 0\n"
        f"cgroup {tmp_path}/cpu cgroup rw,relatime,cpu 0 0\n"
        f"cgroup {controller} cgroup rw,relatime,memory 0 0\n"
    )
    return listed


def group_of(controller: Path) -> Path:
    return controller / sockets.PARENT / CONTAINER


def test_cgroup_v2_needs_nothing(tmp_path: Path) -> None:
    assert sockets.why_not(V2, tmp_path / "none") == ""
    with sockets.bounded(V2, CONTAINER, BYTES, tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_v1_is_taken_where_the_bound_can_be_written(mounts: Path) -> None:
    assert sockets.why_not(V1, mounts) == ""


def test_why_a_v1_is_not_taken(mounts: Path, controller: Path) -> None:
    assert "systemd" in sockets.why_not({**V1, "CgroupDriver": "systemd"}, mounts)
    assert "unknown" in sockets.why_not({"CgroupVersion": "1"}, mounts)
    (controller / sockets.BOUND).unlink()
    assert sockets.BOUND in sockets.why_not(V1, mounts)
    mounts.write_text("proc /proc proc rw 0 0\n")
    assert "no memory controller" in sockets.why_not(V1, mounts)


def test_the_bound_is_there_before_the_program(mounts: Path, controller: Path) -> None:
    """A socket that is older than the bound is never counted."""
    group = group_of(controller)
    with sockets.bounded(V1, CONTAINER, BYTES, mounts):
        assert (group / sockets.BOUND).read_text() == str(BYTES)
        (group / sockets.MEMORY).write_text(f"{BYTES}\n")  # the engine's


@pytest.mark.parametrize("elsewhere", ["9223372036854771712\n", ""])
def test_an_engine_that_keeps_its_containers_elsewhere_is_told(
    mounts: Path, controller: Path, elsewhere: str
) -> None:
    with (
        pytest.raises(RuntimeFailure, match="cgroup-parent"),
        sockets.bounded(V1, CONTAINER, BYTES, mounts),
    ):
        (group_of(controller) / sockets.MEMORY).write_text(elsewhere)


def test_a_container_that_ended_at_once_took_its_cgroup_along(
    mounts: Path, controller: Path
) -> None:
    with sockets.bounded(V1, CONTAINER, BYTES, mounts):
        (group_of(controller) / sockets.BOUND).unlink()
        group_of(controller).rmdir()
    assert not group_of(controller).exists()


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV], ids=["before", "while it was open"])
def test_a_container_that_ends_while_it_is_looked_at_is_no_failure(
    mounts: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    read_text = Path.read_text

    def gone(path: Path) -> str:
        if path.name == sockets.MEMORY:
            raise OSError(code, os.strerror(code), str(path))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", gone)
    with sockets.bounded(V1, CONTAINER, BYTES, mounts):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="cgroups are root's")
def test_what_the_kernel_says_of_a_cgroup_that_went_while_it_was_open() -> None:
    controller = sockets._controller(sockets.MOUNTS)
    if controller is None or sockets.why_not(V1):
        pytest.skip("no cgroup v1 here")
    group = controller / CONTAINER
    group.mkdir()
    try:
        opened = (group / sockets.MEMORY).open()
    finally:
        group.rmdir()
    with opened, pytest.raises(OSError) as raised:
        opened.read()
    assert raised.value.errno in sockets.GONE


def test_without_a_controller_nothing_is_started(tmp_path: Path) -> None:
    listed = tmp_path / "mounts"
    listed.write_text("proc /proc proc rw 0 0\n")
    with (
        pytest.raises(RuntimeFailure, match="no memory controller"),
        sockets.bounded(V1, CONTAINER, BYTES, listed),
    ):
        pytest.fail("it was started")


def test_a_bound_that_cannot_be_written_starts_nothing(mounts: Path, controller: Path) -> None:
    (controller / sockets.PARENT).write_text("no directory")
    with (
        pytest.raises(RuntimeFailure, match="as root"),
        sockets.bounded(V1, CONTAINER, BYTES, mounts),
    ):
        pytest.fail("it was started")


@pytest.mark.skipif(os.geteuid() != 0, reason="cgroups are root's")
def test_nothing_stays_of_a_container_that_did_not_start() -> None:
    controller = sockets._controller(sockets.MOUNTS)
    if controller is None or sockets.why_not(V1):
        pytest.skip("no cgroup v1 here")
    with sockets.bounded(V1, CONTAINER, BYTES):  # nothing is started
        assert (group_of(controller) / sockets.BOUND).read_text().strip() == str(BYTES)
        (group_of(controller) / sockets.MEMORY).write_text(str(BYTES))
    assert not group_of(controller).exists()
