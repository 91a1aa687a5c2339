"""The command tree, joined in one place."""

from __future__ import annotations

import importlib
import importlib.util

import typer

from tallystick.cli import access, config, key, market, task, wallet
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
    for noun in (task.app, wallet.app, market.app, key.app, config.app, config.contexts):
        app.add_typer(noun)
    access.register(app)
    if importlib.util.find_spec("tallystick.cli.dev") is not None:
        # The local market needs the repository's tools; it may be left out of an installation.
        app.add_typer(importlib.import_module("tallystick.cli.dev").app, name="dev")
    return app
