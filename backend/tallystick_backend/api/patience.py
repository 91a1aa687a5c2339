"""How long a body is waited for: a pause may be so long, and all the waiting together only so much
longer as bytes came. One byte a minute holds nothing open for days."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.types import Message, Receive

from tallystick_backend.api.refusals import BodyTooSlow

LEAST_BYTES_PER_S: Final = 8 * 1024


class Patience:
    """With one body."""

    __slots__ = ("_left_s", "_timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._left_s = timeout_s

    async def next(self, receive: Receive) -> Message:
        """The next piece. Raises `BodyTooSlow`."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._left_s, self._timeout_s))):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(self._timeout_s) from None
        earned_s = len(message.get("body", b"")) / LEAST_BYTES_PER_S
        self._left_s += earned_s - (time.monotonic() - began_s)
        return message
