"""Every route of the OpenAPI document, asked with every kind of credentials that are not its
owner's. A route that is on none of the lists in tests/backend/api/test_tenants.py must refuse."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tallystick_backend.access import hash_of_token
from tallystick_backend.store.tables import SessionRow
from tests.backend.api.test_tenants import BODIES, OWN_ONLY, PUBLIC, operations
from tests.backend.api.world import Consumer
from tests.faults.campaign import Broken
from tests.faults.requests.place import Place
from tests.faults.requests.wire import Answer, Ask, Wire
from tests.support.anvil import CONSUMER, STRANGER

SCOPES: Final = ("tasks:read", "tasks:write", "calls")

_BOOKS: Final = ("tasks:read", "calls")
NEEDS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("listAllowances", "listCalls", "getCall", "streamCallEvents", "getCallReceipt"), _BOOKS
    ),
    **dict.fromkeys(("listSpendLimits", "listSummaries"), _BOOKS),
    **dict.fromkeys(
        ("createAllowance", "callApp", "cancelCall", "getCallResult", "getUnsigned"), ("calls",)
    ),
    **dict.fromkeys(
        ("handInVoucher", "listKeepWarm", "keepWarm", "stopKeepWarm", "getSessionKey"), ("calls",)
    ),
    **dict.fromkeys(
        ("getBlob", "getOverview", "streamOverview", "getServing", "listTasks", "getTask"),
        ("tasks:read",),
    ),
    **dict.fromkeys(
        ("streamEvents", "explainTask", "listLogs", "streamLogs", "getProgress", "getReceipt"),
        ("tasks:read",),
    ),
    **dict.fromkeys(("listAppStarts", "getResult", "listSamples"), ("tasks:read",)),
    **dict.fromkeys(
        ("putBlob", "putManifest", "createTask", "acceptTask", "cancelTask", "addSealedKey"),
        ("tasks:write",),
    ),
    **dict.fromkeys(("listApiKeys", "createApiKey", "revokeApiKey", "getWebhookSecret"), ()),
    **dict.fromkeys(("setSpendLimit", "removeSpendLimit"), ()),
    "getCaller": SCOPES,
    "logout": SCOPES,
}
"""Which scopes of an API key open each route that asks who calls; none: the wallet only."""


async def credentials(here: Place) -> dict[str, str]:
    """What is sent as `Authorization`, by what it is; none of it is the owner's."""
    world = here.world
    stranger = Consumer(STRANGER, world.http, here.tokens["stranger"])
    found = {
        "none": "",
        "empty": "Bearer ",
        "nonsense": "Bearer tk_00000000_" + "0" * 64,
        "no bearer": f"Basic {here.tokens['consumer']}",
        "another's session": f"Bearer {stranger.token}",
        "a provider's session": f"Bearer {here.tokens['provider']}",
    }
    for scope in SCOPES:
        made = await stranger.post("/v1/keys", json={"name": scope, "scopes": [scope]})
        found[f"another's key for {scope}"] = f"Bearer {made.json()['secret']}"
    # The owner's own, which are over.
    owner = Consumer(CONSUMER, world.http, here.tokens["consumer"])
    key = (await owner.post("/v1/keys", json={"name": "over"})).json()
    await owner.delete(f"/v1/keys/{key['id']}")
    found["revoked key"] = f"Bearer {key['secret']}"
    left = await world.consumer()
    await left.post("/v1/auth/logout")
    found["ended session"] = f"Bearer {left.token}"
    token = "ts_" + "expired" * 5
    await world.write(
        SessionRow(
            token_hash=hash_of_token(token),
            address=CONSUMER.address.lower(),
            expires_at_ms=world.clock.now_ms() - 1,
        )
    )
    found["expired session"] = f"Bearer {token}"
    return found


VALID: Final = ("another's", "a provider's")


