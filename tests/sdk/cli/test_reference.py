"""The page about the command line is the program's own words, and current."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.cli import reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_is_current() -> None:
    assert reference.main(["--check", str(PAGE)]) == 0, "run: python -m tallystick.cli.reference"


def test_a_page_that_is_not_current_is_refused_and_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "cli.md"
    assert reference.main(["--check", str(page)]) == 1
    assert "run `python -m tallystick.cli.reference`" in capsys.readouterr().err
    assert reference.main([str(page)]) == 0
    assert reference.main(["--check", str(page)]) == 0
