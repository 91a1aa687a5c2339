"""Fill the tables of the documentation that follow from the code.

    python tools/doc_tables.py            writes every page that is out of date
    python tools/doc_tables.py --check    only says which are; exit status 1 if any

A page holds `<!-- table: NAME -->` ... `<!-- end -->`; what stands between is replaced. Tests
compare in the same way, so a contract's verb, a problem code, a state or the test of a case
cannot change without its page.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tallystick.app.problems import KINDS
from tallystick_backend import app as wiring
from tallystick_backend.api import errors
from tallystick_backend.settings import Settings
from tallystick_backend.tasks import EXPLAINED, TASK_STATES, TERMINAL, TaskState, may_follow

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools import contract_docs, reliability, security_cases  # noqa: E402

BLOCK = re.compile(
    r"(?P<open><!-- table: (?P<name>[a-z-]+) -->\n)(?P<body>.*?)(?P<close><!-- end -->)", re.S
)


# --- HTTP -------------------------------------------------------------------------------------


def problem_table() -> str:
    """Every code that some route declares, and those of routing and of faults."""
    examples = wiring.http_app(Settings()).openapi()["components"]["examples"]
    declared = [example["value"] for example in examples.values() if "code" in example["value"]]
    rows = {(p["status"], p["code"], p["title"], p["next_step"]) for p in declared}
    rows |= {
        (404, "unknown_path", "Not Found", "GET /openapi.json lists every path."),
        (405, "method_not_allowed", "Method Not Allowed", "Use a method that `Allow` names."),
        (500, "internal_error", "Fault of this backend", errors.fault("").next_step),
    }
    lines = ["| status | code | title | what to do |", "|---|---|---|---|"]
    lines += [f"| {s} | `{c}` | {t} | {_cell(n)} |" for s, c, t, n in sorted(rows)]
    return "\n".join(lines)


# --- apps -------------------------------------------------------------------------------------


def app_problem_table() -> str:
    rows = ["| status | code | title | fault |", "|---|---|---|---|"]
    kinds = sorted(KINDS.items(), key=lambda kind: (kind[1].status, kind[0]))
    rows += [f"| {k.status} | `{code}` | {k.title} | {k.fault} |" for code, k in kinds]
    return "\n".join(rows)


# --- tasks ------------------------------------------------------------------------------------


def state_table() -> str:
    rows = ["| state | means | may be followed by |", "|---|---|---|"]
    for state in TASK_STATES:
        rows.append(f"| `{state}` | {EXPLAINED[state]} | {_followers(state)} |")
    return "\n".join(rows)


def _followers(state: TaskState) -> str:
    after = [f"`{s}`" for s in TASK_STATES if s != state and may_follow(state, s)]
    if state in TERMINAL:
        return f"over; the chain may still say {', '.join(after)}" if after else "over"
    return ", ".join(after)


# --- deployment -------------------------------------------------------------------------------


def deployment_table() -> str:
    """What the docstring of scripts/deploy.py lists, a default in brackets behind each; limits from
    its code."""
    script = ast.parse((ROOT / "scripts/deploy.py").read_text(encoding="utf-8"))
    listed = re.findall(
        r"^ +(TALLYSTICK_\w+)(=1)? +(.+(?:\n +(?!TALLYSTICK_)\S.*)*)",
        (ast.get_docstring(script) or "").partition("from the environment:")[2],
        re.M,
    )
    limits = dict(limits_of(script))
    rows = ["| variable | what | default | limits | why |", "|---|---|---|---|---|"]
    for variable, flag, said in listed:
        what, _, default = " ".join(said.split()).partition("(")
        what = DEPLOYMENT_VALUES.get(variable) or what.strip()
        shown = (
            f"`{variable}{flag}`",
            what,
            default.rstrip(")") or "-",
            limits.get(variable, "-"),
            DEPLOYMENT_REASONS[variable],
        )
        rows.append(f"| {' | '.join(map(_cell, shown))} |")
    return "\n".join(rows)


def limits_of(script: ast.Module) -> Iterator[tuple[str, str]]:
    """`whole("TALLYSTICK_X", default, most, least=...)` and its kin."""
    for node in ast.walk(script):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "whole" and len(node.args) == 3:
            name, _, most = (getattr(value, "value", None) for value in node.args)
            least = next((getattr(k.value, "value", 0) for k in node.keywords), 0)
            if isinstance(name, str) and isinstance(most, int):
                yield name, f"{least} to {most}"


DEPLOYMENT_VALUES = {
    "TALLYSTICK_TREASURY": "receives the protocol fees; cannot be changed",
    "TALLYSTICK_STAKE_UNIT": "own stake per GPU, for a seat, and per verdict, in whole tokens",
    "TALLYSTICK_UNBONDING_SECONDS": "until stake and delegation asked back can be had; above the "
    "longest challenge window and the court's time together",
    "TALLYSTICK_RETIRED_KEY_SECONDS": "how long a provider answers for a retired operator key",
    "TALLYSTICK_COMMISSION_NOTICE_SECONDS": "before a provider's new commission holds",
    "TALLYSTICK_JAIL_SECONDS": "before a slashed provider may take new work",
    "TALLYSTICK_STREAM_SECONDS": "over which a pool's fees reach its delegators",
    "TALLYSTICK_CANCEL_SECONDS": "in which work done before a cancel can still be proven",
    "TALLYSTICK_MIN_CHALLENGE_SECONDS": "shortest challenge window that terms may choose",
    "TALLYSTICK_MAX_CHALLENGE_SECONDS": "longest",
    "TALLYSTICK_COURT_SECONDS": "from a dispute until anyone may end it without the court",
    "TALLYSTICK_NOTICE_SECONDS": "before an app's new price or retirement holds; not 0",
}
"""What each is for, where the script's own list says less."""

