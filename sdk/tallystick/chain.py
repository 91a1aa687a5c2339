"""All that the SDK asks of a chain.

`tallystick.rpc_chain` answers it through an RPC endpoint, `tallystick.testing` in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tallystick.jobs import Sent
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.messages import Channel, TaskTerms
from tallystick.protocol.types import Address, AppId, Digest
from tallystick.wallet import Wallet

if TYPE_CHECKING:
    # web3 comes with it, which is heavy, and many programs never need it
    from tallystick.protocol.contracts import KeyState


@dataclass(frozen=True, slots=True)
class Account:
    """Smallest units: in the wallet, free in the escrow, held there for tasks, earned there."""

    wallet_units: int
    available_units: int
    locked_units: int
    credit_units: int


class Chain(Protocol):
    """The chain as a consumer sees it. Every method raises ChainError with a sentence."""

    async def account(self, owner: Address) -> Account: ...

    async def deposit(self, wallet: Wallet, units: int) -> Sent:
        """Wallet -> available, with the approval it needs."""
        ...

    async def withdraw(self, wallet: Wallet, units: int, to: Address) -> Sent: ...

    async def create_task(self, wallet: Wallet, terms: TaskTerms) -> Sent: ...

    async def cancel_task(self, wallet: Wallet, terms: TaskTerms) -> Sent: ...

    async def reclaim(self, wallet: Wallet, terms: TaskTerms) -> Sent: ...

    async def answers_for(self, signer: Address, provider: Address) -> bool:
        """Whether the provider bound this key to itself and still answers for it: a retired key
        counts a while longer, for receipts it signed before."""
        ...

    async def serves_with(self, signer: Address, provider: Address) -> bool:
        """Whether the provider has stake, and this is its own or one of its unretired keys."""
        ...

    # --- apps and channels, for who checks a call and who ends a channel ------------------------

    async def channel_state(self, channel: Channel) -> ChannelState:
        """What the escrow says of it now."""
        ...

    async def bound_key(self, key: Address) -> KeyState:
        """Whose operator key it is."""
        ...

    async def app_at(self, app_id: AppId, version: int, time_s: int) -> AppHistory:
        """The app as the registry has it, with that version, at its price in that second; without
        any version if the registry has none or it had no price then. The registry is the one of a
        deployment that the caller named or this package knows, never of a backend's word."""
        ...

    async def revoke_allowance(self, wallet: Wallet, allowance: Digest) -> Sent: ...

    async def fund_channel(self, wallet: Wallet, channel: Channel, units: int) -> Sent:
        """The payer's available money -> the channel: opens it, or tops it up."""
        ...

    async def request_close(self, wallet: Wallet, channel: Channel) -> Sent: ...

    async def close_channel(self, wallet: Wallet, channel: Channel) -> Sent: ...

    async def close(self) -> None: ...
