"""Where a program writes its log: a line that cannot be written is lost, and nothing else is.

A full disk, or whoever read the log and ended, must not end a program that holds money.
"""

from __future__ import annotations

import contextlib
from typing import Final, TextIO

__all__ = ["LogStream"]


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
