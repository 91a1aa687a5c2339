"""Page cursors: opaque to callers, bound to the list they came from, checked when they return."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import Annotated, Any, Final

from fastapi import Query

from tallystick_backend.access import Seals
from tallystick_backend.api.refusals import BadCursor

_MAC_BYTES: Final = 16
MAX_LIMIT: Final = 200

Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=1000,
        description="`next_cursor` of the page before; only good with the same filters.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page.")]


def make_cursor(seals: Seals, of: str, place: list[Any]) -> str:
    """`of` names the list with its filters and its reader; `place` is the last item seen."""
    text = json.dumps(place, separators=(",", ":"))
    raw = seals.mac("cursor", of, text)[:_MAC_BYTES] + text.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def open_cursor(seals: Seals, of: str, cursor: str) -> list[Any]:
    """Raises `BadCursor` for anything that `make_cursor` did not make for this very list."""
    try:
        encoded = cursor.encode("ascii")
        raw = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True)
        text = raw[_MAC_BYTES:].decode("utf-8")
    except (UnicodeError, binascii.Error, ValueError):
        raise BadCursor from None
    if not hmac.compare_digest(seals.mac("cursor", of, text)[:_MAC_BYTES], raw[:_MAC_BYTES]):
        raise BadCursor
    place: list[Any] = json.loads(text)
    return place
