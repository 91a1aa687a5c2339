"""What the made-up providers do with a task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tallystick.protocol.wire import Manifest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves: files below out/, its log, how it ended."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    log: str = ""
    exit_code: int = 0


Work = Callable[[Mapping[str, bytes], Manifest], Outcome]
"""From the input files and the manifest to an outcome; may block, it runs in a thread."""


def echo(files: Mapping[str, bytes], manifest: Manifest) -> Outcome:
    """Runs nothing: tells what it was given."""
    told = {
        "command": list(manifest.command),
        "inputs": {name: len(content) for name, content in sorted(files.items())},
    }
    return Outcome(
        files={"echo.json": json.dumps(told, indent=2).encode()},
        log=f"echo: {' '.join(manifest.command)}\n",
    )


def run_script(files: Mapping[str, bytes], manifest: Manifest) -> Outcome:
    """Really runs the command on this machine, without any isolation: only for your own code."""
    with tempfile.TemporaryDirectory(prefix="tallystick-task-") as place:
        root = Path(place)
        for folder in ("in", "out", "work"):
            (root / folder).mkdir()
        for name, content in files.items():
            target = root / "in" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        ended = subprocess.run(
            [_word(word, root) for word in manifest.command],
            cwd=root / "work",
            env={
                **os.environ,
                **manifest.env,
                "TALLYSTICK_INPUT": str(root / "in"),
                "TALLYSTICK_OUTPUT": str(root / "out"),
                "TALLYSTICK_GPU_IDS": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        made = {
            file.relative_to(root / "out").as_posix(): file.read_bytes()
            for file in sorted((root / "out").rglob("*"))
            if file.is_file()
        }
        return Outcome(files=made, log=ended.stdout, exit_code=ended.returncode)


def _word(word: str, root: Path) -> str:
    if word == "python":
        return sys.executable
    return word.replace("/task/", f"{root}/", 1) if word.startswith("/task/") else word
