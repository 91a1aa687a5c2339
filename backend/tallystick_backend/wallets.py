"""Signatures of contract wallets (EIP-1271), asked on chain."""

from __future__ import annotations

from typing import Final

from eth_abi.abi import encode

from tallystick.protocol.types import Address
from tallystick_backend.chain import Rpc, RpcRefused

_SELECTOR: Final = bytes.fromhex("1626ba7e")  # isValidSignature(bytes32,bytes)
_ACCEPTED: Final = "0x1626ba7e" + "00" * 28
_GAS: Final = 200_000
"""The contracts grant 100,000; the rest pays for the call itself and its data."""


class ChainWallets:
    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def accepts(self, wallet: Address, digest: bytes, signature: str) -> bool:
        """True when the contract at `wallet` answers with the magic word in exactly 32 bytes. A
        wallet that is no contract, or that reverts, accepts nothing; a `ChainError` when the node
        could not be asked."""
        data = _SELECTOR + encode(
            ["bytes32", "bytes"], [digest, bytes.fromhex(signature.removeprefix("0x"))]
        )
        call = {"to": wallet, "data": "0x" + data.hex(), "gas": hex(_GAS)}
        try:
            answer = await self._rpc.request("eth_call", [call, "latest"])
        except RpcRefused:
            return False
        return isinstance(answer, str) and answer.lower() == _ACCEPTED
