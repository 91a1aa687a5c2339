"""Quick disks are written on the loop's thread, slow ones are not."""

from __future__ import annotations

from tallystick.protocol.disk_pace import QUICK_S, DiskPace


def test_a_new_one_is_taken_for_quick() -> None:
    assert DiskPace().is_quick()


def test_one_hiccup_changes_nothing() -> None:
    pace = DiskPace()
    for _ in range(20):
        pace.took(QUICK_S / 10)
    pace.took(3.0)
    assert pace.is_quick()


def test_a_slow_disk_is_tried_now_and_then_and_taken_again_when_it_is_quick() -> None:
    pace = DiskPace()
    for _ in range(5):
        pace.took(QUICK_S * 4)
    answers = [pace.is_quick() for _ in range(600)]
    assert 2 <= sum(answers) <= 3
    for _ in range(60):
        pace.took(QUICK_S / 10)
    assert pace.is_quick()


def test_a_write_is_measured_also_when_it_fails() -> None:
    pace = DiskPace()
    for _ in range(3):
        try:
            with pace.measured():
                raise OSError("the disk is full")
        except OSError:
            pace.took(QUICK_S * 10)
    assert not pace.is_quick()
