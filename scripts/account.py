"""Money in the escrow that is yours: pay it in, take it out.

    brownie run account --network tallystick                     what is there
    brownie run account deposit 20 --network tallystick          20 whole tokens out of the wallet
    brownie run account deposit 20 0xOther --network tallystick  a gift to another's account
    brownie run account withdraw 20 --network tallystick         back, at once
    brownie run account withdraw 20 0xCold... --network tallystick    to another address

Tasks and channels are paid out of what is available. What is locked in tasks comes back when they
end. What a provider has earned is credit, and leaves by `brownie run withdraw_credit`.
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


@command
def main(account: str = "") -> None:
    market = deployment()
    describe(market, address_of(account, "account") if account else str(signer()))


@command
def deposit(amount: str = "", to: str = "") -> None:
    if not amount:
        raise ScriptError("how much? `brownie run account deposit 20`")
    market, payer = deployment(), signer()
    units = amount_of(amount, market.token.decimals())
    receiver = address_of(to, "account") if to else payer.address
    require_gas_money(payer)
    require_balance(market.token, payer, units)
    if market.token.allowance(payer, market.escrow) < units:
        market.token.approve(market.escrow, units, {"from": payer})
    market.escrow.deposit(receiver, units, {"from": payer})
    describe(market, receiver)


@command
def withdraw(amount: str = "", to: str = "") -> None:
    if not amount:
        raise ScriptError("how much? `brownie run account withdraw 20`")
    market, owner = deployment(), signer()
    units = amount_of(amount, market.token.decimals())
    receiver = address_of(to, "recipient") if to else owner.address
    available, _ = market.escrow.accountOf(owner)
    if available < units:
        raise ScriptError(
            f"{owner} has {shown(available, market.token)} available in the escrow, not"
            f" {shown(units, market.token)}: what is locked in tasks or lies in channels comes back"
            " when they end"
        )
    require_gas_money(owner)
    market.escrow.withdraw(units, receiver, {"from": owner})
    print(f"{shown(units, market.token)} paid to {receiver}")
    describe(market, owner.address)


def describe(market: Deployment, account: str) -> None:
    available, locked = market.escrow.accountOf(account)
    print(f"escrow account of {account}")
    print(f"  available        {shown(available, market.token)}")
    print(f"  locked in tasks  {shown(locked, market.token)}")
