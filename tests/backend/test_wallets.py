"""Contract wallets: the magic word in exactly 32 bytes, and nothing else, is a signature."""

from __future__ import annotations

import pytest

from tallystick.protocol.types import Address, to_address
from tallystick_backend.chain import HttpRpc, RpcUnavailable
from tallystick_backend.wallets import ChainWallets
from tests.support.anvil import STRANGER, LocalChain

MAGIC = "1626ba7e" + "00" * 28
DIGEST = b"\x07" * 32
SIGNATURE = "0x" + "1b" * 65


def _returning(word: str, size: int = 32) -> str:
    """Code that answers anything with the first `size` bytes of `word`."""
    return f"0x7f{word}60005260{size:02x}6000f3"


CODES = {
    "the magic word": (_returning(MAGIC), True),
    "another word": (_returning("ff" * 32), False),
    "the magic word and something after it": (_returning(MAGIC[:-2] + "01"), False),
    "four bytes": (_returning(MAGIC, 4), False),
    "the magic word twice as long": (_returning(MAGIC, 64), False),
    "a revert": ("0x60006000fd", False),
    "an endless loop": ("0x5b600056", False),
    "nothing": ("0x00", False),
    "no code": ("0x", False),
}


@pytest.mark.parametrize(("code", "accepted"), CODES.values(), ids=CODES.keys())
async def test_a_wallet_that_answers(chain: LocalChain, code: str, accepted: bool) -> None:
    wallet = to_address("0x" + "c0de" * 10)
    chain.rpc("anvil_setCode", wallet, code)
    rpc = HttpRpc(chain.url)
    try:
        assert await ChainWallets(rpc).accepts(wallet, DIGEST, SIGNATURE) is accepted
    finally:
        await rpc.close()


async def test_a_person_is_no_contract(chain: LocalChain) -> None:
    rpc = HttpRpc(chain.url)
    try:
        assert not await ChainWallets(rpc).accepts(STRANGER.address, DIGEST, SIGNATURE)
    finally:
        await rpc.close()


async def test_a_node_that_is_gone_is_no_refusal() -> None:
    rpc = HttpRpc("http://127.0.0.1:1")
    try:
        with pytest.raises(RpcUnavailable):
            await ChainWallets(rpc).accepts(Address("0x" + "11" * 20), DIGEST, SIGNATURE)
    finally:
        await rpc.close()
