"""How a call travels between gateway and provider: one JSON body and the bytes that go with it.

kind (1 byte) | length of the JSON (4 bytes, big-endian) | JSON | content

b"Q"  CallRequestBody   + the input              gateway -> provider
b"P"  nothing           + one piece of a result  provider -> gateway, in order, before the answer
b"A"  CallAnswerBody    + the result             the last frame; behind pieces it carries no
                                                 content: they were the result
b"R"  CallRefusalBody                            the last frame, instead of an answer; what pieces
                                                 came before it is no result

Pieces come of a stream as they are made, and of any answer that is longer than a message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, cast

from tallystick.protocol.errors import WireError
from tallystick.protocol.wire import WireModel

__all__ = ["ANSWER", "PIECE", "REFUSAL", "REQUEST", "Frame", "FrameKind", "pack", "unpack"]

FrameKind = Literal[b"Q", b"P", b"A", b"R"]
REQUEST: Final[FrameKind] = b"Q"
PIECE: Final[FrameKind] = b"P"
ANSWER: Final[FrameKind] = b"A"
REFUSAL: Final[FrameKind] = b"R"

_HEAD: Final = struct.Struct(">cI")
_KINDS: Final = frozenset((REQUEST, PIECE, ANSWER, REFUSAL))


@dataclass(frozen=True, slots=True)
class Frame:
    kind: FrameKind
    body: bytes
    """JSON, not looked at yet: `wire.parse` it as what `kind` says."""
    content: bytes


def pack(kind: FrameKind, body: WireModel | bytes | None = None, content: bytes = b"") -> bytes:
    """`body` may be JSON already (`call_codec`)."""
    text = body.model_dump_json().encode() if isinstance(body, WireModel) else body or b""
    return _HEAD.pack(kind, len(text)) + text + content


def unpack(data: bytes) -> Frame:
    """Raises `WireError` for what is not one whole frame."""
    if len(data) < _HEAD.size:
        raise WireError(f"a frame of {len(data)} bytes has no head of {_HEAD.size}")
    kind, length = _HEAD.unpack_from(data)
    if kind not in _KINDS:
        raise WireError(f"a frame begins with {kind!r}, which is no kind: use Q, P, A or R")
    end = _HEAD.size + length
    if end > len(data):
        raise WireError(f"a frame says {length} bytes of JSON and has {len(data) - _HEAD.size}")
    return Frame(cast(FrameKind, kind), data[_HEAD.size : end], data[end:])
