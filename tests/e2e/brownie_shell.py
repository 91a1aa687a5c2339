"""Many scripts in one Brownie: what `brownie run` does, without its five seconds of starting.

    with BrownieShell(rpc_url, deployments) as brownie:
        said = brownie.run("stake", key, "100")

The child process reads one request a line and answers one; a script runs by the same
function as for `brownie run`, with its own environment and its output caught. That the command line
itself works, the tests beside this one show.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]
PREFIX: Final = "TALLYSTICK_"


class ScriptRefused(Exception):
    """A script ended with exit status 1; the text is all it said."""


class BrownieShell:
    """One child process; its network is the chain at `rpc_url`."""

    def __init__(self, rpc_url: str, deployments: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._settings = {
            "TALLYSTICK_RPC_URL": rpc_url,
            "TALLYSTICK_DEPLOYMENTS": str(deployments),
        }
        # Brownie knows networks by name: the entry is made where it is missing.
        subprocess.run(
            [sys.executable, "scripts/support.py"], cwd=ROOT, env=kept, check=True, stdout=PIPE
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.brownie_shell"],
            cwd=ROOT,
            env={**kept, **self._settings},
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )

    def run(
        self, script: str, key: str, *arguments: str, function: str = "main", **settings: str
    ) -> str:
        """What the script said; raises `ScriptRefused` where the shell would see a failure."""
        request = {
            "script": script,
            "function": function,
            "arguments": arguments,
            "settings": {**self._settings, "TALLYSTICK_PRIVATE_KEY": key, **settings},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Brownie ended with status {self._process.wait()}: see above")
        answer = json.loads(line)
        if answer["status"]:
            raise ScriptRefused(answer["said"])
        return str(answer["said"])

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# --- in the child process ---------------------------------------------------------------------


def serve() -> None:
    from brownie import network, project

    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        loaded = project.load(ROOT)
        loaded.load_config()
        network.connect("tallystick")
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(answer_to(request)) + "\n")
        answers.flush()


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Status and words, as a shell would have them."""
    from brownie.project.scripts import run

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(request["settings"])
    said = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            run(request["script"], request["function"], request["arguments"])
        except SystemExit as ended:
            status = 1 if ended.code else 0
        except BaseException:
            traceback.print_exc()
            status = 1
    return {"status": status, "said": said.getvalue()}


if __name__ == "__main__":
    serve()
