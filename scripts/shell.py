"""Many scripts in one Brownie: what `brownie run` does, without its seconds of starting.

    python -m scripts.shell http://127.0.0.1:8545 31337

One request a line on standard input, one answer a line on standard output, until the input ends:

    {"script": "stake", "function": "main", "arguments": ["100"], "settings": {...}}
    {"status": 0, "said": "..."}

Each script sees the settings of its request and no others that begin with TALLYSTICK_. It is
imported by its name; `brownie run` makes a module's name of its path, and so fails in a checkout
with a dot in its path.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from typing import Any

from scripts.support import ROOT

PREFIX = "TALLYSTICK_"
NETWORK = {"id": "local", "name": "Local market", "timeout": 30}


def serve(host: str, chain_id: int) -> None:
    from brownie import network, project
    from brownie._config import CONFIG

    answers = sys.stdout
    # Of this process only: an entry in the user's own list would outlive the chain.
    CONFIG.networks["local"] = {**NETWORK, "host": host, "chainid": chain_id}
    with contextlib.redirect_stdout(sys.stderr):
        loaded = project.load(ROOT)
        loaded.load_config()
        network.connect("local")
    for line in sys.stdin:
        answers.write(json.dumps(answer_to(**json.loads(line))) + "\n")
        answers.flush()


def answer_to(
    script: str, function: str, arguments: list[str], settings: dict[str, str]
) -> dict[str, Any]:
    """Exit status and words, as a shell would have them."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(settings)
    said = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            getattr(importlib.import_module(f"scripts.{script}"), function)(*arguments)
        except SystemExit as ended:
            status = 1 if ended.code else 0
        except BaseException:
            traceback.print_exc()
            status = 1
    return {"status": status, "said": said.getvalue()}


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
