"""bundle
├── extract: refuses links, absolute paths, '..', devices, bombs, duplicates, damage; keeps inside
├── fetch: right digest, limited size
├── open_input: only with the key sealed to this provider for this task and fence
└── pack_result: plain files only, limited, same bytes for same files
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import sealing
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import Digest, TaskId
from tallystick_provider.bundle import (
    MAX_DEPTH,
    extract,
    fetch,
    keep,
    open_input,
    output_size,
    pack_result,
)
from tallystick_provider.errors import BundleError
from tallystick_provider.runtime import volume

MIB = 1024 * 1024
TASK = TaskId(Digest("0x" + "11" * 32))


def tar_of(build: Callable[[tarfile.TarFile], None], packed: bool = True) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        build(archive)
    return gzip.compress(target.getvalue()) if packed else target.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"x", link: str = "") -> bytes:
    def build(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(content))

    return tar_of(build)


def test_unpacks_files_directories_and_the_executable_bit(tmp_path: Path) -> None:
    def build(archive: tarfile.TarFile) -> None:
        directory = tarfile.TarInfo("data")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, mode in (("train.py", 0o644), ("data/run.sh", 0o4777), ("deep/er/a", 0o600)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = 2, mode
            archive.addfile(info, io.BytesIO(b"hi"))

    extract(tar_of(build), tmp_path / "in", MIB)
    assert (tmp_path / "in/train.py").read_bytes() == b"hi"
    assert (tmp_path / "in/deep/er/a").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "in/data/run.sh").stat().st_mode & 0o7777 == 0o755
    assert not (tmp_path / "in.tar").exists()


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        pytest.param(entry("/etc/passwd"), "leads out", id="absolute path"),
        pytest.param(entry("../outside"), "leads out", id="parent directory"),
        pytest.param(entry("a/../../outside"), "leads out", id="parent inside a path"),
        pytest.param(entry("a\\..\\b"), "leads out", id="backslashes"),
        pytest.param(entry("l", tarfile.SYMTYPE, link="/etc"), "neither a plain", id="symlink"),
        pytest.param(entry("l", tarfile.LNKTYPE, link="/etc/hosts"), "neither", id="hard link"),
        pytest.param(entry("p", tarfile.FIFOTYPE), "neither a plain file", id="pipe"),
        pytest.param(entry("d", tarfile.CHRTYPE), "neither a plain file", id="device"),
        pytest.param(entry("big", content=b"x" * (2 * MIB + 1)), "more than|exceed", id="too big"),
        pytest.param(gzip.compress(b"\0" * (64 * MIB)), "unpacks to more than", id="gzip bomb"),
        pytest.param(b"not a tar.gz at all", "no tar.gz", id="not gzip"),
        pytest.param(gzip.compress(b"x" * 2048), "no tar archive", id="not tar"),
        pytest.param(entry("a")[:-20], "no tar.gz", id="cut off"),
    ],
)
def test_refuses(tmp_path: Path, bundle: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        extract(bundle, tmp_path / "task" / "in", MIB)
    outside = {p.name for p in tmp_path.rglob("*")} - {"task", "in"}
    assert outside <= {"a"}
    assert not (tmp_path.parent / "outside").exists()


def test_refuses_a_header_that_claims_gigabytes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    bomb = gzip.compress(info.tobuf() + b"\0" * 4096)
    with pytest.raises(BundleError, match="header"):
        extract(bomb, tmp_path / "in", 8 << 30)


def test_refuses_a_file_that_comes_twice(tmp_path: Path) -> None:
    def build(archive: tarfile.TarFile) -> None:
        for _ in range(2):
            info = tarfile.TarInfo("a")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))

    with pytest.raises(BundleError, match="twice"):
        extract(tar_of(build), tmp_path / "in", MIB)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_either_unpack_inside_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, packed: bool
) -> None:
    place = tmp_path_factory.mktemp("fuzz")
    with suppress(BundleError):
        extract(gzip.compress(data) if packed else data, place / "in", MIB)
    assert {p.name for p in place.iterdir()} <= {"in"}


def server(content: bytes, status: int = 200) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    )


async def test_fetches_by_digest() -> None:
    async with server(b"sealed") as http:
        assert await fetch(http, "http://x/", digest_of(b"sealed"), 100) == b"sealed"


async def test_fetch_refuses_other_bytes_than_ordered() -> None:
    async with server(b"swapped") as http:
        with pytest.raises(BundleError, match="the order says"):
            await fetch(http, "http://x/", digest_of(b"sealed"), 100)


async def test_fetch_stops_at_the_limit() -> None:
    async with server(b"x" * 101) as http:
        with pytest.raises(BundleError, match="larger than the ordered disk"):
            await fetch(http, "http://x/", digest_of(b"x" * 101), 100)


async def test_fetch_reports_what_the_store_answered() -> None:
    async with server(b"", 403) as http:
        with pytest.raises(httpx.HTTPError, match="403"):
            await fetch(http, "http://x/", digest_of(b""), 100)


def test_only_the_assigned_provider_opens_the_input() -> None:
    key, other = sealing.generate_key(), sealing.generate_key()
    content_key = os.urandom(32)
    sealed = sealing.encrypt_bundle(content_key, b"secret")
    sealed_key = "0x" + sealing.seal_input_key(key.public, TASK, 2, content_key).hex()
    assert open_input(sealed, key, TASK, 2, sealed_key) == b"secret"
    with pytest.raises(BundleError, match="cannot be opened"):
        open_input(sealed, other, TASK, 2, sealed_key)
    with pytest.raises(BundleError, match="cannot be opened"):
        open_input(sealed, key, TASK, 3, sealed_key)
    with pytest.raises(BundleError, match="no key"):
        open_input(sealed, key, TASK, 2, None)


def members(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def test_packs_plain_files_and_follows_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "deep/model.bin").write_bytes(b"weights")
    secret = tmp_path / "secret"
    secret.write_text("operator key")
    (out / "link").symlink_to(secret)
    (out / "linked-dir").symlink_to(tmp_path)
    os.mkfifo(out / "pipe")
    packed = pack_result(out, {"exit_code": 0}, MIB)
    found = members(packed)
    assert set(found) == {"tallystick.json", "out/deep/model.bin"}
    assert b"operator key" not in b"".join(found.values())
    assert packed == pack_result(out, {"exit_code": 0}, MIB)


def test_a_result_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (MIB + 1))
    with pytest.raises(BundleError, match="order more max_output_mib"):
        pack_result(tmp_path, {}, MIB)


def test_a_hole_counts_as_what_it_would_be_packed_to(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    assert output_size(tmp_path).over(1024)


def nest(top: Path, depth: int, name: str = "d") -> int:
    """A descriptor of the innermost of so many directories."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    return here


