"""tallystick-provider
├── doctor, status, drain: people's tables, and one JSON document with --json
├── exit codes: 0 fine, 1 something is wrong, 2 the settings are
└── two agents never share a journal
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from tallystick_provider.__main__ import _is_running, _only_one, _set_up_log, app
from tallystick_provider.agent import DRAINING
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import SettingsError
from tallystick_provider.journal import Journal
from tallystick_provider.settings import PREFIX
from tests.provider.orders import NOW_S, offer_of
from tests.provider.test_journal import receipt_of, sign_it

RUN = CliRunner()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "ADDRESS": "0x" + "11" * 20,
        "KEY_FILE": str(tmp_path / "operator.key"),
        "DATA_DIR": str(tmp_path / "data"),
        "RATE": "gpu1=1",
        "GPUS": "none",
        "RUNTIME": "process",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    return tmp_path / "data"


@pytest.fixture
def journal(data_dir: Path) -> Journal:
    return Journal(data_dir / "journal.sqlite", ManualClock(NOW_S * 1000))


def test_status_shows_what_is_in_hand_and_what_it_was_worth(
    journal: Journal, data_dir: Path
) -> None:
    lease = journal.accept(offer_of(), ("GPU-0",), 1)
    signed = sign_it(journal, lease, receipt_of(lease))
    told = RUN.invoke(app, ["status", "--json"])
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["running"] is False
    (task,) = facts["tasks"]
    assert task["stage"] == "signed"
    assert task["charge"] == str(signed.receipt.total)
    assert task["receipt"] == signed.digest
    shown = RUN.invoke(app, ["status"])
    assert lease.task_id[:12] in shown.stdout
    assert "not running" in shown.stdout


def test_drain_is_told_to_the_agent_through_the_journal(journal: Journal, data_dir: Path) -> None:
    journal.accept(offer_of(), (), 1)
    told = RUN.invoke(app, ["drain", "--json"])
    assert json.loads(told.stdout) == {"draining": True, "in_hand": 1}
    assert journal.meta(DRAINING) == "1"
    assert json.loads(RUN.invoke(app, ["status", "--json"]).stdout)["draining"] is True
    assert RUN.invoke(app, ["drain", "--undo"]).exit_code == 0
    assert journal.meta(DRAINING) == "0"


def test_status_before_the_first_start_says_so(data_dir: Path) -> None:
    told = RUN.invoke(app, ["status"])
    assert told.exit_code == 1
    assert "run tallystick-provider start first" in told.stderr


def test_doctor_answers_programs_too(data_dir: Path) -> None:
    told = RUN.invoke(app, ["doctor", "--json"])
    assert told.exit_code == 1
    facts = json.loads(told.stdout)
    assert facts["ok"] is False
    key = next(finding for finding in facts["findings"] if finding["name"] == "operator key")
    assert "chmod 600" in key["fix"]


def test_doctor_shows_a_table_with_fixes(data_dir: Path) -> None:
    told = RUN.invoke(app, ["doctor"])
    assert told.exit_code == 1
    assert "operator key" in told.stdout


@pytest.mark.parametrize("command", ["start", "status", "drain"])
def test_missing_settings_are_named_with_their_own_exit_code(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = RUN.invoke(app, [command])
    assert told.exit_code == 2
    assert "TALLYSTICK_PROVIDER_ADDRESS is not set" in told.stderr
    assert "Traceback" not in told.output


def test_start_without_a_key_says_what_to_do(data_dir: Path) -> None:
    told = RUN.invoke(app, ["start"])
    assert told.exit_code == 1
    assert "TALLYSTICK_PROVIDER_KEY_FILE" in told.stderr


def test_two_agents_never_share_a_journal(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick_provider.__main__.LOCK_WAIT_S", 0.1)
    with _only_one(data_dir):
        assert _is_running(data_dir)
        with pytest.raises(SettingsError, match="already runs"), _only_one(data_dir):
            pass
    assert not _is_running(data_dir)


def test_what_a_dead_agent_left_starting_is_waited_for(data_dir: Path) -> None:
    """Case 93: its child has the lock until it becomes another program."""
    data_dir.mkdir(parents=True)
    with (data_dir / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(["sleep", "0.3"], pass_fds=[lock.fileno()])
    with _only_one(data_dir):
        assert child.poll() is not None
    assert not _is_running(data_dir)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_in_the_log_shows_no_secret(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case 136: neither local variables, as the console would by default, nor addresses."""
    before = structlog.get_config()
    key = "LOCAL" + "SECRET"
    _set_up_log(as_json)
    try:
        raise OSError("no answer from https://rpc.example/v2/PATHSECRET")
    except OSError:
        structlog.get_logger().exception("broke", length=len(key))
    finally:
        structlog.configure(**before)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "https://rpc.example/" in said
    assert "LOCALSECRET" not in said
    assert "PATHSECRET" not in said
