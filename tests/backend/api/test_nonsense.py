"""Nonsense for every route, method, parameter and body: refused with a problem, never a fault.

The routes come from the OpenAPI document. What is sent is drawn from what breaks servers: NUL, lone
surrogates, numbers beyond every type, SQL, deep and huge JSON, and mutations of good bodies.
"""

from __future__ import annotations

import asyncio
import copy
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick_backend.__main__ import openapi_text
from tallystick_backend.api import examples
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.backend.api.order import order_body
from tests.backend.api.world import DEPLOYMENT, Consumer, World, make_world
from tests.support.anvil import CONSUMER, PROVIDER
from tests.support.effort import tries

OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in json.loads(openapi_text())["paths"].items()
    for method, operation in methods.items()
    if "stream" not in operation["operationId"]
]
GOOD_BODIES: dict[str, Any] = {
    "login": {"message": "hello", "signature": "0x" + "1b" * 65},
    "createApiKey": {"name": "x", "scopes": ["tasks:read"]},
    "createTask": order_body(DEPLOYMENT, CONSUMER, now_s=ManualClock().now_ms() // 1000),
    "addSealedKey": examples.SEALED_KEY,
    "acceptTask": examples.ACCEPT_TASK,
    "setSpendLimit": examples.SPEND_LIMIT,
    "keepWarm": examples.KEEP_WARM,
}

NASTY = st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "%00",
        "'; DROP TABLE task_order; --",
        "1 OR 1=1",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "${jndi:ldap://x}",
        "\u202eabc",
        "é" * 300,
        "💥",
        "NaN",
        "Infinity",
        "-1",
        "1e999",
        "9" * 40,
        "9" * 5000,
        str(2**63),
        str(2**64),
        "true",
        "null",
        "[]",
        "{}",
        "0x",
        "0x" + "g" * 64,
        "0x" + "0" * 64,
        "0x" + "0" * 40,
        "%",
        "_",
        "\\",
        "\n",
        "\x7f",
        "\x85",
    ]
)
TEXT = st.one_of(NASTY, st.text(max_size=50), st.text(string.printable, max_size=20))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=2**62, max_value=2**300),
        st.floats(),
        TEXT,
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(TEXT, children, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: Any, good: Any) -> Any:
    """A good body with one place spoilt: replaced, removed or added to."""
    body = copy.deepcopy(good)
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return draw(VALUES)
        key = draw(st.sampled_from(keys))
        deeper = place[key]
        if isinstance(deeper, dict | list) and deeper and draw(st.booleans()):
            place = deeper
            continue
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "replace":
            place[key] = draw(VALUES)
        elif what == "remove":
            del place[key]
        elif isinstance(place, dict):
            place[draw(TEXT)] = draw(VALUES)
        else:
            place.append(draw(VALUES))
        return body


@st.composite
def requests(draw: Any, method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    url, params, headers = path, [], {}
    for parameter in operation.get("parameters", []):
        name, where = parameter["name"], parameter["in"]
        example = (parameter.get("schema", {}).get("examples") or [None])[0]
        if where == "path":
            # Left as it is, it becomes the id of something that exists.
            if draw(st.integers(0, 3)) == 0:
                value = draw(st.one_of(st.just(example or "x"), TEXT))
                url = url.replace("{" + name + "}", quote(value, safe="") or "x")
        elif where == "query" and draw(st.booleans()):
            params.append((name, draw(TEXT)))
        elif where == "header" and draw(st.booleans()):
            # What a client can put on the wire at all.
            value = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=250))
            headers[name] = value
    if draw(st.booleans()):
        params.append((draw(TEXT), draw(TEXT)))
    content: bytes | None = None
    if method in ("POST", "PUT", "DELETE") and draw(st.integers(0, 9)) > 0:
        good = GOOD_BODIES.get(operation["operationId"])
        value = draw(st.one_of(mutated(good), VALUES) if good else VALUES)
        content = json.dumps(value).encode()
        if draw(st.integers(0, 9)) == 0:
            content = draw(st.binary(max_size=200))
        headers["Content-Type"] = draw(
            st.sampled_from(["application/json"] * 8 + ["text/plain", ""])
        )
    other = draw(st.sampled_from([method] * 8 + ["GET", "POST", "PUT", "DELETE", "PATCH"]))
    return {
        "method": other,
        "url": url,
        "params": params,
        "headers": headers,
        "content": content,
    }


