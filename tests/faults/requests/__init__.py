"""Requests by strangers: nonsense, too much, too slow, in another's name, to the wrong place.

Everything but the webhooks' sender and the parsers is the real program on loopback, with a chain, a
bus and SQLite or PostgreSQL of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.faults.campaign import Campaign, Row, Run
from tests.faults.requests import (
    access,
    bus,
    framing,
    http,
    parsers,
    rates,
    schema,
    secrets_kept,
    tenants,
    webhooks,
)
from tests.faults.requests.inputs import Inputs
from tests.faults.requests.place import place
from tests.support.postgres import postgres_server

ROWS: Final = {
    "inputs": Row(
        "Bad requests over HTTP: every route, and twelve grammars of our own",
        "no answer 5xx, each refusal a problem, no table grows by a refused write, nothing logged "
        "as an error",
    ),
    "schemathesis": Row(
        "Requests made by schemathesis from /openapi.json",
        "answers are those that the document names, bad data is refused, nothing needs no log-in",
    ),
    "bus": Row(
        "Malformed messages to the dispatcher on the bus",
        "answered as refusals; another provider is heard at once",
    ),
    "parsers": Row(
        "Spoilt texts given to 17 parsers: vouchers, receipts, log-ins, manifests, frames",
        "taken or refused in the parser's own words",
    ),
    "pairs": Row(
        "Every route x every kind of another's or ended credentials",
        "401, 403 or 404; nothing of the owner's shown or changed; scopes as listed",
    ),
    "framing": Row(
        "Slow, silent, endless, packed, deep and ambiguous requests; idle connections",
        "refused or closed in time, others served, memory less than doubled",
    ),
    "rates": Row(
        "Requests beyond the limits, on each kind of route; callers counted",
        "429 with Retry-After, other wallets unaffected, memory small for each caller",
    ),
    "webhooks": Row(
        "Webhook addresses that point inwards, as written and as names resolve",
        "no connection is opened, the canary never reached",
    ),
    "log-ins": Row(
        "Log-ins with one thing wrong, forged tokens, a hundred uses of one nonce",
        "401; one session for one nonce",
    ),
    "revoked": Row(
        "API keys revoked in use", "refused within a second, and in no column of the database"
    ),
    "secrets": Row(
        "Recognisable secrets looked for in logs, answers, metrics, database and process",
        "none found",
    ),
}


def run(run: Run) -> None:
    chance = run.random
    inputs, others = (25_000, 6_000) if run.full else (1_000, 200)
    run.say("parsers")
    many = 400_000 if run.full else 10_000
    parsers.run(chance, many)
    run.count("parsers", many)
    run.say("webhooks")
    run.count("webhooks", asyncio.run(webhooks.run(chance, run.directory, 3 if run.full else 1)))
    # The second seed of every two is on PostgreSQL, in the full form.
    with _database(run) as url, place(run.directory / "a", database_url=url) as here:
        run.say("credentials")
        run.count("pairs", tenants.run(here))
        run.say("log-ins")
        done = here.run(access.login_mutations(here)) + here.run(access.one_nonce(here))
        run.count("log-ins", done + here.run(access.forged_tokens(here, chance)))
        run.count("revoked", here.run(access.revoked_keys(here, 20 if run.full else 2)))
        run.say("bad requests")
        run.count("inputs", http.run(here, Inputs(here, chance), inputs).total())
        run.say("bus")
        run.count("bus", here.run(bus.run(here, chance, others)))
        here.check_log()
    with place(run.directory / "b", **framing.PATIENCE) as here:
        run.say("connections")
        rounds, idle = (40, 1_000) if run.full else (3, 200)
        run.count("framing", here.run(framing.run(here, chance, rounds, idle)))
        here.check_log()
    with place(run.directory / "c", **rates.STRICT) as here:
        run.say("limits")
        run.count("rates", rates.kinds(here))
    run.count("rates", rates.memory(100_000 if run.full else 20_000))
    run.say("secrets")
    run.count("secrets", secrets_kept.run(run.directory / "d", full=run.full))
    if run.full:
        with place(run.directory / "e") as here:
            run.say("schemathesis")
            run.count("schemathesis", schema.run(here, run.seed, 10))


@contextmanager
def _database(run: Run) -> Iterator[str | None]:
    if not run.full or run.seed % 2:
        yield None
        return
    with postgres_server() as server:
        server.run("CREATE DATABASE requests")
        yield server.url("requests")  # the backend migrates it when it starts


CAMPAIGN = Campaign(name="requests", title="Requests by strangers", rows=ROWS, run=run, seeds=1)
