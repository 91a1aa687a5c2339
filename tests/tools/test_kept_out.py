"""Case 143: nothing that is a secret lies in what is committed or packed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SHAPES = {
    "a private key file": r"-----BEGIN [A-Z ]*PRIVATE" + r" KEY-----",
    "a seed of the bus": r"\bS[AUO][A-Z2-7]{56}\b",
    "an API key of ours": r"\btk_[0-9a-f]{8}_[0-9a-f]{64}\b",
    "a session of ours": r"\bts_[A-Za-z0-9_-]{43}\b",
    "a webhook secret": r"\bwhsec_[A-Za-z0-9+/]{43}=",
    "a cloud key": r"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "a registry token": r"\b(?:npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[\w-]{50,})\b",
    "a password in an address": r"(?:https?|postgresql\S*|nats)://[^\s:/@{}$<\"']+:[^\s@/{}$<\"']{12,}@",
}


def found_in(text: str) -> set[str]:
    return {name for name, shape in SHAPES.items() if re.search(shape, text)}


def test_the_shapes_are_found_where_there_are_some() -> None:
    assert found_in("x = 'tk_01234567_" + "ab" * 32 + "'") == {"an API key of ours"}
    assert found_in("nats://me:" + "longpassword@host:4222") == {"a password in an address"}


def test_no_committed_file_has_one() -> None:
    for where in _git("ls-files", "-z").split("\0"):
        path = ROOT / where
        if not where or not path.is_file() or path.stat().st_size > 4_000_000:
            continue
        found = found_in(path.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{where} has {found}"


def test_no_commit_ever_had_one() -> None:
    """All that was ever added, as far as this checkout goes back."""
    shape = "|".join(
        (
            "BEGIN [A-Z ]*PRIVATE KEY-----",
            "tk_[0-9a-f]{8}_[0-9a-f]{64}",
            "AKIA[0-9A-Z]{16}",
            "gh[pousr]_[A-Za-z0-9]{36}",
        )
    )
    commits = _git("log", "--all", "--format=%h", "-E", f"-G{shape}", "--", ":!tests/tools").split()
    assert commits == []


def test_no_key_file_is_committed_or_packed() -> None:
    named = _git("ls-files").split()
    assert not [n for n in named if re.search(r"(\.pem|\.key|\.nk|id_rsa|\.env|\.p12)$", n)]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout
