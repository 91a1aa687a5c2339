"""`tallystick`: the market from the command line."""

from __future__ import annotations


def main() -> None:
    """Entry point. Loads the commands here, so that importing the package costs nothing."""
    from tallystick.cli.app import build

    build()(prog_name="tallystick")
