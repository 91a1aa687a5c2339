"""What a program says of itself, and where it writes it.

A line that cannot be written is lost, and nothing else is: a full disk, or whoever read the log and
ended, must not end a program that holds money. Addresses are told without what may be a secret in
them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

__all__ = ["LogStream", "strike_secrets", "without_secrets"]

_SECRET_NAMES: Final = re.compile(
    r"secret|token|password|private|seed|signature|authorization", re.IGNORECASE
)

# Up to the last @, for a password may hold anything, another @ included.
_ADDRESS: Final = re.compile(
    r"\b(?!unix:|file:)([a-z][a-z0-9+.-]{0,30}://)(?:[^\s'\"]*@)?([^\s'\"/?#]*)([/?#][^\s'\"]+)?",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """With scheme, host and port of each address in it, and no more: `user:password@` goes, and so
    do path and query, where services for RPC and storage have their keys."""
    return _ADDRESS.sub(lambda at: at[1] + at[2] + ("/(struck out)" if at[3] else ""), text)


def strike_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For structlog, after exceptions were made text: no field that is called a secret, and of
    addresses what `without_secrets` leaves."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "(struck out)"
        elif isinstance(value, str):
            event[name] = without_secrets(value)
    return event


class LogStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
