"""Be paid what stake has earned: a delegator's part of the fees, a provider's commission, a bounty.

    brownie run claim_rewards main 0xProvider --network tallystick   what the delegation earned
    brownie run claim_rewards commission --network tallystick        commission of the sender
    brownie run claim_rewards commission 0xAbc... --network tallystick   another's; anyone may send
    brownie run claim_rewards bounty --network tallystick            for offences the sender proved

Fees flow to a pool over a week; what has flowed can be claimed at any time. Commission and bounties
are paid to whom they belong, whoever sends the transaction.
"""

from __future__ import annotations

from scripts.support import (
    ScriptError,
    address_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)


@command
def main(provider: str = "", to: str = "") -> None:
    if not provider:
        raise ScriptError("behind whom? `brownie run claim_rewards main 0xProvider`")
    market, delegator = deployment(), signer()
    behind = address_of(provider, "provider")
    recipient = address_of(to, "recipient") if to else delegator.address
    if market.staking.rewardsOf(behind, delegator) == 0:
        print(f"{delegator} has nothing to claim from the pool of {behind} now")
        return
    require_gas_money(delegator)
    paid = market.staking.claimRewards(behind, recipient, {"from": delegator})
    amount = paid.events["RewardsClaimed"]["amount"]
    print(f"{shown(amount, market.token)} paid to {recipient}")


@command
def commission(account: str = "") -> None:
    market, sender = deployment(), signer()
    owner = address_of(account, "account") if account else sender.address
    units = market.staking.feesOf(owner)
    if units == 0:
        print(f"{owner} has no commission to withdraw")
        return
    require_gas_money(sender)
    market.staking.withdrawFees(owner, {"from": sender})
    print(f"{shown(units, market.token)} paid to {owner}")


@command
def bounty(account: str = "") -> None:
    market, sender = deployment(), signer()
    owner = address_of(account, "account") if account else sender.address
    units = market.staking.bountyOf(owner)
    if units == 0:
        print(f"{owner} has no bounty to withdraw")
        return
    require_gas_money(sender)
    market.staking.withdrawBounty(owner, {"from": sender})
    print(f"{shown(units, market.staking_token)} paid to {owner}")
