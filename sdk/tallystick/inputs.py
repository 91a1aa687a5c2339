"""A call's input as people write it on a command line.

-i name=world           text; what reads as JSON is that: steps=20, tiled=true, sizes=[1,2]
-i 'name="20"'          text that would read as a number
-i prompt=@poem.txt     a file's text
-i image=@cat.png       any other file as a data: URI, its bytes in base64
-i @input.json          the whole input from a JSON file; `@-` reads it from standard input
"""

from __future__ import annotations

import base64
import json
import mimetypes
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tallystick.errors import InvalidRequest

MAX_FILE_BYTES: Final = 48 * 1024 * 1024
"""In base64 that is the 64 MiB that no app takes more than."""


def call_input(
    texts: Sequence[str], *, read_standard_input: Callable[[], bytes] | None = None
) -> Any:
    """One `-i` each. Raises `InvalidRequest` with the one at fault."""
    whole = [text for text in texts if text.startswith("@")]
    if whole:
        if len(texts) > 1:
            raise InvalidRequest(
                f"{whole[0]} is a whole input, and there are {len(texts) - 1} more.",
                next_step="Give one file alone, or name=value for each part.",
            )
        return _whole(whole[0][1:], read_standard_input or sys.stdin.buffer.read)
    content: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InvalidRequest(
                f"The input {text!r} has no name or no value.",
                next_step="Write -i name=value, -i name=@file or -i @input.json.",
            )
        if name in content:
            raise InvalidRequest(
                f"The input {name!r} is given twice.",
                next_step=f"Write it once; a list is -i '{name}=[1, 2]'.",
            )
        content[name] = _file(Path(value[1:])) if value.startswith("@") else _value(value)
    return content


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


def _file(path: Path) -> str:
    content = _read(path)
    try:
        return content.decode()
    except UnicodeDecodeError:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _whole(name: str, read_standard_input: Callable[[], bytes]) -> Any:
    content = read_standard_input() if name == "-" else _read(Path(name))
    try:
        return json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise InvalidRequest(
            f"{'Standard input' if name == '-' else name} is not JSON: {problem}.",
            next_step="A whole input is one JSON document.",
        ) from problem


def _read(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise InvalidRequest(
            f"The file {path} cannot be read: {problem.strerror or problem}.",
            next_step="Correct the name behind @.",
        ) from problem
    if len(content) > MAX_FILE_BYTES:
        raise InvalidRequest(
            f"The file {path} is larger than {MAX_FILE_BYTES} bytes.",
            next_step="Send a smaller one; no app takes more.",
        )
    return content
