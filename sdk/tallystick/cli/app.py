"""The command tree, joined in one place."""

from __future__ import annotations

import typer

from tallystick.cli import (
    access,
    apps,
    calls,
    config,
    dev,
    key,
    market,
    projects,
    spending,
    task,
    wallet,
)
from tallystick.cli.command import command


def build() -> typer.Typer:
    app = typer.Typer(
        name="tallystick",
        help="Buy GPU compute, settled on a chain by receipts that both sides signed.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    command(app, "submit")(task.submit)
    command(app, "call")(calls.call)
    for noun in (
        task.app,
        projects.app,
        calls.calls,
        calls.receipts,
        spending.allowances,
        spending.limits,
        apps.channels,
        wallet.app,
        market.app,
        key.app,
        config.app,
        config.contexts,
    ):
        app.add_typer(noun)
    command(app, "summary")(calls.summary)
    access.register(app)
    app.add_typer(dev.app, name="dev")
    return app
