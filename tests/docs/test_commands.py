"""What the pages tell people to type exists.

├── make targets
├── brownie scripts and their functions
├── commands and options of tallystick, tallystick-backend, tallystick-provider
├── environment variables
└── paths of this repository
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tallystick import config
from tallystick.cli.app import build
from tallystick_backend import __main__ as backend
from tallystick_backend import settings as backend_settings
from tallystick_provider import __main__ as provider
from tallystick_provider import settings as provider_settings
from tests.docs.pages import ROOT, everything_shown, markdown_pages, text_of

PROGRAMS: dict[str, Any] = {
    "tallystick": typer.main.get_command(build()),
    "tallystick-backend": typer.main.get_command(backend.cli),
    "tallystick-provider": typer.main.get_command(provider.app),
}
VARIABLE = re.compile(r"\bTALLYSTICK_[A-Z0-9_]*[A-Z0-9]\b")
TOP = tuple(
    f"{folder}/"
    for folder in (
        *("backend", "benchmarks", "contracts", "docs", "examples"),
        *("provider", "scripts", "sdk", "tests", "tools"),
    )
)
NOT_COMMITTED = ("sdk/tallystick/protocol/deployments/",)
"""Written by `brownie run deploy`."""


def shown(pattern: str) -> Iterator[Any]:
    for page, code in everything_shown():
        if re.match(pattern, code):
            yield pytest.param(code, id=f"{page}: {code[:60]}")


# --- make -------------------------------------------------------------------------------------


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", text_of("Makefile"), re.M))
    for page, code in everything_shown():
        for target in re.findall(r"(?:^|[;&]\s*)make ([a-z][a-z0-9-]*)", code):
            assert target in targets, f"{page}: make has no target {target!r}"


# --- brownie ----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", list(shown(r"(\.venv/bin/)?brownie run ")))
def test_brownie_scripts_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    script = ROOT / "scripts" / f"{words[2]}.py"
    assert script.exists(), f"no {script.name} in scripts/"
    functions = {
        node.name
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    function = words[3] if len(words) > 3 and not words[3].startswith("--") else "main"
    assert function in functions, f"{script.name} has no {function}()"
    assert set(re.findall(r"--[a-z-]+", line)) <= {"--network"}


# --- our programs -----------------------------------------------------------------------------


@pytest.mark.parametrize("line", list(shown(r"(\.venv/bin/)?tallystick(-backend|-provider)?( |$)")))
def test_commands_exist(line: str) -> None:
    line = re.split(r"\s[>|&;]", line)[0]
    words = shlex.split(line, comments=True)
    command = PROGRAMS[words.pop(0).removeprefix(".venv/bin/")]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if re.fullmatch(r"[A-Z]+|\.\.\.", words[0]):
            return  # NOUN VERB, or any of them
        names = re.split(r"[|,]", words.pop(0))
        unknown = set(names) - set(command.commands)
        assert not unknown, f"{', '.join(unknown)}: no command in {line!r}"
        command = command.commands[names[0]]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    given = words[: words.index("--")] if "--" in words else words
    for word in (w.strip("[]") for w in given):
        if word.startswith("-"):
            option = word.split("=")[0]
            assert option in known | {"--help", "--verbose"}, f"no option {option} in {line!r}"


# --- environment ------------------------------------------------------------------------------


def settings_of_the_programs() -> set[str]:
    return {
        f"{module.PREFIX}{field.upper()}"
        for module in (backend_settings, provider_settings)
        for field in module.Settings.model_fields
    }


def known_variables() -> set[str]:
    """Settings of the three programs, and what scripts, tasks and tools read or set by name."""
    names = settings_of_the_programs() | {f"TALLYSTICK_{f.upper()}" for f in config.SETTABLE}
    for place in ("scripts", "sdk", "backend", "provider", "tools", "examples"):
        for path in (ROOT / place).rglob("*.py"):
            names |= set(VARIABLE.findall(path.read_text(encoding="utf-8")))
    return names


def test_environment_variables_exist() -> None:
    known = known_variables()
    for page in markdown_pages():
        unknown = set(VARIABLE.findall(text_of(page))) - known
        assert not unknown, f"{page} names {', '.join(sorted(unknown))}: nothing reads it"


def test_a_variable_with_a_programs_prefix_is_one_of_its_settings() -> None:
    for page in markdown_pages():
        named = re.findall(r"\bTALLYSTICK_(?:BACKEND|PROVIDER)_[A-Z_]*[A-Z]\b", text_of(page))
        unknown = set(named) - settings_of_the_programs()
        assert not unknown, f"{page}: {', '.join(sorted(unknown))}: no setting"


# --- paths ------------------------------------------------------------------------------------


def test_paths_exist() -> None:
    for page, code in everything_shown():
        for word in code.split():
            path = word.strip("(),;:'\"")
            if not path.startswith(TOP) or re.search(r"[<>*{}]|\.\.\.", path):
                continue
            if path.startswith(NOT_COMMITTED):
                continue
            here = [ROOT / path, (ROOT / page).parent / path]
            assert any(place.exists() for place in here), f"{page}: there is no {path}"
