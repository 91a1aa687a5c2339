"""A row of the gateway's journal as text, a line for each thing that happened:

    record <channel> <record>   of a channel: `tallystick.protocol.call_journal`
    begun <values>              a new row of `call`
    changed <values>            columns of one
    spent <values>              a row of `spend`

Values are JSON by column; bytes are base64 under `{"base64": ...}`, documents are their own text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import PayingRecord, Record
from tallystick.protocol.errors import WireError

Values = dict[str, Any]

RECORD: Final = "record"
BEGUN: Final = "begun"
CHANGED: Final = "changed"
SPENT: Final = "spent"


def records(channel_id: str, of: Sequence[PayingRecord]) -> list[str]:
    return [f"{RECORD} {channel_id} {call_journal.to_json(one).decode()}" for one in of]


def begun(values: Values) -> str:
    return f"{BEGUN} {_to_json(values)}"


def changed(values: Values) -> str:
    return f"{CHANGED} {_to_json(values)}"


def spent(values: Values) -> str:
    return f"{SPENT} {_to_json(values)}"


def read(body: str) -> Iterator[tuple[str, str, Any]]:
    """Kind, channel (of a record), and a `Record` or values. Raises `WireError` for a line that is
    none of these."""
    for line in body.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind == RECORD:
            channel_id, _, text = rest.partition(" ")
            record: Record = call_journal.from_json(text.encode())
            yield kind, channel_id, record
        elif kind in (BEGUN, CHANGED, SPENT):
            yield kind, "", _from_json(rest)
        else:
            raise WireError(f"the gateway's journal has a line that is none: {line[:80]!r}")


_encode = json.JSONEncoder(
    separators=(",", ":"),
    check_circular=False,
    default=lambda value: {"base64": base64.b64encode(value).decode()},
).encode


def _to_json(values: Values) -> str:
    return _encode(values)


def _from_json(text: str) -> Values:
    try:
        values = json.loads(text)
    except ValueError as failure:
        raise WireError(f"the gateway's journal has a broken line: {failure}") from failure
    if not isinstance(values, dict):
        raise WireError(f"the gateway's journal has a line without columns: {text[:80]!r}")
    return {name: _bytes(value) for name, value in values.items()}


def _bytes(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    return value
