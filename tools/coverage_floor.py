"""Lines and branches of the money contracts that tests ran, against the floor.

python tools/coverage_floor.py build/coverage.info
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

MONEY = ("ComputeEscrow", "ProviderStaking", "TaskMarket", "DisputeCourt")
LIBRARIES = ("CallPricing", "SharePot", "FeeStream", "Signatures", "ExactTransfer", "Channels")
LEAST_LINES_PERCENT = 95
LEAST_BRANCHES_PERCENT = 90
TOGETHER = "all money contracts"


def main(report: Path) -> int:
    """Exit status: 0 if each contract of `MONEY`, and all with their libraries, reach it."""
    found = _figures(report)
    missing = [name for name in MONEY + LIBRARIES if not found[name]["LF"]]
    if missing:
        print(f"no figures for {', '.join(missing)}: the report does not know them")
        return 1
    found[TOGETHER] = sum(found.values(), Counter())
    below = []
    for name, counts in found.items():
        lines, branches = _tell(name, counts)
        # What a library has in assembly no report attributes to its lines: they count together.
        if name in LIBRARIES:
            continue
        if lines < LEAST_LINES_PERCENT or branches < LEAST_BRANCHES_PERCENT:
            below.append(name)
    if below:
        floor = f"{LEAST_LINES_PERCENT} % of lines and {LEAST_BRANCHES_PERCENT} % of branches"
        print(f"below the floor of {floor}: {', '.join(below)}")
        return 1
    return 0


def _figures(report: Path) -> dict[str, Counter[str]]:
    """Lines and branches found and hit, under the names that LCOV gives these counts."""
    found: dict[str, Counter[str]] = {name: Counter() for name in MONEY + LIBRARIES}
    name = ""
    for line in report.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            name = Path(value).stem if value.startswith("contracts/") else ""
        elif key in ("LF", "LH", "BRF", "BRH") and name in found:
            found[name][key] += int(value)
    return found


def _tell(name: str, counts: Counter[str]) -> tuple[float, float]:
    lines = 100 * counts["LH"] / counts["LF"]
    branches = 100 * counts["BRH"] / counts["BRF"] if counts["BRF"] else 100.0
    print(f"{name:22} lines {lines:5.1f} %   branches {branches:5.1f} %")
    return lines, branches


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