class Prepared:
    """One world for all examples of a test, on a loop of its own: hypothesis is not async."""

    def __init__(self, url: str, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.database = Database(url)
        self.ids: dict[str, str] = {}
        self.world, self.consumer = self.loop.run_until_complete(self._prepare(folder))

    async def _prepare(self, folder: Path) -> tuple[World, Consumer]:
        unlimited = "1000000/second"
        world = await make_world(
            self.database,
            ManualClock(),
            folder,
            login_limit=unlimited,
            read_limit=unlimited,
            write_limit=unlimited,
        )
        await world.is_indexed()
        await world.has_provider()
        consumer = await world.consumer()
        digest = await world.uploaded(consumer)
        task = await world.ordered(consumer, input_digest=digest)
        await world.finished(task)
        key = (await consumer.post("/v1/keys", json={"name": "x"})).json()["id"]
        self.ids = {
            "task_id": task["id"],
            "digest": digest,
            "key_id": key,
            "address": PROVIDER.address,
        }
        return world, consumer

    def ask(self, request: dict[str, Any]) -> Any:
        headers = {**request.pop("headers"), **self.consumer.headers}
        for name, value in self.ids.items():
            request["url"] = request["url"].replace("{" + name + "}", value)
        return self.loop.run_until_complete(self.world.http.request(headers=headers, **request))

    def close(self) -> None:
        async def end() -> None:
            await self.world.http.aclose()
            await self.database.close()

        self.loop.run_until_complete(end())
        self.loop.close()


@pytest.fixture
def prepared(database_url: str, tmp_path: Path) -> Iterator[Prepared]:
    prepared = Prepared(database_url, tmp_path)
    yield prepared
    prepared.close()


def _check(answer: Any) -> None:
    # There is no bus in this world: calls end at a gateway that does not sign.
    is_closed = answer.status_code == 503 and answer.json()["code"] == "gateway_not_ready"
    assert answer.status_code < 500 or is_closed, answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["code"]
        assert len(answer.content) < 20_000
        assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=[o[2]["operationId"] for o in OPERATIONS]
)
def test_nonsense_is_refused(
    prepared: Prepared, method: str, path: str, operation: dict[str, Any]
) -> None:
    @settings(
        max_examples=tries(25, long=60),
        deadline=None,
        database=None,
        suppress_health_check=HealthCheck.all(),
    )
    @given(requests(method, path, operation))
    def ask(request: dict[str, Any]) -> None:
        try:
            answer = prepared.ask(request)
        except UnicodeEncodeError:
            return  # the client itself could not put it on the wire
        _check(answer)

    ask()


RAW_QUERIES = [
    "limit=%00",
    "limit=1&limit=2",
    "limit=999999999999999999999",
    "limit=-1",
    "cursor=%ff%fe",
    "cursor=%ed%a0%80",
    "name=%00",
    "name=%ed%a0%80",
    "state=settled%00",
    "created_from_ms=1e400",
    "%00=%00",
    "&&&=&=",
    "limit[]=1",
    "limit=%E0%A4%A",
]


@pytest.mark.parametrize("query", RAW_QUERIES)
def test_raw_queries_are_refused_or_read(prepared: Prepared, query: str) -> None:
    for path in ("/v1/tasks", "/v1/providers", "/v1/gpus", "/v1/offers"):
        _check(
            prepared.ask(
                {"method": "GET", "url": f"{path}?{query}", "headers": {}, "content": None}
            )
        )
