"""`python -m tallystick.app serve`: the container's command.

    --project DIR    where tallystick.toml and the handler are; default: here
    --socket PATH    listen on a Unix socket; default: $TALLYSTICK_SOCKET
    --port PORT      listen on 127.0.0.1 instead; 0 takes a free one

Ends with 0 after SIGTERM, 1 when the warm-up fails, 2 when there is nothing to serve. The log is on
stderr, a JSON document a line; what the handler prints stays on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tallystick.app.problems import ProjectError
from tallystick.app.project import read_project

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        # The server is an extra: without it the sentence below is better than a traceback.
        from tallystick.app import serving
    except ModuleNotFoundError as missing:
        return _refuse(f"{missing.name} is not installed: pip install 'tallystick[app]'")
    serving.log_to_stderr(as_json=True)
    path = given.socket or os.environ.get(serving.SOCKET_VARIABLE)
    try:
        project = read_project(given.project)
        if given.port is None and not path:
            raise ProjectError(
                f"where to listen? give --socket PATH or --port PORT, or set "
                f"{serving.SOCKET_VARIABLE}"
            )
        entry = serving.load_entry(project)
        listener = (
            serving.listen_on_port(given.port)
            if given.port is not None
            else serving.listen_on_socket(Path(str(path)))
        )
    except ProjectError as problem:
        return _refuse(str(problem))
    place = listener.getsockname()
    serving.log.info(
        "worker_listening",
        extra={"address": place if isinstance(place, str) else f"http://{place[0]}:{place[1]}"},
    )
    return serving.serve(project, entry, listener)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tallystick.app")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer calls until SIGTERM")
    serve.add_argument("--project", type=Path, default=Path(), metavar="DIR")
    place = serve.add_mutually_exclusive_group()
    place.add_argument("--socket", metavar="PATH")
    place.add_argument("--port", type=int, metavar="PORT")
    return parser


def _refuse(sentence: str) -> int:
    print(f"Error: {sentence}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
