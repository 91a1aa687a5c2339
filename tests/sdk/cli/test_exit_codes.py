"""The table of exit codes, row by row, and nonsense on every command: a sentence and a next step,
never a traceback."""

from __future__ import annotations

import re

import pytest

from tallystick import errors
from tallystick.cli import exits
from tallystick.testing import InMemoryMarket, Outcome
from tests.sdk.cli.conftest import Run

SUBMIT = ("submit", "train.py", "--gpu", "gpu1", "--time", "8h")
UNKNOWN = "0x" + "12" * 32


def test_0_done(run: Run, script: str) -> None:
    assert run(*SUBMIT, "--wait").code == 0


def test_1_the_task_failed(run: Run, market: InMemoryMarket, script: str) -> None:
    market.hold = "funded"
    task = run(*SUBMIT).out.strip()
    market.give_up(task, "no image")
    ran = run("task", "wait", task)
    assert (ran.code, "no image" in ran.out) == (1, True)
    assert run("task", "result", task).code == 1


def test_1_the_script_failed(run: Run, market: InMemoryMarket, script: str) -> None:
    market.work = lambda files, manifest: Outcome(exit_code=3)
    ran = run(*SUBMIT, "--to", "out", "--json")
    assert (ran.code, ran.json["exit_code"]) == (1, 3)


def test_1_the_backend_is_gone(run: Run, market: InMemoryMarket) -> None:
    market.drop(99)
    ran = run("task", "list")
    assert (ran.code, "did not answer" in ran.err) == (1, True)


def test_2_usage(run: Run) -> None:
    assert run("task", "nonsense").code == 2
    assert run("submit", "missing.py").code == 2


def test_3_refused_by_a_limit(run: Run, script: str) -> None:
    ran = run(*SUBMIT, "--max-price", "0.0001", "--json")
    assert ran.code == 3
    assert ran.json["error"]["code"] == "price_above_ceiling"
    assert ran.json["error"]["next_step"].startswith("Raise max_price")
    assert run("submit", "train.py", "--gpu", "h100").code == 3


def test_4_not_found(run: Run) -> None:
    for verb in ("show", "logs", "wait", "cancel", "result", "receipt", "explain", "accept"):
        ran = run("task", verb, UNKNOWN)
        assert ran.code == 4, verb
        assert "Check the id" in ran.err
    assert run("key", "revoke", "abcdef0123456789").code == 4


def test_5_payment_needed(run: Run) -> None:
    ran = run("wallet", "deposit", "100000")
    assert (ran.code, "holds 1000 TALLY" in ran.err) == (5, True)


