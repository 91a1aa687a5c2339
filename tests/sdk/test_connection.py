"""The way to the backend: what is retried, how long, and that nothing is done twice.

├── lost connections, lost answers, 502 to 504 and 429 are tried again; other refusals are not
├── a write that was carried out but not answered is carried out once
├── an expired session logs in once more
└── every refusal becomes one of our errors with a next step
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tallystick import (
    AsyncGPUClient,
    Config,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PaymentNeeded,
    Refused,
    ServiceError,
    TallystickError,
    Unreachable,
)
from tallystick.connection import ATTEMPTS, error_from
from tallystick.session import LOG_IN_ATTEMPTS
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock


@pytest.mark.parametrize("trouble", ["drop", "lose", "503", "502", "504", "429"])
async def test_trouble_is_survived_and_the_task_exists_once(
    trouble: str, market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    await client.login()
    if trouble == "drop":
        market.drop(3)
    elif trouble == "lose":
        market.lose_answers(2)
    else:
        market.fail(3, int(trouble))
    job = await client.submit(script, "gpu1", 1, "1h")
    assert [found.id for found in await client.list_jobs()] == [job.id]
    assert clock.slept


@pytest.mark.parametrize("step", ["/v1/tasks", "/v1/keys"])
async def test_a_lost_answer_to_a_write_is_asked_for_again_not_done_again(
    step: str, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    """The repeat carries the same Idempotency-Key; the same key comes back, secret and all."""
    await client.login()
    if step == "/v1/keys":
        market.lose_answers(1)
        key = await client.create_api_key("ci")
        assert [k.id for k in await client.list_api_keys()] == [key.id]
        return
    job = await client.submit(script, "gpu1", 1, "1h")
    market.lose_answers(1)
    await client.accept(job)
    assert (await client.get_job_status(job)).settled_tx


async def test_it_gives_up_with_what_to_do(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock
) -> None:
    market.drop(ATTEMPTS)
    with pytest.raises(Unreachable, match=r"did not answer after 6 attempts.*TALLYSTICK_URL"):
        await client.providers()
    assert len(clock.slept) == ATTEMPTS - 1
    assert clock.slept == sorted(clock.slept) or max(clock.slept) <= 5.0


async def test_a_server_that_says_when_is_believed(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock
) -> None:
    market.fail(2, 429, retry_after="7")
    await client.providers()
    assert clock.slept == [7.0, 7.0]
    market.fail(1, 503, retry_after="Mon, 01 Jan 2001 00:00:00 GMT")
    await client.providers()
    market.fail(1, 503, retry_after="soon")
    await client.providers()


async def test_an_expired_session_is_opened_again(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1h")
    market.forget_sessions()
    assert (await client.get_job_status(job)).id == job.id
    assert [path for _, path in market.requests].count("/v1/auth/login") == 2


async def test_a_session_that_expires_before_the_download_is_opened_again(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1h")

    def forget(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/receipt"):
            market.forget_sessions()
        return answer

    market.answer_hook = forget
    assert (await client.result(job, to="out")).accepted


async def test_many_calls_at_once_log_in_once(
    market: InMemoryMarket, client: AsyncGPUClient
) -> None:
    import asyncio

    await asyncio.gather(*(client.list_jobs() for _ in range(10)))
    assert [path for _, path in market.requests].count("/v1/auth/login") == 1


async def test_a_log_in_whose_answer_was_lost_begins_again_with_another_nonce(
    market: InMemoryMarket, client: AsyncGPUClient
) -> None:
    """The backend died after it had used the nonce up: the same log-in again is refused."""
    lost: list[str] = []

    def lose(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path == "/v1/auth/login" and not lost:
            lost.append(request.url.path)
            raise httpx.ReadError("the backend died", request=request)
        return answer

    market.answer_hook = lose
    assert await client.login() == client.address.lower()
    assert [path for _, path in market.requests].count("/v1/auth/nonce") == 2


async def test_a_log_in_that_never_gets_a_good_nonce_ends(
    market: InMemoryMarket, client: AsyncGPUClient
) -> None:
    def refuse(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path == "/v1/auth/nonce":
            return httpx.Response(200, json={**answer.json(), "nonce": "0" * 24})
        return answer

    market.answer_hook = refuse
    with pytest.raises(NotAllowed, match="nonce"):
        await client.login()
    assert [path for _, path in market.requests].count("/v1/auth/login") == LOG_IN_ATTEMPTS


async def test_a_bad_api_key_is_refused_without_a_loop(market: InMemoryMarket) -> None:
    async with market.async_client(private_key=None, api_key="tsk_wrong") as client:
        with pytest.raises(NotAllowed, match="token is unknown"):
            await client.list_jobs()
    assert len(market.requests) == 2


async def test_without_key_or_api_key_it_says_what_to_set(market: InMemoryMarket) -> None:
    async with market.async_client(private_key=None) as client:
        assert await client.providers()
        with pytest.raises(TallystickError, match="TALLYSTICK_KEY_FILE"):
            await client.list_jobs()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, NotAllowed),
        (402, PaymentNeeded),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (429, Refused),
        (500, ServiceError),
        (302, ServiceError),
    ],
)
@pytest.mark.parametrize("body", ["problem", "html", "empty"])
def test_a_refusal_is_our_error(status: int, kind: type[TallystickError], body: str) -> None:
    problem = {
        "type": "urn:x",
        "title": "Wrong",
        "status": status,
        "detail": "the deadline 5 is over",
        "code": "wrong",
        "next_step": "Sign again.",
        "errors": [{"loc": ["body", "deadline"], "msg": "too early"}],
    }
    content = {"problem": json.dumps(problem), "html": "<h1>Oops</h1>", "empty": ""}[body]
    request = httpx.Request("GET", "http://market.invalid/v1/x")
    error = error_from(httpx.Response(status, content=content.encode(), request=request))
    assert type(error) is kind
    assert error.next_step
    if body == "problem":
        assert error.sentence == "the deadline 5 is over: body.deadline: too early."
        assert error.next_step == "Sign again."
    else:
        assert str(status) in error.sentence


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"chain_id": "x"}'])
async def test_an_unreadable_answer_is_named(content: bytes) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=content)

    config = Config(url="http://market.invalid")
    async with AsyncGPUClient(config=config, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ServiceError, match="is no DeploymentBody"):
            await client.deployment()


async def test_every_write_has_a_key_of_its_own(market: InMemoryMarket, script: str) -> None:
    seen: list[tuple[str, Any]] = []

    def hook(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        seen.append((request.method, request.headers.get("Idempotency-Key")))
        return answer

    market.answer_hook = hook
    async with market.async_client() as client:
        await client.accept(await client.submit(script, "gpu1", 1, "1h"))
    keys = [key for method, key in seen if method != "GET"]
    assert all(keys)
    assert len(set(keys)) == len(keys) >= 5
    assert not [key for method, key in seen if method == "GET" and key]
