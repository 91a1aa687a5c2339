"""The set-up refuses early and says what to install."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH with only what a shell script cannot do without."""
    for command in ("bash", "dirname", "env", "sed"):
        found = shutil.which(command)
        assert found is not None
        (tmp_path / command).symlink_to(found)
    return tmp_path


def put(machine: Path, command: str, script: str = "exit 0") -> None:
    path = machine / command
    path.write_text(f"#!{machine}/bash\n{script}\n")
    path.chmod(0o755)


def prerequisites(machine: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", ROOT / "tools" / "bootstrap", "prerequisites"],
        env={"PATH": str(machine)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("missing", ["git", "make"])
def test_a_missing_command_is_named(machine: Path, missing: str) -> None:
    for command in {"git", "make"} - {missing}:
        put(machine, command)

    reply = prerequisites(machine)

    assert reply.returncode == 1
    assert reply.stderr == f"setup: {missing} is missing: apt-get install {missing}\n"


def test_no_python_at_all(machine: Path) -> None:
    put(machine, "git")
    put(machine, "make")

    reply = prerequisites(machine)

    assert reply.returncode == 1
    assert "Python is missing: apt-get install python3 python3-venv" in reply.stderr


def test_an_old_python_is_named_with_its_version(machine: Path) -> None:
    put(machine, "git")
    put(machine, "make")
    # It prints its version, and fails the comparison with 3.11.
    put(machine, "python3", "[[ $2 == *print* ]] && echo 3.9 || exit 1")

    reply = prerequisites(machine)

    assert reply.returncode == 1
    assert "Python 3.9 is too old: install Python 3.11 or newer" in reply.stderr


def test_a_python_without_venv_is_named(machine: Path) -> None:
    put(machine, "git")
    put(machine, "make")
    put(machine, "python3", "[[ $2 == *ensurepip* ]] && exit 1; echo 3.11")

    reply = prerequisites(machine)

    assert reply.returncode == 1
    assert "python3 has no venv module: apt-get install python3-venv" in reply.stderr


def test_a_complete_machine_passes_silently(machine: Path) -> None:
    for command in ("git", "make", "python3"):
        put(machine, command)

    reply = prerequisites(machine)

    assert (reply.returncode, reply.stdout, reply.stderr) == (0, "", "")
