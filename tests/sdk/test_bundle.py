"""Bundles: the same files give the same bytes; nothing unpacked leads out or fills the disk."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tallystick import InvalidRequest, VerificationFailed
from tallystick.bundle import collect_files, pack, unpack


def archive(*members: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size) if member.isreg() else None)
    return raw.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def test_the_same_files_give_the_same_bytes(clean_environment: None) -> None:
    Path("a.txt").write_text("a")
    first = pack({"a.txt": Path("a.txt"), "b": b"b"})
    Path("a.txt").touch(mode=0o600)
    assert pack({"b": b"b", "a.txt": Path("a.txt")}) == first


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    names = unpack(pack({"out/a": b"1", "out/deep/b": b"2"}), tmp_path / "x", max_mib=1)
    assert names == ("out/a", "out/deep/b")
    assert (tmp_path / "x/out/deep/b").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        pytest.param(archive(member("../x")), "leads out", id="parent"),
        pytest.param(archive(member("a/../../x")), "leads out", id="parent inside"),
        pytest.param(archive(member("/etc/x")), "leads out", id="absolute"),
        pytest.param(archive(member("..\\x")), "leads out", id="backslash"),
        pytest.param(archive(member(".")), "leads out", id="no name"),
        pytest.param(
            archive(member("l", tarfile.SYMTYPE, link="/etc/passwd")), "link", id="symlink"
        ),
        pytest.param(archive(member("l", tarfile.LNKTYPE, link="a")), "link", id="hard link"),
        pytest.param(archive(member("d", tarfile.CHRTYPE)), "device", id="device"),
        pytest.param(archive(member("f", tarfile.FIFOTYPE)), "device", id="pipe"),
        pytest.param(archive(member("a"), member("a")), "same file twice", id="twice"),
        pytest.param(archive(member("a"), member("a/b")), "same file twice", id="file as folder"),
        pytest.param(archive(member("a", size=3 * 2**20)), "more than 2 MiB", id="too large"),
        pytest.param(b"not gzip", "no readable tar.gz", id="nonsense"),
        pytest.param(b"", "no readable tar.gz", id="empty"),
        pytest.param(archive(member("a", size=9000))[:-20], "no readable tar.gz", id="cut off"),
    ],
)
def test_a_bundle_that_is(bundle: bytes, says: str, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with pytest.raises(VerificationFailed, match=says):
        unpack(bundle, target, max_mib=2)
    assert list((tmp_path / "deep").iterdir()) == []
    assert not (tmp_path / "x").exists()


def test_an_endless_empty_archive_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="more than the task was allowed"):
        unpack(gzip.compress(b"\0" * 90 * 2**20), tmp_path / "t", max_mib=2)
    assert not (tmp_path / "t").exists()


def test_a_link_planted_before_cannot_be_written_through(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed):
        unpack(
            archive(member("l", tarfile.SYMTYPE, link=str(tmp_path)), member("l/evil", size=1)),
            tmp_path / "t",
            max_mib=1,
        )
    assert not (tmp_path / "evil").exists()


def test_a_header_bomb_stops_early(tmp_path: Path) -> None:
    info = member("a")
    info.pax_headers = {"comment": "x" * 70 * 2**20}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    with pytest.raises(VerificationFailed, match="more than the task was allowed"):
        unpack(raw.getvalue(), tmp_path / "t", max_mib=1)


def test_a_directory_that_has_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InvalidRequest, match="not empty"):
        unpack(pack({"a": b""}), tmp_path, max_mib=1)
    with pytest.raises(InvalidRequest):
        unpack(pack({"a": b""}), tmp_path / "mine", max_mib=1)
    assert (tmp_path / "mine").read_text() == "mine"


def test_links_inside_an_input_directory_do_not_carry_strangers_along(
    clean_environment: None, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    Path("data").mkdir()
    Path("data/own").write_text("own")
    Path("data/link").symlink_to(tmp_path / "secret")
    assert list(collect_files(None, ["data"])) == ["data/own"]


def test_two_inputs_of_one_name_are_refused(clean_environment: None) -> None:
    Path("a").mkdir()
    Path("b").mkdir()
    Path("a/x").write_text("1")
    Path("b/x").write_text("2")
    with pytest.raises(InvalidRequest, match="Two inputs would both be"):
        collect_files(None, ["a/x", "b/x"])


def test_one_text_is_one_input(clean_environment: None) -> None:
    Path("data.csv").write_text("1")
    assert list(collect_files(None, "data.csv")) == ["data.csv"]
