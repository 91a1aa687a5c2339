"""Limits of how often: every kind of route, by address and by wallet; memory under a hundred
thousand callers."""

from __future__ import annotations

import asyncio
import gc
import resource
from pathlib import Path
from typing import Final

from tallystick_backend.access import TooManyRequests
from tallystick_backend.api.limits import AHEAD_KEPT, Limits, network_of
from tests.faults.campaign import Broken
from tests.faults.requests.place import Place
from tests.faults.requests.wire import Ask, Wire

ALLOWED: Final = 40
STRICT: Final = {
    "LOGIN_LIMIT": f"{ALLOWED}/minute",
    "READ_LIMIT": f"{ALLOWED}/minute",
    "WRITE_LIMIT": f"{ALLOWED}/minute",
    "CALL_LIMIT": f"{ALLOWED}/minute",
}
"""Settings under which `kinds` is to be run."""
MOST_BYTES_EACH: Final = 1_500


def kinds(here: Place) -> int:
    """Each kind is refused with 429 and Retry-After, soon after its limit, and each of two wallets
    by itself. How many requests were refused."""
    json = ("Content-Type", b"application/json")

    def who(name: str) -> tuple[str, bytes]:
        return "Authorization", f"Bearer {here.tokens[name]}".encode()

    app = here.ids["app"]
    asked = {
        "log-in": Ask("login", "POST", "/v1/auth/login", (json,), b"{}"),
        "nonce": Ask("createLoginNonce", "POST", "/v1/auth/nonce"),
        "guesses": Ask("getCaller", "GET", "/v1/auth/me", (("Authorization", b"Bearer ts_no"),)),
        "guesses of calls": Ask(
            "callApp", "POST", f"/v1/apps/{app}/calls", (("Authorization", b"Bearer ts_no"), json)
        ),
        "public reads": Ask("listProviders", "GET", "/v1/providers"),
        "reads": Ask("listTasks", "GET", "/v1/tasks", (who("stranger"),)),
        "writes": Ask("createTask", "POST", "/v1/tasks", (who("stranger"), json), b"{}"),
        "calls": Ask("callApp", "POST", f"/v1/apps/{app}/calls", (who("stranger"), json), b"1"),
    }
    refused = 0
    wire = Wire(here.port)
    try:
        for kind, ask in asked.items():
            answers = here.run(wire.all([ask] * (2 * ALLOWED + 20)))
            late = [answer for answer in answers if answer.status == 429]
            if len(late) < ALLOWED // 2:
                seen = sorted({answer.status for answer in answers})
                raise Broken(f"{kind}: {len(late)} of {len(answers)} were refused: {seen}")
            if any("retry-after" not in answer.headers for answer in late):
                raise Broken(f"{kind}: refused without Retry-After")
            refused += len(late)
        other = Ask("listTasks", "GET", "/v1/tasks", (who("provider"),))
        if (answer := here.run(wire.one(other))).status != 200:
            raise Broken(f"another wallet is refused as well: {answer.status}")
    finally:
        here.run(wire.close())
    return refused


def memory(callers: int) -> int:
    """So many callers, once each: what is kept of one is small, and most of it bounded."""
    gc.collect()
    before = _resident()

    async def ask() -> None:
        limits = Limits(login="5/second", read="5/second", write="5/second", call="600000/minute")
        for number in range(callers):
            network = network_of(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
            await limits.count("reads", network)
            await limits.count("calls", network)
            if len(limits._ahead) > AHEAD_KEPT:
                raise Broken(f"{len(limits._ahead)} callers are kept ahead of their count")
        # The last one has its own count, whoever came before.
        refused = 0
        for _ in range(20):
            try:
                await limits.count("log-ins", network)
            except TooManyRequests:
                refused += 1
        if refused < 5:
            raise Broken(f"of 20 log-ins at once {refused} were refused; 5 a second may be")
        await asyncio.sleep(2.5)
        await limits.count("reads", "one more")

    asyncio.run(ask())
    grown = _resident() - before
    if grown > callers * MOST_BYTES_EACH:
        raise Broken(f"{callers} callers took {grown // 1024} KiB")
    return callers


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
