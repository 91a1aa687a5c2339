"""HTTP of calls
├── who may call: no token, a revoked key, a key without the scope
├── what is refused: unknown app and version, media type, size, headers that cannot be read, inputs
│   that the schema does not take
├── later: 202, polling, the result, events from where the reader was, wait=N, somebody else's call
├── streams: as lines and as server-sent events, with what they cost at the end
├── a caller that leaves: its call is canceled, and paid if it ran all the same; under a key it goes
│   on
├── canceled by DELETE
├── manifests: their digest decides
├── session key and allowances: who signs for whom
└── figures
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from tallystick.protocol import messages
from tallystick.protocol.app_manifest import HttpHandler, app_manifest_digest
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import ChannelAllowance
from tallystick.protocol.types import ZERO_DIGEST
from tallystick_backend.store.repositories import access
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow, SpendRow
from tests.backend.gateway.market import (
    APP_ID,
    DOMAIN,
    MANIFEST,
    BusServer,
    Market,
    make_market,
    until,
)
from tests.support.anvil import CONSUMER, STRANGER, Person
from tests.support.call_provider import HandlerError


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


# --- who, and what ----------------------------------------------------------------------------


async def test_without_a_token_nobody_calls(market: Market) -> None:
    answer = await market.http.post(f"/v1/apps/{APP_ID}/calls", content=b"{}")
    assert code(answer) == (401, "not_logged_in")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert code(await market.call(token="tk_12345678_nothing")) == (401, "not_logged_in")


async def test_a_key_needs_the_scope(market: Market) -> None:
    secret, _ = await market.api_key(scopes=("tasks:read", "tasks:write"))
    assert code(await market.call(token=secret)) == (403, "scope_missing")


async def test_a_revoked_key_is_refused_within_a_second(market: Market) -> None:
    secret, key_id = await market.api_key()
    assert (await market.call(token=secret)).status_code == 200
    async with market.database.transaction() as session:
        assert await access.revoke_api_key(session, key_id, CONSUMER.address, 5)
    await asyncio.sleep(1)  # the promise is about real time
    assert code(await market.call(token=secret)) == (401, "not_logged_in")


async def test_a_key_is_changed_under_load(market: Market) -> None:
    """Case 146: the new key is there before the old one goes; no call of either fails."""
    old, old_id = await market.api_key()
    new, _ = await market.api_key()
    current = [old]

    async def caller() -> list[int]:
        return [(await market.call(token=current[0])).status_code for _ in range(12)]

    async def rotate() -> None:
        await asyncio.sleep(0.05)
        current[0] = new
        await asyncio.sleep(0.5)  # what began with the old one has its answer by now
        async with market.database.transaction() as session:
            assert await access.revoke_api_key(session, old_id, CONSUMER.address, 5)

    *answers, _ = await asyncio.gather(*(caller() for _ in range(4)), rotate())
    assert [status for part in answers for status in part or []] == [200] * 48
    await asyncio.sleep(1)
    assert code(await market.call(token=old)) == (401, "not_logged_in")


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({"Content-Type": "text/plain"}, 415, "input_refused"),
        ({"Content-Type": "no media type"}, 415, "wrong_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "wrong_media_type"),
        ({"Idempotency-Key": "a b"}, 422, "invalid_request"),
        ({"Tallystick-Max-Charge": "-1"}, 422, "invalid_request"),
        ({"Tallystick-Max-Charge": "9"}, 422, "max_charge_too_low"),
        ({"X-Long": "x" * 40_000}, 431, "headers_too_large"),
    ],
)
async def test_headers_that_are_refused(
    market: Market, headers: dict[str, str], status: int, told: str
) -> None:
    sent = {"Authorization": f"Bearer {market.token}", "Content-Type": "application/json"}
    answer = await market.http.post(
        f"/v1/apps/{APP_ID}/calls", content=b"{}", headers=sent | headers
    )
    assert code(answer) == (status, told)


async def test_unknown_apps_and_versions(market: Market) -> None:
    headers = {"Authorization": f"Bearer {market.token}", "Content-Type": "application/json"}

    async def post(path: str) -> tuple[int, str]:
        return code(await market.http.post(path, content=b"{}", headers=headers))

    assert await post(f"/v1/apps/0x{'11' * 32}/calls") == (404, "unknown_app")
    assert await post(f"/v1/apps/{APP_ID}/calls?version=2") == (404, "unknown_version")
    assert await post(f"/v1/apps/{APP_ID}/calls?version=0") == (422, "invalid_request")
    assert await post(f"/v1/apps/{APP_ID}/calls?verson=1") == (422, "invalid_request")
    assert await post("/v1/apps/nonsense/calls") == (422, "invalid_request")


async def test_an_input_larger_than_the_manifest_allows(market: Market) -> None:
    answer = await market.call(b"x" * (MANIFEST.max_request_bytes + 1))
    assert code(answer) == (413, "input_too_large")
    assert market.provider.ran == []


SCHEMA = {
    "type": "object",
    "properties": {"steps": {"type": "integer", "maximum": 50}},
    "required": ["steps"],
}


async def test_an_input_that_does_not_fit_the_schema_costs_nothing(
    database: Database, server: BusServer, tmp_path: Path
) -> None:
    manifest = MANIFEST.model_copy(update={"input_schema": json.dumps(SCHEMA)})
    market = await make_market(database, server, tmp_path, manifest=manifest)
    await market.joins()
    await market.start()
    try:
        assert (await market.call(b'{"steps":50}')).status_code == 200
        for content, place, why in (
            (b'{"steps":51}', "$.steps", "it is greater than the maximum of 50"),
            (b"{}", "$", '"steps" is a required property'),
            (b'{"steps":1,"steps":51}', "$", "it cannot be read: a name is given twice"),
            (b"no json", "$", "it cannot be read: Expecting value: line 1 column 1 (char 0)"),
        ):
            refused = await market.call(content)
            assert code(refused) == (422, "invalid_input")
            assert refused.json()["errors"] == [{"field": place, "message": why}]
            assert place in refused.json()["detail"]
        assert len(market.provider.ran) == 1
        assert len(await market.rows(CallRow)) == 1
    finally:
        await market.end()


async def test_a_schema_is_for_json_also_before_a_server_of_the_apps_own(
    database: Database, server: BusServer, tmp_path: Path
) -> None:
    update = {"input_schema": json.dumps(SCHEMA), "handler": HttpHandler(port=8000)}
    manifest = MANIFEST.model_copy(update=update)
    market = await make_market(database, server, tmp_path, manifest=manifest)
    await market.joins()
    await market.start()
    try:
        plain = await market.call(b'{"steps":99}', **{"Content-Type": "text/plain"})
        assert code(plain) == (415, "input_refused")
        assert market.provider.ran == []
    finally:
        await market.end()


async def test_a_manifest_whose_schema_cannot_be_enforced_is_refused(market: Market) -> None:
    loop = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    manifest = MANIFEST.model_copy(update={"input_schema": json.dumps(loop)})
    answer = await market.http.put(
        f"/v1/manifests/{app_manifest_digest(manifest)}",
        content=canonical_json(manifest),
        headers={"Authorization": f"Bearer {market.token}", "Content-Type": "application/json"},
    )
    assert code(answer) == (422, "manifest_refused")
    assert "leads back to itself" in answer.json()["detail"]


async def test_a_large_input_comes_through_whole(market: Market) -> None:
    content = b'"' + b"x" * (3 * 2**20) + b'"'
    answer = await market.call(content)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.content == content


# --- later ------------------------------------------------------------------------------------


async def test_a_call_that_is_asked_for_later(market: Market) -> None:
    accepted = await market.call(b'{"n":1}', Prefer="respond-async")
    assert accepted.status_code == 202
    path = accepted.headers["location"]
    call_id = accepted.headers["tallystick-call-id"]
    assert path == f"/v1/calls/{call_id}"
    events = await market.get(f"{path}/events")
    names = [line[7:] for line in events.text.split("\n") if line.startswith("event: ")]
    assert names[-1] == "completed"
    view = (await market.get(path)).json()
    assert (view["state"], view["charge"], view["seq"]) == ("completed", "10", 1)
    result = await market.get(view["result"])
    assert (result.content, result.headers["tallystick-charge"]) == (b'{"n":1}', "10")
    again = await market.http.get(
        f"{path}/events",
        headers={"Authorization": f"Bearer {market.token}", "Last-Event-ID": "2"},
    )
    assert again.text.count("event: ") == 1


async def test_a_wait_that_is_over_becomes_later(market: Market) -> None:
    go_on = asyncio.Event()

    async def slow(content: bytes) -> bytes:
        await go_on.wait()
        return content

    market.provider.handler = slow
    accepted = await market.call(Prefer="wait=1")
    assert accepted.status_code == 202
    early = await market.get(accepted.headers["location"] + "/result")
    assert code(early) == (404, "result_not_there")
    go_on.set()
    live = market.backend.gateway.calls.find(accepted.headers["tallystick-call-id"])
    if live is not None:
        await live.wait()
    assert (await market.get(accepted.headers["location"] + "/result")).status_code == 200
    assert (await market.call(Prefer="wait=5")).status_code == 200


async def test_a_result_that_nobody_asked_to_keep_is_gone(market: Market) -> None:
    answer = await market.call()
    call_id = answer.headers["tallystick-call-id"]
    gone = await market.get(f"/v1/calls/{call_id}/result")
    assert code(gone) == (410, "result_forgotten")


async def test_nobody_sees_another_s_call(market: Market) -> None:
    call_id = (await market.call()).headers["tallystick-call-id"]
    market.token = await market.logged_in(STRANGER)
    for path in ("", "/result", "/events"):
        assert code(await market.get(f"/v1/calls/{call_id}{path}")) == (404, "unknown_call")


# --- streams ----------------------------------------------------------------------------------


@pytest.fixture
def streaming(market: Market) -> Market:
    market.provider.pieces = [b'{"output":1}\n{"out', b'put":2}\n', b'{"completed":{"pieces":2}}\n']
    return market


async def test_a_stream_as_lines(streaming: Market) -> None:
    answer = await streaming.call(Accept="application/x-ndjson")
    assert answer.headers["content-type"] == "application/x-ndjson"
    *lines, last = answer.content.splitlines(keepends=True)
    assert b"".join(lines) == b"".join(streaming.provider.pieces)
    charged = json.loads(last)["charged"]
    assert (charged["charge"], charged["total"], charged["state"]) == ("10", "10", "completed")
    row = await streaming.row(charged["call_id"])
    assert row.result_bytes == sum(map(len, streaming.provider.pieces))


async def test_a_stream_as_events(streaming: Market) -> None:
    answer = await streaming.call(Accept="text/event-stream")
    events = [event.split("\n") for event in answer.text.rstrip("\n").split("\n\n")]
    assert [event[0] for event in events] == [
        "event: output",
        "event: output",
        "event: completed",
        "event: charged",
    ]
    assert events[1][1] == "data: 2"


async def test_a_stream_that_fails_before_its_first_piece_is_a_problem(
    streaming: Market,
) -> None:
    streaming.provider.refuse = [("failed", "no")]
    assert code(await streaming.call(Accept="text/event-stream")) == (502, "handler_failed")


async def test_an_answer_in_one_piece_may_be_asked_for_as_a_stream(market: Market) -> None:
    answer = await market.call(b"5", Accept="text/event-stream")
    assert (answer.status_code, answer.content) == (200, b"5")


# --- leaving ----------------------------------------------------------------------------------


async def leaving(market: Market, entered: asyncio.Event, **headers: str) -> list[Message]:
    """Calls, and closes the connection once the handler runs."""
    sent: list[Message] = []
    asked = False
    raw = {
        "authorization": f"Bearer {market.token}",
        "content-type": "application/json",
        **headers,
    }
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": f"/v1/apps/{APP_ID}/calls",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in raw.items()],
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"1", "more_body": False}
        await entered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await asyncio.wait_for(market.app(scope, receive, send), 20)
    return sent


async def test_a_caller_that_leaves_cancels_its_call(market: Market) -> None:
    entered = asyncio.Event()

    async def until_canceled(_content: bytes) -> bytes:
        entered.set()
        await until(lambda: bool(market.provider.canceled))
        raise HandlerError("failed", "canceled")

    market.provider.handler = until_canceled
    assert await leaving(market, entered) == []
    call_id = market.provider.ran[0]
    live = market.backend.gateway.calls.find(call_id)
    if live is not None:
        await live.wait()
    row = await market.row(call_id)
    assert (row.state, row.charge) == ("canceled", 0)


async def test_what_ran_all_the_same_is_paid(market: Market) -> None:
    entered = asyncio.Event()

    async def finish(content: bytes) -> bytes:
        entered.set()
        await until(lambda: bool(market.provider.canceled))
        return content

    market.provider.handler = finish
    await leaving(market, entered)
    call_id = market.provider.ran[0]
    live = market.backend.gateway.calls.find(call_id)
    if live is not None:
        await live.wait()
    row = await market.row(call_id)
    assert (row.state, row.charge) == ("completed", 10)
    assert [row.charge for row in await market.rows(SpendRow)] == [10]


async def test_under_a_key_a_call_goes_on(market: Market) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(content: bytes) -> bytes:
        entered.set()
        await go_on.wait()
        return content

    market.provider.handler = slow
    await leaving(market, entered, **{"idempotency-key": "k1"})
    go_on.set()
    answer = await market.call(b"1", Idempotency_Key="k1")
    assert (answer.status_code, answer.content) == (200, b"1")
    assert (len(market.provider.ran), market.provider.canceled) == (1, [])


async def test_a_call_is_canceled_by_delete(market: Market) -> None:
    async def until_canceled(_content: bytes) -> bytes:
        await until(lambda: bool(market.provider.canceled))
        raise HandlerError("failed", "canceled")

    market.provider.handler = until_canceled
    accepted = await market.call(Prefer="respond-async")
    path, call_id = accepted.headers["location"], accepted.headers["tallystick-call-id"]
    await until(lambda: bool(market.provider.ran))
    headers = {"Authorization": f"Bearer {market.token}"}
    assert (await market.http.delete(path, headers=headers)).status_code == 202
    live = market.backend.gateway.calls.find(call_id)
    if live is not None:
        await live.wait()
    view = (await market.get(path)).json()
    assert (view["state"], view["charge"], view["problem"]["code"]) == (
        "canceled",
        "0",
        "call_canceled",
    )
    again = await market.http.delete(path, headers=headers)
    assert (again.status_code, again.json()["state"]) == (202, "canceled")


# --- manifests, keys, allowances --------------------------------------------------------------


async def test_a_manifest_is_named_by_its_digest(market: Market) -> None:
    other = MANIFEST.model_copy(update={"name": "other"})
    text, digest = canonical_json(other), app_manifest_digest(other)
    headers = {"Authorization": f"Bearer {market.token}", "Content-Type": "application/json"}

    async def put(name: str, content: bytes) -> httpx.Response:
        return await market.http.put(f"/v1/manifests/{name}", content=content, headers=headers)

    assert code(await market.get(f"/v1/manifests/{digest}")) == (404, "unknown_manifest")
    assert code(await put(digest, text + b" ")) == (422, "manifest_refused")
    for _ in range(2):
        taken = await put(digest, text)
        assert (taken.status_code, taken.json()) == (200, {"digest": digest, "bytes": len(text)})
    shown = await market.http.get(f"/v1/manifests/{digest}")  # by whoever looks at the app
    assert (shown.status_code, shown.content) == (200, text)


async def signed(
    market: Market, person: Person = CONSUMER, by: Person | None = None, **changes: Any
) -> httpx.Response:
    key = (await market.get("/v1/session-key")).json()
    fields = {
        "payer": person.address,
        "signer": key["signer"],
        "cap": 1000,
        "expires_at": market.backend.now_s() + 3600,
        "purpose": ZERO_DIGEST,
        "nonce": 1,
    }
    allowance = ChannelAllowance(**(fields | changes))
    signature = messages.sign(DOMAIN, allowance, (by or person).key)
    return await market.http.post(
        "/v1/allowances",
        json={"allowance": allowance.to_body().model_dump(mode="json"), "signature": signature},
        headers={"Authorization": f"Bearer {market.token}"},
    )


async def test_an_allowance_is_taken_from_its_payer_for_its_key(market: Market) -> None:
    taken = await signed(market)
    assert taken.status_code == 201, taken.text
    body = taken.json()
    assert (body["left"], body["spent"], body["revoked"]) == ("1000", "0", False)
    assert (await signed(market)).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"person": STRANGER},
        {"signer": STRANGER.address},
        {"by": STRANGER},
        {"expires_at": 5},
        {"cap": 0},
    ],
    ids=["another's money", "another's key", "another's signature", "expired", "nothing"],
)
async def test_an_allowance_that_proves_nothing_is_refused(
    market: Market, changes: dict[str, Any]
) -> None:
    assert code(await signed(market, **changes)) == (422, "allowance_refused")


async def test_the_webhook_secret_is_each_account_s_own(market: Market) -> None:
    mine = (await market.get("/v1/webhook-secret")).json()["secret"]
    market.token = await market.logged_in(STRANGER)
    assert (await market.get("/v1/webhook-secret")).json()["secret"] != mine


async def test_figures(market: Market) -> None:
    await market.call()
    market.provider.refuse = [("failed", "once")]
    await market.call()
    page = (await market.http.get("/metrics")).text
    assert 'tallystick_calls_total{state="completed"} 1.0' in page
    assert 'tallystick_calls_failed_total{reason="HandlerFailed"} 1.0' in page
    assert "tallystick_call_journal_transactions" in page
