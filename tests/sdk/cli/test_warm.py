"""`tallystick app warm`, on a backend's HTTP with rows behind it: the gateway is not there, so
nothing is called, and what it would have written down is written here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tallystick import Config, GPUClient
from tallystick.protocol.pricing import Price
from tallystick.testing import InMemoryChain
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import KeepWarmRow
from tests.backend.api.world import DEPLOYMENT, PUBLIC_URL, World, make_world
from tests.backend.gateway.market import APP_ID, MANIFEST, app_rows
from tests.sdk.cli.conftest import Ran, Run
from tests.support.anvil import CONSUMER

NOW_MS = 1_774_789_200_000
"""2026-03-29, 13:00 UTC."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'backend.db'}")

    async def start() -> World:
        await database.migrate()
        made = await make_world(database, ManualClock(NOW_MS), tmp_path)
        price = Price(flat=0, fee_per_call=10**15, rate_per_gpu_second=0)
        await made.write(
            *(row for row in app_rows(price, MANIFEST) if row.__tablename__ != "cursor")
        )
        await database.engine.dispose()
        return made

    with capture_logs():
        yield loop.run_until_complete(start())
    loop.run_until_complete(database.close())
    loop.close()


@pytest.fixture
def run(app: typer.Typer, world: World) -> Run:
    clock = world.clock
    chain = InMemoryChain(DEPLOYMENT.domain, now_s=lambda: clock.now_ms() // 1000)

    def make_client(config: Config) -> GPUClient:
        return GPUClient(
            config=Config(url=PUBLIC_URL, private_key=CONSUMER.key),
            transport=httpx.ASGITransport(world.app),
            chain=chain,
            now=lambda: clock.now_ms() / 1000,
        )

    def invoke(*words: str, answer: str | None = None) -> Ran:
        result = CliRunner().invoke(app, list(words), obj=make_client, input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ran(result.exit_code, result.stdout, result.stderr)

    return invoke


BEGIN = ("app", "warm", APP_ID, "--for", "2h", "--max-per-hour", "1.5")


def test_the_price_is_shown_and_then_it_is_asked(run: Run) -> None:
    refused = run(*BEGIN, answer="n\n")
    assert refused.code == 3
    told = refused.out + refused.err
    assert "66 an hour, one every 54 s" in told
    assert "0.066 TALLY an hour" in told
    assert "0.001 TALLY if it takes 10 ms" in told
    assert "Keep it warm?" in told
    assert run("app", "warm", "list", "--json").json == []
    agreed = run(*BEGIN, answer="y\n")
    assert agreed.code == 0, agreed.err
    assert "Kept warm until 2026-03-29 15:00:00 UTC" in agreed.err
    nobody = run(*BEGIN, answer="")
    assert (nobody.code, "nothing was begun" in nobody.err) == (2, True)


def test_it_is_begun_listed_and_stopped(run: Run) -> None:
    assert "app warm APP" in run("app", "warm", "list").err
    assert run(*BEGIN, "--json").code == 2
    quoted = run(*BEGIN, "--json", "--dry-run", "--every", "30s").json
    assert (quoted["state"], quoted["calls_per_hour"]) == ("quoted", 120)
    made = run(*BEGIN, "--json", "--yes").json
    assert (made["state"], made["max_charge_per_hour"]) == ("on", str(15 * 10**17))
    shown = run("app", "warm", "list").out
    assert made["id"] in shown
    assert "0.066 TALLY" in shown
    assert run("app", "warm", "start", APP_ID, "--max-per-hour", "1", "--yes").code != 0
    assert "0 calls cost 0 TALLY" in run("app", "warm", "stop", made["id"]).err
    assert run("app", "warm", "stop", "0" * 16).code == 4
    assert run("app", "warm", "stop", "../keys").code == 2
    assert run("app", "warm", "0x00", "--max-per-hour", "1").code == 2


def test_a_failure_and_what_was_spent_are_shown(run: Run, world: World) -> None:
    row = KeepWarmRow(
        id="ab" * 8,
        account=CONSUMER.address.lower(),
        app_id=APP_ID,
        every_s=54,
        max_per_hour=10**18,
        until_ms=NOW_MS + 3_600_000,
        created_at_ms=NOW_MS,
        state="paused_funds",
        next_at_ms=NOW_MS + 60_000,
        spent=3 * 10**15,
        calls=3,
        problem={"code": "no_allowance", "detail": "None."},
        failed_at_ms=NOW_MS,
    )
    asyncio.run(_write(world, row))
    shown = run("app", "warm", "list").out
    assert "paused_funds" in shown
    assert "0.003 TALLY" in shown
    assert "no_allowance" in shown


async def _write(world: World, row: KeepWarmRow) -> None:
    await world.write(row)
    await world.backend.database.engine.dispose()
