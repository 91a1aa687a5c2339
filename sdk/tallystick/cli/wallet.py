"""`tallystick wallet`: the money and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tallystick.cli.command import Act, command
from tallystick.cli.key_files import write_new_key
from tallystick.config import read_config_file, with_setting, write_config_file
from tallystick.protocol.signatures import address_of

app = typer.Typer(name="wallet", help="Balance, deposits and your key.", no_args_is_help=True)

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="In tokens, such as 12.5.")]


@command(app, "balance")
def balance(
    act: Act,
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="Another account than yours.")
    ] = None,
) -> None:
    """What is in the wallet, available in the escrow, and reserved for open tasks."""
    held = act.client.balance(address)
    act.out.data(held.to_json())
    act.out.facts(
        {
            "address": held.address,
            "wallet": held.wallet,
            "available": held.available,
            "reserved": held.reserved,
            "credit": held.credit if held.credit.units else None,
        }
    )


@command(app, "deposit")
def deposit(act: Act, amount: Amount) -> None:
    """Move tokens from the wallet into the escrow, where tasks are paid from."""
    sent = act.client.deposit(amount)
    act.out.data(sent.to_json())
    act.out.say(f"Deposited {amount} in transaction {sent.tx} ({sent.gas_used} gas).")


@command(app, "withdraw")
def withdraw(
    act: Act,
    amount: Amount,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="Other receiver than the wallet.")
    ] = None,
) -> None:
    """Move available tokens out of the escrow, at once."""
    sent = act.client.withdraw(amount, to)
    act.out.data(sent.to_json())
    act.out.say(f"Withdrew {amount} in transaction {sent.tx} ({sent.gas_used} gas).")


@command(app, "address")
def address(act: Act) -> None:
    """The address of your key."""
    act.out.data({"address": act.client.address})
    act.out.raw(f"{act.client.address}\n")


@command(app, "create")
def create(
    act: Act,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Where to write the key.")
    ] = None,
) -> None:
    """Make a new key in a file that only you can read, and use it in the current context."""
    file = read_config_file()
    name = act.context or file.current or "default"
    place = (path or file.path.parent / f"{name}.key").expanduser()
    key = write_new_key(place)
    write_config_file(with_setting(file, name, "key_file", str(place)))
    made = {"address": address_of(key), "key_file": str(place), "context": name}
    act.out.data(made)
    act.out.facts(made)
    act.out.say("Back the file up: whoever has it has the money, and nobody can restore it.")