DEPLOYMENT_REASONS = {
    "TALLYSTICK_TOKEN": "what consumers hold and providers price in already",
    "TALLYSTICK_STAKING_TOKEN": "one token for both keeps the stake's worth in step with what it "
    "guards",
    "TALLYSTICK_SUPPLY": "for a market with a token of its own; nobody can mint more",
    "TALLYSTICK_TREASURY": "a contract wallet outlives a lost key",
    "TALLYSTICK_PROTOCOL_FEE_BPS": "pays treasury and delegators, and makes washed trade cost "
    "something",
    "TALLYSTICK_POOL_SHARE_BPS": "who stands behind the payee has as much of it as the treasury",
    "TALLYSTICK_CLOSE_SECONDS": "a provider that is down over a weekend can still redeem",
    "TALLYSTICK_STAKE_UNIT": "more than a lie about the work of one GPU can earn",
    "TALLYSTICK_UNBONDING_SECONDS": "a lie of the last day can still be shown: 7 days to doubt it, "
    "6 in court, 8 over",
    "TALLYSTICK_RETIRED_KEY_SECONDS": "long enough for receipts to surface, short enough for the "
    "owner of a stolen key",
    "TALLYSTICK_COMMISSION_NOTICE_SECONDS": "fees on their way when it is announced have flowed "
    "when it holds",
    "TALLYSTICK_JAIL_SECONDS": "costs income beside the unit",
    "TALLYSTICK_STREAM_SECONDS": "there is nothing to gain by joining for a day",
    "TALLYSTICK_CANCEL_SECONDS": "a provider at work hears of the cancel and proves what it did",
    "TALLYSTICK_MIN_CHALLENGE_SECONDS": "a consumer can be away for a night",
    "TALLYSTICK_MAX_CHALLENGE_SECONDS": "a provider's pay waits no longer",
    "TALLYSTICK_COURT_SECONDS": "two rounds and a day over; the constructor asks for 3 commits and "
    "2 reveals at least",
    "TALLYSTICK_BOND_FLOOR": "three checkers of a small task are paid something",
    "TALLYSTICK_COMMIT_SECONDS": "the work is repeated in it",
    "TALLYSTICK_REVEAL_SECONDS": "a checker can be away for a night",
    "TALLYSTICK_SEAT_SECONDS": "nobody takes or leaves a seat for a dispute that is coming",
    "TALLYSTICK_NOTICE_SECONDS": "callers hear of a price before it holds",
    "TALLYSTICK_REDEPLOY": "the file of addresses is written over",
}
"""Why the default is what it is, or when to choose another."""


# --- pages ------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[], str]] = {
    "problem-codes": problem_table,
    "app-problems": app_problem_table,
    "task-states": state_table,
    "security-cases": lambda: security_cases.table(ROOT),
    "reliability": lambda: reliability.table(ROOT),
    "contracts": contract_docs.chapters,
    "deployment-values": deployment_table,
}

PAGES = (
    "docs/how-to/deploy-the-contracts.md",
    "docs/reference/app-server.md",
    "docs/reference/contracts.md",
    "docs/reference/http-api.md",
    "docs/reference/reliability.md",
    "docs/reference/security-cases.md",
    "docs/vocabulary.md",
)


def filled(page: str) -> str:
    """The page with its tables as they should be."""

    def fill(match: re.Match[str]) -> str:
        return match["open"] + TABLES[match["name"]]() + "\n" + match["close"]

    return BLOCK.sub(fill, page)


def main(arguments: list[str]) -> int:
    stale = []
    for name in PAGES:
        path = ROOT / name
        page = path.read_text(encoding="utf-8")
        if (wanted := filled(page)) != page:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(wanted, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run `make openapi`", file=sys.stderr)
        return 1
    return 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
