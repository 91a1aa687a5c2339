"""`tallystick app` and `tallystick channel`, on a backend's HTTP with rows behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tallystick import Config, GPUClient
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tests.backend.api.test_apps import MINE, app_id, has_channel, publish
from tests.backend.api.world import PUBLIC_URL, World, make_world
from tests.sdk.cli.conftest import Ran, Run
from tests.support.anvil import CONSUMER, PROVIDER, STRANGER

BORN_S = 1_700_000_000
UNKNOWN = "0x" + "99" * 32


async def fill(world: World) -> None:
    await world.is_indexed(block=7)
    await publish(world, 1, published_at=BORN_S)
    await publish(world, 2, published_at=BORN_S + 1, permanent=True, publisher=STRANGER)
    await publish(world, 3, published_at=BORN_S + 2, retired_at_s=BORN_S + 3)
    await publish(world, 4, published_at=BORN_S + 3, retired_at_s=2**64 - 1)
    hostile = "https://x\x1b]0;owned\x07\x1b[31m\u202egnp.exe [bold]"
    await publish(world, 5, published_at=BORN_S - 1, manifest_uri=hostile)
    await has_channel(world, MINE, 1, deposited=5 * 10**18, claimed=2 * 10**18, redeemed_at_s=1500)
    await has_channel(world, MINE, 2, close_at_s=BORN_S, deposited=10**18)


@pytest.fixture
def run(app: typer.Typer, tmp_path: Path) -> Iterator[Run]:
    """As `run` of the conftest, but with the real backend at the other end."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'backend.db'}")
    loop = asyncio.new_event_loop()

    async def start() -> World:
        await database.migrate()
        clock = ManualClock(BORN_S * 1000)
        clock.advance(seconds=7200)
        world = await make_world(database, clock, tmp_path)
        await fill(world)
        await database.engine.dispose()
        return world

    world = loop.run_until_complete(start())

    def make_client(config: Config) -> GPUClient:
        transport = httpx.ASGITransport(world.app)
        config = Config(url=PUBLIC_URL, private_key=CONSUMER.key)
        return GPUClient(config=config, transport=transport)

    def invoke(*words: str) -> Ran:
        result = CliRunner().invoke(app, list(words), obj=make_client)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ran(result.exit_code, result.stdout, result.stderr)

    with capture_logs():
        yield invoke
    loop.run_until_complete(database.close())
    loop.close()


def test_app_list(run: Run) -> None:
    shown = run("app", "list").out
    assert "PER CALL" in shown
    assert shown.index(app_id(4)) < shown.index(app_id(2)) < shown.index(app_id(1))
    assert app_id(3) not in shown
    told = run("app", "list", "--all", "--limit", "3", "--json").json
    assert [app["id"] for app in told] == [app_id(4), app_id(3), app_id(2)]
    assert told[0]["price"] == {"flat": "200", "fee_per_call": "20", "rate_per_gpu_second": "14"}
    assert told[1]["price"] is None
    mine = run("app", "list", "--publisher", STRANGER.address, "--json").json
    assert [app["id"] for app in mine] == [app_id(2)]
    assert "tallystick app init" in run("app", "list", "no such thing").err


def test_a_publishers_text_cannot_speak_to_the_terminal(run: Run) -> None:
    for words in (("app", "list", "gnp"), ("app", "show", app_id(5))):
        shown = run(*words).out
        assert "https://xgnp.exe [bold]" in shown
        assert not any(character in shown for character in "\x1b\x07\u202e")


def test_app_show(run: Run) -> None:
    shown = run("app", "show", app_id(2), "--at", str(BORN_S + 61)).out
    assert "0.000000000000000008 TALLY" in shown
    assert "20 %" in shown
    assert "permanent" in shown
    assert "2.5 % to" in shown
    told = run("app", "show", app_id(1), "--version", "1", "--at", str(BORN_S), "--json").json
    assert set(told) == {"app", "quote", "versions"}
    assert (told["quote"]["price"]["flat"], told["quote"]["at"]) == ("100", BORN_S)
    assert [version["version"] for version in told["versions"]] == [1]
    # Its end is a second that no calendar has.
    assert f"retires {2**64 - 1}" in run("app", "show", app_id(4)).out


def test_a_retired_app_is_shown_without_a_price(run: Run) -> None:
    shown = run("app", "show", app_id(3))
    assert shown.code == 0
    assert "retired" in shown.out
    assert "per call" not in shown.out
    refused = run("app", "show", app_id(3), "--at", str(BORN_S + 3))
    assert refused.code != 0
    assert f"retired since {BORN_S + 3}" in refused.err


def test_channel_list(run: Run) -> None:
    shown = run("channel", "list").out
    assert "3 TALLY" in shown
    assert "closing, 2023-11-14 22:13:20 UTC" in shown
    told = run("channel", "list", "--provider", PROVIDER.address, "--limit", "1", "--json").json
    assert [channel["id"] for channel in told] == [app_id(2)]
    assert "channel open" in run("channel", "list", "--payer", STRANGER.address).err


def test_channel_show(run: Run) -> None:
    shown = run("channel", "show", app_id(1)).out
    for text in ("5 TALLY", "2 TALLY", "3 TALLY", str(2**96 - 1), "1970-01-01 00:25:00 UTC"):
        assert text in shown
    told = run("channel", "show", app_id(1), "--json").json
    assert (told["deposited"], told["state"], told["block"]) == (str(5 * 10**18), "open", 7)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("app", "show", UNKNOWN), "No app 0x99"),
        (("app", "show", "llama"), "is the name of several apps"),
        (("app", "show", "alpaca"), "No app 'alpaca' is published"),
        (("app", "show", "0x12"), "'0x12' is no id"),
        (("app", "show", app_id(1), "--version", "2"), "no version 2"),
        (("app", "show", app_id(1), "--at", "1"), f"published at {BORN_S}"),
        (("channel", "show", UNKNOWN), "No money ever came into"),
    ],
)
def test_what_is_not_there_says_so(run: Run, words: tuple[str, ...], says: str) -> None:
    refused = run(*words)
    assert refused.code != 0
    assert says in refused.err
    problem = json.loads(run(*words, "--json").out)["error"]
    assert problem["next_step"]
