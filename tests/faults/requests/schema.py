"""Schemathesis against /openapi.json, from an environment of its own (`.make/schemathesis`).

All checks but those that schemathesis.toml turns off, with its reasons. Streams are left out,
because they do not end, and `logout`, because it would end the session that asks for the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.faults.campaign import Broken
from tests.faults.requests.place import Place

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = ROOT / ".make" / "schemathesis" / "bin" / "schemathesis"
LEFT_OUT: Final = "[sS]tream|^logout$"
OWNER_MAY_EMPTY: Final = {"spend_limit"}
"""It asks with the owner's log-in: a limit that it read and deleted is gone by right."""


def run(here: Place, seed: int, examples: int) -> int:
    """How many requests it made. Raises `Broken` with what it says when a check fails."""
    if not PROGRAM.exists():
        raise Broken(f"{PROGRAM} is not installed: run `make .make/schemathesis/.installed`")
    before = here.rows()
    done = subprocess.run(
        [
            str(PROGRAM),
            "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")),
            "run",
            f"{here.url}/openapi.json",
            "--header",
            f"Authorization: Bearer {here.tokens['consumer']}",
            "--exclude-operation-id-regex",
            LEFT_OUT,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
            "--generation-database",
            "none",
            "--continue-on-failure",
            "--warnings",
            "off",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=here.log.parent,
        timeout=3600,
    )
    (here.log.parent / "schemathesis.log").write_text(done.stdout + done.stderr)
    found = re.search(r"([\d,]+) generated", done.stdout)
    if done.returncode != 0 or found is None:
        at = done.stdout.find("= FAILURES =")
        raise Broken(f"schemathesis ended with {done.returncode}:\n{done.stdout[at:][:6000]}")
    here.check_log()
    after = here.rows()
    lost = {table for table, rows in before.items() if rows and not after[table]}
    if lost := lost - OWNER_MAY_EMPTY:
        raise Broken(f"tables are empty after it: {sorted(lost)}")
    return int(found[1].replace(",", ""))
