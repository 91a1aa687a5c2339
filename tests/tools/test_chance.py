"""Case 148: what must not be guessed comes from the system, never from `random` or a clock."""

from __future__ import annotations

import ast
import secrets
from collections.abc import Iterator
from pathlib import Path

from tallystick_backend.access import Seals, new_session_token
from tallystick_backend.dispatch import nats_config

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    "backend/tallystick_backend",
    "provider/tallystick_provider",
    "sdk/tallystick",
    "scripts",
)

PAUSES = {
    "backend/tallystick_backend/api/writes.py",
    "backend/tallystick_backend/dispatch/retry.py",
    "provider/tallystick_provider/inbox.py",
    "sdk/tallystick/connection.py",
}
"""May use `random.uniform`, for how long to wait before another try."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def test_random_is_for_pauses_only() -> None:
    used: dict[str, set[str]] = {}
    for where, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and (node.module or "") == "random":
                used.setdefault(where, set()).update(alias.name for alias in node.names)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "random":
                used.setdefault(where, set()).add(node.attr)
    assert set(used) <= PAUSES, "use `secrets` for what must not be guessed"
    assert {name for names in used.values() for name in names} == {"uniform"}


def test_no_id_is_made_of_a_clock_or_a_counter_alone() -> None:
    """uuid1 tells the machine and the time; uuid3 and uuid5 tell what was hashed."""
    for where, module in modules():
        for node in ast.walk(module):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert name not in ("uuid1", "uuid3", "uuid5", "getrandbits"), where


def test_a_million_do_not_meet() -> None:
    """Keys' ids are the shortest that a stranger meets; sixteen hex digits of them are shown."""
    assert len({secrets.token_hex(16) for _ in range(10**6)}) == 10**6


def test_tokens_and_seeds_do_not_repeat() -> None:
    seals = Seals(b"k" * 32)
    tokens = {new_session_token() for _ in range(20_000)}
    keys = {seals.api_key(f"{n:032x}", "0x" + "11" * 20, None) for n in range(20_000)}
    seeds = {nats_config.new_issuer_seed() for _ in range(2_000)}
    assert (len(tokens), len(keys), len(seeds)) == (20_000, 20_000, 2_000)
    # The same request by another wallet, or under another name, is another key.
    named = {
        seals.api_key("00" * 16, address, name)
        for address in ("0x" + "11" * 20, "0x" + "22" * 20)
        for name in ("a", "b", "ab")
    }
    assert len(named) == 6
