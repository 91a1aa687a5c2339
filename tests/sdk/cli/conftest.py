"""A command line on the market in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tallystick import Config, GPUClient
from tallystick.cli.app import build
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def app() -> typer.Typer:
    return build()


@pytest.fixture
def run(app: typer.Typer, market: InMemoryMarket, clock: Clock) -> Run:
    """`run("task", "list")`: exit code, stdout, stderr; never a traceback."""

    def make_client(config: Config) -> GPUClient:
        return market.client(sleep=clock.sleep)

    def invoke(*words: str) -> Ran:
        result = CliRunner().invoke(app, list(words), obj=make_client)
        ran = Ran(result.exit_code, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in ran.err + ran.out or "--verbose" in words
        return ran

    return invoke
