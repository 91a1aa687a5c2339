"""What either end of a channel writes down before it sends a message, and reads after a crash.

A transition of `serving` or `paying` answers the records; the caller makes them durable, in order,
and only then lets the message out. So a record that is missing after a crash was never sent, and a
state rebuilt from what is there is one that the other end has seen nothing beyond.

A checkpoint says in one record what all before it come to, so that those may go.

A journal that was lost, cut or restored from a copy breaks this. Give it a new beginning
(`journal_since_s`): the channels it knew before then sign nothing more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from tallystick.protocol.calls import CallAnswer, CallRequest, Link
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.errors import WireError
from tallystick.protocol.messages import Channel, Receipt
from tallystick.protocol.types import Digest

__all__ = [
    "Abandoned",
    "Accepted",
    "Asked",
    "GivenUp",
    "Opened",
    "PayingCheckpoint",
    "PayingRecord",
    "Record",
    "Served",
    "ServingCheckpoint",
    "ServingRecord",
    "VoucherSigned",
    "VoucherTaken",
    "from_json",
    "to_json",
]


@dataclass(frozen=True, slots=True)
class Opened:
    """The first record of a channel, at either end."""

    channel: Channel
    at_s: int


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Nothing is signed on the channel after this. `voucher` is a last one that may be worth more
    than those before."""

    why: str
    voucher: SignedVoucher | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A provider's signed receipt, with what goes back beside the result's bytes."""

    number: int
    request: CallRequest
    answer: CallAnswer

    @property
    def receipt(self) -> Receipt:
        return self.answer.signed.receipt


@dataclass(frozen=True, slots=True)
class VoucherTaken:
    """A provider holds it now."""

    signed: SignedVoucher


@dataclass(frozen=True, slots=True)
class ServingCheckpoint:
    """What all records of a provider's channel up to here come to; they may be forgotten then. It
    says what `Opened` said, and comes instead of it."""

    channel: Channel
    opened_at_s: int
    paid: Served | None
    """The last one with a voucher."""
    unpaid: tuple[Served, ...]
    voucher: SignedVoucher | None
    answered: int
    """The highest request with a receipt."""
    abandoned: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A payer's request. Without it a receipt that comes after a crash could not be checked."""

    number: int
    request: CallRequest
    ceiling: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A payer found this receipt good and owes its total."""

    number: int
    receipt: SignedReceipt
    digest: Digest


@dataclass(frozen=True, slots=True)
class VoucherSigned:
    """A payer's word for the receipt that it accepted last, and so for all before it."""

    signed: SignedVoucher


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A payer wants this request's answer no more: the call failed, or was repeated elsewhere."""

    number: int


@dataclass(frozen=True, slots=True)
class PayingCheckpoint:
    """A payer's end as its records so far made it; stands for all of them."""

    channel: Channel
    opened_at_s: int
    held: Link
    receipt: SignedReceipt | None
    voucher: SignedVoucher | None
    asked: tuple[Asked, ...]
    number: int
    abandoned: str


ServingRecord = Opened | Served | VoucherTaken | Abandoned | ServingCheckpoint
PayingRecord = Opened | Asked | Accepted | VoucherSigned | GivenUp | Abandoned | PayingCheckpoint
Record = ServingRecord | PayingRecord

_LINE: Final = re.compile(rb'\{"kind":"(?P<kind>\w+)","record":(?P<record>\{.*\})\}', re.ASCII)

_KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Opened,
        Served,
        VoucherTaken,
        ServingCheckpoint,
        Asked,
        Accepted,
        VoucherSigned,
        GivenUp,
        Abandoned,
        PayingCheckpoint,
    )
}


def to_json(record: Record) -> bytes:
    """One line, without its end."""
    kind = type(record).__name__
    return b'{"kind":"' + kind.encode() + b'","record":' + _adapter(kind).dump_json(record) + b"}"


def from_json(line: bytes) -> Record:
    """What `to_json` wrote. Raises `WireError` for a line that is not one whole record: where a
    crash cut the journal."""
    found = _LINE.fullmatch(line)
    kind = found["kind"].decode() if found else ""
    if found is None or kind not in _KINDS:
        raise WireError(f"the journal has a line that is no record: {line[:80]!r}")
    try:
        record: Record = _adapter(kind).validate_json(found["record"], strict=True)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WireError(f"the journal has a broken {kind}: {place}: {first['msg']}") from failure
    return record


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[kind])