def test_124_the_time_out_is_over(run: Run, market: InMemoryMarket, script: str) -> None:
    market.hold = "funded"
    task = run(*SUBMIT).out.strip()
    ran = run("task", "wait", task, "--timeout", "10s", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (124, "timed_out")
    assert run(*SUBMIT, "--wait", "--timeout", "10s").code == 124


def test_130_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.sync import GPUClient

    def interrupted(self: GPUClient, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GPUClient, "list_jobs", interrupted)
    ran = run("task", "list")
    assert (ran.code, "go on by themselves" in ran.err) == (130, True)


def test_a_fault_of_ours_is_said_to_be_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.sync import GPUClient

    monkeypatch.setattr(GPUClient, "list_jobs", lambda self, **options: 1 / 0)
    ran = run("task", "list")
    assert (ran.code, "fault of the program" in ran.err) == (1, True)
    assert "Traceback" in run("task", "list", "--verbose").err


def test_verbose_shows_the_trace_of_an_error(run: Run) -> None:
    ran = run("task", "show", "x", "--verbose")
    assert (ran.code, "Traceback" in ran.err) == (4, True)


def test_every_error_has_a_code_and_every_code_a_meaning() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    codes = {exits.exit_code(k("x")) for k in kinds if issubclass(k, errors.TallystickError)}
    assert codes | {exits.DONE, exits.INTERRUPTED} == set(exits.MEANINGS)
    written = {int(code) for code in re.findall(r"^\s*(\d+) ", exits.__doc__ or "", re.M)}
    assert written == set(exits.MEANINGS)


BAD_INPUT = [
    ("submit",),
    ("submit", "missing.py", "--gpu", "gpu1"),
    ("submit", ".", "--gpu", "gpu1"),
    ("submit", "train.py", "--gpu", "gpu1", "--count", "-1"),
    ("submit", "train.py", "--gpu", "gpu1", "--count", "0"),
    ("submit", "train.py", "--gpu", "gpu1", "--count", "1e9"),
    ("submit", "train.py", "--gpu", "gpu1", "--count", "1000000000"),
    ("submit", "train.py", "--gpu", "gpu1", "--count", "9" * 400),
    ("submit", "train.py", "--count", "4"),
    ("submit", "train.py", "--gpu", "../gpu1"),
    ("submit", "train.py", "--gpu", "gpu1", "--time", "8x"),
    ("submit", "train.py", "--gpu", "gpu1", "--time", ""),
    ("submit", "train.py", "--gpu", "gpu1", "--time", "999999999d"),
    ("submit", "train.py", "--gpu", "gpu1", "--max-price", "NaN"),
    ("submit", "train.py", "--gpu", "gpu1", "--max-price", "-1"),
    ("submit", "train.py", "--gpu", "gpu1", "--max-price", "1e400"),
    ("submit", "train.py", "--gpu", "gpu1", "--env", "NOVALUE"),
    ("submit", "train.py", "--gpu", "gpu1", "--env", "=x"),
    ("submit", "train.py", "--gpu", "gpu1", "--input", "nowhere"),
    ("submit", "train.py", "--gpu", "gpu1", "--name", "\x1b[31m"),
    ("submit", "train.py", "--gpu", "gpu1", "--memory", "-5"),
    ("submit", "train.py", "--gpu", "gpu1", "--wait", "--timeout", "soon"),
    ("submit", "--command", "sh -c 'unclosed"),
    ("task", "list", "--state", "done"),
    ("task", "list", "--limit", "0"),
    ("task", "list", "--limit", "many"),
    ("task", "wait", UNKNOWN, "--until", "never"),
    ("wallet", "deposit", "NaN"),
    ("wallet", "deposit", "-1"),
    ("wallet", "deposit", "0"),
    ("wallet", "deposit", "0.0000000000000000001"),
    ("wallet", "withdraw", "1", "--to", "0x12"),
    ("estimate", "8", "half", "4h"),
    ("estimate", "-8", "0.5", "4h"),
    ("estimate", "8", "0.5", "4y"),
    ("market", "offers", "--gpu", "gpu1", "--count", "0"),
    ("market", "offers", "--gpu", "gpu1", "--max-price", "inf"),
    ("key", "revoke", "../tasks"),
    ("config", "set", "private_key", "0x12"),
    ("config", "set", "url", "nowhere"),
    ("context", "use", "nowhere"),
    ("completion", "powershell"),
    ("--nonsense",),
]


@pytest.mark.parametrize("words", BAD_INPUT, ids=lambda words: " ".join(words)[:60])
def test_bad_input_is_usage(run: Run, script: str, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == exits.USAGE
    assert ran.out == ""
    assert len(ran.err.strip()) > 20


@pytest.mark.parametrize("task", ["", "x", "0x", "../../etc", "0x" + "z" * 64, UNKNOWN[:-1]])
@pytest.mark.parametrize("verb", ["show", "logs", "wait", "cancel", "result", "receipt"])
def test_an_id_that_is_none_is_not_found(run: Run, verb: str, task: str) -> None:
    ran = run("task", verb, task)
    assert (ran.code, "is no task id" in ran.err) == (exits.NOT_FOUND, True)


def test_the_same_without_a_file(run: Run) -> None:
    assert run("submit", "\0bad.py", "--gpu", "gpu1").code == exits.USAGE