@pytest.mark.parametrize(
    ("depth", "name"),
    [(MAX_DEPTH, "d"), (2000, "d"), (30, "d" * 200)],
    ids=["one more", "2000", "long"],
)
def test_what_lies_too_deep_is_not_left_out_in_silence(
    tmp_path: Path, depth: int, name: str
) -> None:
    """Below the longest path of the kernel a task once wrote unseen, past its ordered size."""
    out = tmp_path / "out"
    out.mkdir()
    here = nest(out, depth, name)
    try:
        file = os.open("big", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.truncate(file, 10 * MIB)
        os.close(file)
        assert output_size(out).over(1000)
        with pytest.raises(BundleError, match="cannot be looked at"):
            pack_result(out, {}, MIB)
    finally:
        os.close(here)
        assert volume.remove(tmp_path / "out")


def test_as_deep_as_may_be_is_packed(tmp_path: Path) -> None:
    here = nest(tmp_path, MAX_DEPTH - 1)
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    assert "out/" + "d/" * (MAX_DEPTH - 1) + "f" in members(pack_result(tmp_path, {}, MIB))


def test_a_link_that_takes_a_directorys_place_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 110: the swap once had the agent count a directory of the machine's."""
    out, secret = tmp_path / "out", tmp_path / "secret"
    (out / "a").mkdir(parents=True)
    secret.mkdir()
    (secret / "key").write_bytes(b"x" * MIB)
    opened = os.open

    def swap(path: Any, *rest: Any, **more: Any) -> int:
        if path == "a":
            (out / "a").rmdir()
            (out / "a").symlink_to(secret)
        return opened(path, *rest, **more)

    monkeypatch.setattr("tallystick_provider.bundle.os.open", swap)
    assert output_size(out).size_bytes == 0


def test_names_that_are_no_text_survive_packing(tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"\xe2\x80\xaeright to left", b"x" * 255, b" ", b"-rf"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    found = members(pack_result(tmp_path, {}, MIB))
    assert {f"out/{os.fsdecode(name)}": name for name in names}.items() <= found.items()


def test_keep_is_whole_or_not_there(tmp_path: Path) -> None:
    keep(tmp_path / "results" / "0xab", b"sealed")
    assert (tmp_path / "results/0xab").read_bytes() == b"sealed"
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["0xab"]
