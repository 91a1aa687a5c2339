"""docs/reference/contracts.md names every function, event and error of the ABI, and no other.

The chapters are generated (tools/contract_docs.py) and tests/docs/test_tables.py compares them with
the page; here they are held to the ABI, to Python and to what is known of the contracts.
"""

from __future__ import annotations

import re

import pytest

from tallystick import GPUClient
from tallystick.protocol import codec, contracts
from tests.docs.pages import text_of
from tools import contract_docs
from tools.contract_docs import READING, entries, shown

PAGE = "docs/reference/contracts.md"
PYTHON = {
    name: kind
    for name, kind in vars(contracts).items()
    if isinstance(kind, type) and hasattr(kind, "NAME")
}


def section(contract: str, heading: str) -> str:
    """What stands under this heading of the contract's chapter."""
    chapter = text_of(PAGE).split(f"\n## {contract}\n")[1].split("\n## ")[0]
    parts = re.split(r"^### (.+)$", chapter, flags=re.M)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found.get(f"{heading} of {contract}", "") or found.get(heading, "")


def rows(text: str) -> list[list[str]]:
    """Cells of the rows below the head of a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines]


def names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


@pytest.mark.parametrize("contract", codec.CONTRACTS)
@pytest.mark.parametrize(("heading", "reading"), [("Verbs", False), ("Reads", True)])
def test_every_function_with_its_parameters(
    contract: codec.ContractName, heading: str, *, reading: bool
) -> None:
    expected = [
        f"`{shown(entry)}`"
        for entry in entries(contract, "function")
        if (entry["stateMutability"] in READING) is reading
    ]
    assert sorted(row[0] for row in rows(section(contract, heading))) == sorted(expected)


@pytest.mark.parametrize("contract", codec.CONTRACTS)
def test_every_verb_says_who_may_call_it_and_what_it_does(contract: codec.ContractName) -> None:
    for verb, who, does, _ in rows(section(contract, "Verbs")):
        assert who != contract_docs.NOBODY_NAMED, (
            f"{contract}.{verb}: begin its @notice with who may call it and a colon, or name them"
            " in tools/contract_docs.py"
        )
        assert does, f"{contract}.{verb} has no @notice"


@pytest.mark.parametrize("kind", ["event", "error"])
@pytest.mark.parametrize("contract", codec.CONTRACTS)
def test_every_event_and_error(contract: codec.ContractName, kind: str) -> None:
    told = [row[0].strip("`") for row in rows(section(contract, f"{kind.capitalize()}s"))]
    assert told == [entry["name"] for entry in entries(contract, kind)]


@pytest.mark.parametrize("contract", [c for c in codec.CONTRACTS if c != "TallyToken"])
def test_every_event_and_error_comes_from_a_verb(contract: codec.ContractName) -> None:
    outcomes = rows(section(contract, f"What {contract} emits and refuses"))
    for kind, cell in (("event", 1), ("error", 2)):
        declared = {entry["name"] for entry in entries(contract, kind)}
        reached = {name for row in outcomes for name in names(row[cell])}
        assert declared <= reached, f"nothing comes to {declared - reached}"


@pytest.mark.parametrize(
    ("contract", "verb", "events", "errors"),
    [
        ("ComputeEscrow", "deposit", {"Deposited"}, {"DepositNotExact", "ZeroAmount"}),
        ("TaskMarket", "createTask", {"TaskCreated"}, {"InsufficientAvailable", "SharesTooHigh"}),
        ("ProviderStaking", "withdrawStake", {"StakeWithdrawn"}, {"UnbondingNotOver"}),
        ("AppRegistry", "publish", {"AppPublished", "VersionAdded"}, {"AppExists", "ZeroDigest"}),
        ("AppRegistry", "renounce", {"AppRenounced"}, {"PriceChangePending", "OnlyPublisher"}),
    ],
)
def test_what_the_code_reaches(
    contract: str, verb: str, events: set[str], errors: set[str]
) -> None:
    """Through private functions, modifiers, libraries and neighbours; not through the token."""
    outcomes = rows(section(contract, f"What {contract} emits and refuses"))
    (found,) = [row for row in outcomes if row[0] == f"`{verb}`"]
    assert events <= set(names(found[1]))
    assert errors <= set(names(found[2]))
    assert not {name for name in names(found[2]) if name.startswith("ERC20")}
    assert "OnlyMarket" not in names(found[2])


def test_who_is_named_by_hand_is_there() -> None:
    known = {c: {e["name"] for e in entries(c, "function")} for c in codec.CONTRACTS}
    for contract, function in (*contract_docs.BY_HAND, *contract_docs.FOR_PEOPLE):
        assert function in known.get(contract, {function}), f"{contract} has no {function}"


def test_a_struct_shows_its_fields_and_an_enumeration_its_numbers() -> None:
    told = {row[0]: row[2] for row in rows(section("TaskMarket", "Types"))}
    assert "`uint32 gpus`" in told["`TaskTerms`"]
    assert told["`Status`"].startswith("0 `None`")
    assert "1 `Open`" in told["`Status`"]


# --- in Python --------------------------------------------------------------------------------


def test_every_python_name_exists() -> None:
    for owner, member in re.findall(rf"`({'|'.join(PYTHON)})\.(\w+)`", text_of(PAGE)):
        assert hasattr(PYTHON[owner], member), f"{owner} has no {member}"
    for member in re.findall(r"`GPUClient\.(\w+)`", text_of(PAGE)):
        assert hasattr(GPUClient, member), f"GPUClient has no {member}"


def test_every_verb_of_ours_in_python_is_shown() -> None:
    for owner, kind in PYTHON.items():
        for member in (m for m in vars(kind) if not m.startswith("_") and m.islower()):
            assert f"`{owner}.{member}`" in text_of(PAGE), f"{owner}.{member} is not on the page"


@pytest.mark.parametrize(
    ("contract", "verb", "script"),
    [
        ("ProviderStaking", "stake", "stake"),
        ("AppRegistry", "publish", "publish_app"),
        ("AppRegistry", "setDiscount", "set_price discount"),
        ("AppRegistry", "retire", "publish_app retire"),
        ("DisputeCourt", "commit", "vote commit"),
        ("DisputeCourt", "reportGpuSoldTwice", "report_fault"),
        ("ProviderStaking", "retireOperatorKey", "operator_key rotate"),
        ("TaskMarket", "proveMany", "task prove"),
    ],
)
def test_scripts_are_named_beside_what_they_send(contract: str, verb: str, script: str) -> None:
    (found,) = [r for r in rows(section(contract, "Verbs")) if r[0].startswith(f"`{verb}(")]
    assert f"`brownie run {script}`" in found[3]


LIBRARY_ONLY = "for programs: `tallystick.protocol` encodes it, and makes the signature"
NEIGHBOURS_ONLY = "a neighbour alone may call it"
NO_SCRIPT = {
    ("ComputeEscrow", "depositWithPermit"): LIBRARY_ONLY,
    ("ComputeEscrow", "depositWithAuthorization"): LIBRARY_ONLY,
    ("ComputeEscrow", "depositToChannelWithPermit"): LIBRARY_ONLY,
    ("ComputeEscrow", "depositToChannelWithAuthorization"): LIBRARY_ONLY,
    ("ProviderStaking", "stakeWithPermit"): LIBRARY_ONLY,
    ("ProviderStaking", "delegateWithPermit"): LIBRARY_ONLY,
    ("ComputeEscrow", "lockAvailable"): NEIGHBOURS_ONLY,
    ("ComputeEscrow", "unlock"): NEIGHBOURS_ONLY,
    ("ComputeEscrow", "payProviderFrom"): NEIGHBOURS_ONLY,
    ("TaskMarket", "resolve"): NEIGHBOURS_ONLY,
    ("ProviderStaking", "addFees"): NEIGHBOURS_ONLY,
    ("ProviderStaking", "setSeats"): NEIGHBOURS_ONLY,
    ("ProviderStaking", "slash"): NEIGHBOURS_ONLY,
    ("DisputeCourt", "open"): NEIGHBOURS_ONLY,
}


@pytest.mark.parametrize("contract", [c for c in codec.CONTRACTS if c != "TallyToken"])
def test_every_verb_is_sent_by_a_script_or_has_a_reason(contract: codec.ContractName) -> None:
    without = {
        (contract, name)
        for name in verbs(contract)
        if not contract_docs.scripts().get((contract, name))
    }
    assert without == {place for place in NO_SCRIPT if place[0] == contract}


# --- pictures ---------------------------------------------------------------------------------


def test_pictures_name_verbs_and_events_that_are_there() -> None:
    """On an arrow to a contract: a verb of it first; events anywhere in its words."""
    known = {contract: verbs(contract) for contract in codec.CONTRACTS}
    every_event = {entry["name"] for c in codec.CONTRACTS for entry in entries(c, "event")}
    arrows = re.findall(r"^ +\w+->>(\w+): (.+)$", text_of(PAGE), re.M)
    told = [(contract, words) for contract, words in arrows if contract in known]
    assert told
    for contract, words in told:
        first = re.match(r"\w+", words)
        if first is None or first[0] in known[contract] or "priceAt" in words:
            continue
        raise AssertionError(f"{contract} has no verb {first[0]} (arrow: {words})")
    for _, words in told:
        events = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", words))
        assert events <= every_event | {"ChannelAllowance"}, words


def verbs(contract: codec.ContractName) -> set[str]:
    found = entries(contract, "function")
    return {entry["name"] for entry in found if entry["stateMutability"] not in READING}
