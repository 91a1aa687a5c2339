"""What a program says of itself, and where it writes it.

A line that cannot be written is lost, and nothing else is: a full disk, or whoever read the log and
ended, must not end a program that holds money. Addresses are told without what may be a secret in
them.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final, TextIO

__all__ = ["LogStream", "without_secrets"]

# Up to the last @, for a password may hold anything, another @ included.
_ADDRESS: Final = re.compile(
    r"\b(?!unix:|file:)([a-z][a-z0-9+.-]*://)(?:[^\s'\"]*@)?([^\s'\"/?#]*)([/?#][^\s'\"]+)?",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """With scheme, host and port of each address in it, and no more: `user:password@` goes, and so
    do path and query, where services for RPC and storage have their keys."""
    return _ADDRESS.sub(lambda at: at[1] + at[2] + ("/(struck out)" if at[3] else ""), text)


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
