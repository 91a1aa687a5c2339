"""`tallystick key`: API keys for programs without a wallet."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.cli.command import Act, command
from tallystick.client import Scope

app = typer.Typer(name="key", help="API keys for programs without a wallet.", no_args_is_help=True)


@command(app, "create")
def create(
    act: Act,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    write: Annotated[
        bool, typer.Option("--write", help="May also cancel and accept, not only read.")
    ] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="May also call apps, within the limits on it.")
    ] = False,
) -> None:
    """Make an API key. Its secret is shown once."""
    scopes: list[Scope] = ["tasks:read"]
    if write:
        scopes.append("tasks:write")
    if calls:
        scopes.append("calls")
    key = act.client.create_api_key(name, scopes)
    act.out.data(key)
    act.out.raw(f"{key.secret}\n")
    act.out.say(f"Key {key.id} ({', '.join(key.scopes)}). The secret is not shown again.")


@command(app, "list")
def list_keys(act: Act) -> None:
    """Your API keys, without their secrets."""
    keys = act.client.list_api_keys()
    act.out.data(keys)
    act.out.table(
        ("ID", "NAME", "BEGINS", "SCOPES"),
        [(k.id, k.name, k.prefix, ", ".join(k.scopes)) for k in keys],
        empty="No API keys. Make one: tallystick key create NAME",
    )


@command(app, "revoke")
def revoke(
    act: Act,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `key list` shows it.")],
) -> None:
    """Make an API key useless, at once."""
    act.client.revoke_api_key(key_id)
    act.out.data({"id": key_id, "revoked": True})
    act.out.say(f"Key {key_id} is revoked.")
