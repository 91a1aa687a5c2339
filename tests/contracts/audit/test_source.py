"""What no contract does, looked up in its text and in its interface."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path for path in (ROOT / "contracts").rglob("*.sol") if "mocks" not in path.parts)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)


def code_of(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8"))


def test_the_contracts_are_found() -> None:
    assert len([path for path in SHIPPED if path.parent.name == "contracts"]) == 6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_account_is_taken_for_a_person(path: Path) -> None:
    """Case 52: an account with code may be a person (EIP-7702), one without may get some. Nothing
    is decided by it, nor by who began the transaction."""
    assert not re.search(r"tx\.origin|\.code\b|\.codehash|extcode|isContract", code_of(path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_value_and_no_sender_is_counted_twice(path: Path) -> None:
    """Case 21: no coin, no multicall, no trusted forwarder; and no foreign code runs here, nor is
    any replaced (case 15)."""
    forbidden = (
        r"msg\.value|\bpayable\b|multicall|_msgSender|ERC2771|delegatecall|callcode|selfdestruct"
        r"|\binitializer\b|\breceive\s*\(\s*\)|\bfallback\s*\("
    )
    assert not re.search(forbidden, code_of(path), re.I)
