"""What `make gas` tells of the snapshot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import gas_drift


def test_tells_what_moved_came_and_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _figures(tmp_path, monkeypatch, before={"open": 70_000, "close": 36_000, "old": 5})
    (tmp_path / "gas.json").write_text(
        json.dumps([{"act": "open", "gas": 70_060}, {"act": "close", "gas": 36_400}])
    )

    assert gas_drift.main() == 0

    told = capsys.readouterr().out
    assert "open" not in told.replace("gas drift", "")  # 60 gas are a few zero bytes
    assert "36,000 ->       36,400  +1.11 %" in told
    assert "gone: 5" in told
    assert "gas drift: 1 of 3" in told


def test_says_what_to_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _figures(tmp_path, monkeypatch, before={})

    assert gas_drift.main() == 1

    assert "run `make gas` first" in capsys.readouterr().err


def _figures(folder: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, float]) -> None:
    monkeypatch.setattr(gas_drift, "ROOT", folder)
    monkeypatch.setattr(gas_drift, "MEASURED", folder / "gas.json")
    monkeypatch.setattr(gas_drift, "SNAPSHOT", folder / "snapshot.json")
    monkeypatch.setattr("sys.argv", ["gas_drift.py"])
    (folder / "snapshot.json").write_text(json.dumps(before))
