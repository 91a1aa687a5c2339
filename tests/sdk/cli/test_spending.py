"""`tallystick summary`, `limit` and `channel close`, on a backend's HTTP with rows behind it."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tallystick import Config, GPUClient
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.pricing import Price
from tallystick.testing import InMemoryChain
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.backend.api.called import APP, PaidChannel, unpaid_call
from tests.backend.api.test_apps import publish
from tests.backend.api.world import DEPLOYMENT, PUBLIC_URL, World, make_world
from tests.sdk.cli.conftest import Ran, Run
from tests.support.anvil import CONSUMER

NOW_MS = 1_774_789_200_000
"""2026-03-29, 13:00 UTC."""
PAID = PaidChannel(CONSUMER.address)
OWN_APP = f"0x{1:064x}"


async def fill(world: World) -> None:
    paid = PaidChannel(CONSUMER.address)
    await publish(world, 1)
    await world.is_indexed(block=7)
    await world.write(
        paid.call("call-0001", at_ms=NOW_MS - 86_400_000, price=Price(10**18)),
        paid.call("call-0002", at_ms=NOW_MS, price=Price(2 * 10**18), app_id=OWN_APP),
        unpaid_call(CONSUMER.address, "call-0003", at_ms=NOW_MS),
        paid.row(deposited=5 * 10**18),
    )


@pytest.fixture
def run(app: typer.Typer, tmp_path: Path) -> Iterator[Run]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'backend.db'}")
    loop = asyncio.new_event_loop()
    clock = ManualClock(NOW_MS)

    async def start() -> World:
        await database.migrate()
        world = await make_world(database, clock, tmp_path)
        await fill(world)
        await database.engine.dispose()
        return world

    world = loop.run_until_complete(start())
    chain = InMemoryChain(DEPLOYMENT.domain, now_s=lambda: clock.now_ms() // 1000)
    chain.channels[PAID.id] = ChannelState(5 * 10**18, 0, 0)

    def make_client(config: Config) -> GPUClient:
        transport = httpx.ASGITransport(world.app)
        config = Config(url=PUBLIC_URL, private_key=CONSUMER.key)
        now = lambda: clock.now_ms() / 1000  # noqa: E731
        return GPUClient(config=config, transport=transport, chain=chain, now=now)

    def invoke(*words: str) -> Ran:
        result = CliRunner().invoke(app, list(words), obj=make_client)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ran(result.exit_code, result.stdout, result.stderr)

    with capture_logs():
        yield invoke
    loop.run_until_complete(database.close())
    loop.close()


def test_a_summary_has_a_row_for_each_day(run: Run) -> None:
    ran = run("summary", "--time-zone", "Europe/Berlin")
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0][0] == "DAY"
    assert rows[1][:3] == ["2026-03-28", "1", "0"]
    assert rows[2][:3] == ["2026-03-29", "2", "1"]
    assert "3 calls, 3 TALLY together" in ran.err
    told = run("summary", "--group", "app", "--group", "gpu", "--json").json
    assert {item["app_id"] for item in told["items"]} == {APP, OWN_APP}
    hours = run("summary", "--by", "hour", "--since", "2026-03-29", "--json").json
    assert [item["calls"] for item in hours["items"]] == [2]
    assert run("summary", "--group", "colour").code == 2
    assert run("summary", "--time-zone", "Mars/Olympus").code == 2
    assert "No calls" in run("summary", "--until", "2026-01-01").err


def test_a_summary_with_tasks_names_the_kind_of_each_row(run: Run) -> None:
    ran = run("summary", "--tasks")
    assert "KIND" in ran.out
    assert " 0 tasks" in ran.err
    assert run("summary", "--tasks", "--json").json["kinds"] == ["call", "task"]
    assert "no tasks" in run("summary", "--tasks", "--until", "2026-01-01").err


def test_a_summary_as_csv(run: Run) -> None:
    text = run("summary", "--csv", "--group", "app").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["charge_units"]) for row in rows) == int(
        run("summary", "--json").json["sums"]["charge"]
    )


def test_limits_are_set_listed_and_removed(run: Run) -> None:
    assert "limit set" in run("limit", "list").err
    made = run("limit", "set", "2.5", "--json").json
    assert (made["limit"], made["scope"], made["period"]) == (str(25 * 10**17), "workspace", "day")
    run("limit", "set", "1", "--period", "call", "--app", OWN_APP)
    shown = run("limit", "list").out
    assert f"app {OWN_APP}" in shown
    assert "2.5 TALLY" in shown
    assert run("limit", "set", "1", "--app", OWN_APP, "--key", "ab" * 8).code == 2
    assert run("limit", "set", "1", "--app", "0x" + "99" * 32).code == 4
    assert run("limit", "remove", made["id"]).code == 0
    assert run("limit", "remove", made["id"]).code == 4
    assert run("limit", "remove", "../keys").code == 2


def test_calls_are_filtered(run: Run) -> None:
    assert [c["call_id"] for c in run("calls", "list", "--app", OWN_APP, "--json").json] == [
        "call-0002"
    ]
    found = run("calls", "list", "--until", "2026-03-29T00:00Z", "--json").json
    assert [c["call_id"] for c in found] == ["call-0001"]
    assert len(run("calls", "list", "--limit", "2", "--json").json) == 2


def test_a_channel_is_closed(run: Run) -> None:
    [channel] = run("channel", "list", "--json").json
    asked = run("channel", "close", channel["id"], "--json").json
    assert asked["close_at"] == NOW_MS // 1000 + 3 * 86_400
    again = run("channel", "close", channel["id"])
    assert (again.code, "requested before" in again.err) == (2, True)
    assert run("channel", "close", "0x" + "99" * 32).code == 4
