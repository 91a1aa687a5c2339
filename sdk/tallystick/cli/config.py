"""`tallystick config` and `tallystick context`: settings on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.cli.command import Act, command
from tallystick.config import (
    SETTABLE,
    read_config_file,
    shown,
    using_context,
    with_setting,
    without_context,
    write_config_file,
)

app = typer.Typer(name="config", help="Settings on this machine.", no_args_is_help=True)
contexts = typer.Typer(
    name="context", help="Named sets of settings, one per market.", no_args_is_help=True
)
ContextName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the context.")]


@command(app, "show")
def show(act: Act) -> None:
    """The settings in force, joined from options, environment and file. Secrets are not shown."""
    settings = shown(act.config())
    path = str(read_config_file().path)
    act.out.data({"file": path, **settings})
    act.out.facts({"file": path, **settings})


@command(app, "set")
def set_value(
    act: Act,
    key: Annotated[str, typer.Argument(metavar="KEY", help=f"One of: {', '.join(SETTABLE)}.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.")],
) -> None:
    """Write one setting into the current context, or the one named by --context."""
    file = read_config_file()
    name = act.context or file.current or "default"
    write_config_file(with_setting(file, name, key, value))
    act.out.data({"context": name, key: value, "file": str(file.path)})
    act.out.say(f"{key} is set in context {name} ({file.path}).")


@command(contexts, "list")
def list_contexts(act: Act) -> None:
    """The contexts there are; the current one is marked."""
    file = read_config_file()
    rows = [
        {"name": name, "current": name == file.current, "url": values.get("url")}
        for name, values in sorted(file.contexts.items())
    ]
    act.out.data(rows)
    act.out.table(
        ("", "NAME", "URL"),
        [("*" if row["current"] else "", row["name"], row["url"]) for row in rows],
        empty="No contexts. Make one: tallystick config set url URL --context NAME",
    )


@command(contexts, "use")
def use(act: Act, name: ContextName) -> None:
    """Make a context the current one."""
    file = using_context(read_config_file(), name)
    write_config_file(file)
    act.out.data({"current": name})
    act.out.say(f"The current context is {name}.")


@command(contexts, "remove")
def remove(act: Act, name: ContextName) -> None:
    """Forget a context. Key files stay."""
    write_config_file(without_context(read_config_file(), name))
    act.out.data({"removed": name})
    act.out.say(f"Context {name} is gone.")
