"""The local market's chain, ended and started again.

stop_chain, start_chain
    goes on at the same block, with its transactions
    nothing is mined that is not in the file
    a file that was half written before is not read
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.devnet import LocalMarket, MarketPlan
from tallystick.devnet.market import replace_file
from tallystick.devnet.people import CONSUMER, DEPLOYER


@pytest.fixture
def market(tmp_path: Path) -> Iterator[LocalMarket]:
    market = LocalMarket(MarketPlan(tmp_path, runtime="process", block_seconds=0))
    market.start_chain()
    yield market
    market.down()


def send(market: LocalMarket, amount: int) -> str:
    order = {"from": DEPLOYER.address, "to": CONSUMER.address, "value": hex(amount)}
    sent: str = market.rpc("eth_sendTransaction", order)
    return sent


def mined_in(market: LocalMarket, sent: str) -> int:
    """Its block; anvil answers a transaction's hash a moment before it has mined it."""
    for _ in range(1000):
        receipt = market.rpc("eth_getTransactionReceipt", sent)
        if receipt is not None:
            return int(receipt["blockNumber"], 16)
    raise AssertionError(f"{sent} is in no block")


def test_goes_on_at_the_same_block(market: LocalMarket) -> None:
    sent = send(market, 7)
    mined_in(market, sent)
    head = market.rpc("eth_getBlockByNumber", "latest", False)
    rich = market.rpc("eth_getBalance", CONSUMER.address, "latest")

    market.stop_chain()
    assert not market.services["anvil"].alive
    market.start_chain()

    assert market.rpc("eth_getBlockByNumber", "latest", False)["hash"] == head["hash"]
    assert market.rpc("eth_getTransactionReceipt", sent)["blockHash"] == head["hash"]
    assert market.rpc("eth_getBalance", CONSUMER.address, "latest") == rich
    later = send(market, 1)
    assert mined_in(market, later) == int(head["number"], 16) + 1


def test_nothing_is_mined_that_is_not_in_the_file(
    market: LocalMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[str] = []
    ended = market.services["anvil"].stop

    def send_and_end() -> None:
        late.append(send(market, 3))
        assert market.rpc("eth_getTransactionReceipt", late[0]) is None
        ended()

    monkeypatch.setattr(market.services["anvil"], "stop", send_and_end)
    market.stop_chain()
    market.start_chain()
    assert market.rpc("eth_getTransactionByHash", late[0]) is None


def test_a_file_that_was_half_written_is_not_read(
    market: LocalMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined_in(market, send(market, 7))
    market.stop_chain()
    whole = (tmp_path / "chain.json").read_bytes()

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "chain.json", whole[:10])
    assert (tmp_path / "chain.json").read_bytes() == whole
    market.start_chain()
    assert int(market.rpc("eth_blockNumber"), 16) == 1
