"""docs/reference/contracts.md names every function, event and error of the ABI, and no other."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tallystick import GPUClient
from tallystick.protocol import contracts
from tests.docs.pages import text_of
from tools.doc_tables import CONTRACTS, entries

PAGE = "docs/reference/contracts.md"
PYTHON = {
    "Escrow": contracts.Escrow,
    "Market": contracts.Market,
    "Staking": contracts.Staking,
    "Token": contracts.Token,
}


def section(contract: str, *headings: str) -> str:
    """The parts of the contract's chapter under these headings."""
    chapter = text_of(PAGE).split(f"\n## {contract}\n")[1].split("\n## ")[0]
    parts = re.split(r"^### (.+)$", chapter, flags=re.M)
    return "".join(
        body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title in headings
    )


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", text, re.M)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_function_with_its_parameters(contract: str) -> None:
    shown = first_cells(section(contract, "Verbs", "Reads"))
    assert sorted(shown) == sorted(signature(e) for e in entries(contract, "function"))


@pytest.mark.parametrize("contract", CONTRACTS)
def test_reads_change_nothing_and_verbs_do(contract: str) -> None:
    for heading, reads in (("Verbs", False), ("Reads", True)):
        for shown in first_cells(section(contract, heading)):
            name = shown.partition("(")[0]
            entry = next(e for e in entries(contract, "function") if e["name"] == name)
            assert (entry["stateMutability"] in ("view", "pure")) is reads, shown


@pytest.mark.parametrize("kind", ["event", "error"])
@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_event_and_error(contract: str, kind: str) -> None:
    shown = first_cells(section(contract, f"{kind.capitalize()}s"))
    assert shown == [e["name"] for e in entries(contract, kind)]


@pytest.mark.parametrize("contract", CONTRACTS[:3])
def test_every_verb_says_what_it_emits_and_refuses(contract: str) -> None:
    text = section(contract, "What they emit, and what they refuse")
    verbs = {
        e["name"]
        for e in entries(contract, "function")
        if e["stateMutability"] not in ("view", "pure")
    }
    rows = [row.split("|") for row in text.splitlines() if row.startswith("|")][2:]
    assert {name for row in rows for name in names(row[1])} == verbs
    events = {e["name"] for e in entries(contract, "event")}
    assert {name for row in rows for name in names(row[2])} == events
    errors = {e["name"] for e in entries(contract, "error")}
    assert errors <= set(names(text)), f"no verb refuses with {errors - set(names(text))}"
    assert set(names(text)) <= verbs | events | errors | {"InsufficientAvailable"}


def test_every_python_name_exists() -> None:
    for owner, member in re.findall(r"`(Escrow|Market|Staking|Token)\.(\w+)`", text_of(PAGE)):
        assert hasattr(PYTHON[owner], member), f"{owner} has no {member}"
    for member in re.findall(r"`GPUClient\.(\w+)`", text_of(PAGE)):
        assert hasattr(GPUClient, member), f"GPUClient has no {member}"


def test_every_verb_of_ours_in_python_is_shown() -> None:
    for owner, kind in PYTHON.items():
        for member in (m for m in vars(kind) if not m.startswith("_") and m.islower()):
            assert f"`{owner}.{member}`" in text_of(PAGE), f"{owner}.{member} is not on the page"


def signature(entry: dict[str, object]) -> str:
    inputs = entry["inputs"]
    assert isinstance(inputs, Sequence)
    name = str(entry["name"])
    return f"{name}({', '.join(i['name'] for i in inputs)})"


def names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)
