"""What every command has: --json, --verbose, --context, --url, and one way to fail.

`command(app, "name")` registers a function whose first argument is an `Act`; the shared options are
added to its own, so they may stand anywhere on the line and every help text shows them.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from tallystick.cli import exits
from tallystick.cli.output import Output
from tallystick.config import Config, load_config
from tallystick.errors import TallystickError
from tallystick.sync import GPUClient

P = ParamSpec("P")
MakeClient = Callable[[Config], GPUClient]

OwnKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--own-key",
        metavar="FILE",
        help="A session key that you keep: your channels by it pay, and you sign for each call.",
    ),
]

_PANEL = "Shared options"
_SHARED = {
    "as_json": Annotated[
        bool, typer.Option("--json", help="Print data for programs.", rich_help_panel=_PANEL)
    ],
    "verbose": Annotated[
        bool,
        typer.Option("--verbose", help="Show tracebacks of errors.", rich_help_panel=_PANEL),
    ],
    "context_name": Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            help="Settings to use; see `tallystick context`.",
            rich_help_panel=_PANEL,
        ),
    ],
    "url": Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Backend to speak to.", rich_help_panel=_PANEL),
    ],
}
_DEFAULTS = {"as_json": False, "verbose": False, "context_name": None, "url": None}


class Act:
    """One run of one command."""

    def __init__(
        self, out: Output, make_client: MakeClient | None, context: str | None, url: str | None
    ) -> None:
        self.out = out
        self.context = context
        self._url = url
        self._make_client = make_client or (lambda config: GPUClient(config=config))
        self._client: GPUClient | None = None
        self.own_key: Path | None = None
        """A file named for this run alone."""

    def config(self) -> Config:
        return load_config(context=self.context, url=self._url, own_key_file=self.own_key)

    @property
    def client(self) -> GPUClient:
        if self._client is None:
            self._client = self._make_client(self.config())
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[Concatenate[Act, P], None]], Callable[Concatenate[Act, P], None]]:
    """Registers a command. Errors of ours end in a sentence, its next step and an exit code."""

    def register(
        function: Callable[Concatenate[Act, P], None],
    ) -> Callable[Concatenate[Act, P], None]:
        @functools.wraps(function)
        def run(typer_context: typer.Context, **given: Any) -> None:
            shared = {key: given.pop(key) for key in _SHARED}
            out = Output(as_json=shared["as_json"])
            make_client = typer_context.find_root().obj
            act = Act(out, make_client, shared["context_name"], shared["url"])
            code = _perform(function, act, given, verbose=shared["verbose"])
            if code != exits.DONE:
                raise typer.Exit(code)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter("typer_context", keyword, annotation=typer.Context),
            *(parameter.replace(kind=keyword) for parameter in own),
            *(
                inspect.Parameter(key, keyword, default=_DEFAULTS[key], annotation=annotation)
                for key, annotation in _SHARED.items()
            ),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, **settings)(run)
        return function

    return register


def _perform(
    function: Callable[..., None], act: Act, given: dict[str, Any], *, verbose: bool
) -> int:
    try:
        function(act, **given)
    except TallystickError as error:
        _tell(act.out, error, verbose)
        return exits.exit_code(error)
    except KeyboardInterrupt:
        act.out.say("Interrupted. Submitted tasks go on by themselves.")
        return exits.INTERRUPTED
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as fault:
        if verbose:
            traceback.print_exc()
        act.out.say(f"Unexpected error: {type(fault).__name__}: {fault}")
        act.out.say("This is a fault of the program; run it with --verbose and report the trace.")
        return exits.FAILED
    finally:
        act.close()
    return exits.DONE


def _tell(out: Output, error: TallystickError, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()
    out.data(
        {
            "error": {
                "code": error.code,
                "sentence": error.sentence,
                "next_step": error.next_step,
                "values": error.values,
            }
        }
    )
    out.say(f"Error: {error.sentence}")
    if error.next_step:
        out.say(error.next_step)
