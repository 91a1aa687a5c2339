"""Examples run; a command line shown in the documentation is one that exists."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tallystick.cli.app import build
from tallystick.testing import InMemoryMarket, run_script
from tests.sdk.conftest import Clock

ROOT = Path(__file__).resolve().parents[2]


def test_first_task(clock: Clock, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("first_task", ROOT / "examples/first_task.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    market = InMemoryMarket(work=run_script, now=clock)
    with market.client(sleep=clock.sleep) as client:
        assert example.main(client, tmp_path) == "42"


def test_the_app_answers_over_http(tmp_path: Path) -> None:
    """The example app as `tallystick app serve` runs it; what it refuses is refused."""
    place = ROOT / "examples" / "digits_app"

    def served(*inputs: str) -> subprocess.CompletedProcess[str]:
        words = ["app", "serve", "--dir", str(place), *inputs]
        run = [sys.executable, "-m", "tallystick.cli", *words]
        return subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)

    seven = served("-i", f"@{place / 'seven.json'}")
    assert seven.returncode == 0, seven.stderr
    assert json.loads(seven.stdout)["digit"] == 7
    few = served("-i", "pixels=[1, 2]")
    assert (few.returncode, few.stdout) == (2, "")
    assert "At $.pixels: it has less than 64 items" in few.stderr


def shown_commands() -> Iterator[Any]:
    """Every line of a code block that begins with `tallystick`."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if page.name == "cli.md":
            continue
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.splitlines():
                if line.startswith("tallystick "):
                    yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(shown_commands()))
def test_a_command_shown_in_the_documentation_exists(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(build())
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{words[0]} is no command: {line}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    given = words[: words.index("--")] if "--" in words else words
    for word in given:
        if word.startswith("-"):
            assert word.split("=")[0] in known, f"{word} is no option of {line}"
