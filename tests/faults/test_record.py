"""The figures of a run are written as it goes, and another run can be added to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults import __main__ as program
from tests.faults.campaign import Campaign, Row, Run


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A campaign that counts to its seed, and fails at 3."""

    def count(run: Run) -> None:
        run.counts["told"] += run.seed
        assert run.seed != 3, "three"

    campaign = Campaign("numbers", "Numbers", {"told": Row("told", "held")}, count, seeds=1)
    monkeypatch.setattr(program, "campaigns", lambda: [campaign])
    monkeypatch.setattr(program, "FIGURES", tmp_path / "figures")
    kept = tmp_path / "kept.json"
    kept.write_text("[]")
    monkeypatch.setattr(program, "KEPT", kept)
    return tmp_path / "figures" / "numbers.json"


def of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return {key: found[key] for key in ("numbers", "seeds", "failed", "counts")}


def test_another_run_adds_its_other_seeds(figures: Path) -> None:
    assert program.main(["--full", "--seeds", "2", "--record"]) == 0
    assert of(figures) == {"numbers": [1, 2], "seeds": 2, "failed": 0, "counts": {"told": 3}}
    assert program.main(["--full", "--seeds", "4", "--record", "--go-on"]) == 1
    # What a failed seed counted is not shown as held.
    assert of(figures) == {"numbers": [1, 2, 3, 4], "seeds": 4, "failed": 1, "counts": {"told": 7}}
    assert program.main(["--full", "--seed", "9", "--record"]) == 0
    assert of(figures) == {"numbers": [9], "seeds": 1, "failed": 0, "counts": {"told": 9}}


def test_what_was_tried_before_a_run_is_ended_is_written(
    figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = program.run_seed

    def ended(campaign: Campaign, seed: int, *rest: Any) -> Any:
        if seed == 2:
            raise KeyboardInterrupt
        return real(campaign, seed, *rest)

    monkeypatch.setattr(program, "run_seed", ended)
    with pytest.raises(KeyboardInterrupt):
        program.main(["--full", "--seeds", "2", "--record"])
    assert of(figures)["numbers"] == [1]


def test_figures_that_do_not_say_their_seeds_are_not_added_to(figures: Path) -> None:
    figures.parent.mkdir()
    figures.write_text('{"seeds": 5}')
    with pytest.raises(SystemExit, match="record anew"):
        program.main(["--seed", "1", "--record", "--go-on"])
