"""The contracts as chapters of docs/reference/contracts.md, so that the page cannot say otherwise.

What there is comes from the exported ABI; words and struct fields from the NatSpec of the sources;
events and errors of a verb from whatever its code reaches, its neighbours' code included; names in
Python from the calls in `tallystick.protocol.contracts` and in scripts/. Needs the compiler that
`make setup` installs, and nothing compiled.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tallystick.protocol import codec, contracts
from tallystick.protocol.contract_errors import SENTENCES

ROOT = Path(__file__).resolve().parent.parent
SOLC = ".make/solc"
Node = dict[str, Any]

READING = frozenset({"view", "pure"})
BETWEEN_NEIGHBOURS = frozenset({"OnlyMarket", "OnlyCourt", "OnlyEscrow", "OnlyStaking"})
"""Refuse whoever is not the neighbour: what goes through the neighbour never meets them."""

NOBODY_NAMED = "whoever it concerns"

WHO = re.compile(
    r"(?P<who>(?:Anyone|Payer|Provider|Consumer|Delegator|Publisher|Market|Court|Escrow|Staking"
    r"|A drawn checker|The allowance's signer)\b[^:.;]{0,90}): (?P<does>.+)",
    re.S,
)
"""A notice that begins with who may call: "Publisher only: add a version"."""

BY_HAND: dict[tuple[str, str], tuple[str, str]] = {
    ("ComputeEscrow", "deposit"): ("anyone who approved the escrow", ""),
    ("ComputeEscrow", "depositWithPermit"): ("holder of a token with EIP-2612", ""),
    ("ComputeEscrow", "depositWithAuthorization"): ("anyone with `from`'s authorization", ""),
    ("ComputeEscrow", "depositToChannel"): ("anyone who approved the escrow", ""),
    ("ComputeEscrow", "depositToChannelWithPermit"): ("holder of a token with EIP-2612", ""),
    ("ComputeEscrow", "depositToChannelWithAuthorization"): (
        "anyone with `from`'s authorization",
        "",
    ),
    ("ComputeEscrow", "withdraw"): ("account", ""),
    ("ComputeEscrow", "setPayoutAddress"): ("present payout address (the payee at first)", ""),
    ("TaskMarket", "createTask"): ("consumer, or anyone with its signature", ""),
    ("TaskMarket", "reclaim"): ("anyone, after the end", ""),
    ("TaskMarket", "prove"): ("anyone, with receipt and acceptance", ""),
    ("TaskMarket", "proveOrder"): ("anyone, with receipt and acceptance", ""),
    ("TaskMarket", "proveMany"): ("anyone, with signed receipts and acceptances", ""),
    ("TaskMarket", "proveAlone"): ("anyone, with receipt and assignment", ""),
    ("TaskMarket", "finalize"): ("anyone after the window; at once with acceptance", ""),
    ("ProviderStaking", "stake"): ("provider, having approved", ""),
    ("ProviderStaking", "stakeWithPermit"): ("provider", ""),
    ("ProviderStaking", "requestUnbond"): ("provider", ""),
    ("ProviderStaking", "withdrawStake"): ("provider", ""),
    ("ProviderStaking", "registerGpus"): ("provider or its operator key", ""),
    ("ProviderStaking", "bindOperatorKey"): ("provider, with the key's own signature", ""),
    ("TaskMarket", "resolve"): ("court, until its time is over", ""),
    ("ProviderStaking", "delegate"): ("anyone, having approved", ""),
    ("ProviderStaking", "delegateWithPermit"): ("anyone", ""),
    ("ProviderStaking", "requestUndelegate"): ("delegator", ""),
    ("ProviderStaking", "withdrawDelegation"): ("delegator", ""),
    ("ProviderStaking", "claimRewards"): ("delegator", ""),
    ("DisputeCourt", "takeSeat"): ("provider with a unit of stake to spare", ""),
    ("DisputeCourt", "leaveSeat"): ("provider with a seat", ""),
    ("DisputeCourt", "reveal"): (
        "anyone who knows the salt",
        "Open a vote, after the commit and until the reveal is over.",
    ),
    ("AppRegistry", "publish"): ("anyone, under its own name", ""),
    ("TallyToken", "transfer"): ("holder", "Move tokens."),
    ("TallyToken", "approve"): ("holder", "Allow `spender` to move exactly so many."),
    ("TallyToken", "transferFrom"): ("whoever was allowed", "Move tokens."),
    ("TallyToken", "permit"): ("anyone, with the owner's signature", "Approve (EIP-2612)."),
    ("TallyToken", "transferWithAuthorization"): (
        "anyone, with `from`'s signature",
        "Move tokens (EIP-3009).",
    ),
    ("TallyToken", "receiveWithAuthorization"): (
        "`to`, with `from`'s signature",
        "Move tokens to the caller (EIP-3009).",
    ),
    ("TallyToken", "cancelAuthorization"): (
        "anyone, with the authorizer's signature",
        "Make an authorization useless.",
    ),
    ("TallyToken", "balanceOf"): ("", "Tokens held."),
    ("TallyToken", "allowance"): ("", "Tokens allowed."),
    ("TallyToken", "totalSupply"): ("", "All there are."),
    ("TallyToken", "decimals"): ("", "18."),
    ("TallyToken", "symbol"): ("", "`TALLY`."),
    ("TallyToken", "name"): ("", "`Tally`."),
    ("TallyToken", "nonces"): ("", "The next permit's nonce."),
    ("TallyToken", "authorizationState"): ("", "Whether an EIP-3009 nonce is spent."),
    ("TallyToken", "DOMAIN_SEPARATOR"): ("", "The token's own EIP-712 domain."),
}
"""Who may call, and what it does, where the notice does not say: "" leaves the notice."""

FOR_PEOPLE = {
    ("ComputeEscrow", "deposit"): "deposit",
    ("ComputeEscrow", "depositWithPermit"): "deposit",
    ("ComputeEscrow", "withdraw"): "withdraw",
    ("TaskMarket", "createTask"): "submit",
    ("TaskMarket", "cancel"): "cancel",
    ("TaskMarket", "reclaim"): "reclaim",
}
"""Methods of `GPUClient`."""


# --- the chapters -----------------------------------------------------------------------------


def chapters() -> str:
    return "\n\n".join(chapter(contract) for contract in codec.CONTRACTS).strip()


def chapter(contract: codec.ContractName) -> str:
    parts = [
        f"## {contract}",
        introduction(contract),
        f"### Verbs of {contract}",
        verbs_table(contract),
        f"### What {contract} emits and refuses",
        outcomes_table(contract),
        f"### Reads of {contract}",
        reads_table(contract),
    ]
    shown = structs_table(contract)
    if shown:
        parts += [f"### Types of {contract}", shown]
    parts += [
        f"### Events of {contract}",
        events_table(contract),
        f"### Errors of {contract}",
        errors_table(contract),
    ]
    return "\n\n".join(parts)


def introduction(contract: str) -> str:
    """The interface's own words, else the contract's: also what it assumes and warns of."""
    for node in (declared(f"I{contract}"), declared(contract)):
        if node is not None and (said := doc_of(node)).blocks:
            question = said.title.partition(": ")[2]
            first = f"{question[:1].upper()}{question[1:]}." if question else ""
            return "\n\n".join(filter(None, (first, *said.blocks)))
    return ""


def verbs_table(contract: codec.ContractName) -> str:
    rows = ["| verb | who | effect | Python |", "|---|---|---|---|"]
    for entry in functions(contract, reading=False):
        who, does = described(contract, entry["name"])
        rows.append(row(f"`{shown(entry)}`", who, does, in_python(contract, entry["name"])))
    return "\n".join(rows)


def outcomes_table(contract: codec.ContractName) -> str:
    rows = ["| verb | event | refused with |", "|---|---|---|"]
    for entry in functions(contract, reading=False):
        rows.append(outcome_row(contract, f"`{entry['name']}`", code_of(contract, entry["name"])))
    constructor = next(
        (f for f in methods(declared(contract) or {}) if f["kind"] == "constructor"), None
    )
    rows.append(outcome_row(contract, "deployment", constructor))
    answers = errors_of_reads(contract)
    if answers:
        rows.append(row("reads", "-", names(answers)))
    return "\n".join(rows)


def reads_table(contract: codec.ContractName) -> str:
    rows = ["| read | answers | Python |", "|---|---|---|"]
    for entry in functions(contract, reading=True):
        _, does = described(contract, entry["name"])
        answers = ". ".join(filter(None, (outputs(entry), does)))
        rows.append(row(f"`{shown(entry)}`", answers, in_python(contract, entry["name"])))
    return "\n".join(rows)


def structs_table(contract: codec.ContractName) -> str:
    """Structs and enumerations that verbs, reads or events of the ABI carry."""
    carried: dict[str, Node] = {}
    for entry in codec.abi(contract):
        for value in (*entry.get("inputs", ()), *entry.get("outputs", ())):
            carry(value, carried)
    rows = ["| name | is | holds |", "|---|---|---|"]
    for name in sorted(carried):
        said = doc_of(type_named(name) or {})
        rows.append(row(f"`{name}`", said.notice, "<br>".join(parts_of(name, carried[name], said))))
    return "\n".join(rows) if carried else ""


def parts_of(name: str, value: Node, said: Doc) -> list[str]:
    """A struct's fields; an enumeration's members with their numbers."""
    if "components" in value:
        told = {part["name"]: f"`{typed(part)}`" for part in value["components"]}
    else:
        members = (type_named(name) or {}).get("members", ())
        told = {member["name"]: f"{n} `{member['name']}`" for n, member in enumerate(members)}
    meanings = dict(said.parameters)
    return [f"{text}: {meanings[n]}" if n in meanings else text for n, text in told.items()]


def events_table(contract: codec.ContractName) -> str:
    rows = ["| event | fields (*indexed*) | says |", "|---|---|---|"]
    for entry in entries(contract, "event"):
        fields = [f"*{i['name']}*" if i["indexed"] else i["name"] for i in entry["inputs"]]
        rows.append(row(f"`{entry['name']}`", ", ".join(fields), notice(contract, entry["name"])))
    return "\n".join(rows)


def errors_table(contract: codec.ContractName) -> str:
    """What `ContractError` says, with the names of the values in place of the values."""
    rows = ["| error | says |", "|---|---|"]
    for entry in entries(contract, "error"):
        values = [f"*{value['name']}*" for value in entry["inputs"]]
        sentence = SENTENCES.get(entry["name"])
        said = sentence.format(*values) if sentence else ", ".join(values) or "-"
        rows.append(row(f"`{entry['name']}`", said))
    return "\n".join(rows)


# --- the ABI ----------------------------------------------------------------------------------


def entries(contract: codec.ContractName, kind: str) -> list[Node]:
    """The functions, events or errors of the exported ABI, by name."""
    found = (entry for entry in codec.abi(contract) if entry["type"] == kind)
    return sorted(found, key=lambda entry: str(entry["name"]))


def functions(contract: codec.ContractName, *, reading: bool) -> list[Node]:
    """In the order of the interface, which tells a story; the others behind, by name."""
    found = [
        entry
        for entry in entries(contract, "function")
        if (entry["stateMutability"] in READING) is reading
    ]
    told = [node["name"] for node in methods(declared(f"I{contract}") or {})]
    return sorted(found, key=lambda e: told.index(e["name"]) if e["name"] in told else len(told))


def shown(entry: Node) -> str:
    return f"{entry['name']}({', '.join(typed(value) for value in entry['inputs'])})"


def outputs(entry: Node) -> str:
    return ", ".join(f"`{typed(value)}`" for value in entry["outputs"])


def typed(value: Node) -> str:
    return f"{short_type(value)} {value['name']}".strip()


def short_type(value: Node) -> str:
    """`Row[]`, where the ABI says `tuple[]`."""
    named = str(value.get("internalType", value["type"]))
    return re.sub(r"^(?:struct|enum|contract) (?:\w+\.)?", "", named)


def carry(value: Node, into: dict[str, Node]) -> None:
    if "components" in value or str(value.get("internalType")).startswith("enum "):
        into[short_type(value).partition("[")[0]] = value
    for part in value.get("components", ()):
        carry(part, into)


# --- the words --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Doc:
    title: str = ""
    notice: str = ""
    dev: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    """And what is said of them."""
    blocks: tuple[str, ...] = ()
    """Notice and dev as paragraphs; what is indented there as code."""


def doc_of(node: Node) -> Doc:
    documentation = node.get("documentation") or {}
    text = documentation.get("text", "") if isinstance(documentation, dict) else ""
    # What stands before any tag is a notice.
    parts = {"notice": text} if text and "@" not in text else {}
    parameters = []
    for tag, body in re.findall(r"(?:^|\n) ?@(\w+) (.*?)(?=\n ?@\w+ |\Z)", text, re.S):
        if tag == "param":
            name, _, meaning = flat(body).partition(" ")
            parameters.append((name, meaning))
        else:
            parts.setdefault(tag, body)
    told = [*blocks_of(parts.get("notice", "")), *blocks_of(parts.get("dev", ""))]
    return Doc(
        flat(parts.get("title", "")),
        flat(parts.get("notice", "")),
        flat(parts.get("dev", "")),
        tuple(parameters),
        tuple(told),
    )


def blocks_of(text: str) -> Iterator[str]:
    lines: list[str] = []
    coded = False
    for line in [*text.splitlines(), ""]:
        indented = line.startswith("   ")
        if lines and (indented != coded or not line.strip()):
            body = "\n".join(lines)
            yield f"```text\n{textwrap.dedent(body)}\n```" if coded else flat(body)
            lines = []
        coded = indented
        if line.strip():
            lines.append(line.rstrip())


def flat(text: str) -> str:
    """One line, without what is indented."""
    kept = [line for line in text.splitlines() if not line.startswith("   ")]
    return " ".join(" ".join(kept).split())


def described(contract: str, function: str) -> tuple[str, str]:
    """Who may call it, and what it does."""
    who, does = BY_HAND.get((contract, function), ("", ""))
    said = notice(contract, function)
    if found := WHO.fullmatch(said):
        who = who or found["who"].replace(" only", "", 1)
        said = found["does"][:1].upper() + found["does"][1:]
    lower = who[:1].lower() + who[1:]
    more = [] if contract == "TallyToken" else details(said_of(contract, function))
    return lower or NOBODY_NAMED, " ".join(filter(None, (does or said, *more)))


def details(said: Doc) -> list[str]:
    """What else is said of a function or a struct: assumptions, warnings, parameters."""
    return [said.dev, *(f"`{name}`: {meaning}" for name, meaning in said.parameters)]


def notice(contract: str, name: str) -> str:
    return said_of(contract, name).notice


def said_of(contract: str, name: str) -> Doc:
    """Of a function or event, wherever its words are: at the interface, or at the contract."""
    for kind in lineage(contract):
        for node in kind["nodes"]:
            if node.get("name") == name and (said := doc_of(node)).notice:
                return said
    return Doc()


# --- what the code reaches --------------------------------------------------------------------


def outcome_row(contract: str, first: str, code: Node | None) -> str:
    own = {node["id"] for kind in lineage(contract) for node in kind["nodes"]}
    events, errors = [], []
    for node in reached(code) if code else ():
        if node["nodeType"] == "EventDefinition":
            events.append(node["name"])
        elif node["id"] in own or node["name"] not in BETWEEN_NEIGHBOURS:
            errors.append(node["name"])
    return row(first, names(events) or "-", names(errors) or "-")


def errors_of_reads(contract: codec.ContractName) -> list[str]:
    return [
        node["name"]
        for entry in functions(contract, reading=True)
        if (code := code_of(contract, entry["name"]))
        for node in reached(code)
        if node["nodeType"] == "ErrorDefinition"
    ]


def reached(code: Node) -> list[Node]:
    """Events and errors that the code can come to."""
    seen: set[int] = set()
    found: dict[int, Node] = {}
    waiting = [code]
    while waiting:
        node = waiting.pop()
        if node["id"] in seen:
            continue
        seen.add(node["id"])
        for reference in references(node):
            kind = reference["nodeType"]
            if kind in ("EventDefinition", "ErrorDefinition"):
                found[reference["id"]] = reference
            elif kind in ("FunctionDefinition", "ModifierDefinition"):
                waiting.append(implementation(reference))
    return sorted(found.values(), key=lambda node: str(node["name"]))


def references(node: Node) -> Iterator[Node]:
    index = tree().by_id
    for inner in walk(node):
        target = inner.get("referencedDeclaration")
        if isinstance(target, int) and target in index:
            yield index[target]


def implementation(function: Node) -> Node:
    """Of a function that a neighbour's interface declares: the neighbour's. A token's is its own
    affair."""
    if function.get("body"):
        return function
    for kind in tree().contracts:
        ours = kind["name"] in codec.CONTRACTS and kind["name"] != "TallyToken"
        if ours and function["scope"] in kind["linearizedBaseContracts"]:
            for method in methods(kind):
                if method["name"] == function["name"] and method.get("body"):
                    return method
    return function


def code_of(contract: str, function: str) -> Node | None:
    for kind in lineage(contract):
        for node in methods(kind):
            if node["name"] == function and node.get("body"):
                return node
    return None


# --- the sources ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    contracts: tuple[Node, ...]
    by_id: dict[int, Node]


@cache
def tree() -> Tree:
    """The syntax trees of the contracts, without the mocks of the tests."""
    sources = {
        path.relative_to(ROOT).as_posix(): {"content": path.read_text(encoding="utf-8")}
        for path in sorted((ROOT / "contracts").rglob("*.sol"))
        if "mocks" not in path.parts
    }
    wanted = {
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
            "outputSelection": {"*": {"": ["ast"]}},
        },
    }
    done = subprocess.run(
        [ROOT / SOLC, "--standard-json"],
        input=json.dumps(wanted),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    broken = [e["formattedMessage"] for e in answer.get("errors", ()) if e["severity"] == "error"]
    if broken:
        raise RuntimeError("the contracts do not compile:\n" + "\n".join(broken))
    by_id: dict[int, Node] = {}
    found = []
    for name in sorted(answer["sources"]):
        for node in walk(answer["sources"][name]["ast"]):
            by_id[node["id"]] = node
            if node["nodeType"] == "ContractDefinition":
                found.append(node)
    return Tree(tuple(found), by_id)


def walk(node: Any) -> Iterator[Node]:
    """The node and every node inside."""
    if isinstance(node, list):
        for item in node:
            yield from walk(item)
    elif isinstance(node, dict):
        if "nodeType" in node and "id" in node:
            yield node
        for value in node.values():
            if isinstance(value, dict | list):
                yield from walk(value)


def declared(name: str) -> Node | None:
    return next((kind for kind in tree().contracts if kind["name"] == name), None)


def lineage(contract: str) -> list[Node]:
    """The contract and all it inherits from, the most derived first."""
    found = declared(contract)
    return [tree().by_id[i] for i in found["linearizedBaseContracts"]] if found else []


def methods(kind: Node) -> list[Node]:
    return [node for node in kind.get("nodes", ()) if node["nodeType"] == "FunctionDefinition"]


def type_named(name: str) -> Node | None:
    """The struct or enumeration, one with words before one without."""
    kinds = ("StructDefinition", "EnumDefinition")
    found = [n for n in tree().by_id.values() if n["nodeType"] in kinds and n["name"] == name]
    return max(found, key=lambda node: bool(doc_of(node).blocks), default=None)


# --- in Python --------------------------------------------------------------------------------


def in_python(contract: str, function: str) -> str:
    """What a Python user calls instead."""
    found = []
    if member := FOR_PEOPLE.get((contract, function)):
        found.append(f"`GPUClient.{member}`")
    found += [f"`{name}`" for name in typed_methods().get((contract, function), ())]
    found += [f"`brownie run {name}`" for name in scripts().get((contract, function), ())]
    return ", ".join(found) or "-"


@cache
def typed_methods() -> dict[tuple[str, str], list[str]]:
    """By contract and function: `Escrow.deposit`."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, kind in vars(contracts).items():
        if not (inspect.isclass(kind) and hasattr(kind, "NAME")):
            continue
        functions_of = {e["name"] for e in codec.abi(kind.NAME) if e["type"] == "function"}
        for member, method in inspect.getmembers(kind, inspect.isfunction):
            if member.startswith("_"):
                continue
            asked = asked_by(method)
            for function in functions_of:
                if any(re.fullmatch(pattern, function) for pattern in asked):
                    found.setdefault((kind.NAME, function), []).append(f"{name}.{member}")
    return found


