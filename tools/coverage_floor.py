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


def main() -> int:
    found: dict[str, Counter[str]] = {}
    name = ""
    for line in Path(sys.argv[1]).read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            name = Path(value).stem if value.startswith("contracts/") else ""
        elif key in ("LF", "LH", "BRF", "BRH") and name in MONEY + LIBRARIES:
            found.setdefault(name, Counter())[key] += int(value)
    missing = sorted(set(MONEY) - found.keys())
    if missing:
        print(f"no figures for {', '.join(missing)}: the report does not know them")
        return 1
    total: Counter[str] = sum(found.values(), Counter())
    for name, counts in sorted(found.items()):
        _tell(name, counts)
    lines, branches = _tell("all money contracts", total)
    if lines < LEAST_LINES_PERCENT or branches < LEAST_BRANCHES_PERCENT:
        print(f"floor: {LEAST_LINES_PERCENT} % of lines, {LEAST_BRANCHES_PERCENT} % of branches")
        return 1
    return 0


def _tell(name: str, counts: Counter[str]) -> tuple[float, float]:
    lines = 100 * counts["LH"] / counts["LF"] if counts["LF"] else 100.0
    branches = 100 * counts["BRH"] / counts["BRF"] if counts["BRF"] else 100.0
    print(f"{name:22} lines {lines:5.1f} %   branches {branches:5.1f} %")
    return lines, branches


if __name__ == "__main__":
    sys.exit(main())
