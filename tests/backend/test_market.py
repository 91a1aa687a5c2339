"""What the backend tells of tokens and terms, as the chain names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tallystick_backend.chain import RpcRefused
from tallystick_backend.market import Market
from tests.backend.api.world import DEPLOYMENT
from tests.support.anvil import DISPATCHER


class Token:
    """Answers these views and refuses all others, as a contract without them does."""

    def __init__(self, answers: Mapping[str, tuple[list[str], list[Any]]]) -> None:
        self.answers = {
            "0x" + keccak(text=view)[:4].hex(): "0x" + encode(kinds, values).hex()
            for view, (kinds, values) in answers.items()
        }
        self.asked = 0

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self.asked += 1
        selector = params[0]["data"]
        if selector not in self.answers:
            raise RpcRefused(method, 3, "execution reverted")
        return self.answers[selector]

    async def close(self) -> None:
        pass


NAMED = {"symbol()": (["string"], ["USDC"]), "decimals()": (["uint8"], [6])}
DOMAIN = (
    ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"],
    [b"\x0f", "Tally", "3", 31337, DEPLOYMENT.token, bytes(32), []],
)


def _market(**options: Any) -> Market:
    return Market(DEPLOYMENT, DISPATCHER.address, 500, 60, **options)


@pytest.mark.parametrize(
    ("views", "name", "version"),
    [
        ({"eip712Domain()": DOMAIN, "version()": (["string"], ["9"])}, "Tally", "3"),
        ({"name()": (["string"], ["USD Coin"]), "version()": (["string"], ["2"])}, "USD Coin", "2"),
        ({"name()": (["string"], ["Plain"])}, "Plain", "1"),
        ({}, "USDC", "1"),
    ],
    ids=["EIP-5267", "USDC and its kin", "no version", "neither"],
)
async def test_a_tokens_signing_domain(
    views: dict[str, tuple[list[str], list[Any]]], name: str, version: str
) -> None:
    config = await _market().config(Token(NAMED | views))

    assert (config.token.symbol, config.token.decimals) == ("USDC", 6)
    assert (config.token.name, config.token.version) == (name, version)


async def test_a_token_is_asked_once() -> None:
    market, rpc = _market(), Token(NAMED | {"eip712Domain()": DOMAIN})
    first = await market.config(rpc)
    asked = rpc.asked

    assert await market.config(rpc) == first
    assert (await market.body(rpc)).token_symbol == "USDC"
    assert rpc.asked == asked


async def test_it_says_what_the_operator_names() -> None:
    rpc = Token(NAMED)
    config = await _market(
        network_name="Test", rpc_url="https://rpc.test", explorer_url="https://scan.test"
    ).config(rpc)

    assert (config.network_name, config.rpc_url) == ("Test", "https://rpc.test")
    assert config.explorer_url == "https://scan.test"
    assert (await _market().config(rpc)).network_name == "Chain 31337"


async def test_the_window_is_one_that_the_contract_takes() -> None:
    assert (await _market().config(Token(NAMED))).challenge_window_seconds == 86_400
    long = Market(replace(DEPLOYMENT, max_challenge_seconds=90_000), DISPATCHER.address, 0, 10**6)
    assert (await long.config(Token(NAMED))).challenge_window_seconds == 90_000
