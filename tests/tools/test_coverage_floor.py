"""`make coverage` fails where a contract is missing from the report or is run too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import coverage_floor

# Lines found and hit, branches found and hit: what exactly reaches the floor.
AT_THE_FLOOR = (100, 95, 20, 18)

Figures = dict[str, tuple[int, int, int, int]]


def test_the_floor_itself_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage_floor.main(_report(tmp_path, _figures())) == 0

    told = capsys.readouterr().out
    assert "ComputeEscrow          lines  95.0 %   branches  90.0 %" in told
    assert "all money contracts    lines  95.0 %   branches  90.0 %" in told


@pytest.mark.parametrize("missing", coverage_floor.MONEY + coverage_floor.LIBRARIES)
def test_a_contract_without_figures_fails(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = _figures()
    del figures[missing]
    assert coverage_floor.main(_report(tmp_path, figures)) == 1
    assert f"no figures for {missing}:" in capsys.readouterr().out

    # In the report, with nothing found in it.
    figures[missing] = (0, 0, 0, 0)
    assert coverage_floor.main(_report(tmp_path, figures)) == 1


@pytest.mark.parametrize("figures", [(100, 94, 20, 20), (100, 100, 20, 17)])
@pytest.mark.parametrize("name", coverage_floor.MONEY)
def test_one_contract_below_the_floor_fails_though_all_together_are_not(
    name: str,
    figures: tuple[int, int, int, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = dict.fromkeys(_figures(), (100, 100, 20, 20))

    assert coverage_floor.main(_report(tmp_path, others | {name: figures})) == 1
    assert capsys.readouterr().out.endswith(f"of branches: {name}\n")


def test_libraries_count_together_with_the_contracts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = dict.fromkeys(_figures(), (100, 100, 20, 20))

    assert coverage_floor.main(_report(tmp_path, whole | {"Channels": (100, 50, 0, 0)})) == 0
    assert "Channels               lines  50.0 %   branches 100.0 %" in capsys.readouterr().out

    low = dict.fromkeys(coverage_floor.LIBRARIES, (100, 91, 20, 20))
    assert coverage_floor.main(_report(tmp_path, whole | low)) == 1
    assert capsys.readouterr().out.endswith("of branches: all money contracts\n")


def test_files_of_the_same_name_elsewhere_do_not_count(tmp_path: Path) -> None:
    report = _report(tmp_path, _figures())
    elsewhere = report.read_text().replace("SF:contracts/ComputeEscrow", "SF:tests/ComputeEscrow")
    report.write_text(elsewhere)

    assert coverage_floor.main(report) == 1


def _figures() -> Figures:
    return dict.fromkeys(coverage_floor.MONEY + coverage_floor.LIBRARIES, AT_THE_FLOOR)


def _report(folder: Path, figures: Figures) -> Path:
    """As forge writes it, without the lines between."""
    path = folder / "coverage.info"
    path.write_text(
        "".join(
            f"TN:\nSF:contracts/{'libraries/' * (name in coverage_floor.LIBRARIES)}{name}.sol\n"
            f"DA:1,1\nLF:{lf}\nLH:{lh}\nBRF:{brf}\nBRH:{brh}\nend_of_record\n"
            for name, (lf, lh, brf, brh) in figures.items()
        )
    )
    return path
