"""Writes a new app project that works as it is."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from tallystick.errors import Conflict, InvalidRequest

FILES: Final = {
    "handler.py": "handler.py.txt",
    "tallystick.toml": "tallystick.toml.txt",
    "Dockerfile": "Dockerfile.txt",
    ".dockerignore": "dockerignore.txt",
    "test_handler.py": "test_handler.py.txt",
    "README.md": "README.md.txt",
}

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def write_project(name: str, directory: Path) -> list[Path]:
    """The files written. Nothing that is there is touched: raises `Conflict` and names it, before
    the first file is written."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot be the name of an app.",
            next_step="Use lower-case letters, digits and dashes, such as hello-gpu.",
        )
    in_the_way = [path for file in FILES if (path := directory / file).exists()]
    if in_the_way:
        raise Conflict(
            f"{', '.join(str(path) for path in in_the_way)} {_are(in_the_way)} there already, and "
            "nothing is overwritten.",
            next_step="Choose another name, another --dir, or move what is there away.",
        )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, template in FILES.items():
            path = directory / file
            with path.open("x", encoding="utf-8") as opened:
                opened.write(_text(template, name))
            written.append(path)
    except OSError as problem:
        raise Conflict(
            f"{problem.filename or directory} cannot be written: {problem.strerror or problem}.",
            next_step="Choose another --dir, or make room there.",
        ) from problem
    return written


def _text(template: str, name: str) -> str:
    source = resources.files("tallystick") / "templates" / "app" / template
    return Template(source.read_text(encoding="utf-8")).substitute(name=name)


def _are(paths: list[Path]) -> str:
    return "is" if len(paths) == 1 else "are"
