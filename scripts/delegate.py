"""Put stake behind a provider, and see what stands behind one.

    brownie run delegate main 0xProvider 50 --network tallystick      50 whole tokens, wallet
    brownie run delegate show 0xProvider --network tallystick         the pool, and your part of it

Sends from the delegator's account (support.py says how it is chosen), approves exactly the amount,
and refuses a price that a slash changed under way. A verdict against the provider takes its own
stake first and then its delegators'. Back again: `brownie run undelegate`; what the delegation
earned: `brownie run claim_rewards`.
"""

from __future__ import annotations

from scripts.support import (
    Deployment,
    ScriptError,
    address_of,
    amount_of,
    command,
    deployment,
    require_balance,
    require_gas_money,
    shown,
    signer,
)
from scripts.unstake import when
from tallystick.protocol.shares import Pot


@command
def main(provider: str = "", amount: str = "") -> None:
    if not provider or not amount:
        raise ScriptError("behind whom, and how much? `brownie run delegate main 0xProvider 50`")
    market, delegator = deployment(), signer()
    behind = address_of(provider, "provider")
    token, staking = market.staking_token, market.staking
    units = amount_of(amount, token.decimals())
    least = staking.minDelegation()
    if units < least:
        raise ScriptError(f"a delegation is {shown(least, token)} at least")
    require_gas_money(delegator)
    require_balance(token, delegator, units)
    if token.allowance(delegator, staking) < units:
        token.approve(staking, units, {"from": delegator})
    delegated, shares, generation, _ = staking.poolOf(behind)
    expected = Pot(delegated, shares, generation).shares_down(units)
    staking.delegate(behind, units, expected, {"from": delegator})
    describe(market, behind, str(delegator))


@command
def show(provider: str = "", delegator: str = "") -> None:
    if not provider:
        raise ScriptError("which provider? `brownie run delegate show 0xProvider`")
    market = deployment()
    who = address_of(delegator, "delegator") if delegator else str(signer())
    describe(market, address_of(provider, "provider"), who)


def describe(market: Deployment, provider: str, delegator: str) -> None:
    staking, token = market.staking, market.staking_token
    bonded, _ = staking.stakeOf(provider)
    delegated, _, _, undelegating = staking.poolOf(provider)
    print(f"{provider}")
    print(f"  own stake        {shown(bonded, token)}")
    print(
        f"  delegated        {shown(delegated, token)}, {shown(undelegating, token)} on its way out"
    )
    bps, next_bps, effective_at = staking.commissionOf(provider)
    later = f", {next_bps / 100:g} % from {when(effective_at)} on" if next_bps != bps else ""
    print(f"  commission       {bps / 100:g} %{later}")
    remaining, ends_at = staking.streamOf(provider)
    if remaining:
        print(f"  fees to come     {shown(remaining, market.token)} until {when(ends_at)}")
    if staking.isJailed(provider):
        print(f"  jailed           can be lifted from {when(staking.jailedUntil(provider))} on")
    _, worth = staking.delegationOf(provider, delegator)
    earned = staking.rewardsOf(provider, delegator)
    print(f"{delegator}")
    print(f"  its delegation   {shown(worth, token)}, {shown(earned, market.token)} to claim")
