"""`tallystick call`, `calls`, `receipt` and `allowance`, on the market in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tallystick import Config, GPUClient
from tallystick.protocol.pricing import Price
from tallystick.testing import InMemoryMarket
from tests.sdk.cli.conftest import Run
from tests.sdk.conftest import Clock


def echo(input: Any) -> Any:
    return input


def count(input: Any) -> Iterator[int]:
    yield from range(int(input["n"]))


@pytest.fixture
def echoing(market: InMemoryMarket, run: Run) -> str:
    assert run("allowance", "grant", "1").code == 0
    return market.calls.publish(echo, price=Price(fee_per_call=10))


def call_id(run: Run) -> str:
    return str(run("calls", "list", "--json").json[0]["call_id"])


def test_call_prints_the_answer_and_says_what_it_cost(run: Run, echoing: str) -> None:
    ran = run("call", echoing, "-i", "name=world", "-i", "steps=20")
    assert json.loads(ran.out) == {"name": "world", "steps": 20}
    assert "Charged 0.00000000000000001 TALLY for call c_" in ran.err
    assert "left in the channel (queued 1 ms, run 2.5 ms)" in ran.err
    told = run("call", echoing, "-i", "x=1", "--json").json
    assert told["output"] == {"x": 1}
    assert told["charge"] == {"units": "10", "amount": "0.00000000000000001", "symbol": "TALLY"}
    assert told["total"]["units"] == "20"
    assert set(told["times"]) == {"queued_ms", "cold_start_ms", "run_ms", "gateway_ms"}


def test_call_takes_files_and_writes_files(run: Run, echoing: str) -> None:
    Path("input.json").write_text('["a", 1]')
    ran = run("call", echoing, "-i", "@input.json", "-o", "answer.json")
    assert (ran.code, ran.out) == (0, "")
    assert json.loads(Path("answer.json").read_text()) == ["a", 1]


def test_text_is_printed_as_it_is(run: Run, market: InMemoryMarket, echoing: str) -> None:
    hello = market.calls.publish(lambda input: "hello \x1b[31m" + input["name"])
    assert run("call", hello, "-i", "name=you").out == "hello you\n"


def test_a_streamed_call_shows_pieces(run: Run, market: InMemoryMarket, echoing: str) -> None:
    counting = market.calls.publish(count)
    ran = run("call", counting, "-i", "n=3", "--stream")
    assert ran.out == "0\n1\n2\n"
    assert "Charged" in ran.err
    lines = run("call", counting, "-i", "n=2", "--stream", "--json").lines
    assert [line.get("output") for line in lines] == [0, 1, None]
    assert lines[-1]["call"]["charge"] == "10"


def test_a_call_may_be_answered_later(run: Run, echoing: str) -> None:
    made = run("call", echoing, "-i", "x=1", "--async")
    name = made.out.strip()
    assert name.startswith("c_")
    ran = run("calls", "result", name)
    assert json.loads(ran.out) == {"x": 1}
    assert "completed" in run("calls", "show", name).out
    waiting = run("call", echoing, "-i", "x=2", "--async").out.strip()
    assert run("calls", "cancel", waiting, "--json").json["state"] == "canceled"
    assert run("calls", "result", waiting).code == 1


def test_failures_have_their_exit_codes(run: Run, market: InMemoryMarket) -> None:
    app = market.calls.publish(lambda input: input["missing"])
    unpaid = run("call", app)
    assert unpaid.code == 5
    assert "Sign a ChannelAllowance" in unpaid.err
    run("allowance", "grant", "1")
    failed = run("call", app, "--json")
    assert failed.code == 1
    assert failed.json["error"]["code"] == "call_failed"
    assert run("call", "0x" + "99" * 32).code == 4
    assert run("call", app, "--async", "--stream").code == 2
    assert run("call", app, "--webhook", "https://x.example").code == 2
    assert run("call", app, "--max-charge", "free").code == 2


def test_calls_are_listed_with_what_they_cost(run: Run, echoing: str) -> None:
    assert "app list" in run("calls", "list").err
    run("call", echoing)
    shown = run("calls", "list", "--state", "completed", "--since", "2020-01-01").out
    assert "0.00000000000000001 TALLY" in shown
    assert run("calls", "list", "--since", "yesterday").code == 2
    assert len(run("calls", "list", "--json").json) == 1


# --- receipts ---------------------------------------------------------------------------------


def test_a_receipt_is_verified_by_named_checks(
    run: Run, market: InMemoryMarket, echoing: str
) -> None:
    run("call", echoing, "-i", "x=1", "-o", "answer")
    name = call_id(run)
    ran = run("receipt", "verify", name)
    assert ran.code == 0
    rows = dict(line.split()[:2] for line in ran.out.splitlines()[1:] if len(line.split()) > 1)
    assert rows["signature"] == rows["price"] == rows["voucher"] == "ok"
    assert "open: input, result, redeemed" in ran.err
    assert run("receipt", "verify", name, "--strict").code == 1
    market.calls.redeem()
    whole = run("receipt", "verify", name, "-i", "x=1", "--content", "answer", "--strict")
    assert (whole.code, "open" in whole.err) == (0, False)
    told = run("receipt", "verify", name, "--json").json
    assert told["ok"] is True
    assert {"name", "result", "expected", "found"} == set(told["checks"][0])


def test_a_saved_receipt_is_verified_later(run: Run, echoing: str) -> None:
    run("call", echoing)
    text = run("receipt", "show", call_id(run)).out
    Path("kept.json").write_text(text)
    assert run("receipt", "verify", "kept.json").code == 0
    Path("forged.json").write_text(text.replace('"total": "10"', '"total": "9"'))
    forged = run("receipt", "verify", "forged.json")
    assert forged.code == 1
    assert "failed" in forged.out
    assert "signature" in forged.err
    assert run("receipt", "verify", "forged.json", "--json").json["ok"] is False
    Path("other.json").write_text("{}")
    assert run("receipt", "verify", "other.json").code == 2
    assert run("receipt", "verify", "nowhere.json").code == 2


# --- who pays ---------------------------------------------------------------------------------


def test_an_allowance_is_granted_listed_and_revoked(run: Run) -> None:
    ran = run("allowance", "grant", "2.5", "--time", "10d")
    digest = ran.out.strip()
    assert "may spend 2.5 TALLY" in ran.err
    assert "in force" in run("allowance", "list").out
    assert run("allowance", "revoke", digest).code == 0
    assert run("allowance", "list", "--json").json[0]["revoked"] is True
    assert run("allowance", "grant", "-1").code == 2
    assert run("allowance", "revoke", "0x1").code == 2


def test_a_key_may_be_made_for_calls(run: Run) -> None:
    assert run("key", "create", "bot", "--calls", "--json").json["scopes"] == [
        "tasks:read",
        "calls",
    ]


def test_the_clock_is_only_moved_by_sleeping(clock: Clock, run: Run, echoing: str) -> None:
    name = run("call", echoing, "--async").out.strip()
    run("calls", "result", name)
    assert 0 < sum(clock.slept) < 1


def test_an_app_is_called_by_its_name(run: Run, market: InMemoryMarket) -> None:
    assert run("allowance", "grant", "1").code == 0
    app = market.calls.publish(echo, name="echo")
    ran = run("call", "echo", "-i", "x=1")
    assert (ran.code, json.loads(ran.out)) == (0, {"x": 1})
    assert f"echo is {app}." in ran.err
    assert app not in run("call", app, "-i", "x=1").err
    twin = market.calls.publish(echo, name="echo")
    ran = run("call", "echo", "-i", "x=1")
    assert ran.code != 0
    assert app in ran.err
    assert twin in ran.err
    assert "Give the id, or PUBLISHER/NAME." in ran.err


def test_a_key_of_one_s_own_signs_for_calls(
    app: typer.Typer, market: InMemoryMarket, clock: Clock, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys" / "own.key"
    published = market.calls.publish(echo, price=Price(fee_per_call=10))

    def make_client(config: Config) -> GPUClient:
        return market.client(
            sleep=clock.sleep, own_key=config.own_key, own_key_file=config.own_key_file
        )

    def own(*words: str, code: int = 0) -> str:
        ran = CliRunner().invoke(app, [*words, "--own-key", str(key_file)], obj=make_client)
        assert ran.exit_code == code, ran.output
        return ran.output

    provider = market.providers[0].address
    assert "cannot be read" in own("call", published, "-i", "n=1", code=2)
    assert "Made a session key" in own("channel", "open", provider, "1")
    assert key_file.stat().st_mode & 0o077 == 0
    made = key_file.read_text()
    assert "Made a session key" not in own("channel", "open", provider, "1")
    assert key_file.read_text() == made
    assert "Charged" in own("call", published, "-i", "n=1")
    assert "Nothing waits" in own("channel", "sign")
    (view,) = [c for c in market.calls.made.values() if c.voucher is not None]
    assert view.voucher is not None
    assert view.voucher.voucher.total == 10
    channel = list(market.chain.funded)[-1]
    ran = CliRunner().invoke(app, ["channel", "fund", channel, "1"], obj=make_client)
    assert "Topped up" in ran.output
    assert market.chain.channels[channel].deposited == 2 * 10**18
