"""Many scripts in one Brownie: what `brownie run` does, without its seconds of starting.

    with Scripts(rpc_url, deployments, log, chain_id=31337) as scripts:
        said = scripts.run("stake", key, "100").said

The child process is scripts/shell.py. It ends with its standard input, so with whoever started it,
however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Self

from tallystick.devnet.processes import DevnetError, clean_environment


def checkout() -> Path:
    """The repository this package was installed from; the contracts and scripts live there."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "brownie-config.yaml").exists():
        raise DevnetError(
            "The local market needs the repository: contracts and scripts are not in the package.",
            next_step="Clone it, run `make setup`, and use `.venv/bin/tallystick` from there.",
        )
    return root


@dataclass(frozen=True, slots=True)
class Ran:
    """Exit status and words of a script, as a shell would have them."""

    status: int
    said: str


class Scripts:
    """One child process; its network is the chain at `rpc_url`."""

    def __init__(self, rpc_url: str, deployments: Path, log: Path, *, chain_id: int) -> None:
        self._settings = {
            "TALLYSTICK_RPC_URL": rpc_url,
            "TALLYSTICK_DEPLOYMENTS": str(deployments),
        }
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scripts.shell", rpc_url, str(chain_id)],
                cwd=checkout(),
                env=clean_environment(self._settings),
                stdin=PIPE,
                stdout=PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def run(
        self, script: str, key: str, *arguments: str, function: str = "main", **settings: str
    ) -> Ran:
        """Runs `function` of scripts/<script>.py with the account of `key`.

        Raises `DevnetError` when Brownie itself is gone; what a script refuses is in the answer.
        """
        request = {
            "script": script,
            "function": function,
            "arguments": arguments,
            "settings": {**self._settings, "TALLYSTICK_PRIVATE_KEY": key, **settings},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            last = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
            raise DevnetError(
                f"Brownie ended with status {status} at scripts/{script}.py.\n{last}",
                next_step=f"The whole log is in {self._log}.",
            )
        return Ran(**json.loads(line))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
