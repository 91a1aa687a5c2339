"""Whether the acts of the invariants reach every verb, and how many of them get through.

    forge test --mp 'tests/foundry/laws/*' | python tools/foundry_reach.py

Reads the call counts that Foundry prints and compares them with the compiled interfaces: each
function that changes state has an act `<contract>_<verb>` that was called and got through in a
fifth of the calls, or it is one of those that only a neighbour may call, which are reached through
it and tried by strangers in the acts `refused_...`, of which none may ever get through.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = {
    "escrow": "ComputeEscrow",
    "staking": "ProviderStaking",
    "market": "TaskMarket",
    "court": "DisputeCourt",
    "registry": "AppRegistry",
}
ONLY_BY_A_NEIGHBOUR = {
    "escrow_lockAvailable",
    "escrow_unlock",
    "escrow_payProviderFrom",
    "staking_slash",
    "staking_setSeats",
    "staking_addFees",
    "market_resolve",
    "court_open",
}
LEAST_PERCENT = 20
ROW = re.compile(r"\|\s*Handler\s*\|\s*(\w+)\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|")
VERDICT = re.compile(r"\[(PASS|FAIL)[^\]]*\]\s+(invariant_\w+)\(\)\s+\(runs: (\d+), calls: (\d+)")


def main() -> int:
    text = sys.stdin.read()
    print(
        "\n".join(line for line in text.splitlines() if not line.startswith(("|", "+", "╭", "╰")))
    )
    calls: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for name, called, reverted, _ in ROW.findall(text):
        calls[name] += int(called)
        refused[name] += int(reverted)
    for verdict, law, _, count in VERDICT.findall(text):
        print(f"{verdict} {law}: {int(count):,} calls")
    complaints = list(_complaints(calls, refused))
    print(f"{sum(calls.values()):,} calls of {len(calls)} acts")
    for complaint in complaints:
        print(f"reach: {complaint}")
    return 1 if complaints or "[FAIL" in text or not calls else 0


def _complaints(calls: Counter[str], refused: Counter[str]) -> list[str]:
    found = [f"{verb} is reached by no act" for verb in sorted(_verbs()) if _needs_act(verb, calls)]
    for act, count in sorted(calls.items()):
        percent = 100 * (count - refused[act]) / count
        print(f"  {act:44} {count:9,} calls {percent:5.1f} % got through")
        if act.startswith("refused_"):
            if percent:
                found.append(f"{act} got through")
        elif percent < LEAST_PERCENT:
            found.append(f"{act} got through in {percent:.1f} % of its calls only")
    return found


def _needs_act(verb: str, calls: Counter[str]) -> bool:
    return verb not in ONLY_BY_A_NEIGHBOUR and not calls[verb]


def _verbs() -> set[str]:
    verbs = set()
    for prefix, name in CONTRACTS.items():
        path = ROOT / f"build/foundry/out/{name}.sol/{name}.json"
        for entry in json.loads(path.read_text())["abi"]:
            if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure"):
                verbs.add(f"{prefix}_{entry['name']}")
    return verbs


if __name__ == "__main__":
    sys.exit(main())
