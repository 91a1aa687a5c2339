"""The guard in front: sizes, encodings, ambiguity, headers of answers, and no inside ever."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick_backend.api.guard import SECURITY_HEADERS, check_json
from tallystick_backend.api.refusals import MalformedBody
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.backend.api.world import Consumer, World, make_world

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def database_url(sqlite_url_of_a_new_database: Callable[[], Iterator[str]]) -> Iterator[str]:
    """One database is enough: nothing here gets that far."""
    yield from sqlite_url_of_a_new_database()


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 400),
    "no UTF-8": (b'{"name": "\xff"}', 400),
    "NaN": (b'{"name": NaN}', 400),
    "Infinity": (b'{"name": -Infinity}', 400),
    "a name twice": (b'{"name": "a", "name": "b"}', 400),
    "a NUL": (b'{"name": "a\\u0000b"}', 400),
    "a lone surrogate": (b'{"name": "\\ud800"}', 400),
    "a lone surrogate as a name": (b'{"\\udfff": 1}', 400),
    "ten thousand levels": (b"[" * 10_000 + b"]" * 10_000, 400),
    "ten thousand levels, not closed": (b'{"a":' * 10_000, 400),
    "an integer of a hundred thousand digits": (b'{"name": ' + b"9" * 100_000 + b"}", 400),
    "a list": (b"[]", 422),
    "nothing": (b"", 422),
    "null": (b"null", 422),
    "two mebibytes": (b'{"name": "' + b"x" * 2 * 1024 * 1024 + b'"}', 413),
    "a string full of quotes": (b'"' + b'\\"' * 400_000, 400),
}


@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_refuses_a_body_of(consumer: Consumer, body: bytes, status: int) -> None:
    answer = await consumer.post("/v1/keys", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) < 3000


async def test_brackets_in_a_text_are_no_levels() -> None:
    check_json(json.dumps({"name": "[" * 1000 + '\\"' + "{" * 1000}).encode())
    with pytest.raises(MalformedBody, match="32 deep"):
        check_json(b"[" * 33 + b"]" * 33)
    check_json(b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_refuses_another_media_type(consumer: Consumer, headers: dict[str, str]) -> None:
    body = gzip.compress(b"{}") if "Content-Encoding" in headers else b"{}"
    answer = await consumer.post("/v1/keys", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "wrong_media_type")


async def test_refuses_ten_thousand_headers(consumer: Consumer) -> None:
    headers = {f"X-{number}": "x" for number in range(10_000)}
    answer = await consumer.get("/v1/tasks", headers=headers)
    assert answer.status_code == 431
    long = await consumer.get("/v1/tasks", headers={"X-Long": "x" * 40_000})
    assert long.status_code == 431


async def test_a_body_that_stops_coming_is_given_up(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    import asyncio
    from collections.abc import AsyncIterator

    world = await make_world(database, clock, tmp_path, body_timeout_s=0.05)
    consumer = await world.consumer()
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    for method, path in (("POST", "/v1/keys"), ("PUT", "/v1/blobs/0x" + "00" * 32)):
        answer = await world.http.request(
            method, path, content=slow(), headers={**consumer.headers, **JSON}
        )
        assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")
    await world.http.aclose()


async def test_a_body_a_byte_at_a_time_is_given_up(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Case 132: never a pause that is too long by itself."""
    import asyncio
    from collections.abc import AsyncIterator

    world = await make_world(database, clock, tmp_path, body_timeout_s=0.2)
    consumer = await world.consumer()

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.02)

    answer = await world.http.request(
        "POST", "/v1/keys", content=dripping(), headers={**consumer.headers, **JSON}
    )
    assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")
    await world.http.aclose()


async def test_a_long_path_is_not_echoed(world: World) -> None:
    for path in ("/v1/nothing/", "/v1/accounts/", "/v1/blobs/"):
        answer = await world.http.get(path + "x" * 20_000)
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 2000


async def test_a_method_that_is_not_taken_is_told_all_that_are(world: World) -> None:
    for method, path, allowed in (
        ("PATCH", "/v1/keys", "GET, POST"),
        ("OPTIONS", "/v1/manifests/0x" + "5a" * 32, "GET, PUT"),
        ("TRACE", "/v1/blobs/0x" + "5a" * 32, "GET, PUT"),
        ("POST", "/healthz", "GET"),
    ):
        answer = await world.http.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert answer.json()["next_step"] == f"Use {allowed}."


