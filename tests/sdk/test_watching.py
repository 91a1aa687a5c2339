"""Logs that follow, and input keys supplied after the order.

logs
├── what is stored, and with follow until the task ends
├── a broken stream goes on after the last line, none twice
└── a backend that cannot stream is polled
needs_key
├── status and wait supply the key, and the task goes on elsewhere
└── nothing is sealed for a task that is not the one ordered
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tallystick import AsyncGPUClient, GPUClient, JobState, VerificationFailed
from tallystick.protocol.wire import TaskBody
from tallystick.sse import ServerEvent, events
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock


async def test_the_log_so_far(market: InMemoryMarket, client: AsyncGPUClient, script: str) -> None:
    market.hold = "running"
    job = await client.submit(script, "gpu1", 1, "1h")
    for number in range(1200):
        market.write_log(job.id, f"{number}\n")
    texts = [entry.text async for entry in client.logs(job)]
    assert texts == [f"{number}\n" for number in range(1200)]


@pytest.mark.parametrize("can_stream", [True, False], ids=["streamed", "polled"])
async def test_follow_goes_on_until_the_end_and_no_line_comes_twice(
    can_stream: bool, market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    market.hold = "running"
    market.can_stream = can_stream
    job = await client.submit(script, "gpu1", 1, "1h")
    market.write_log(job.id, "first\n")
    seen: list[str] = []
    async for entry in client.logs(job, follow=True):
        seen.append(entry.text)
        if len(seen) < 5:
            market.write_log(job.id, f"line {len(seen)}\n")
        else:
            await market.release()
    assert seen == [
        "first\n",
        *(f"line {n}\n" for n in range(1, 5)),
        "echo: python /task/in/train.py\n",
    ]


async def test_follow_survives_lost_connections(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "running"
    job = await client.submit(script, "gpu1", 1, "1h")
    market.write_log(job.id, "first\n")
    seen: list[str] = []
    async for entry in client.logs(job, follow=True):
        seen.append(entry.text)
        if len(seen) == 1:
            market.drop(2)
            market.fail(2)
            market.write_log(job.id, "second\n")
        else:
            await market.release()
    assert seen == ["first\n", "second\n", "echo: python /task/in/train.py\n"]


def test_the_blocking_client_follows_too_and_may_be_left(
    market: InMemoryMarket, script: str
) -> None:
    with market.client() as client:
        job = client.submit(script, "gpu1", 1, "1h")
        client.wait(job)
        assert [e.text for e in client.logs(job, follow=True)] == [
            "echo: python /task/in/train.py\n"
        ]
        lines = client.logs(job)
        next(lines)
        lines.close()  # type: ignore[attr-defined]


def test_the_blocking_client_can_be_closed_twice_and_says_so_after(
    market: InMemoryMarket,
) -> None:
    client = market.client()
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.providers()


async def test_the_blocking_client_works_inside_a_running_loop(
    market: InMemoryMarket, script: str
) -> None:
    def act(client: GPUClient) -> JobState:
        return client.wait(client.submit(script, "gpu1", 1, "1h")).state

    client = market.client()
    assert await asyncio.to_thread(act, client) is JobState.FINISHED
    client.close()


@pytest.mark.parametrize("act", ["status", "wait"])
async def test_a_missing_input_key_is_sealed_when_asked_for(
    act: str, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    """All leases sealed ahead are lost; the fifth needs a key that only the wallet can make."""
    market.hold = "leased"
    job = await client.submit(script, "gpu1", 1, "1h")
    await client.get_job_status(job)
    market.lose_lease(job.id)
    market.providers[0].online = True
    market.ask_for_key(job.id, market.providers[1], 5)
    market.hold = None
    if act == "status":
        await client.get_job_status(job)
    assert (await client.wait(job)).state is JobState.FINISHED
    assert (await client.get_job_status(job)).fence == 5
    fetched = await client.result(job, to="out")
    assert "train.py" in (fetched.outputs / "echo.json").read_text()


async def test_another_machine_with_the_wallet_supplies_the_key_as_well(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit(script, "gpu1", 1, "1h")
    market.ask_for_key(job.id, market.providers[1], 6)
    market.hold = None
    Path(script).unlink()
    async with market.async_client() as other:
        assert (await other.wait(job.id)).fence == 6


async def test_no_key_is_sealed_for_a_task_the_wallet_did_not_order(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit(script, "gpu1", 1, "1h")
    market.ask_for_key(job.id, market.providers[1], 5)

    def other_nonce(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path != f"/v1/tasks/{job.id}":
            return answer
        task = TaskBody.model_validate_json(answer.content)
        terms = task.terms.model_copy(update={"nonce": task.terms.nonce ^ 1})
        changed = task.model_copy(update={"terms": terms})
        return httpx.Response(200, content=changed.model_dump_json(), request=request)

    market.answer_hook = other_nonce
    with pytest.raises(VerificationFailed, match="task id"):
        await client.get_job_status(job)
    assert not [path for _, path in market.requests if path.endswith("/keys")]


async def test_failover_ends_on_the_other_provider_paid_once(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "running"
    job = await client.submit(script, "gpu1", 1, "1h")
    first = (await client.get_job_status(job)).provider
    market.lose_lease(job.id)
    market.hold = None
    fetched = await client.result(job, to="out")
    status = await client.get_job_status(job)
    assert (status.fence, status.provider == first) == (2, False)
    assert fetched.receipt.body.provider == status.provider


async def test_events_are_read_as_the_standard_says() -> None:
    text = (
        ": comment\n\nid: 7\nevent: log\ndata: one\ndata:two\n\n"
        "data\n\nid: 8\n\nretry: 5\ndata: x\n\n"
    )

    async def lines() -> object:
        for line in text.split("\n"):
            yield line

    found = [event async for event in events(lines())]  # type: ignore[arg-type]
    assert found == [
        ServerEvent("7", "log", "one\ntwo"),
        ServerEvent("7", "message", ""),
        ServerEvent("8", "message", "x"),
    ]
