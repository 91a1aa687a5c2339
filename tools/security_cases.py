"""The cases of the threat model, and which tests of this release name them.

A case that nobody can bring about here says why: "does not apply, because ...".

A test names a case in a comment or docstring: "case 92", "cases 72, 73 and 80". Further numbers in
brackets on such a line count too: "(35, 36)". `NAMED_HERE` has tests that do not say the number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

CASE = re.compile(r"\b[Cc]ases?\s+(\d{1,3}(?:(?:,\s*|\s+and\s+|,\s+and\s+)\d{1,3}\b)*)")
BRACKETED = re.compile(r"\((\d{1,3}(?:,\s*\d{1,3})*)\)")

NOT_HERE = "does not apply"
NO_OWNER = f"{NOT_HERE}, because there is no owner, setter, pause or upgrade"
OPEN = "applies; no test names it yet"

GROUPS: tuple[tuple[str, dict[int, tuple[str, str]]], ...] = (
    (
        "Escrow, fees, tasks",
        {
            1: ("A token calls back into the contracts while it moves", OPEN),
            2: ("A token keeps a fee when it moves", OPEN),
            3: (
                "A token whose balances change by themselves",
                "does not apply, because an escrow has one token, chosen when it is deployed, and "
                "one that changes balances by itself must not be chosen",
            ),
            4: ("A token that answers nothing, false, or far too much", OPEN),
            5: ("One blocked payee among a hundred", OPEN),
            6: ("Other decimals, and figures near the width of a word", OPEN),
            7: ("Rounding never makes money, and splitting gains nothing", OPEN),
            8: ("Strangers fill storage with dust", OPEN),
            9: ("A stranger adds to somebody else's unbonding", OPEN),
            10: ("A second unbonding request does not move the first one's clock", OPEN),
            11: ("A payer draws its own locked money through an accomplice", OPEN),
            12: ("An allowance is used before it is changed", OPEN),
            13: ("Somebody takes a task's id first", OPEN),
            14: ("Every function, called by everybody who may not", OPEN),
            15: ("Initialising again, or replacing the code", NO_OWNER),
            16: ("A pause that holds money back", NO_OWNER),
            17: ("A payee's contract answers with a flood", OPEN),
            18: ("Tokens or coin sent straight to a contract", OPEN),
            19: ("Prices change between offer and task", OPEN),
            20: ("Somebody uses a permit up first", OPEN),
            21: (
                "Sender or value counted twice through a multicall",
                "does not apply, because there is no multicall, no forwarder, and no verb takes "
                "coin",
            ),
            22: ("Blocks are filled until a window is over", OPEN),
            23: ("A flood of disputes", OPEN),
            24: ("Windows change during a dispute", NO_OWNER),
            25: ("The arbiter stays silent", OPEN),
            26: ("Forged Merkle proofs", OPEN),
            27: ("The same work is proven a second time", OPEN),
            28: ("Paid and refunded in one block", OPEN),
            29: ("More usage than the lease allows", OPEN),
            30: ("The second before, at and after a deadline", OPEN),
            31: ("Verbs in any order", OPEN),
            32: ("Shares of nothing, of everything, and of more", OPEN),
            33: ("Ownership given away by mistake", NO_OWNER),
        },
    ),
    (
        "Signatures, vouchers, session keys",
        {
            34: ("A voucher shown twice, or an older one", OPEN),
            35: ("A signature in another form", OPEN),
            36: ("A signature of nobody", OPEN),
            37: ("A signature made for another chain or deployment", OPEN),
            38: ("Digests equal in Solidity and Python", OPEN),
            39: ("Any one field changed", OPEN),
            40: ("A session key's cap under parallel use", OPEN),
            41: ("Revoked while requests are under way", OPEN),
            42: ("A channel opened again under its old id", OPEN),
            43: ("A voucher above what is there", OPEN),
            44: ("The payer leaves with vouchers unpaid", OPEN),
            45: ("One deposit promised to many", OPEN),
            46: ("A contract wallet that fails, stalls or calls back", OPEN),
            47: ("A contract wallet that is not deployed yet", OPEN),
            48: ("Contract and Python judge signatures alike", OPEN),
            49: ("Amounts that are no amounts", OPEN),
            50: ("Power fails after a message was acknowledged", OPEN),
            51: ("Asked to sign more than was metered", OPEN),
            52: ("Accounts that carry code", OPEN),
        },
    ),
    (
        "Staking, delegation, slashing",
        {
            53: ("The first delegator skews the shares", OPEN),
            54: ("Rewards announced and not paid in", OPEN),
            55: ("Unbond, then offend", OPEN),
            56: ("A clock that overflows into an instant exit", OPEN),
            57: ("A slash above what is there", OPEN),
            58: ("Leaving just before the slash", OPEN),
            59: ("A slash of one unit and its rounding", OPEN),
            60: ("Somebody fills the way out of another", OPEN),
            61: ("One address in two roles", OPEN),
            62: ("A provider makes itself unslashable", OPEN),
            63: ("In before the reward, out after it", OPEN),
            64: ("A unit bonded for somebody else", OPEN),
            65: ("A slash by a friend, as a way out", OPEN),
            66: ("Many small slashes and their rounding", OPEN),
            67: ("A stranger's stake breaks an upper bound", OPEN),
            68: ("Ten thousand delegators", OPEN),
            69: ("Slashed twice for one offence", OPEN),
            70: ("Slashed, and back under a new key", OPEN),
            71: ("Delegating to oneself to lose last", OPEN),
        },
    ),
    (
        "Index and chain access",
        {
            72: ("Reorganisations of every depth", OPEN),
            73: ("A reorganisation deeper than expected", OPEN),
            74: ("No logs where there should be some", OPEN),
            75: ("Two RPC nodes disagree", OPEN),
            76: ("The node refuses a range", OPEN),
            77: ("Cut, late, wrong and reordered answers", OPEN),
            78: ("kill -9 at each step of the index", OPEN),
            79: ("A block applied twice; two indexes on one database", OPEN),
            80: ("Events that only look like ours", OPEN),
            81: ("The largest amounts in both databases", OPEN),
            82: ("Going back restores what was there before", OPEN),
            83: ("The event that work rests on disappears", OPEN),
            84: (
                "A subscription that is open and silent",
                "does not apply, because the chain is polled",
            ),
            85: ("The database fails, fills up, restarts", OPEN),
            86: ("A transaction underpriced, dropped, reorganised", OPEN),
            87: ("Sixteen senders on one key", OPEN),
            88: ("A contract sends us to fetch an address", OPEN),
            89: ("Sums in the database against sums on chain", OPEN),
            90: ("Started against the wrong chain or contracts", OPEN),
            91: ("A long backfill, interrupted anywhere", OPEN),
        },
    ),
    (
        "Dispatch",
        {
            92: ("A provider frozen past its lease comes back", OPEN),
            93: ("kill -9 of anything, anywhere in a task's life", OPEN),
            94: ("Messages lost in one direction", OPEN),
            95: ("One result, posted a hundred times", OPEN),
            96: ("A result after cancel, expiry or reassignment", OPEN),
            97: ("A task that brings every provider down", OPEN),
            98: ("A provider that takes leases and does nothing", OPEN),
            99: ("One consumer with ten thousand tasks", OPEN),
            100: ("One Idempotency-Key, two requests", OPEN),
            101: ("Deadlocks and busy databases", OPEN),
            102: ("A provider's clock is wrong", OPEN),
            103: ("A rolling restart under load", "several backends at once come later"),
            104: ("Heartbeats too many, too large, malformed", OPEN),
            105: ("A usage report that cannot be", OPEN),
            106: ("Events twice or out of order", OPEN),
        },
    ),
    (
        "The provider's sandbox",
        {
            107: ("A task asks for more than a container may have", OPEN),
            108: ("What a task is, seen from inside", OPEN),
            109: ("Fork bombs, memory bombs, busy loops", OPEN),
            110: ("The disk is filled", OPEN),
            111: ("Forbidden system calls and files", OPEN),
            112: ("The cloud's metadata, the gateway, the neighbours", OPEN),
            113: ("A task without network tries to get out", OPEN),
            114: ("Images that move, swell or point inwards", OPEN),
            115: ("Images that reach for the hooks on the machine", OPEN),
            116: ("A task that will not end", OPEN),
            117: ("The agent's secrets, looked for from inside", OPEN),
            118: ("Two tenants on one card, and what is left in its memory", OPEN),
            119: ("A GPU or a proof that is not the provider's", OPEN),
            120: ("A key that is not, or no longer, the provider's", OPEN),
            121: ("A result without end", OPEN),
            122: ("The container engine restarts or hangs", OPEN),
            123: ("A protection of the container engine is missing", OPEN),
        },
    ),
    (
        "HTTP API",
        {
            124: ("A log-in nonce used again, from elsewhere, too late", OPEN),
            125: ("A log-in message for somebody or somewhere else", OPEN),
            126: ("Forged tokens", OPEN),
            127: ("API keys at rest, in scope, revoked", OPEN),
            128: ("Every object, asked for by another tenant", OPEN),
            129: ("One provider speaks for another", OPEN),
            130: ("Rate limits, at the door too", OPEN),
            131: ("A webhook that points inwards", OPEN),
            132: ("Bodies too large, too deep, too slow", OPEN),
            133: ("Injection, odd characters, odd sizes", OPEN),
            134: ("Fields that are not the caller's to set", OPEN),
            135: ("Other origins and missing security headers", OPEN),
            136: ("Errors and logs that show the inside", OPEN),
            137: ("Streams without log-in, slow readers, a thousand idle", OPEN),
        },
    ),
    (
        "Web app and keys",
        {
            138: ("Hostile text in names and notes", OPEN),
            139: ("The wallet changes under the page", OPEN),
            140: ("The screen says one thing, the transaction another", OPEN),
            141: ("Approvals without limit", OPEN),
            142: ("Secrets kept in the browser", OPEN),
            143: ("Secrets in logs, images, reports, history", OPEN),
            144: ("A stolen key loses what it may and no more", OPEN),
            145: ("Key files that others can read", OPEN),
            146: ("Keys changed under load", OPEN),
            147: ("Dependencies that are not what they say", OPEN),
            148: ("Predictable nonces and ids", OPEN),
        },
    ),
)

NAMED_HERE: dict[int, tuple[str, ...]] = {
    6: ("tests/protocol/test_pricing.py",),
    7: ("tests/protocol/test_pricing.py",),
    26: ("tests/protocol/test_merkle.py",),
    36: ("tests/protocol/test_signatures.py",),
    37: ("tests/protocol/test_messages.py",),
    48: ("tests/protocol/test_signatures.py",),
    51: ("tests/sdk/test_receipts.py",),
    81: ("tests/backend/store/test_types.py",),
    87: ("tests/protocol/test_transactions.py",),
    90: ("tests/protocol/test_deployments.py",),
    100: ("tests/backend/api/test_writes.py",),
    101: ("tests/backend/api/test_guard.py", "tests/backend/store/test_session.py"),
    108: ("tests/provider/runtime/test_docker.py",),
    109: ("tests/provider/runtime/test_docker.py",),
    110: ("tests/provider/runtime/test_docker.py",),
    113: ("tests/provider/runtime/test_docker.py",),
    114: (
        "tests/provider/runtime/test_container.py",
        "tests/provider/runtime/test_docker.py",
    ),
    115: (
        "tests/provider/runtime/test_container.py",
        "tests/provider/runtime/test_docker.py",
    ),
    116: ("tests/provider/runtime/test_docker.py", "tests/provider/test_agent.py"),
    117: ("tests/provider/runtime/test_docker.py",),
    120: ("tests/protocol/test_login.py",),
    121: ("tests/provider/test_agent.py", "tests/provider/test_bundle.py"),
    123: ("tests/provider/runtime/test_docker.py",),
    124: ("tests/backend/api/test_auth.py",),
    125: ("tests/backend/api/test_auth.py",),
    126: ("tests/backend/api/test_auth.py",),
    127: ("tests/backend/api/test_keys.py",),
    128: ("tests/backend/api/test_tenants.py",),
    130: ("tests/backend/api/test_guard.py",),
    132: ("tests/backend/api/test_guard.py",),
    133: ("tests/backend/api/test_nonsense.py",),
    134: ("tests/backend/api/test_tasks.py",),
    135: ("tests/backend/api/test_guard.py",),
    136: ("tests/backend/api/test_guard.py",),
    137: ("tests/backend/api/test_streams.py",),
    145: ("tests/sdk/test_config.py",),
    147: ("tests/tools/test_lock_files.py",),
}

KNOWN = {number for _, cases in GROUPS for number in cases}


def table(root: Path) -> str:
    """One table a group: number, case, tests or why there is none."""
    tested = tests_of(root)
    parts = []
    for group, cases in GROUPS:
        rows = [f"### {group}", "", "| | case | tested in |", "|---|---|---|"]
        for number, (title, otherwise) in cases.items():
            paths = ", ".join(_link(path) for path in tested.get(number, ()))
            if not paths:
                paths = f"*{otherwise}*"
            elif otherwise.startswith(NOT_HERE):
                paths = f"*{otherwise}*; that it stays so: {paths}"
            rows.append(f"| {number} | {title} | {paths} |")
        parts.append("\n".join(rows))
    named = sum(1 for number in KNOWN if number in tested)
    parts.append(f"{named} of {len(KNOWN)} cases are named by a test.")
    return "\n\n".join(parts)


def tests_of(root: Path) -> dict[int, tuple[str, ...]]:
    """Paths of tests by case number."""
    found: dict[int, set[str]] = defaultdict(set)
    tests = root / "tests"
    dapp = root / "dapp" / "test"
    for path in sorted(
        [
            *tests.rglob("test_*.py"),
            *(tests / "foundry").rglob("*.t.sol"),
            *dapp.rglob("*.test.ts"),
            *dapp.rglob("*.spec.ts"),
        ]
    ):
        where = path.relative_to(root).as_posix()
        if where.startswith("tests/docs/"):
            continue
        for number in cases_in(path.read_text(encoding="utf-8")):
            found[number].add(where)
    for number, paths in NAMED_HERE.items():
        found[number] |= set(paths)
    return {number: tuple(sorted(paths)) for number, paths in found.items()}


def cases_in(text: str) -> set[int]:
    numbers: set[int] = set()
    for line in text.splitlines():
        named = CASE.findall(line)
        if not named:
            continue
        for part in (*named, *BRACKETED.findall(line)):
            numbers |= {int(digits) for digits in re.findall(r"\d+", part)}
    return numbers & KNOWN


def _link(path: str) -> str:
    return f"[{path.removeprefix('tests/')}](../../{path})"
