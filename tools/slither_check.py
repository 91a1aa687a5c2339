"""Slither with a list of what was looked at: a high or medium finding that is not listed fails.

Each entry names the detector, the contract and its function or the function and its variable, and
why the finding is none. An entry that no longer matches anything fails too, so that the list stays
what it says.

    python tools/slither_check.py path/to/slither
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "build" / "slither" / "report.json"

ABSENT_IS_ZERO = "zero is how an absent record reads; no balance is compared"
STARTS_AT_ZERO = "Solidity starts it at zero, and zero is meant"
ACCEPTED: dict[tuple[str, str], str] = {
    ("arbitrary-send-erc20", "ExactTransfer.pull"): "a library; every caller passes msg.sender",
    ("weak-prng", "DisputeCourt._drawSeats"): (
        "the hash of a block fixed before; that a block producer can steer it is an accepted risk, "
        "and why a verdict costs one unit at most"
    ),
    ("uninitialized-state", "AppRegistry._discounts"): "written by push on a storage reference",
    ("divide-before-multiply", "DisputeCourt._hashForDraw"): "rounds down to a multiple on purpose",
    ("incorrect-equality", "ComputeEscrow.close"): ABSENT_IS_ZERO,
    ("incorrect-equality", "DisputeCourt._seatsWithout"): ABSENT_IS_ZERO,
    ("incorrect-equality", "DisputeCourt._standsAt"): "places of a list, exact by nature",
    ("incorrect-equality", "DisputeCourt.timesOf"): "an enum",
    (
        "incorrect-equality",
        "ProviderStaking._drain",
    ): "nothing to drain; an amount of the books, not a balance",
    ("incorrect-equality", "ProviderStaking._settled"): "generations count up by one",
    (
        "incorrect-equality",
        "ProviderStaking.claimRewards",
    ): "nothing to pay; an amount of the books",
    ("incorrect-equality", "TaskMarket._endOf"): ABSENT_IS_ZERO,
    ("incorrect-equality", "TaskMarket._revertIf"): "the length of an encoded error; empty is none",
    ("incorrect-equality", "TaskMarket.proveMany"): "the length of an encoded error; empty is none",
    ("reentrancy-no-eth", "TaskMarket.proveMany"): (
        "the escrow's payProviderFrom moves no token and calls nobody; batches run over neighbours"
    ),
    ("uninitialized-local", "proveMany.run"): STARTS_AT_ZERO,
    ("uninitialized-local", "_discountAt.low"): STARTS_AT_ZERO,
    ("uninitialized-local", "_pointAt.low"): STARTS_AT_ZERO,
    ("uninitialized-local", "_count.silents"): STARTS_AT_ZERO,
    ("uninitialized-local", "_tellMarket.slashed"): STARTS_AT_ZERO,
    ("uninitialized-local", "_seatsWithout.again"): STARTS_AT_ZERO,
    ("uninitialized-local", "_count.rights"): STARTS_AT_ZERO,
    ("uninitialized-local", "_count.wrongs"): STARTS_AT_ZERO,
    ("uninitialized-local", "_drawSeats.found"): STARTS_AT_ZERO,
    ("unused-return", "DisputeCourt._setHolder"): "a checkpoint tells what was before; nobody asks",
    ("unused-return", "DisputeCourt._setListed"): "a checkpoint tells what was before; nobody asks",
    ("unused-return", "TaskMarket._startRun"): "only what is available matters there",
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
    found = {(row["check"], _place(row["elements"][0])): row["description"] for row in findings}
    new = [text for key, text in found.items() if key not in ACCEPTED]
    stale = [key for key in ACCEPTED if key not in found]
    for text in new:
        print(f"open: {text}")
    for check, name in stale:
        print(f"no longer found, take it off the list: {check} in {name}")
    print(f"slither: {len(found)} high or medium findings, {len(new)} open, {len(stale)} stale")
    return 1 if new or stale else 0


def _place(element: dict[str, Any]) -> str:
    """Contract and function, or function and variable: a name alone could be another's."""
    return f"{element['type_specific_fields']['parent']['name']}.{element['name']}"


if __name__ == "__main__":
    sys.exit(main())
