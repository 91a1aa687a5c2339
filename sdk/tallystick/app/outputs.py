"""What a handler may return, as the bytes that are sent: their hash is the receipt's `result`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tallystick.app.problems import Failure

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes with a media type, such as `Answer(png, "image/png")`."""

    content: bytes
    media_type: str = BYTES

    def __post_init__(self) -> None:
        kind, slash, rest = self.media_type.partition("/")
        plain = self.media_type.isascii() and self.media_type.isprintable()
        if not (kind and slash and rest and plain):
            raise ValueError(f"{self.media_type!r} is no media type, such as 'image/png'")


def answer_of(output: object) -> Answer:
    """Bytes as they are, everything else as JSON."""
    match output:
        case Answer():
            return output
        case bytes() | bytearray() | memoryview():
            return Answer(bytes(output))
        case _:
            return Answer(json_bytes(output), JSON)


def json_bytes(output: object) -> bytes:
    """Raises `Failure` for what JSON cannot say, NaN and infinity among it."""
    try:
        return _ENCODER.encode(output).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise Failure(
            "output_not_json",
            f"The handler returned {type(output).__name__}, which cannot be sent as JSON: "
            f"{_why(problem)}.",
            "A handler returns JSON values (dict, list, str, numbers, bool, None), bytes or an "
            "Answer.",
        ) from problem


def _why(problem: Exception) -> str:
    """Names a type at most: values stay inside."""
    if isinstance(problem, TypeError):
        return str(problem)
    if isinstance(problem, UnicodeEncodeError):
        return "a text holds half a character"
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    return "a number is NaN or infinite, or it contains itself"


def read_json(body: bytes) -> Any:
    """Refuses what JSON readers disagree about: names given twice, NaN and infinity."""
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as problem:
        raise Failure(
            "malformed_body",
            f"The body is not one JSON document: {problem}.",
            "Send the call's input as JSON in UTF-8.",
        ) from problem


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is given twice")
    return content


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


# Made once: `json.dumps` and `json.loads` make one for every call that has settings of its own.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
