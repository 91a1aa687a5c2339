"""`tallystick-backend`: serve, migrate, reindex, nats-config, openapi, settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tallystick.protocol.errors import ProtocolError
from tallystick_backend import __version__
from tallystick_backend import logging as logs
from tallystick_backend.dispatch import nats_config as bus_config
from tallystick_backend.errors import BackendError
from tallystick_backend.settings import PREFIX, Settings
from tallystick_backend.store.repositories import chain as chain_rows
from tallystick_backend.store.session import Database

cli = typer.Typer(
    help="The Tallystick backend. Settings come from TALLYSTICK_BACKEND_... variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@cli.command()
def serve() -> None:
    """Run HTTP, index and dispatch in this process, until SIGTERM or Ctrl-C."""
    settings = Settings.from_environment(os.environ)
    logs.configure(settings.log_level, as_json=settings.log_json)
    # What is missing shows here, as a sentence, and not from inside a half-started server.
    settings.read_dispatcher_key()

    # The other commands do without: to read all of it takes seconds.
    from tallystick_backend import server

    server.run(settings)


@cli.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database's schema up to date."""
    settings = Settings.from_environment(os.environ)

    async def upgrade() -> None:
        database = Database(settings.database_url)
        try:
            await database.migrate()
        finally:
            await database.close()

    asyncio.run(upgrade())
    _say({"migrated": True}, "The schema is up to date.", as_json=as_json)


@cli.command()
def reindex(as_json: AsJson = False) -> None:
    """Forget what the chain said; the next start reads it again from the first block.

    Orders, leases and receipts stay. Stop the backend before.
    """
    settings = Settings.from_environment(os.environ)

    async def forget() -> None:
        database = Database(settings.database_url)
        try:
            await database.migrate()
            async with database.transaction() as session:
                await chain_rows.forget_everything(session)
        finally:
            await database.close()

    asyncio.run(forget())
    _say({"forgotten": True}, "The next start reads the chain again.", as_json=as_json)


@cli.command("nats-config")
def nats_config(
    new_seed: Annotated[
        bool, typer.Option("--new-seed", help="Print a new issuer seed instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the configuration of nats-server for this backend; it holds public keys only."""
    if new_seed:
        seed = bus_config.new_issuer_seed()
        _say({"issuer_seed": seed}, seed, as_json=as_json)
        return
    settings = Settings.from_environment(os.environ)
    url = urlsplit(settings.nats_url)
    text = bus_config.render(
        bus_config.bus_keys_of(settings), address=url.hostname or "127.0.0.1", port=url.port or 4222
    )
    _say({"config": text}, text.rstrip("\n"), as_json=as_json)


@cli.command()
def openapi(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead.")
    ] = None,
) -> None:
    """Print the OpenAPI document (JSON)."""
    document = openapi_text()
    if output is None:
        sys.stdout.write(document)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(document, encoding="utf-8")


@cli.command()
def settings(as_json: AsJson = False) -> None:
    """List every setting: variable, default, meaning."""
    found = setting_rows()
    lines = [
        f"{row['variable']} = {row['default'] or '(empty)'}\n    {row['help']}" for row in found
    ]
    _say({"settings": found}, "\n".join(lines), as_json=as_json)


@cli.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    _say({"version": __version__}, __version__, as_json=as_json)


def openapi_text() -> str:
    """The document as it lies in docs/reference/openapi.json."""
    from tallystick_backend.app import http_app

    document = http_app(Settings()).openapi()
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def setting_rows() -> list[dict[str, str]]:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default in (None, ()) else str(default)
        if isinstance(default, bool):
            shown = shown.lower()
        rows.append(
            {"variable": PREFIX + name.upper(), "default": shown, "help": field.description or ""}
        )
    return rows


def _say(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)


def main() -> None:
    """Errors of ours are two sentences on stderr and exit status 1."""
    try:
        cli()
    except (BackendError, ProtocolError) as error:
        advice = getattr(error, "next_step", "")
        sys.exit(f"tallystick-backend: {error}." + (f" {advice}" if advice else ""))


if __name__ == "__main__":
    main()
