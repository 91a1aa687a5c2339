"""Channels as the scripts name them: by provider, with signer and salt where they are unusual.

A channel is four fields. In these scripts the payer is who sends, unless a script says otherwise;
the signer is TALLYSTICK_CHANNEL_SIGNER (the payer itself without it), the salt is
TALLYSTICK_CHANNEL_SALT (0 without it).
"""

from __future__ import annotations

import os
from typing import Any

from scripts.support import Deployment, ScriptError, address_of, shown
from scripts.unstake import when
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.types import ZERO_ADDRESS, Address

SALT_LIMIT = 2**96


def channel_of(payer: str, provider: str) -> Channel:
    signer = os.environ.get("TALLYSTICK_CHANNEL_SIGNER", payer)
    channel = Channel(
        payer=Address(address_of(payer, "payer")),
        signer=Address(address_of(signer, "TALLYSTICK_CHANNEL_SIGNER")),
        provider=Address(address_of(provider, "provider")),
        salt=salt_of(os.environ.get("TALLYSTICK_CHANNEL_SALT", "0")),
    )
    for name in ("payer", "signer", "provider"):
        if getattr(channel, name) == ZERO_ADDRESS:
            raise ScriptError(f"the channel's {name} is the zero address: name an account")
    return channel


def salt_of(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) >= SALT_LIMIT:
        raise ScriptError(
            f"TALLYSTICK_CHANNEL_SALT is {text!r}: give a whole number from 0 to 2^96 - 1"
        )
    return int(text)


def fields(channel: Channel) -> tuple[str, str, str, int]:
    return (channel.payer, channel.signer, channel.provider, channel.salt)


def state_of(market: Deployment, channel: Channel) -> tuple[int, int, int]:
    """Deposited, claimed, closeAt."""
    deposited, claimed, close_at = market.escrow.channelOf(channel_id(channel))
    return int(deposited), int(claimed), int(close_at)


def describe(market: Deployment, channel: Channel) -> None:
    deposited, claimed, close_at = state_of(market, channel)
    token: Any = market.token
    print(f"channel            {channel_id(channel)}")
    print(f"payer              {channel.payer}")
    print(f"signer             {channel.signer}")
    print(f"provider           {channel.provider}")
    print(f"salt               {channel.salt}")
    print(f"deposited          {shown(deposited, token)}")
    print(f"claimed            {shown(claimed, token)}")
    print(f"waiting            {shown(deposited - claimed, token)}")
    if close_at:
        print(f"can be closed from {when(close_at)}")
