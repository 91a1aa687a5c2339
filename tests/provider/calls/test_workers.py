"""A worker's folder, which the worker fills: looked at only so far, and removed through no link."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick_provider.calls.workers import (
    FOLDER_BYTES,
    FOLDER_ENTRIES,
    _overfull,
    _remove_folder,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "w1" / "out"
    made.mkdir(parents=True)
    (made / "worker.sock").touch()
    return made


def test_a_socket_and_little_else_is_fine(folder: Path) -> None:
    assert not _overfull(folder)


def test_many_entries(folder: Path) -> None:
    for number in range(FOLDER_ENTRIES):
        (folder / f"f{number}").touch()
    assert _overfull(folder)


def test_many_folders_in_each_other(folder: Path) -> None:
    inner = folder
    for _ in range(FOLDER_ENTRIES + 1):
        inner = inner / "d"
        inner.mkdir()
    assert _overfull(folder)


def test_a_large_file(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(FOLDER_BYTES + 1)
    assert _overfull(folder)


def test_what_a_link_leads_to_is_not_the_workers(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(FOLDER_ENTRIES + 1):
        (outside / f"f{number}").touch()
    (folder / "link").symlink_to(outside)
    assert not _overfull(folder)
    assert _remove_folder(folder.parent)
    assert not folder.parent.exists()
    assert len(list(outside.iterdir())) == FOLDER_ENTRIES + 1


def test_a_folder_that_is_a_link_is_removed_as_one(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    (tmp_path / "w2").symlink_to(outside)
    assert _remove_folder(tmp_path / "w2")
    assert (outside / "mine").exists()
    assert _remove_folder(tmp_path / "nothing there")
