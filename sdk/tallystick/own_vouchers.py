"""Signing for calls oneself: what a voucher is put under, and what was left unsigned.

The gateway says what is to be signed, and is not believed. A voucher is signed for a receipt that
- the provider signed, at the registry's price of that second, for the bytes that went out and the
  bytes that came back, by the chain (`tallystick.checking`);
- stands right behind the last one that this key signed for: by the notes, else by the voucher with
  this key's signature that the gateway shows. An older one than there is can only make the new
  total smaller;
- is of a call that this key's notes say was made, and that was not signed for before.
So whatever a gateway and a provider agree on, all vouchers together come to no more than the calls
that were made and answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tallystick import apps, checking
from tallystick.errors import ConfigurationError, NotFound, VerificationFailed
from tallystick.own_key import AskedCall, OwnKey
from tallystick.protocol import messages
from tallystick.protocol.app_manifest import MIB
from tallystick.protocol.call_views import CallReceiptView, UnsignedView
from tallystick.protocol.calls import WAIT_MARGIN_MS, Link
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel
from tallystick.protocol.types import Digest
from tallystick.protocol.wire import SignedVoucherBody

if TYPE_CHECKING:
    from tallystick.session import Session

MAX_RESULT_BYTES: Final = 64 * MIB
MOST_CHANNELS: Final = 1_000
_LATER: Final = frozenset({"voucher", "redeemed"})
"""Checks that are open because nothing is signed yet."""


@dataclass(frozen=True, slots=True)
class SignedCall:
    """A call that was signed for."""

    call_id: str
    channel: str
    total: int

    def to_json(self) -> dict[str, Any]:
        return {"call_id": self.call_id, "channel": self.channel, "total": str(self.total)}


def begin(
    session: Session, app_id: str, version: int | None, body: bytes, most_units: int | None
) -> AskedCall | None:
    """Notes a call that goes out; None where the gateway signs."""
    if session.own_key is None:
        return None
    asked = AskedCall(
        secrets.token_hex(8), app_id, version, digest_of(body), most_units, session.now_ms
    )
    session.own_key.notes.asked(asked)
    return asked


def failed(session: Session, asked: AskedCall | None) -> None:
    if session.own_key is not None and asked is not None:
        session.own_key.notes.failed(asked)


async def sign_for(
    session: Session, call_id: str, asked: AskedCall | None, content: bytes
) -> SignedCall | None:
    """Checks the call and hands its voucher in; None where there is nothing to sign. `asked` is
    looked up if it is not known. Raises `VerificationFailed`, and then nothing was signed."""
    own = session.own_key
    if own is None:
        return None
    view = await session.connection.get(f"/v1/calls/{call_id}/receipt", CallReceiptView)
    if view.voucher is not None or Channel.from_body(view.channel).signer != own.address:
        return None
    asked = asked or own.notes.find(view.request.app_id, Digest(view.request.input))
    return await _sign(session, own, view, asked, call_id, content, unseen=False)


async def sign_left(session: Session, *, unseen: bool = False) -> tuple[SignedCall, ...]:
    """Whatever waits on channels of this key. With `unseen` also calls that the notes do not know
    and results that nobody has any more: check them first."""
    own = _need_key(session)
    payer = session.wallet.address if session.has_wallet else await session.log_in()
    signed: list[SignedCall] = []
    for found in await apps.list_channels(session, payer, None, MOST_CHANNELS):
        if Channel.from_body(found.channel).signer != own.address:
            continue
        waiting = await session.connection.get(f"/v1/channels/{found.id}/unsigned", UnsignedView)
        if waiting.voucher is None:
            continue
        done = await _sign_waiting(session, own, waiting, unseen=unseen)
        signed.append(done)
    return tuple(signed)


async def _sign_waiting(
    session: Session, own: OwnKey, waiting: UnsignedView, *, unseen: bool
) -> SignedCall:
    call_id = waiting.call_id
    view = await session.connection.get(f"/v1/calls/{call_id}/receipt", CallReceiptView)
    asked = own.notes.find(view.request.app_id, Digest(view.request.input))
    content: bytes | None = None
    try:
        content = await session.connection.get_bytes(
            f"/v1/calls/{call_id}/result", max_bytes=MAX_RESULT_BYTES
        )
    except NotFound:
        if not unseen:
            raise
    return await _sign(session, own, view, asked, call_id, content, unseen=unseen)


async def _sign(
    session: Session,
    own: OwnKey,
    view: CallReceiptView,
    asked: AskedCall | None,
    call_id: str,
    content: bytes | None,
    *,
    unseen: bool,
) -> SignedCall:
    domain, channel = await session.domain(), Channel.from_body(view.channel)
    name = messages.channel_id(channel)
    _require(channel.signer == own.address, call_id, f"its channel is signed by {channel.signer}")
    signed = SignedReceipt.from_body(view.signed)
    receipt = signed.receipt
    try:
        link = Link(receipt.seq, messages.digest(domain, receipt), receipt.total)
        before = Link()
        if view.before is not None:
            last = SignedReceipt.from_body(view.before).receipt
            before = Link(last.seq, messages.digest(domain, last), last.total)
    except ProtocolError as problem:
        raise _refused(call_id, f"its receipt is malformed: {problem}") from problem
    again = own.notes.last(name) == link
    if asked is None and not again and not unseen:
        raise VerificationFailed(
            f"Call {call_id} waits for your voucher, and the notes of your key do not know it.",
            next_step=f"Check it with `tallystick receipt verify {call_id}`; if you made it, "
            "`tallystick channel sign --unseen`.",
            call_id=call_id,
        )
    verdict = await checking.verify(
        session,
        view,
        call_id=call_id,
        content=content,
        sent=Digest(view.request.input) if asked is None else asked.input,
    )
    allowed_open = _LATER | (frozenset() if session.has_wallet else {"payer"})
    if unseen and content is None:
        allowed_open |= {"result"}
    bad = [*verdict.wrong, *(one for one in verdict.open if one not in allowed_open)]
    _require(not bad, call_id, f"not good are: {', '.join(bad)}")
    if own.notes.last(name) != link:  # nobody else with this key was quicker
        await _require_place(session, own, name, call_id, before)
        if asked is not None:
            _require_asked(session, asked, view, link.total - before.total)
    voucher = channel.voucher(link.total, link.digest)
    own.notes.sign(name, before, link, asked)
    body = SignedVoucherBody(voucher=voucher.to_body(), signature=own.sign(domain, voucher))
    await session.connection.post(f"/v1/channels/{name}/vouchers", body, SignedVoucherBody)
    return SignedCall(call_id, name, link.total)


async def _require_place(
    session: Session, own: OwnKey, name: str, call_id: str, before: Link
) -> None:
    """Right behind the last receipt that was signed for."""
    known = own.notes.last(name)
    if known is None:
        waiting = await session.connection.get(f"/v1/channels/{name}/unsigned", UnsignedView)
        if waiting.last is None:
            found = (before.seq, before.digest) == (0, Link().digest)
            _require(found, call_id, f"it follows receipt {before.seq}, and none was signed for")
            return
        last = SignedVoucher.from_body(waiting.last)
        try:
            signer = messages.recover(await session.domain(), last.voucher, last.signature)
        except ProtocolError as problem:
            raise _refused(call_id, f"the last voucher is not yours: {problem}") from problem
        _require(signer == own.address, call_id, f"the last voucher is signed by {signer}")
        known = Link(before.seq, last.voucher.receipt, last.voucher.total)
    _require(known == before, call_id, f"it follows receipt {before.digest}, not {known.digest}")


def _require_asked(session: Session, asked: AskedCall, view: CallReceiptView, charge: int) -> None:
    call_id, request, receipt = view.call_id, view.request, view.signed.receipt
    _require(request.app_id == asked.app_id, call_id, f"it is of app {request.app_id}")
    version = asked.version
    _require(version in (None, request.version), call_id, f"its version is {request.version}")
    most = asked.most_units
    _require(most is None or charge <= most, call_id, f"it cost {charge} and may cost {most}")
    ran_ms = receipt.ended_at_ms - receipt.started_at_ms
    waited_ms = session.now_ms - asked.asked_at_ms + WAIT_MARGIN_MS
    _require(ran_ms <= waited_ms, call_id, f"it says {ran_ms} ms, and you waited {waited_ms}")


def outputs_in(content: bytes) -> list[Any] | None:
    """What a stream of ours consisted of; None for another server's."""
    import json

    found: list[Any] = []
    for line in content.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            return None
        if not isinstance(document, dict) or len(document) != 1:
            return None
        if "output" in document:
            found.append(document["output"])
    return found


async def sign_for_stream(
    session: Session, call_id: str, asked: AskedCall | None, seen: Sequence[Any]
) -> None:
    """After its end: the whole answer is fetched once more, as the receipt is over its bytes."""
    if session.own_key is None:
        return
    content = await session.connection.get_bytes(
        f"/v1/calls/{call_id}/result", max_bytes=MAX_RESULT_BYTES
    )
    outputs = outputs_in(content)
    if outputs is not None:
        _require(outputs == list(seen), call_id, "the pieces that came are not those of its result")
    await sign_for(session, call_id, asked, content)


def _need_key(session: Session) -> OwnKey:
    if session.own_key is None:
        raise ConfigurationError(
            "There is no session key of your own.",
            next_step="Set TALLYSTICK_OWN_KEY_FILE (or --own-key FILE).",
        )
    return session.own_key


def _require(holds: bool, call_id: str, why: str) -> None:
    if not holds:
        raise _refused(call_id, why)


def _refused(call_id: str, why: str) -> VerificationFailed:
    return VerificationFailed(
        f"No voucher was signed for call {call_id}: {why}.",
        next_step="Keep `tallystick receipt show`; the channel begins no other call. Close it if "
        "the gateway is not honest.",
        call_id=call_id,
    )
