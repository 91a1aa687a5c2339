"""`tallystick task ...` and the alias `tallystick submit`, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.protocol.signatures import address_of
from tallystick.testing import InMemoryMarket, Outcome
from tests.sdk.cli.conftest import Run

SUBMIT = ("submit", "train.py", "--gpu", "gpu1", "--count", "4", "--time", "8h")


@pytest.mark.parametrize("words", [SUBMIT, ("task", *SUBMIT)], ids=["alias", "noun and verb"])
def test_submit_prints_the_id_alone(run: Run, script: str, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == 0
    assert ran.out.startswith("0x")
    assert len(ran.out) == 67
    assert "at most 19.1" in ran.err
    assert "0.6 per GPU-hour" in ran.err


def test_submit_json(run: Run, script: str) -> None:
    told = run(*SUBMIT, "--json", "--name", "first", "--max-price", "0.5").json
    assert set(told) == {
        "id",
        "name",
        "gpu_class",
        "gpus",
        "max_seconds",
        "price_per_gpu_hour",
        "max_charge",
        "secured",
        "created_tx",
        "not_sealed_to",
    }
    assert (told["name"], told["gpus"], told["max_seconds"]) == ("first", 4, 28_800)
    assert set(told["max_charge"]) == {"units", "amount", "symbol"}


def test_submit_warns_of_a_provider_whose_sealing_key_is_not_its_own(
    run: Run, market: InMemoryMarket, script: str
) -> None:
    victim = market.providers[0]
    del market.chain.operator_keys[address_of(victim.operator_key).lower()]
    ran = run(*SUBMIT)
    assert ran.code == 0
    assert "Warning: no input key was sealed" in ran.err
    assert victim.address in ran.err


def test_submit_refuses_when_no_sealing_key_is_a_providers(
    run: Run, market: InMemoryMarket, script: str
) -> None:
    market.chain.operator_keys.clear()
    ran = run(*SUBMIT)
    assert ran.code != 0
    assert "sealed to nobody" in ran.err


def test_submit_takes_all_it_is_given(run: Run, script: str) -> None:
    Path("data.csv").write_text("1")
    ran = run(
        *("submit", "train.py", "--gpu", "gpu1", "--time", "10m", "--input", "data.csv"),
        *("--env", "SEED=7", "--env", "EMPTY=", "--image", "x@sha256:1", "--unsecured"),
        *("--to", "out", "--json", "--", "--epochs", "3"),
    )
    assert ran.code == 0
    assert ran.json["files"] == ["out/echo.json", "tallystick.json"]
    assert '"--epochs"' in Path("out/out/echo.json").read_text()
    assert "data.csv" in Path("out/out/echo.json").read_text()


def test_submit_a_command_instead_of_a_script(run: Run) -> None:
    ran = run("submit", "--command", "sh -c 'echo hi'", "--wait", "--json")
    assert (ran.code, ran.json["state"]) == (0, "finished")


def test_a_task_from_list_to_receipt(run: Run, market: InMemoryMarket, script: str) -> None:
    task = run(*SUBMIT).out.strip()
    assert task in run("task", "list").out
    assert [found["id"] for found in run("task", "list", "--json").json] == [task]
    shown = run("task", "show", task)
    assert "finished" in shown.out
    assert "simulated" in shown.out
    assert run("task", "wait", task, "--json").json["percent"] == 100
    assert run("task", "logs", task).out == "echo: python /task/in/train.py\n"
    assert run("task", "logs", task, "-f", "--json").lines[0]["stream"] == "stdout"
    checked = run("task", "receipt", task)
    assert "signature, order, times and price hold" in checked.out
    assert set(run("task", "receipt", task, "--json").json) >= {"digest", "charge", "receipt"}
    assert run("task", "explain", task).code == 0
    assert run("task", "explain", task, "--json").json["offers"][0]["eligible"] is True
    fetched = run("task", "result", task, "--to", "out", "--json")
    assert (fetched.code, fetched.json["accepted"]) == (0, True)
    assert run("task", "wait", task, "--until", "settled", "--json").json["state"] == "settled"
    watched = run("task", "watch", task)
    assert "echo: python" in watched.out
    assert "settled" in watched.out


def test_wait_says_how_to_go_on(run: Run, script: str) -> None:
    assert "tallystick task result 0x" in run(*SUBMIT, "--wait").err


def test_accept_without_fetching(run: Run, script: str) -> None:
    task = run(*SUBMIT).out.strip()
    ran = run("task", "accept", task)
    assert (ran.code, "Accepted:" in ran.err) == (0, True)


def test_cancel_and_reclaim(run: Run, market: InMemoryMarket, clock: object, script: str) -> None:
    market.hold = "funded"
    task = run(*SUBMIT).out.strip()
    assert run("task", "cancel", task, "--json").json["state"] == "cancelled"
    early = run("task", "reclaim", task)
    assert (early.code, "can be proven until" in early.err) == (1, True)
    assert run("task", "wait", task).code == 1


def test_an_empty_list_says_what_to_do(run: Run) -> None:
    ran = run("task", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "tallystick submit" in ran.err
    assert run("task", "list", "--json").json == []


def test_a_strangers_text_cannot_move_the_cursor_or_pose_as_markup(
    run: Run, market: InMemoryMarket, script: str
) -> None:
    market.work = lambda files, manifest: Outcome(
        log="\x1b[2J\x1b]0;owned\x07red \x1b[31m[bold]x[/bold]\u202e\r\n"
    )
    task = run(*SUBMIT).out.strip()
    run("task", "wait", task)
    assert run("task", "logs", task).out == "red [bold]x[/bold]\n"
    assert run("task", "logs", task, "--json").lines[0]["text"].startswith("\x1b[2J")


@pytest.mark.parametrize("words", [("task", "logs"), ("task", "show"), ("task", "result")])
def test_json_and_words_never_mix(run: Run, script: str, words: tuple[str, ...]) -> None:
    task = run(*SUBMIT).out.strip()
    ran = run(*words, task, "--json")
    assert ran.code == 0
    assert ran.out.lstrip().startswith("{")
    assert ran.err == ""
