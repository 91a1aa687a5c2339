"""Set a provider's commission, and lift its jail.

    brownie run set_commission main 10 --network tallystick    10 % of the fees, after the notice
    brownie run set_commission unjail --network tallystick     once a verdict's time is over

Sends from the provider's own account (support.py says how it is chosen). Until the notice is over
the present commission holds; another announcement meanwhile replaces this one. Lifting the jail
needs the stake of one GPU.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from scripts.support import (
    ScriptError,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)
from scripts.unstake import when


@command
def main(percent: str = "") -> None:
    market, provider = deployment(), signer()
    bps = basis_points(percent)
    require_gas_money(provider)
    sent = market.staking.setCommission(bps, {"from": provider})
    holds = sent.events["CommissionSet"]["effectiveAt"]
    print(f"the commission of {provider} is {bps / 100:g} % from {when(holds)} on")


@command
def unjail() -> None:
    from brownie import web3

    market, provider = deployment(), signer()
    staking, token = market.staking, market.staking_token
    until = staking.jailedUntil(provider)
    if until == 0:
        print(f"{provider} is not jailed")
        return
    if web3.eth.get_block("latest")["timestamp"] < until:
        raise ScriptError(f"the jail of {provider} can be lifted from {when(until)} on")
    bonded, _ = staking.stakeOf(provider)
    if bonded < staking.unit():
        raise ScriptError(
            f"{provider} has bonded {shown(bonded, token)} and needs"
            f" {shown(staking.unit(), token)}: `brownie run stake main 1gpus`"
        )
    require_gas_money(provider)
    staking.unjail({"from": provider})
    print(f"{provider} is free: it gets work again")


def basis_points(percent: str) -> int:
    try:
        bps = Decimal(percent.removesuffix("%").strip()) * 100
    except InvalidOperation:
        bps = Decimal(-1)
    if not bps.is_finite() or bps != bps.to_integral_value() or not 0 <= bps <= 10_000:
        raise ScriptError(
            f"{percent!r} is not a commission: give per cent from 0 to 100, in steps of 0.01"
        )
    return int(bps)
