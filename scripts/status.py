"""What the chain knows of an account: stake, GPUs, money, credit.

brownie run status --network tallystick                 the account the scripts would send from
brownie run status main 0xAbc... --network tallystick   any account; needs no key
"""

from __future__ import annotations

from scripts.support import ZERO_ADDRESS, address_of, command, deployment, shown, signer
from scripts.unstake import when


@command
def main(address: str = "") -> None:
    market = deployment()
    account = address_of(address, "account") if address else signer().address
    staking, escrow = market.staking, market.escrow

    print(f"account            {account}")
    bonded, unbonding = staking.stakeOf(account)
    print(f"stake              {shown(bonded, market.staking_token)} bonded")
    print(
        f"GPUs               {staking.gpusOf(account)} registered,"
        f" the stake covers {staking.unitsOf(account)}"
    )
    seats, covered = staking.seatsOf(account)
    if seats:
        print(f"seats              {seats}, the stake covers {covered}")
    if staking.isJailed(account):
        print(f"jailed             can be lifted from {when(staking.jailedUntil(account))} on")
    if unbonding:
        print(f"unbonding          {shown(unbonding, market.staking_token)}")
        for request_id in range(staking.unbondRequestsOf(account)):
            units, withdrawable_at = staking.unbondRequest(account, request_id)
            if units:
                amount = shown(units, market.staking_token)
                print(f"  request {request_id}        {amount} from {when(withdrawable_at)}")
    delegated, _, _, undelegating = staking.poolOf(account)
    if delegated or undelegating:
        print(f"delegated to it    {shown(delegated, market.staking_token)}")
        print(f"                   {shown(undelegating, market.staking_token)} on its way out")
    bps, next_bps, effective_at = staking.commissionOf(account)
    if bps or next_bps:
        later = f", {next_bps / 100:g} % from {when(effective_at)} on" if next_bps != bps else ""
        print(f"commission         {bps / 100:g} %{later}")
    signs_for, retired_at = staking.operatorKey(account)
    if signs_for != ZERO_ADDRESS:
        retired = f", retired {when(retired_at)}" if retired_at else ""
        print(f"operator key       of {signs_for}{retired}")

    available, locked = escrow.accountOf(account)
    print(f"escrow account     {shown(available, market.token)} available")
    print(f"                   {shown(locked, market.token)} locked in tasks")
    credit, set_aside = escrow.payeeOf(account)
    fee = escrow.protocolFeeBps()
    print(f"credit earned      {shown(credit, market.token)} (withdrawal pays {fee / 100:g} % fee)")
    print(f"credit is paid to  {escrow.payoutAddressOf(account)}")
    if set_aside:
        aside = shown(set_aside, market.token)
        print(f"fees set aside     {aside} (`brownie run withdraw_credit share_fees`)")
    fees = staking.feesOf(account)
    if fees:
        print(f"commission earned  {shown(fees, market.token)} (`brownie run claim_rewards`)")
    bounty = staking.bountyOf(account)
    if bounty:
        print(f"bounty earned      {shown(bounty, market.staking_token)}")
    print(f"wallet             {shown(market.token.balanceOf(account), market.token)}")
