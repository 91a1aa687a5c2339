"""What runs in an app's container: a handler, and the one server that answers its calls.

    from tallystick.app import handler

    @handler
    def greet(name: str, times: int = 1) -> dict[str, str]:
        return {"greeting": "hello " * times + name}

`python -m tallystick.app serve` reads `tallystick.toml` and answers `POST /call` with it, and
`tallystick app serve` does the same on your machine. A handler is a function like any other: a test
calls it without a server. Nothing here needs more than the standard library until one starts.
"""

from __future__ import annotations

from tallystick.app.context import Call, current_call
from tallystick.app.declare import handler
from tallystick.app.outputs import Answer
from tallystick.app.problems import InputRefused

__all__ = ["Answer", "Call", "InputRefused", "current_call", "handler"]
