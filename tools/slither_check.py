"""Slither with a list of what was looked at: a high or medium finding that is not listed fails.

Each entry names the detector, the function or variable, and why the finding is none. An entry that
no longer matches anything fails too, so that the list stays what it says.

    python tools/slither_check.py path/to/slither
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "build" / "slither" / "report.json"

ABSENT_IS_ZERO = "zero is how an absent record reads; no balance is compared"
STARTS_AT_ZERO = "Solidity starts it at zero, and zero is meant"
ONLY_BY_LIBRARY = "written through a library that takes it by storage reference"
ACCEPTED: dict[tuple[str, str], str] = {
    ("arbitrary-send-erc20", "pull"): "a library; every caller passes msg.sender",
    ("weak-prng", "_drawSeats"): (
        "the hash of a block fixed before; that a block producer can steer it is an accepted risk, "
        "and why a verdict costs one unit at most"
    ),
    ("uninitialized-state", "_discounts"): "written by push on a storage reference",
    ("uninitialized-state", "_delegated"): ONLY_BY_LIBRARY,
    ("divide-before-multiply", "_hashForDraw"): "rounds down to a multiple on purpose",
    ("incorrect-equality", "close"): ABSENT_IS_ZERO,
    ("incorrect-equality", "_seatsWithout"): ABSENT_IS_ZERO,
    ("incorrect-equality", "_standsAt"): "places of a list, exact by nature",
    ("incorrect-equality", "timesOf"): "an enum",
    ("incorrect-equality", "_drain"): "nothing to drain; an amount of the books, not a balance",
    ("incorrect-equality", "_settled"): "generations count up by one",
    ("incorrect-equality", "claimRewards"): "nothing to pay; an amount of the books",
    ("incorrect-equality", "_endOf"): ABSENT_IS_ZERO,
    ("incorrect-equality", "_revertIf"): "the length of an encoded error; empty is none",
    ("incorrect-equality", "proveMany"): "the length of an encoded error; empty is none",
    ("reentrancy-no-eth", "proveMany"): (
        "the escrow's payProviderFrom moves no token and calls nobody; batches run over neighbours"
    ),
    ("uninitialized-local", "run"): STARTS_AT_ZERO,
    ("uninitialized-local", "low"): STARTS_AT_ZERO,
    ("uninitialized-local", "silents"): STARTS_AT_ZERO,
    ("uninitialized-local", "slashed"): STARTS_AT_ZERO,
    ("uninitialized-local", "again"): STARTS_AT_ZERO,
    ("uninitialized-local", "rights"): STARTS_AT_ZERO,
    ("uninitialized-local", "wrongs"): STARTS_AT_ZERO,
    ("uninitialized-local", "found"): STARTS_AT_ZERO,
    ("unused-return", "_setHolder"): "a checkpoint tells what was before; nobody asks",
    ("unused-return", "_setListed"): "a checkpoint tells what was before; nobody asks",
    ("unused-return", "_startRun"): "only what is available matters there",
}


def main() -> int:
    slither = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path("slither")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    environment = dict(
        os.environ,
        FOUNDRY_PROFILE="slither",
        PATH=f"{ROOT / '.make/bin'}{os.pathsep}{os.environ['PATH']}",
    )
    command = [str(slither), ".", "--foundry-out-directory", "build/slither/out"]
    done = subprocess.run(
        [*command, "--json", str(REPORT)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if not REPORT.exists():
        print(done.stderr[-3000:], file=sys.stderr)
        return 1
    return judge(json.loads(REPORT.read_text()))


def judge(report: dict[str, object]) -> int:
    results = report["results"]
    assert isinstance(results, dict)
    findings = [row for row in results.get("detectors", []) if row["impact"] in ("High", "Medium")]
    found = {(row["check"], row["elements"][0]["name"]): row["description"] for row in findings}
    new = [text for key, text in found.items() if key not in ACCEPTED]
    stale = [key for key in ACCEPTED if key not in found]
    for text in new:
        print(f"open: {text}")
    for check, name in stale:
        print(f"no longer found, take it off the list: {check} in {name}")
    print(f"slither: {len(found)} high or medium findings, {len(new)} open, {len(stale)} stale")
    return 1 if new or stale else 0


if __name__ == "__main__":
    sys.exit(main())
