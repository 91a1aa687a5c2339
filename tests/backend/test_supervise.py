"""Parts that fail are started again; parts that hang are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tallystick_backend import supervise
from tallystick_backend.supervise import Backoff, Supervisor

QUICK = Backoff(first_s=0.01, longest_s=0.02)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about within 5 seconds")


async def test_a_part_that_fails_is_started_again() -> None:
    restarted: list[str] = []
    runs = 0

    async def part(stop: asyncio.Event) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("https://user:secret@rpc.test is down")
        await stop.wait()

    supervisor = Supervisor(on_restart=restarted.append, backoff=QUICK)
    supervisor.start("index", part)
    await _until(lambda: "RuntimeError" in supervisor.conditions()["index"])
    assert "secret" not in str(supervisor.conditions())
    await _until(lambda: runs == 3)
    assert supervisor.conditions() == {"index": "ok"}
    assert restarted == ["index", "index"]
    await supervisor.end()


async def test_a_part_that_ends_by_itself_is_started_again() -> None:
    runs = 0

    async def part(stop: asyncio.Event) -> None:
        nonlocal runs
        runs += 1

    supervisor = Supervisor(backoff=QUICK)
    supervisor.start("part", part)
    await _until(lambda: runs >= 2)
    await supervisor.end()


async def test_one_part_does_not_disturb_another() -> None:
    async def failing(stop: asyncio.Event) -> None:
        raise ValueError

    async def steady(stop: asyncio.Event) -> None:
        await stop.wait()

    supervisor = Supervisor(backoff=QUICK)
    supervisor.start("failing", failing)
    supervisor.start("steady", steady)
    await _until(lambda: supervisor.conditions()["failing"] != "ok")
    assert supervisor.conditions()["steady"] == "ok"
    await supervisor.end()


async def test_a_part_that_does_not_stop_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "STOP_TIMEOUT_S", 0.05)
    cancelled = asyncio.Event()

    async def deaf(stop: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    supervisor = Supervisor()
    supervisor.start("deaf", deaf)
    await asyncio.sleep(0)
    await supervisor.end()
    assert cancelled.is_set()