def asked_by(method: Any) -> set[str]:
    """Patterns of the contract functions that a typed method names."""
    source = ast.parse(textwrap.dedent(inspect.getsource(method)))
    found = set()
    for node in ast.walk(source):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        first = node.args[0]
        if node.func.attr not in ("_call", "_one", "_read"):
            continue
        if isinstance(first, ast.Constant):
            found.add(re.escape(str(first.value)))
        elif isinstance(first, ast.JoinedStr):
            found.add(
                "".join(
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+"
                    for part in first.values
                )
            )
    return found


PLACES = {
    "escrow": "ComputeEscrow",
    "market": "TaskMarket",
    "staking": "ProviderStaking",
    "registry": "AppRegistry",
    "court": "DisputeCourt",
    "token": "TallyToken",
    "staking_token": "TallyToken",
}
"""What scripts call the contracts."""

SENT_BY = {
    "call_of": (
        ("DisputeCourt", "reportTwoHistories"),
        ("DisputeCourt", "reportBrokenChain"),
        ("DisputeCourt", "reportGpuSoldTwice"),
    ),
    "bind_operator_key": (("ProviderStaking", "bindOperatorKey"),),
}
"""Functions that scripts share, and what goes out when one is called."""


@cache
def scripts() -> dict[tuple[str, str], list[str]]:
    """By contract and verb: the scripts that send it."""
    found: dict[tuple[str, str], list[str]] = {}
    typed: dict[tuple[str, str], str] = {
        (contract, name.partition(".")[2]): entry["name"]
        for contract in codec.CONTRACTS
        for entry in functions(contract, reading=False)
        for name in typed_methods().get((contract, entry["name"]), ())
    }
    for path in sorted((ROOT / "scripts").glob("*.py")):
        for part in ast.parse(path.read_text(encoding="utf-8")).body:
            for verb in verbs_sent(part, typed):
                users = found.setdefault(verb, [])
                line = f"{path.stem}{spoken(part)}"
                if line not in users:
                    users.append(line)
    return found


def verbs_sent(part: ast.stmt, typed: dict[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    for node in ast.walk(part):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield from SENT_BY.get(node.func.id, ())
        if not isinstance(node.func, ast.Attribute):
            continue
        contract = PLACES.get(called(node.func.value))
        if not contract:
            continue
        function = typed.get((contract, node.func.attr))
        # What is sent names its sender; what is read does not.
        if function or (node.args and isinstance(node.args[-1], ast.Dict)):
            yield contract, function or node.func.attr


def spoken(part: ast.stmt) -> str:
    """What follows the script's name on the command line; `main` needs nothing."""
    if not isinstance(part, ast.FunctionDef) or part.name == "main":
        return ""
    is_command = any(isinstance(d, ast.Name) and d.id == "command" for d in part.decorator_list)
    return f" {part.name}" if is_command else ""


def called(node: ast.expr) -> str:
    """`market.staking`, `staking` and `staking_of(market)` are all `staking`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return called(node.func).removesuffix("_of")
    return node.id if isinstance(node, ast.Name) else ""


# --- cells ------------------------------------------------------------------------------------


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def names(found: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(found)))
