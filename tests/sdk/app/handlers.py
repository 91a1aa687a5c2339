"""Handlers of every kind and temper, for the tests of the server; each is named by its manner."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tallystick.app import Answer, InputRefused, current_call, handler


def mark(text: str) -> None:
    """Leaves a word for the test beside this file."""
    with (Path(__file__).parent / "marks").open("a") as file:
        file.write(text + "\n")


def load() -> None:
    """The warm-up hook: waits until the test lets it, fails if the test wants that."""
    gate = os.environ.get("TEST_GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    if os.environ.get("TEST_FAIL"):
        raise RuntimeError("the weights are not there")


@handler
def do(manner: str, n: int = 3, seconds: float = 30.0, text: str = "") -> Any:
    return _MANNERS[manner](n, seconds, text)


@handler
async def do_async(manner: str, n: int = 3, seconds: float = 30.0) -> Any:
    if manner == "sleep":
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            mark("cancelled")
            raise
    if manner == "raise":
        raise RuntimeError("the secret is 42")
    if manner == "stream":
        return _async_pieces(n, seconds)
    return {"async": manner}


def job(job: dict[str, Any]) -> Any:
    """RunPod's style."""
    return {"id": job["id"], "got": job["input"]}


def job_pieces(job: dict[str, Any]) -> Iterator[str]:
    yield from job["input"]["words"]


async def _async_pieces(n: int, seconds: float) -> AsyncIterator[int]:
    try:
        for piece in range(n):
            yield piece
            await asyncio.sleep(seconds)
    finally:
        mark("closed")


def _pieces(n: int, seconds: float, text: str) -> Iterator[Any]:
    try:
        for piece in range(n):
            yield {"piece": piece, "text": text}
            time.sleep(seconds)
    finally:
        mark("closed")


def _stream_that_fails(n: int, seconds: float, text: str) -> Iterator[int]:
    yield from range(n)
    raise RuntimeError("the secret is 42")


def _raise(n: int, seconds: float, text: str) -> None:
    raise RuntimeError("the secret is 42")


def _refuse(n: int, seconds: float, text: str) -> None:
    raise InputRefused("the picture is too large")


def _until_over(n: int, seconds: float, text: str) -> None:
    mark("began")
    while not current_call().over:
        time.sleep(0.01)
    mark("over")


def _sleep(n: int, seconds: float, text: str) -> str:
    mark("began")
    time.sleep(seconds)
    mark("slept")
    return "slept"


def _call_id(n: int, seconds: float, text: str) -> dict[str, Any]:
    call = current_call()
    return {"call_id": call.call_id, "in_time": 0 < call.remaining_s <= 60, "over": call.over}


_MANNERS: dict[str, Any] = {
    "echo": lambda n, seconds, text: {"text": text},
    "bytes": lambda n, seconds, text: b"\x00\xff" * n,
    "image": lambda n, seconds, text: Answer(b"png", "image/png"),
    "nan": lambda n, seconds, text: float("nan"),
    "set": lambda n, seconds, text: {1, 2},
    "large": lambda n, seconds, text: "x" * n,
    "exit": lambda n, seconds, text: sys.exit(3),
    "raise": _raise,
    "refuse": _refuse,
    "sleep": _sleep,
    "until over": _until_over,
    "stream": _pieces,
    "stream that fails": _stream_that_fails,
    "call id": _call_id,
}
