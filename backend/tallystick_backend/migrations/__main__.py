"""Writes a migration for what the tables have and the newest migration does not.

    python -m tallystick_backend.migrations "add the price of a call"

Read what it wrote before you commit it: Alembic takes a renamed column for a lost and a new one.
"""

from __future__ import annotations

import sys

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from tallystick_backend.migrations.run import config, upgrade


def main(message: str) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        upgrade(connection)
        settings = config(connection)
        number = len(list(ScriptDirectory.from_config(settings).walk_revisions())) + 1
        command.revision(settings, message=message, autogenerate=True, rev_id=f"{number:04d}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m tallystick_backend.migrations "what changes"')
    main(sys.argv[1])
