"""The market as anybody may look at it: what a page needs to begin, prices, totals, the explorer.

Everything here follows from the chain's events and from what providers announce; amounts are
decimal strings in the token's smallest unit.
"""

from __future__ import annotations

from tallystick.protocol.wire import AddressHex, Amount, Count, WireModel

__all__ = ["ConfigBody", "TokenBody"]


class TokenBody(WireModel):
    address: AddressHex
    symbol: str
    decimals: Count
    name: str
    version: str
    """With `name`, the chain and the address the token's EIP-712 domain: permits and EIP-3009
    authorizations are signed for it."""


class ConfigBody(WireModel):
    """What a page in a browser has to know before it can do anything."""

    version: str
    """Of this backend."""
    chain_id: Count
    network_name: str
    """For people, and for a wallet that is offered this chain."""
    rpc_url: str
    """A node that browsers may ask and wallets may be offered; empty if the operator names none."""
    explorer_url: str
    """Of a block explorer: `{explorer_url}/tx/{hash}`; empty if the operator names none."""
    token: TokenBody
    """What work is paid in."""
    staking_token: TokenBody
    escrow: AddressHex
    market: AddressHex
    staking: AddressHex
    court: AddressHex
    """Zero where there is none."""
    registry: AddressHex
    """Zero where there is none."""
    treasury: AddressHex
    start_block: Count
    """First block that can hold an event of these contracts."""
    dispatcher: AddressHex
    dispatcher_bps: Count
    challenge_window_seconds: Count
    protocol_fee_bps: Count
    stake_unit: Amount
    """Own stake per GPU, smallest unit of the staking token."""
    unbonding_seconds: Count
    close_seconds: Count
    """From the request to close a channel until anyone may close it."""
    cancel_seconds: Count
    commission_notice_seconds: Count
    jail_seconds: Count
    notice_seconds: Count
    """How long before it takes effect a price change is announced."""
