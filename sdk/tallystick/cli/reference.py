"""Writes docs/reference/cli.md from the command tree: `python -m tallystick.cli.reference [FILE]`.

With --check it only compares and says what to run; the tests do the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from tallystick.cli import exits
from tallystick.cli.app import build

DEFAULT = Path("docs/reference/cli.md")
_SHARED = ("--json", "--verbose", "--context", "--url")

_INTRODUCTION = """\
# Command line

Generated from the program by `python -m tallystick.cli.reference`; do not edit by hand.

`tallystick NOUN VERB`. Data goes to stdout and words for people to stderr, so output can be piped
as it is. Every command takes these options:

| option | meaning |
|---|---|
| `--json` | Print data for programs: a JSON document, or one a line (`task logs`, `watch`). |
| `--verbose` | Show tracebacks of errors. |
| `--context NAME` | Settings to use; see [`tallystick context`](#tallystick-context). |
| `--url URL` | Backend to speak to. |
| `--help`, `-h` | Show the help of a command. |

With `--json` an error is a document too: `{"error": {"code", "sentence", "next_step", "values"}}`.

## Exit codes

{exit_codes}

`task wait`, `submit --wait` and `task watch` exit with 1 when the task ends without a result;
`task result` and `submit --to` also when the script's own exit code is not 0.

## Shell completion

```sh
eval "$(tallystick completion bash)"          # in ~/.bashrc
eval "$(tallystick completion zsh)"           # in ~/.zshrc
tallystick completion fish > ~/.config/fish/completions/tallystick.fish
```

`tallystick --install-completion` does it for the shell it runs in.

## Commands
"""


def reference() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(build())
    codes = "\n".join(
        ["| code | meaning |", "|---|---|"]
        + [f"| {code} | {meaning} |" for code, meaning in exits.MEANINGS.items()]
    )
    parts = [_INTRODUCTION.replace("{exit_codes}", codes)]
    parts += _group(root, "tallystick")
    return "\n".join(parts).rstrip() + "\n"


def _group(group: Any, path: str) -> Iterator[str]:
    plain = {name: c for name, c in group.commands.items() if not hasattr(c, "commands")}
    nested = {name: c for name, c in group.commands.items() if hasattr(c, "commands")}
    for name, command in plain.items():
        yield from _command(command, f"{path} {name}")
    for name, command in nested.items():
        yield f"## {path} {name}\n\n{_text(command.help)}\n"
        yield from _group(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    parameters = [p for p in command.params if not _is_shared(p)]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    yield f"### {path}\n\n{_text(command.help)}\n\n```\n{usage}\n```\n"
    if not arguments and not options:
        return
    rows = [f"| `{_cell(_argument(a))}` | {_cell(_text(a.help))} |" for a in arguments]
    rows += [f"| `{_cell(_option(o))}` | {_cell(_help(o))} |" for o in options]
    yield "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def _is_shared(parameter: Any) -> bool:
    return any(name in _SHARED or name == "--help" for name in parameter.opts)


def _argument(argument: Any) -> str:
    choices = get_args(argument.type_descriptor.annotation)
    if get_origin(argument.type_descriptor.annotation) is Literal:
        return f"[{'|'.join(choices)}]"
    name = (argument.metavar or argument.name).upper().strip("[]").removesuffix("...")
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if option.is_flag:
        return names
    return f"{names} {option.metavar or _value(option.type_descriptor.annotation)}"


def _value(annotation: Any) -> str:
    """How a value is written: its choices, or what kind it is."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return {int: "NUMBER"}.get(annotation, "TEXT")


def _help(option: Any) -> str:
    text = _text(option.help)
    default = option.default
    if isinstance(default, Enum):
        default = default.value
    plain = isinstance(default, str | int) and not isinstance(default, bool) and default != ""
    if plain and "default" not in text:
        text += f" Default: `{default}`."
    return text + (" May be repeated." if option.multiple else "")


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    only_check = "--check" in arguments
    paths = [Path(a) for a in arguments if not a.startswith("-")]
    path, page = (paths or [DEFAULT])[0], reference()
    if only_check:
        if path.exists() and path.read_text(encoding="utf-8") == page:
            return exits.DONE
        print(f"{path} is not current: run `python -m tallystick.cli.reference`", file=sys.stderr)
        return exits.FAILED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return exits.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
