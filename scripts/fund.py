"""Send tokens of the deployment to somebody, for instance to a new provider or consumer.

    brownie run fund main 0xAccount 1000 --network tallystick       1000 whole tokens

Sends from the account that support.py chooses; on a local chain the deployer holds the supply.
"""

from __future__ import annotations

from scripts.support import (
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
def main(to: str = "", amount: str = "") -> None:
    if not to or not amount:
        raise ScriptError("whom, and how much? `brownie run fund main 0xAccount 1000`")
    token = deployment().token
    sender = signer()
    receiver = address_of(to, "account")
    units = amount_of(amount, token.decimals())
    require_gas_money(sender)
    require_balance(token, sender, units)
    token.transfer(receiver, units, {"from": sender})
    held = token.balanceOf(receiver)
    print(f"{receiver} received {shown(units, token)} and holds {shown(held, token)}")
