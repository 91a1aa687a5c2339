"""Take stake back: ask first, withdraw when the unbonding time is over.

    brownie run unstake main 100 --network tallystick       stop bonding 100 whole tokens
    brownie run unstake withdraw --network tallystick       pay out every request whose time is over

Each request has its own clock; until it is withdrawn a verdict reaches it. What stays bonded must
back the registered GPUs: register fewer first (`brownie run register_gpus`). `withdraw` pays to the
provider, or to the address given to it.
"""

from __future__ import annotations

import datetime

from scripts.support import (
    ScriptError,
    address_of,
    amount_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)


@command
def main(amount: str = "") -> None:
    if not amount:
        raise ScriptError(
            "how much? `brownie run unstake main 100`;"
            " to be paid out: `brownie run unstake withdraw`"
        )
    market = deployment()
    provider = signer()
    token = market.staking_token
    units = amount_of(amount, token.decimals())
    bonded, _ = market.staking.stakeOf(provider)
    if units > bonded:
        raise ScriptError(
            f"{provider} has bonded {shown(bonded, token)}, not {shown(units, token)}"
        )
    gpus = market.staking.gpusOf(provider)
    seats, _ = market.staking.seatsOf(provider)
    needed = (gpus + seats) * market.staking.unit()
    if bonded - units < needed:
        raise ScriptError(
            f"{provider} has {gpus} GPUs registered and {seats} seats, and they need"
            f" {shown(needed, token)}; {shown(bonded - units, token)} would stay: register fewer"
            " first (`brownie run register_gpus`), or leave seats"
        )
    require_gas_money(provider)
    asked = market.staking.requestUnbond(units, {"from": provider})
    event = asked.events["UnbondRequested"]
    print(
        f"request {event['requestId']}: {shown(units, token)} can be withdrawn from"
        f" {when(event['withdrawableAt'])} on"
    )


@command
def withdraw(to: str = "") -> None:
    from brownie import web3

    market = deployment()
    provider = signer()
    token = market.staking_token
    recipient = address_of(to, "recipient") if to else provider.address
    # The chain's own time decides; brownie's chain.time() is this machine's clock.
    now = web3.eth.get_block("latest")["timestamp"]
    paid = 0
    for request_id in range(market.staking.unbondRequestsOf(provider)):
        units, withdrawable_at = market.staking.unbondRequest(provider, request_id)
        if units == 0:
            continue
        if now < withdrawable_at:
            print(
                f"request {request_id}: {shown(units, token)} waits until {when(withdrawable_at)}"
            )
            continue
        require_gas_money(provider)
        market.staking.withdrawStake(request_id, recipient, {"from": provider})
        paid += units
    print(f"{shown(paid, token)} paid to {recipient}" if paid else "nothing to withdraw now")


def when(unix_seconds: int) -> str:
    return datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC).strftime(
        "%Y-%m-%d %H:%M UTC"
    )
