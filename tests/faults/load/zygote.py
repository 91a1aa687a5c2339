"""Starts programs by forking a process that has imported everything: a start costs milliseconds.

What is started is the product's own program in a process of its own, with its own environment and
log; only its modules were read before. Asked over its standard input, one JSON line each.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.devnet.processes import Running, Service, clean_environment
from tests.faults.load.marks import Board, bend_clock, mark

_CLONE_NEWNET = 0x4000_0000


class Zygote:
    """The near end. One for each program, as its marks are put in before it forks."""

    def __init__(self, program: str, board: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.load.zygote", program, str(board)],
                cwd=Path(__file__).resolve().parents[3],
                env=clean_environment({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def start(
        self, name: str, env: Mapping[str, str], cwd: Path, log: Path, namespace: str = ""
    ) -> Running:
        """`namespace` is the network namespace it lives in, as `ip netns` knows it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        asked = {"name": name, "env": clean_environment(env), "cwd": str(cwd), "log": str(log)}
        asked["namespace"] = namespace
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError("the zygote is gone; its log says why")
        return Running.of(int(answer))

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=10)


class Forked(Service):
    """A service of the market that is started so."""

    zygote: Zygote
    namespace: str = ""

    def start(self) -> None:
        self.running = self.zygote.start(self.name, self.env, self.cwd, self.log, self.namespace)
        self.on_start(self.running)


def main() -> None:
    program, board = sys.argv[1], Board(Path(sys.argv[2]))
    run = _program(program)
    mark(program, board)  # type: ignore[arg-type]
    # Whoever dies is forgotten at once; nobody asks how.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
            bend_clock(asked["name"], board)
            run()
            os._exit(0)
        print(pid, flush=True)


def _program(name: str) -> Any:
    if name == "backend":
        from tallystick_backend.__main__ import cli

        return lambda: cli(["serve"])
    if name == "provider":
        from tallystick_provider.__main__ import app

        return lambda: app(["start"])
    from tests.faults.load import consumer

    return consumer.main


def _become(asked: dict[str, Any]) -> None:
    os.setsid()
    if asked["namespace"]:
        _enter(Path("/run/netns") / asked["namespace"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])


def _enter(namespace: Path) -> None:
    """os.setns comes with Python 3.12."""
    with namespace.open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


if __name__ == "__main__":
    main()
