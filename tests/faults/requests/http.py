"""Bad requests over HTTP, in batches: each answer is looked at, then the tables, then the log."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

from tests.faults.campaign import Broken
from tests.faults.requests.inputs import Inputs
from tests.faults.requests.place import Place
from tests.faults.requests.wire import Answer, Ask, Wire, shown

BATCH: Final = 250

WRITES: Final = {
    "createTask": {"task_order", "task_work", "task_event", "sealed_key", "lease"},
    "cancelTask": {"task_work", "task_event", "lease"},
    "acceptTask": {"acceptance", "task_event"},
    "addSealedKey": {"sealed_key", "task_event"},
    "createApiKey": {"api_key"},
    "createLoginNonce": {"siwe_nonce"},
    "login": {"session"},
    "putBlob": {"blob"},
    "putManifest": {"manifest"},
    "setSpendLimit": {"spend_limit"},
    "removeSpendLimit": {"spend_limit"},
    "keepWarm": {"keep_warm"},
    "createAllowance": {"channel_allowance"},
    "callApp": {"call", "gateway_journal"},
}
"""Which tables an accepted write may grow or shrink; a refused one none."""

ON_DEMAND: Final = {"session_key", "paying_channel"}
"""A consumer's session key and the plan of a channel are made when they are first asked for, by
reading or by a call that then lacks money; once, and good for the next."""

EXPIRING: Final = {"session", "siwe_nonce", "idempotency", "login_proof"}
"""What the housekeeper forgets when its time is over."""

LEAKS: Final = (b"Traceback", b'File "', b"sqlalchemy", b"sqlite3", b"asyncpg", b"SELECT ")


def run(here: Place, inputs: Inputs, times: int) -> Counter[int]:
    """Answers by status. Raises `Broken`."""
    seen: Counter[int] = Counter()
    wire = Wire(here.port)
    before = here.rows()
    try:
        while (left := times - seen.total()) > 0:
            asks = [inputs.draw() for _ in range(min(BATCH, left))]
            answers = here.run(wire.all(asks))
            free = set(ON_DEMAND)
            for ask, answer in zip(asks, answers, strict=True):
                check(ask, answer)
                seen[answer.status] += 1
                if 200 <= answer.status < 300:
                    free |= WRITES.get(ask.operation, set()) | {"idempotency"}
            if "task_order" in free:
                # The dispatcher goes on with it by itself, some time later.
                inputs.dispatched = True
            if inputs.dispatched:
                free |= WRITES["createTask"]
            after = here.rows()
            changed = {t: (before[t], after[t]) for t in after if before[t] != after[t]}
            # What has expired goes by itself, in the backend's own time.
            forgotten = {t for t in EXPIRING if after[t] < before[t]}
            if wrong := {t: n for t, n in changed.items() if t not in free | forgotten}:
                raise Broken(f"refused requests changed rows (before, after): {wrong}")
            before = after
        here.check_log()
    finally:
        here.run(wire.close())
    return seen


def check(ask: Ask, answer: Answer) -> None:
    """Raises `Broken` for an answer that a stranger should not be able to get."""
    if answer.status == 0 or answer.status >= 500:
        raise Broken(f"{ask.operation}: {answer.status} {answer.body[:400]!r} to {shown(ask)}")
    if "x-evil" in answer.headers:
        raise Broken(f"{ask.operation}: a header came back from the request: {shown(ask)}")
    if answer.status < 400:
        return
    if ask.method == "HEAD":
        return
    kind = answer.headers.get("content-type", "")
    if kind != "application/problem+json":
        raise Broken(f"{ask.operation}: {answer.status} as {kind!r} to {shown(ask)}")
    problem = json.loads(answer.body)
    if problem["status"] != answer.status or not problem["code"] or len(answer.body) > 20_000:
        raise Broken(f"{ask.operation}: no problem: {answer.body[:400]!r} to {shown(ask)}")
    for leak in LEAKS:
        if leak in answer.body and leak not in ask.wire():
            raise Broken(f"{ask.operation}: the answer has {leak!r}: {answer.body[:600]!r}")
