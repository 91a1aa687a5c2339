"""Take a delegation back: ask first, withdraw when the unbonding time is over.

    brownie run undelegate main 0xProvider 50 --network tallystick   worth 50 whole tokens
    brownie run undelegate main 0xProvider all --network tallystick  everything behind it
    brownie run undelegate withdraw --network tallystick             pay out what can be paid out

Each request has its own clock, earns nothing more, and a verdict against the provider reaches it
until it is withdrawn. `withdraw` pays to the delegator, or to the address given to it. What the
delegation earned stays claimable (`brownie run claim_rewards`).
"""

from __future__ import annotations

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
from scripts.unstake import when
from tallystick.protocol.shares import Pot


@command
def main(provider: str = "", amount: str = "") -> None:
    if not provider or not amount:
        raise ScriptError(
            "behind whom, and how much? `brownie run undelegate main 0xProvider 50`, or `all`;"
            " to be paid out: `brownie run undelegate withdraw`"
        )
    market, delegator = deployment(), signer()
    behind = address_of(provider, "provider")
    token, staking = market.staking_token, market.staking
    shares, worth = staking.delegationOf(behind, delegator)
    delegated, all_shares, generation, _ = staking.poolOf(behind)
    pool = Pot(delegated, all_shares, generation)
    leaving = shares
    if amount != "all":
        units = amount_of(amount, token.decimals())
        if units > worth:
            raise ScriptError(
                f"{delegator} has {shown(worth, token)} behind {behind}, not {shown(units, token)}"
            )
        leaving = min(shares, pool.shares_down(units))
        least = staking.minDelegation()
        left = pool.remove(leaving)[0].tokens_down(shares - leaving)
        if leaving != shares and left < least:
            raise ScriptError(
                f"{shown(left, token)} would stay, and a delegation is {shown(least, token)} at"
                " least: take out less, or `all`"
            )
    if leaving == 0:
        raise ScriptError(f"{delegator} has nothing behind {behind}")
    require_gas_money(delegator)
    expected = pool.tokens_down(leaving)
    asked = staking.requestUndelegate(behind, leaving, expected, {"from": delegator})
    event = asked.events["UndelegateRequested"]
    print(
        f"request {event['requestId']}: {shown(event['amount'], token)} can be withdrawn from"
        f" {when(event['withdrawableAt'])} on"
    )


@command
def withdraw(to: str = "") -> None:
    from brownie import web3

    market, delegator = deployment(), signer()
    token, staking = market.staking_token, market.staking
    recipient = address_of(to, "recipient") if to else delegator.address
    # The chain's own time decides; brownie's chain.time() is this machine's clock.
    now = web3.eth.get_block("latest")["timestamp"]
    paid = 0
    for request_id in range(staking.undelegateRequestsOf(delegator)):
        _, units, withdrawable_at = staking.undelegateRequest(delegator, request_id)
        if units == 0:
            continue
        if now < withdrawable_at:
            print(
                f"request {request_id}: {shown(units, token)} waits until {when(withdrawable_at)}"
            )
            continue
        require_gas_money(delegator)
        staking.withdrawDelegation(request_id, recipient, {"from": delegator})
        paid += units
    print(f"{shown(paid, token)} paid to {recipient}" if paid else "nothing to withdraw now")
