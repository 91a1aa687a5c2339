"""A call, looked at afterwards by somebody who trusts nobody.

    checks = verify_call(shown)
    all(check.ok is not False for check in checks)

Everything comes from the two parties' signatures and the chain: what the backend says is shown, and
nothing of it believed. `shown` may be partial; what is missing makes a check open (`ok` is None),
never good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tallystick.protocol import messages
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.calls import (
    CallAnswer,
    CallLimits,
    CallRequest,
    Check,
    Link,
    Waited,
    receipt_checks,
    signature_check,
)
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Channel, Domain
from tallystick.protocol.types import Address, Digest

__all__ = ["ShownCall", "paid_down", "verify_call"]


@dataclass(frozen=True, slots=True)
class ShownCall:
    """What there is to see of one call."""

    domain: Domain
    channel: Channel
    request: CallRequest
    answer: CallAnswer
    limits: CallLimits
    """From the version's manifest, whose digest the registry holds (`read_app_manifest`)."""
    app: AppHistory
    """Folded from the registry's own events."""
    operator_keys: frozenset[Address] = frozenset()
    """Bound to the provider on chain (`Staking.answers_for`)."""
    result: Digest | None = None
    """Of the bytes that the reader holds."""
    waited: Waited | None = None
    before: SignedReceipt | None = None
    """The channel's receipt before this one."""
    later: tuple[SignedReceipt, ...] = ()
    """Those behind it, in order, up to the one that the voucher names."""
    voucher: SignedVoucher | None = None
    chain: ChannelState | None = None
    """What the escrow says of the channel now."""


def verify_call(shown: ShownCall) -> tuple[Check, ...]:
    """Named answers to: who signed it, for what, at which price, in which place of the chain, was
    it countersigned, was it redeemed. A malformed value fails its own check and raises nothing."""
    return tuple(_checks(shown))


def paid_down(total_before: int, total: int, claimed: int) -> int:
    """The part of one call's charge that the chain has redeemed: a channel pays its calls in
    order."""
    return max(0, min(total, claimed) - total_before)


def _checks(shown: ShownCall) -> Iterator[Check]:
    receipt = shown.answer.signed.receipt
    try:
        digest = messages.digest(shown.domain, receipt)
    except ProtocolError as problem:
        yield Check("form", False, "values that fit their types", str(problem))
        return
    _, signature = signature_check(digest, shown.answer.signed, shown.operator_keys)
    yield signature
    last = Link() if receipt.seq == 1 else None
    if shown.before is not None:
        last, sound = _link_before(shown, shown.before)
        yield sound
    yield from receipt_checks(
        shown.channel,
        last,
        shown.request,
        shown.answer,
        result=shown.result,
        limits=shown.limits,
        app=shown.app,
        waited=shown.waited,
    )
    countersigned = _voucher_check(shown, digest)
    yield countersigned
    yield _redeemed_check(shown, last)


def _link_before(shown: ShownCall, before: SignedReceipt) -> tuple[Link, Check]:
    """The receipt before counts only if the provider signed it: else anybody could write the total
    that this one is compared with."""
    try:
        digest = messages.digest(shown.domain, before.receipt)
    except ProtocolError as problem:
        return Link(), Check("receipt before", False, "values that fit their types", str(problem))
    _, signature = signature_check(digest, before, shown.operator_keys)
    link = Link(before.receipt.seq, digest, before.receipt.total)
    of_channel = before.receipt.provider == shown.channel.provider
    return link, Check(
        "receipt before", bool(signature.ok) and of_channel, signature.expected, signature.found
    )


def _voucher_check(shown: ShownCall, digest: Digest) -> Check:
    """The voucher names this receipt, or one that the chain of receipts leads to from it."""
    name = "voucher"
    if shown.voucher is None:
        return Check(name, None, f"one by {shown.channel.signer}", "none shown")
    voucher = shown.voucher.voucher
    try:
        channel = messages.channel_of(shown.domain, voucher, shown.voucher.signature)
    except ProtocolError as problem:
        return Check(name, False, f"one by {shown.channel.signer}", f"none: {problem}")
    if channel != shown.channel:
        return Check(name, False, f"one for channel {shown.channel}", f"one for {channel}")
    link = Link(shown.answer.signed.receipt.seq, digest, shown.answer.signed.receipt.total)
    try:
        end = _led_to(shown.domain, link, shown.later)
    except ProtocolError as problem:
        return Check(name, False, "receipts that follow each other", str(problem))
    if end is None:
        return Check(name, False, "receipts that follow each other", "receipts that do not")
    same = (voucher.receipt, voucher.total) == (end.digest, end.total)
    return Check(
        name,
        same,
        f"receipt {end.digest}, total {end.total}",
        f"receipt {voucher.receipt}, total {voucher.total}",
    )


def _led_to(domain: Domain, link: Link, later: Sequence[SignedReceipt]) -> Link | None:
    """The end of the chain; None where it breaks. Their signatures are not asked for: the voucher
    at the end countersigns a digest that commits to all of them."""
    for shown in later:
        receipt = shown.receipt
        follows = (receipt.seq, receipt.prev) == (link.seq + 1, link.digest)
        if not follows or receipt.total < link.total:
            return None
        link = Link(receipt.seq, messages.digest(domain, receipt), receipt.total)
    return link


def _redeemed_check(shown: ShownCall, last: Link | None) -> Check:
    receipt = shown.answer.signed.receipt
    if shown.chain is None:
        return Check("redeemed", None, "what the escrow says", "not shown")
    claimed = shown.chain.claimed
    if last is None:
        ok = True if claimed >= receipt.total else None
        return Check("redeemed", ok, f"{receipt.total} claimed on the channel", claimed)
    charge = max(0, receipt.total - last.total)
    paid = paid_down(last.total, receipt.total, claimed)
    # Not redeemed yet is no fault: the provider redeems many calls at a time.
    return Check("redeemed", True if paid == charge else None, charge, paid)