def run(here: Place) -> int:
    """How many pairs were tried. Raises `Broken` for one that was let in."""
    asked = here.run(credentials(here))
    wire = Wire(here.port)
    before = here.rows()
    pairs = [(name, method, path, who) for name, method, path in operations() for who in asked]
    asks = [_ask(here, name, method, path, asked[who]) for name, method, path, who in pairs]
    try:
        answers = here.run(wire.all([ask for ask in asks if ask.operation != "logout"]))
    finally:
        here.run(wire.close())
    tried = [pair for pair in pairs if pair[0] != "logout"]
    for (name, method, path, who), answer in zip(tried, answers, strict=True):
        _judge(here, name, f"{method} {path} with {who}", who, answer)
    changed = {t: n for t, n in here.rows().items() if n != before[t]}
    # What the stranger may make for itself: see `_judge`.
    own = {"manifest", "blob", "siwe_nonce", "api_key", "session_key", "spend_limit", "keep_warm"}
    if wrong := set(changed) - own:
        raise Broken(f"refused requests changed rows of {sorted(wrong)}")
    _still_there(here)
    return len(tried)


def _ask(here: Place, name: str, method: str, path: str, authorization: str) -> Ask:
    headers = [("Authorization", authorization.encode())] if authorization else []
    url = re.sub(r"{(\w+)}", lambda found: here.ids[found[1]], path)
    body: bytes | None = None
    if name == "putBlob":
        body = b"sealed"
    elif name in BODIES:
        body = json.dumps(BODIES[name]).encode()
    elif method in ("POST", "PUT"):
        body = b"{}"
    if body is not None:
        headers.append(("Content-Type", b"application/json"))
    if name == "search":
        url += "?q=0x"
    return Ask(name, method, url, tuple(headers), body)


def _judge(here: Place, name: str, what: str, who: str, answer: Answer) -> None:
    if answer.status == 0 or answer.status >= 500:
        raise Broken(f"{what}: {answer.status} {answer.body[:300]!r}")
    if name in PUBLIC:
        if answer.status in (401, 403) and name != "login":
            raise Broken(f"{what}: {answer.status}, and the route is public")
        return
    if not who.startswith(VALID):
        if answer.status != 401:
            raise Broken(f"{what}: {answer.status} {answer.body[:300]!r}, expected 401")
        return
    if name not in OWN_ONLY and name != "putBlob":
        # Naming bytes that one holds is no access: `putBlob` gives nothing away.
        if answer.status not in (403, 404, 422):
            raise Broken(f"{what}: {answer.status} {answer.body[:300]!r}, expected 403 or 404")
        if answer.status == 422 and name in BODIES:
            raise Broken(f"{what}: {answer.body[:300]!r}: the body was looked at first")
    for kind in ("task_id", "key_id", "limit_id", "call_id", "warm_id"):
        # A provider may see the leases that it has; the owner's task is one.
        if name == "getServing" and who == "a provider's session":
            continue
        if 200 <= answer.status < 300 and here.ids[kind].encode() in answer.body:
            raise Broken(f"{what}: the answer has the owner's {kind}: {answer.body[:400]!r}")
    scope = who.removeprefix("another's key for ")
    if scope in SCOPES:
        if name not in NEEDS:
            raise Broken(f"{name} is a new route: say in tenants.NEEDS which scopes open it")
        missing = answer.status == 403 and b'"scope_missing"' in answer.body
        if missing == (scope in NEEDS[name]):
            raise Broken(f"{what}: {answer.status}, and {name} is for {NEEDS[name]}")


def _still_there(here: Place) -> None:
    """Everything that was not theirs to end."""

    async def look() -> dict[str, Any]:
        owner = Consumer(CONSUMER, here.world.http, here.tokens["consumer"])
        paths = {
            "task": f"/v1/tasks/{here.ids['task_id']}",
            "call": f"/v1/calls/{here.ids['call_id']}",
            "bundle": f"/v1/blobs/{here.ids['digest']}",
        }
        found: dict[str, Any] = {
            name: (await owner.get(p)).status_code for name, p in paths.items()
        }
        keys = (await owner.get("/v1/keys")).json()
        found["key"] = 200 if here.ids["key_id"] in [key["id"] for key in keys] else 404
        limits = (await owner.get("/v1/spend-limits")).json()["items"]
        found["limit"] = 200 if here.ids["limit_id"] in [one["id"] for one in limits] else 404
        return found

    found = here.run(look())
    if gone := {name: status for name, status in found.items() if status != 200}:
        raise Broken(f"strangers took away: {gone}")
