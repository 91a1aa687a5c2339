"""The program itself: what it says when something is missing, and that it stops when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tallystick.protocol import deployments
from tallystick.protocol.deployments import Deployment
from tallystick_backend.dispatch import nats_config
from tests.support.anvil import DISPATCHER, LocalChain

PROGRAM = [sys.executable, "-m", "tallystick_backend"]


def _run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], env=_environment(settings), capture_output=True, text=True, check=False
    )


def _environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TALLYSTICK_")}
    return kept | {f"TALLYSTICK_BACKEND_{name}": value for name, value in settings.items()}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "DISPATCHER_KEY_FILE"),
        ({"DISPATCHER_KEY": DISPATCHER.key}, "DEPLOYMENT"),
        ({"PORT": "many"}, "PORT"),
        ({"NATS_PASSWORD": "x"}, "NATS_PASSWORD"),
    ],
    ids=["no key", "no deployment", "a bad port", "an unknown name"],
)
def test_what_is_missing_is_a_sentence(settings: dict[str, str], named: str) -> None:
    done = _run("serve", **settings)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_bus_configuration_is_printed_without_secrets(tmp_path: Path) -> None:
    seed = json.loads(_run("nats-config", "--new-seed", "--json").stdout)["issuer_seed"]
    done = _run("nats-config", NATS_ISSUER_SEED=seed, NATS_URL="nats://127.0.0.1:4333")
    assert "4333" in done.stdout
    assert seed not in done.stdout


def test_migrate_makes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    done = _run("migrate", "--json", DATABASE_URL=f"sqlite+aiosqlite:///{path}")
    assert json.loads(done.stdout) == {"migrated": True}
    assert path.stat().st_size > 0


def test_it_serves_and_stops_when_told(
    chain: LocalChain, deployment: Deployment, tmp_path: Path
) -> None:
    place = tmp_path / "deployment.json"
    place.write_text(json.dumps(deployments.to_json(deployment)))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*PROGRAM, "serve"],
            env=_environment(
                {
                    "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/backend.db",
                    "RPC_URL": chain.url,
                    "DEPLOYMENT": str(place),
                    "NATS_URL": "nats://127.0.0.1:1",
                    "NATS_ISSUER_SEED": nats_config.new_issuer_seed(),
                    "DISPATCHER_KEY": DISPATCHER.key,
                    "BLOB_DIR": str(tmp_path / "blobs"),
                    "PORT": "0",
                    "LOG_LEVEL": "debug",
                }
            ),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for_line(tmp_path / "log", "backend_started", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
    text = (tmp_path / "log").read_text()
    assert "backend_stopped" in text
    assert "Traceback" not in text
    assert DISPATCHER.key[2:] not in text


def _wait_for_line(path: Path, word: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while word not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < until, path.read_text()
        time.sleep(0.05)
