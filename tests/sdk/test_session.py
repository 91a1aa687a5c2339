from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick import rpc_chain
from tallystick.config import Config
from tallystick.session import Session
from tallystick.testing import InMemoryMarket


class Connected:
    async def close(self) -> None:
        return


async def test_acts_at_the_same_time_share_one_chain_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Connected] = []

    async def connect(_url: str, _said: Any, _file: Any) -> Connected:
        await asyncio.sleep(0)
        made.append(Connected())
        return made[-1]

    monkeypatch.setattr(rpc_chain, "connect_chain", connect)
    config = Config(url="http://market.test", rpc_url="http://127.0.0.1:1")
    session = Session(config, transport=InMemoryMarket())
    found = await asyncio.gather(*(session.chain() for _ in range(8)))
    assert found == made * 8
    assert len(made) == 1
    await session.close()
