"""People and a market in memory. No test here waits for real time or reaches a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick import AsyncGPUClient
from tallystick.testing import InMemoryMarket

START_S = 1_795_000_000.0


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test; the current directory is an empty one."""
    import os

    for name in list(os.environ):
        if name.startswith("TALLYSTICK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TALLYSTICK_CONFIG", str(tmp_path / "config" / "config.toml"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def market(clock: Clock) -> InMemoryMarket:
    return InMemoryMarket(now=clock)


@pytest.fixture
async def client(market: InMemoryMarket, clock: Clock) -> AsyncIterator[AsyncGPUClient]:
    async with market.async_client(sleep=clock.sleep) as opened:
        yield opened


@pytest.fixture
def script(clean_environment: None) -> str:
    Path("train.py").write_text("print('hello')\n")
    return "train.py"
