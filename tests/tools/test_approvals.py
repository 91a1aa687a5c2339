"""Case 141: an approval is for the amount that is paid now, in every program that sends one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = re.compile(
    r"maxUint\d*|MAX_UINT|2\s*\*\*\s*(?:256|128)\s*-\s*1n?|type\(uint\d+\)\.max|0x(?:f{64}|F{64})"
)
APPROVES = re.compile(r"approve|permit", re.IGNORECASE)


def sources() -> list[Path]:
    places = (("sdk/tallystick", "*.py"), ("scripts", "*.py"), ("dapp/src", "*.ts*"))
    return [path for folder, kind in places for path in sorted((ROOT / folder).rglob(kind))]


def test_no_statement_that_approves_names_an_endless_amount() -> None:
    looked = 0
    for path in sources():
        if "generated" in path.parts:
            continue
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if APPROVES.search(line):
                looked += 1
                around = "\n".join(lines[max(0, number - 3) : number + 8])
                assert not ENDLESS.search(around), f"{path.relative_to(ROOT)}:{number + 1}"
    assert looked > 20


def test_every_approval_of_the_scripts_is_the_amount_of_the_next_line() -> None:
    """`approve(spender, units, ...)`: the variable that the act right after it spends."""
    found = 0
    for path in sorted((ROOT / "scripts").glob("*.py")):
        for spender, amount in re.findall(r"\.approve\((.+?), (\w+)[,)]", path.read_text()):
            assert amount == "units", f"{path.name}: approves {amount} to {spender}"
            found += 1
    assert found >= 4