async def test_a_huge_field_is_not_echoed(consumer: Consumer) -> None:
    name = "x" * 500_000
    answer = await consumer.post("/v1/keys", json={"name": name, name: 1})
    assert answer.status_code == 422
    assert len(answer.content) < 2000


async def test_unknown_paths_and_methods_are_problems(world: World) -> None:
    for method, path, status, code in (
        ("GET", "/v1/nothing", 404, "unknown_path"),
        ("GET", "/v1/tasks/", 404, "unknown_path"),
        ("GET", "/docs", 404, "unknown_path"),
        ("PATCH", "/v1/keys", 405, "method_not_allowed"),
        ("GET", "/v1/auth/login", 405, "method_not_allowed"),
        ("TRACE", "/healthz", 405, "method_not_allowed"),
    ):
        answer = await world.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["next_step"]
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_every_answer_carries_the_security_headers(world: World) -> None:
    for path in ("/healthz", "/v1/nothing", "/v1/tasks", "/openapi.json"):
        answer = await world.http.get(path)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert len(answer.headers["X-Request-Id"]) == 16
        assert "server" not in answer.headers


# --- CORS -------------------------------------------------------------------------------------


async def _preflight(world: World, origin: str) -> Any:
    return await world.http.options(
        "/v1/tasks",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
    )


async def test_no_other_origin_by_default(world: World) -> None:
    answer = await world.http.get("/healthz", headers={"Origin": "https://app.test"})
    assert "access-control-allow-origin" not in answer.headers
    assert (await _preflight(world, "https://app.test")).status_code == 405


async def test_listed_origins_only_and_never_with_credentials(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    world = await make_world(database, clock, tmp_path, cors_origins=("https://app.test",))
    allowed = await _preflight(world, "https://app.test")
    assert allowed.headers["access-control-allow-origin"] == "https://app.test"
    assert "access-control-allow-credentials" not in allowed.headers
    refused = await _preflight(world, "https://evil.test")
    assert "access-control-allow-origin" not in refused.headers
    await world.http.aclose()


# --- rate limits ------------------------------------------------------------------------------


async def test_log_in_is_limited_by_network(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    world = await make_world(database, clock, tmp_path, login_limit="3/hour")
    answers = [await world.http.post("/v1/auth/nonce") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[3].headers["Retry-After"]) >= 1
    assert answers[3].json()["code"] == "too_many_requests"
    guessed = await world.http.get("/v1/tasks", headers={"Authorization": "Bearer ts_guess"})
    assert guessed.status_code == 429
    await world.http.aclose()


async def test_writes_are_limited_by_wallet(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    world = await make_world(database, clock, tmp_path, write_limit="2/hour")
    consumer, stranger = await world.consumer(), await world.stranger()
    statuses = [(await consumer.post("/v1/keys", json={"name": "x"})).status_code for _ in "abc"]
    assert statuses == [201, 201, 429]
    assert (await consumer.get("/v1/tasks")).status_code == 200
    assert (await stranger.post("/v1/keys", json={"name": "x"})).status_code == 201
    await world.http.aclose()


# --- faults -----------------------------------------------------------------------------------


async def test_a_fault_says_nothing_of_the_inside(
    world: World, consumer: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = "postgresql+asyncpg://user:canary@server/name"

    async def broken(*_: Any) -> Any:
        raise RuntimeError(f"cannot reach {canary}")

    object.__setattr__(world.backend, "deployment", broken)
    answer = await world.http.get("/v1/deployment")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    for word in ("canary", "Traceback", "RuntimeError", "File "):
        assert word not in answer.text


async def test_a_busy_database_is_503(world: World, consumer: Consumer) -> None:
    from sqlalchemy.exc import OperationalError

    async def busy(*_: Any) -> Any:
        raise OperationalError("SELECT secret", {}, Exception("connection refused"))

    object.__setattr__(world.backend, "deployment", busy)
    answer = await world.http.get("/v1/deployment")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_busy")
    assert answer.headers["Retry-After"] == "1"
    assert "SELECT" not in answer.text


async def test_before_the_start_everything_is_503(world: World) -> None:
    world.app.state.backend = None
    answer = await world.http.get("/v1/tasks")
    assert (answer.status_code, answer.json()["code"]) == (503, "service_not_ready")
    assert (await world.http.get("/healthz")).status_code == 200
