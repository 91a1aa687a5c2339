"""Bond stake for a provider.

    brownie run stake main 400 --network tallystick         400 whole tokens
    brownie run stake main 4gpus --network tallystick       what 4 GPUs need and is not bonded yet

Sends from the provider's own account (support.py says how it is chosen), approves exactly the
amount, and prints what the stake covers. Without an argument: TALLYSTICK_STAKE.
"""

from __future__ import annotations

import os
from typing import Any

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


@command
def main(amount: str = "") -> None:
    market = deployment()
    provider = signer()
    units = requested(market, provider, amount or os.environ.get("TALLYSTICK_STAKE", ""))
    if units == 0:
        print(f"{provider} has bonded enough already")
        return
    require_gas_money(provider)
    require_balance(market.staking_token, provider, units)
    if market.staking_token.allowance(provider, market.staking) < units:
        market.staking_token.approve(market.staking, units, {"from": provider})
    market.staking.stake(units, {"from": provider})

    bonded, _ = market.staking.stakeOf(provider)
    print(
        f"{provider} has bonded {shown(bonded, market.staking_token)}:"
        f" enough for {market.staking.unitsOf(provider)} GPUs"
    )


def requested(market: Deployment, provider: Any, text: str) -> int:
    if not text:
        raise ScriptError("how much? `brownie run stake main 400`, or `main 4gpus`")
    if not text.endswith("gpus"):
        return amount_of(text, market.staking_token.decimals())
    count = text.removesuffix("gpus")
    if not count.isdecimal():
        raise ScriptError(f"{text!r} is not a number of GPUs: write 4gpus")
    bonded, _ = market.staking.stakeOf(provider)
    seats, _ = market.staking.seatsOf(provider)
    return int(max(0, (int(count) + seats) * market.staking.unit() - bonded))
