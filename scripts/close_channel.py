"""Get back what a channel holds and nobody claimed.

    brownie run close_channel main 0xProvider --network tallystick      ask; the period starts
    brownie run close_channel finish 0xProvider --network tallystick    when it is over; anyone
    brownie run close_channel cancel 0xProvider --network tallystick    take the request back
    brownie run close_channel release 0xPayer 10 --network tallystick   the provider: let 10 go now

Sends from the payer's account; `release` from the provider's or its operator key's, with
TALLYSTICK_PROVIDER naming the provider if the key is not its own. Until `finish` the provider can
redeem vouchers. The money becomes available in the payer's escrow account, and can be withdrawn.

    TALLYSTICK_CHANNEL_SIGNER    address of the key that signs vouchers      (the payer itself)
    TALLYSTICK_CHANNEL_SALT      a whole number, one for each channel        (0)
"""

from __future__ import annotations

import os

from scripts.channels import channel_of, describe, fields, state_of
from scripts.support import (
    ScriptError,
    amount_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)
from scripts.unstake import when


@command
def main(provider: str = "") -> None:
    market, payer = deployment(), signer()
    channel = channel_of(str(payer), named(provider, "main 0xProvider"))
    deposited, claimed, close_at = state_of(market, channel)
    if close_at:
        print(f"asked already; can be closed from {when(close_at)} on")
        return
    if deposited == claimed:
        raise ScriptError(
            "the channel holds nothing that is not claimed: check TALLYSTICK_CHANNEL_SIGNER and"
            " TALLYSTICK_CHANNEL_SALT"
        )
    require_gas_money(payer)
    market.escrow.requestClose(fields(channel), {"from": payer})
    describe(market, channel)


@command
def finish(provider: str = "", payer: str = "") -> None:
    from brownie import chain

    market, sender = deployment(), signer()
    channel = channel_of(payer or str(sender), named(provider, "finish 0xProvider"))
    _, _, close_at = state_of(market, channel)
    if not close_at:
        raise ScriptError(
            "no close of this channel is requested: its payer asks with"
            " `brownie run close_channel main 0xProvider`"
        )
    if chain.time() < close_at:
        print(f"not yet: can be closed from {when(close_at)} on")
        return
    require_gas_money(sender)
    closed = market.escrow.close(fields(channel), {"from": sender}).events["ChannelClosed"]
    print(f"{shown(closed['amount'], market.token)} available to {channel.payer} again")


@command
def cancel(provider: str = "") -> None:
    market, payer = deployment(), signer()
    channel = channel_of(str(payer), named(provider, "cancel 0xProvider"))
    if not state_of(market, channel)[2]:
        print("no close of this channel is requested")
        return
    require_gas_money(payer)
    market.escrow.cancelClose(fields(channel), {"from": payer})
    describe(market, channel)


@command
def release(payer: str = "", amount: str = "") -> None:
    if not amount:
        raise ScriptError("whose, and how much? `brownie run close_channel release 0xPayer 10`")
    market, sender = deployment(), signer()
    provider = os.environ.get("TALLYSTICK_PROVIDER", str(sender))
    channel = channel_of(named(payer, "release 0xPayer 10"), provider)
    units = amount_of(amount, market.token.decimals())
    deposited, claimed, _ = state_of(market, channel)
    if deposited - claimed < units:
        raise ScriptError(
            f"the channel holds {shown(deposited - claimed, market.token)} that is not claimed,"
            f" not {shown(units, market.token)}"
        )
    require_gas_money(sender)
    market.escrow.release(fields(channel), units, {"from": sender})
    print(f"{shown(units, market.token)} available to {channel.payer} again")


def named(account: str, usage: str) -> str:
    if not account:
        raise ScriptError(f"which channel? `brownie run close_channel {usage}`")
    return account
