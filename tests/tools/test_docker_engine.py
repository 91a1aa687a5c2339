"""Where no engine can be had, the script says why and answers 3: tests skip with that reason."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "docker-engine"


def engine(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_status_without_an_engine(tmp_path: Path) -> None:
    reply = engine("status", DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")

    assert (reply.returncode, reply.stdout) == (3, "docker-engine: no engine answers\n")


@pytest.mark.parametrize("arguments", [[], ["restart"]])
def test_other_words_show_the_usage(arguments: list[str]) -> None:
    reply = engine(*arguments)

    assert reply.returncode == 2
    assert "tools/docker-engine start" in reply.stdout
