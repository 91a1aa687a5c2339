"""What this backend tells strangers of itself: contracts, token, its own terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.market_views import ConfigBody, TokenBody
from tallystick.protocol.types import Address
from tallystick.protocol.wire import DeploymentBody
from tallystick_backend import __version__
from tallystick_backend.chain import Rpc, RpcInconsistent, RpcRefused

_MAX_NAME = 64


@dataclass
class Market:
    """Reads the tokens' names and decimals once; they never change."""

    deployment: Deployment
    dispatcher: Address
    dispatcher_bps: int
    challenge_window_seconds: int
    network_name: str = ""
    rpc_url: str = ""
    explorer_url: str = ""
    _tokens: dict[Address, TokenBody] = field(default_factory=dict, init=False)

    async def body(self, rpc: Rpc) -> DeploymentBody:
        """Raises a `ChainError` while the node cannot be asked."""
        found = self.deployment
        token = await self._token(rpc, found.token)
        return DeploymentBody(
            chain_id=found.chain_id,
            token=found.token,
            token_symbol=token.symbol,
            token_decimals=token.decimals,
            escrow=found.escrow,
            market=found.market,
            staking=found.staking,
            dispatcher=self.dispatcher,
            dispatcher_bps=self.dispatcher_bps,
            stake_unit=found.stake_unit,
            challenge_window_seconds=self._window_s(),
        )

    async def config(self, rpc: Rpc) -> ConfigBody:
        """Raises a `ChainError` while the node cannot be asked."""
        found = self.deployment
        return ConfigBody(
            version=__version__,
            chain_id=found.chain_id,
            network_name=self.network_name or f"Chain {found.chain_id}",
            rpc_url=self.rpc_url,
            explorer_url=self.explorer_url,
            token=await self._token(rpc, found.token),
            staking_token=await self._token(rpc, found.staking_token),
            escrow=found.escrow,
            market=found.market,
            staking=found.staking,
            court=found.court,
            registry=found.registry,
            treasury=found.treasury,
            start_block=found.block,
            dispatcher=self.dispatcher,
            dispatcher_bps=self.dispatcher_bps,
            challenge_window_seconds=self._window_s(),
            protocol_fee_bps=found.protocol_fee_bps,
            stake_unit=found.stake_unit,
            unbonding_seconds=found.unbonding_seconds,
            close_seconds=found.close_seconds,
            cancel_seconds=found.cancel_seconds,
            commission_notice_seconds=found.commission_notice_seconds,
            jail_seconds=found.jail_seconds,
            notice_seconds=found.notice_seconds,
        )

    def _window_s(self) -> int:
        found = self.deployment
        wanted_s = max(self.challenge_window_seconds, found.min_challenge_seconds)
        return min(wanted_s, found.max_challenge_seconds)

    async def _token(self, rpc: Rpc, token: Address) -> TokenBody:
        if token not in self._tokens:
            symbol = str(await _view(rpc, token, "symbol()", "string"))
            decimals = int(str(await _view(rpc, token, "decimals()", "uint8")))
            name, version = await _signing_name(rpc, token, symbol)
            self._tokens[token] = TokenBody(
                address=token,
                symbol=symbol[:32],
                decimals=decimals,
                name=name[:_MAX_NAME],
                version=version[:_MAX_NAME],
            )
        return self._tokens[token]


async def _signing_name(rpc: Rpc, token: Address, symbol: str) -> tuple[str, str]:
    """Name and version of the token's EIP-712 domain: as EIP-5267 tells them, else by the views
    that USDC and its kin have; a token with neither takes no signatures."""
    try:
        domain = await _views(
            rpc,
            token,
            "eip712Domain()",
            ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"],
        )
        return str(domain[1]), str(domain[2])
    except (RpcRefused, RpcInconsistent):
        pass
    try:
        name = str(await _view(rpc, token, "name()", "string"))
    except (RpcRefused, RpcInconsistent):
        return symbol, "1"
    try:
        return name, str(await _view(rpc, token, "version()", "string"))
    except (RpcRefused, RpcInconsistent):
        return name, "1"


async def _view(rpc: Rpc, contract: Address, view: str, kind: str) -> object:
    return (await _views(rpc, contract, view, [kind]))[0]


async def _views(rpc: Rpc, contract: Address, view: str, kinds: list[str]) -> tuple[object, ...]:
    data = "0x" + keccak(text=view)[:4].hex()
    answer = await rpc.request("eth_call", [{"to": contract, "data": data}, "latest"])
    try:
        found: tuple[object, ...] = decode(kinds, bytes.fromhex(str(answer).removeprefix("0x")))
    except (ValueError, DecodingError):
        raise RpcInconsistent(f"{view} of {contract} is no {', '.join(kinds)}") from None
    return found
