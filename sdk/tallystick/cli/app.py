"""The command tree, joined in one place."""

from __future__ import annotations

import typer

from tallystick.cli import access, app_commands, config, dev, key, market, task, wallet
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
    for noun in (task.app, app_commands.app, wallet.app, market.app, key.app):
        app.add_typer(noun)
    for noun in (config.app, config.contexts):
        app.add_typer(noun)
    access.register(app)
    app.add_typer(dev.app, name="dev")
    return app
