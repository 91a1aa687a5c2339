"""What this backend tells strangers of itself: contracts, token, its own terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.types import Address
from tallystick.protocol.wire import DeploymentBody
from tallystick_backend.chain import Rpc, RpcInconsistent


@dataclass
class Market:
    """Reads the token's symbol and decimals once; they never change."""

    deployment: Deployment
    dispatcher: Address
    dispatcher_bps: int
    challenge_window_seconds: int
    _body: DeploymentBody | None = field(default=None, init=False)

    async def body(self, rpc: Rpc) -> DeploymentBody:
        """Raises a `ChainError` while the node cannot be asked."""
        if self._body is None:
            token = self.deployment.token
            symbol = str(await _view(rpc, token, "symbol()", "string"))
            decimals = int(str(await _view(rpc, token, "decimals()", "uint8")))
            self._body = self._with_token(symbol[:32], decimals)
        return self._body

    def _with_token(self, symbol: str, decimals: int) -> DeploymentBody:
        found = self.deployment
        window_s = max(self.challenge_window_seconds, found.min_challenge_seconds)
        return DeploymentBody(
            chain_id=found.chain_id,
            token=found.token,
            token_symbol=symbol,
            token_decimals=decimals,
            escrow=found.escrow,
            market=found.market,
            staking=found.staking,
            dispatcher=self.dispatcher,
            dispatcher_bps=self.dispatcher_bps,
            stake_unit=found.stake_unit,
            challenge_window_seconds=min(window_s, found.max_challenge_seconds),
        )


async def _view(rpc: Rpc, contract: Address, view: str, kind: str) -> object:
    data = "0x" + keccak(text=view)[:4].hex()
    answer = await rpc.request("eth_call", [{"to": contract, "data": data}, "latest"])
    try:
        found: object = decode([kind], bytes.fromhex(str(answer).removeprefix("0x")))[0]
    except (ValueError, DecodingError):
        raise RpcInconsistent(f"{view} of {contract} is no {kind}") from None
    return found
