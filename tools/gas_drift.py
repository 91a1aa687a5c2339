"""Gas of the last `make gas` beside the snapshot that is committed. Tells, and fails on nothing:
the bars, which do fail, are `make gas`'s own.

    python tools/gas_drift.py            the table
    python tools/gas_drift.py --write    the present figures become the snapshot
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "build" / "gas.json"
SNAPSHOT = ROOT / "benchmarks" / "gas-snapshot.json"
# Ids are hashes over the time, and a zero byte of calldata costs less than another one.
NOISE = 0.001


def main() -> int:
    if not MEASURED.exists():
        print(f"{MEASURED.relative_to(ROOT)} is not there: run `make gas` first", file=sys.stderr)
        return 1
    now = _figures(json.loads(MEASURED.read_text()))
    if "--write" in sys.argv:
        SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n")
        return 0
    before = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    for act in sorted(now.keys() | before.keys()):
        old, new = before.get(act), now.get(act)
        if old is None or new is None:
            print(f"{act:60} {'new' if old is None else 'gone'}: {new if old is None else old:,}")
        elif _moved(old, new):
            print(f"{act:60} {old:>12,} -> {new:>12,}  {100 * (new - old) / old:+.2f} %")
    same = sum(act in now and not _moved(gas, now[act]) for act, gas in before.items())
    print(f"gas drift: {same} of {len(before)} as in {SNAPSHOT.relative_to(ROOT)}")
    return 0


def _moved(old: float, new: float) -> bool:
    return abs(new - old) > NOISE * old


def _figures(report: object) -> dict[str, float]:
    rows = report["rows"] if isinstance(report, dict) and "rows" in report else report
    assert isinstance(rows, list)
    return {row["act"]: row["gas"] for row in rows}


if __name__ == "__main__":
    sys.exit(main())
