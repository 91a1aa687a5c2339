"""`make demo` is the first thing a stranger runs: what it tells programs must be true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_the_demo_tells_one_true_story(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--json", "--runtime", "process", "--results", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert told["index_agrees"] is True
    assert json.loads((tmp_path / "first/out/metrics.json").read_text())["accuracy"] > 0.9
    first = told["first"]["receipt"]
    paid = int(first["charge"]["units"])
    before, after = told["balances_before"]["consumer"], told["balances_after"]["consumer"]
    failover = told["failover"]
    assert failover["paid_once"] is True
    assert failover["killed_provider"] != failover["finished_by"]
    paid += int(failover["charge"]["units"])
    assert sum(before.values()) - sum(after.values()) == paid
    acts = [transaction["act"] for transaction in told["transactions"]]
    assert acts == ["depositWithPermit", "createTask", "prove", "createTask", "prove"]
