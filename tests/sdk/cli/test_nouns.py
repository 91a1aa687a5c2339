"""wallet, market, key, config, context and the commands at the root."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tallystick.cli import access
from tests.sdk.cli.conftest import Run


def test_wallet(run: Run) -> None:
    assert "1000 TALLY" in run("wallet", "balance").out
    told = run("wallet", "balance", "--json").json
    assert set(told) == {"address", "wallet", "available", "reserved", "credit"}
    assert told["available"] == {
        "units": "1000000000000000000000",
        "amount": "1000",
        "symbol": "TALLY",
    }
    assert set(run("wallet", "deposit", "2.5", "--json").json) == {"tx", "gas_used", "block"}
    assert run("wallet", "withdraw", "1").code == 0
    assert run("wallet", "balance", "--json").json["available"]["amount"] == "1001.5"
    assert run("wallet", "address").out.strip() == told["address"]


def test_wallet_create_never_overwrites(run: Run) -> None:
    made = run("wallet", "create", "--json").json
    path = Path(made["key_file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made["address"].startswith("0x")
    key = path.read_text()
    again = run("wallet", "create")
    assert (again.code, "never overwritten" in again.err) == (2, True)
    assert path.read_text() == key
    assert run("config", "show", "--json").json["private_key"] == "set"
    assert key.strip() not in run("config", "show").out


def test_market(run: Run) -> None:
    offers = run("market", "offers", "--gpu", "gpu1", "--count", "4", "--max-price", "0.55")
    assert "0.5 " in offers.out
    assert "process (simulated)" in offers.out
    told = run("market", "offers", "--gpu", "gpu1", "--json").json
    assert {"provider", "price_per_gpu_hour", "eligible", "reason", "detail"} <= set(told[0])
    assert run("market", "providers").out.count("0x") == 2
    assert len(run("market", "providers", "--json").json) == 2
    assert len(run("market", "gpus", "--json").json) == 16
    assert "Simulated GPU (simulated)" in run("market", "gpus").out
    assert "market gpus" in run("market", "offers", "--gpu", "h100").err


def test_key(run: Run) -> None:
    made = run("key", "create", "ci", "--write", "--json").json
    assert made["scopes"] == ["tasks:read", "tasks:write"]
    assert made["secret"] not in run("key", "list").out
    assert run("key", "list", "--json").json[0]["secret"] is None
    assert run("key", "revoke", made["id"]).code == 0
    assert "key create" in run("key", "list").err


def test_config_and_context(run: Run) -> None:
    assert run("config", "set", "url", "http://a:1", "--context", "one").code == 0
    assert run("config", "set", "url", "http://b:2", "--context", "two").code == 0
    assert run("config", "show", "--json").json["url"] == "http://a:1"
    assert run("context", "use", "two").code == 0
    assert run("config", "show", "--json").json["url"] == "http://b:2"
    assert run("config", "show", "--url", "http://c:3", "--json").json["url"] == "http://c:3"
    assert run("config", "show", "--context", "one", "--json").json["url"] == "http://a:1"
    listed = run("context", "list", "--json").json
    assert [(row["name"], row["current"]) for row in listed] == [("one", False), ("two", True)]
    assert "*" in run("context", "list").out
    assert run("context", "remove", "two").code == 0
    assert len(run("context", "list", "--json").json) == 1


def test_login_whoami_version(run: Run) -> None:
    assert "Logged in" in run("login").err
    assert {"address", "url", "chain_id", "escrow"} <= set(run("whoami", "--json").json)
    assert run("version").out.startswith("tallystick ")


@pytest.mark.parametrize(
    ("words", "cost"),
    [
        (("8", "0.5", "4h"), "16"),
        (("1", "0.379", "720h"), "272.88"),
        (("1", "1.3176", "10s"), "0.00366"),
        (("10", "1", "10h"), "100"),
    ],
)
def test_estimate(run: Run, words: tuple[str, ...], cost: str) -> None:
    assert run("estimate", *words).out == f"{cost}\n"
    assert run("estimate", *words, "--json").json["cost"] == cost


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    assert "_TALLYSTICK_COMPLETE" in run("completion", shell).out


def test_every_help_text_is_there_and_names_the_shared_options(run: Run) -> None:
    from typer.main import get_command

    from tallystick.cli.app import build

    assert access.__doc__

    def walk(command: object, path: tuple[str, ...]) -> None:
        ran = run(*path, "--help")
        assert ran.code == 0
        children = getattr(command, "commands", None)
        if children is None:
            assert getattr(command, "help", None), path
            for option in ("--json", "--verbose", "--context", "--url"):
                assert option in ran.out, path
            return
        for name, child in children.items():
            walk(child, (*path, name))

    walk(get_command(build()), ())
