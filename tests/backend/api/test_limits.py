"""How much one caller may ask: exact for small limits, counted ahead for large ones."""

from __future__ import annotations

import pytest

from tallystick_backend.access import TooManyRequests
from tallystick_backend.api import limits as module
from tallystick_backend.api.limits import Limits


def limits(call: str) -> Limits:
    return Limits(login="10/minute", read="10/minute", write="10/minute", call=call)


@pytest.mark.parametrize("many", [3, 1_999, 5_000])
async def test_so_many_and_no_more(many: int) -> None:
    some = limits(f"{many}/hour")
    for _ in range(many):
        await some.count("calls", "0xa")
    with pytest.raises(TooManyRequests, match="too many calls"):
        await some.count("calls", "0xa")
    await some.count("calls", "0xb")  # everybody has their own


async def test_what_was_counted_ahead_and_not_used_is_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AHEAD_S", 0.0)
    some = limits("5000/hour")  # five at a time, and four of them are lost each time
    for _ in range(1_000):
        await some.count("calls", "0xa")
    with pytest.raises(TooManyRequests):
        await some.count("calls", "0xa")


async def test_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_KEPT", 8)
    some = limits("5000/hour")
    for number in range(100):
        await some.count("calls", f"0x{number}")
        assert len(some._ahead) <= 8
