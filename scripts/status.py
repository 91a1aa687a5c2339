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
    if unbonding:
        print(f"unbonding          {shown(unbonding, market.staking_token)}")
        for request_id in range(staking.unbondRequestsOf(account)):
            units, withdrawable_at = staking.unbondRequest(account, request_id)
            if units:
                amount = shown(units, market.staking_token)
                print(f"  request {request_id}        {amount} from {when(withdrawable_at)}")
    signs_for, retired_at = staking.operatorKey(account)
    if signs_for != ZERO_ADDRESS:
        retired = f", retired {when(retired_at)}" if retired_at else ""
        print(f"operator key       of {signs_for}{retired}")

    available, locked = escrow.accountOf(account)
    print(f"escrow account     {shown(available, market.token)} available")
    print(f"                   {shown(locked, market.token)} locked in tasks")
    credit, _ = escrow.payeeOf(account)
    fee = escrow.protocolFeeBps()
    print(f"credit earned      {shown(credit, market.token)} (withdrawal pays {fee / 100:g} % fee)")
    print(f"credit is paid to  {escrow.payoutAddressOf(account)}")
    print(f"wallet             {shown(market.token.balanceOf(account), market.token)}")
