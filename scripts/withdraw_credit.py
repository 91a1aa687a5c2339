"""Pay out what a provider, dispatcher or app owner has earned.

    brownie run withdraw_credit --network tallystick                the sender's own credit
    brownie run withdraw_credit main 0xAbc... --network tallystick  another payee's; anyone may send
    brownie run withdraw_credit set_payout 0xCold... --network tallystick
                                        from now on pay to that address, which alone can change it
    brownie run withdraw_credit share_fees --network tallystick
                                        the fees of those withdrawals, to pool and treasury

Money always goes to the payee's payout address, whoever sends the transaction. Fees set aside reach
the payee's delegators only by `share_fees`, which anyone may send for anyone: `brownie run
withdraw_credit share_fees 0xProvider`.
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
def main(payee: str = "") -> None:
    market = deployment()
    sender = signer()
    account = address_of(payee, "payee") if payee else sender.address
    credit, _ = market.escrow.payeeOf(account)
    if credit == 0:
        print(f"{account} has no credit to withdraw")
        return
    require_gas_money(sender)
    event = market.escrow.withdrawCredit(account, [], {"from": sender}).events["CreditWithdrawn"]
    print(
        f"{shown(event['paid'], market.token)} paid to {event['to']},"
        f" {shown(event['fee'], market.token)} protocol fee"
    )


@command
def set_payout(payout: str = "", payee: str = "") -> None:
    if not payout:
        raise ScriptError("to which address? `brownie run withdraw_credit set_payout 0xCold...`")
    market = deployment()
    sender = signer()
    account = address_of(payee, "payee") if payee else sender.address
    present = market.escrow.payoutAddressOf(account)
    if present != sender.address:
        raise ScriptError(f"credit of {account} goes to {present}, which alone may change that")
    require_gas_money(sender)
    market.escrow.setPayoutAddress(account, address_of(payout, "payout"), {"from": sender})
    print(f"credit of {account} goes to {market.escrow.payoutAddressOf(account)} from now on")


@command
def share_fees(payee: str = "") -> None:
    market = deployment()
    sender = signer()
    account = address_of(payee, "payee") if payee else sender.address
    _, fees = market.escrow.payeeOf(account)
    if fees == 0:
        print(f"no fees of {account} are set aside: they come when its credit is withdrawn")
        return
    require_gas_money(sender)
    event = market.escrow.shareFees(account, {"from": sender}).events["FeesShared"]
    print(
        f"{shown(event['toPool'], market.token)} to the pool of {account},"
        f" {shown(event['toTreasury'], market.token)} to the treasury"
    )
