"""Open a channel to a provider, or top it up.

    brownie run open_channel main 0xProvider 50 --network tallystick    50 whole tokens, wallet
    brownie run open_channel fund 0xProvider 50 --network tallystick    out of the escrow account
    brownie run open_channel show 0xProvider --network tallystick       where it stands

Sends from the payer's account (support.py says how it is chosen). The money waits for this provider
alone and pays vouchers of the channel's signer; what is not claimed comes back by `brownie run
close_channel`. Which channel of the two is meant:

    TALLYSTICK_CHANNEL_SIGNER    address of the key that signs vouchers      (the payer itself)
    TALLYSTICK_CHANNEL_SALT      a whole number, one for each channel        (0)
"""

from __future__ import annotations

from scripts.channels import channel_of, describe, fields, state_of
from scripts.support import (
    Deployment,
    ScriptError,
    amount_of,
    command,
    deployment,
    require_balance,
    require_gas_money,
    shown,
    signer,
)
from tallystick.protocol.messages import Channel


@command
def main(provider: str = "", amount: str = "") -> None:
    market, payer = deployment(), signer()
    channel, units = wanted(market, str(payer), provider, amount)
    require_gas_money(payer)
    require_balance(market.token, payer, units)
    if market.token.allowance(payer, market.escrow) < units:
        market.token.approve(market.escrow, units, {"from": payer})
    market.escrow.depositToChannel(fields(channel), units, {"from": payer})
    describe(market, channel)


@command
def fund(provider: str = "", amount: str = "") -> None:
    market, payer = deployment(), signer()
    channel, units = wanted(market, str(payer), provider, amount)
    available, _ = market.escrow.accountOf(payer)
    if available < units:
        raise ScriptError(
            f"{payer} has {shown(available, market.token)} available in the escrow,"
            f" {shown(units, market.token)} are needed: pay from the wallet with"
            " `brownie run open_channel main`"
        )
    require_gas_money(payer)
    market.escrow.fund(fields(channel), units, {"from": payer})
    describe(market, channel)


@command
def show(provider: str = "", payer: str = "") -> None:
    if not provider:
        raise ScriptError("which provider? `brownie run open_channel show 0xProvider`")
    market = deployment()
    describe(market, channel_of(payer or str(signer()), provider))


def wanted(market: Deployment, payer: str, provider: str, amount: str) -> tuple[Channel, int]:
    if not provider or not amount:
        raise ScriptError("to whom, and how much? `brownie run open_channel main 0xProvider 50`")
    channel = channel_of(payer, provider)
    units = amount_of(amount, market.token.decimals())
    _, _, close_at = state_of(market, channel)
    if close_at:
        raise ScriptError(
            "a close of this channel is requested, and its provider serves it no more: take it back"
            " first (`brownie run close_channel cancel`), or use another TALLYSTICK_CHANNEL_SALT"
        )
    return channel, units
