"""A receipt is checked by the contract's own rules before it is kept.

A `ReceivedReceipt` is somebody's word; only a `CheckedReceipt` is written down and shown to the
consumer to accept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tallystick.protocol import messages, pricing, signatures
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Domain, Receipt, TaskTerms
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, Signature
from tallystick.protocol.wire import Finished
from tallystick_backend.dispatch.errors import ReceiptRefused

MAX_CALLS = 1
"""What a provider may bill when it proves alone; a task is one call."""


@dataclass(frozen=True, slots=True)
class ReceivedReceipt:
    receipt: Receipt
    signature: str
    result_digest: str


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """Payable: made by `check` alone."""

    receipt: Receipt
    digest: Digest
    signature: Signature
    signed_by: Address


@dataclass(frozen=True, slots=True)
class ReceiptContext:
    """What the receipt is measured against; every time in it is ours or the chain's."""

    domain: Domain
    terms: TaskTerms
    task_id: str
    provider: str
    fence: int
    lease_from_s: int
    keys: Collection[str]
    """Lower-case addresses that sign for the provider: itself and its keys in use."""
    now_ms: int
    clock_margin_ms: int


def received(finished: Finished) -> ReceivedReceipt:
    try:
        receipt = Receipt.from_body(finished.receipt)
    except ProtocolError as failure:
        raise ReceiptRefused(f"the receipt is malformed: {failure}") from failure
    return ReceivedReceipt(receipt, finished.receipt_signature, finished.result_digest)


def check(claim: ReceivedReceipt, context: ReceiptContext) -> CheckedReceipt:
    """Raises `ReceiptRefused` with the first rule that fails and the values."""
    _names_this_work(claim.receipt, context)
    _times_are_possible(claim.receipt, context)
    _usage_is_possible(claim.receipt, context)
    _price_is_right(claim.receipt, context)
    return _signed(claim, context)


def _names_this_work(receipt: Receipt, context: ReceiptContext) -> None:
    if receipt.provider.lower() != context.provider.lower():
        raise ReceiptRefused(f"provider is {receipt.provider}, the lease is {context.provider}'s")
    if receipt.route != context.task_id:
        raise ReceiptRefused(f"route is {receipt.route}, the task is {context.task_id}")
    if receipt.seq != context.fence:
        raise ReceiptRefused(f"seq is {receipt.seq}, the fence is {context.fence}")
    if receipt.prev != ZERO_DIGEST:
        raise ReceiptRefused(f"prev is {receipt.prev}, a task's receipt has no predecessor")
    if receipt.request != context.terms.spec:
        raise ReceiptRefused(f"request is {receipt.request}, the spec is {context.terms.spec}")


def _times_are_possible(receipt: Receipt, context: ReceiptContext) -> None:
    started, ended = receipt.started_at_ms, receipt.ended_at_ms
    if started > ended:
        raise ReceiptRefused(f"it started at {started} ms, after it ended at {ended} ms")
    latest = context.now_ms + context.clock_margin_ms
    if ended > latest:
        raise ReceiptRefused(
            f"it ended at {ended} ms, {ended - context.now_ms} ms from now: set the provider's "
            "clock, the chain refuses the future"
        )
    if started < context.lease_from_s * 1000:
        raise ReceiptRefused(
            f"it started at {started} ms, before the lease began at {context.lease_from_s} s"
        )
    limit_ms = context.terms.max_seconds * 1000
    if ended - started > limit_ms:
        raise ReceiptRefused(f"it ran {ended - started} ms, the terms allow {limit_ms} ms")


def _usage_is_possible(receipt: Receipt, context: ReceiptContext) -> None:
    gpus = context.terms.gpus
    possible_ms = gpus * (receipt.ended_at_ms - receipt.started_at_ms)
    if receipt.gpu_ms > possible_ms:
        raise ReceiptRefused(
            f"{receipt.gpu_ms} GPU-ms on {gpus} GPUs, the time allows {possible_ms}"
        )
    if gpus > 0 and receipt.gpu_set == ZERO_DIGEST:
        raise ReceiptRefused(f"gpuSet is zero although the task holds {gpus} GPUs")
    if receipt.calls > MAX_CALLS:
        raise ReceiptRefused(f"{receipt.calls} calls, a task has at most {MAX_CALLS}")


def _price_is_right(receipt: Receipt, context: ReceiptContext) -> None:
    try:
        charge = pricing.charge_up(context.terms, receipt.calls, receipt.gpu_ms)
    except ProtocolError as failure:
        raise ReceiptRefused(str(failure)) from failure
    if receipt.total != charge:
        raise ReceiptRefused(f"total is {receipt.total}, the terms make it {charge}")


def _signed(claim: ReceivedReceipt, context: ReceiptContext) -> CheckedReceipt:
    try:
        digest = messages.digest(context.domain, claim.receipt)
        signed_by = messages.recover(context.domain, claim.receipt, claim.signature)
        signature = signatures.canonical(claim.signature)
    except ProtocolError as failure:
        raise ReceiptRefused(str(failure)) from failure
    if signed_by.lower() not in context.keys:
        raise ReceiptRefused(
            f"it is signed by {signed_by}, which is no key in use of {context.provider}"
        )
    return CheckedReceipt(claim.receipt, digest, signature, signed_by)
