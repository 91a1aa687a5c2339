"""Checking what a provider hands in, against what was ordered. Trusts neither provider nor backend.

The order is known by its id alone: the id is the digest of the terms, the terms hold the digest of
the manifest, so nobody can swap either. Every figure of the receipt follows from them or is bounded
by them, and the signature has to be the provider's or that of a key it bound to itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.errors import VerificationFailed
from tallystick.jobs import CheckedReceipt, Money
from tallystick.protocol import messages
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import Domain, Receipt, TaskTerms
from tallystick.protocol.pricing import charge_up
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, Address, to_address
from tallystick.protocol.wire import ReceiptView, TaskBody

CLOCK_MARGIN_MS = 5 * 60 * 1000
"""Clocks of consumer, backend and provider differ; more than this is a lie or a broken clock."""


def check_terms(domain: Domain, task_id: str, task: TaskBody, consumer: Address) -> TaskTerms:
    """The terms behind an id, if what the backend shows really is what the wallet signed."""
    try:
        terms = TaskTerms.from_body(task.terms)
        identity = messages.task_id(domain, terms)
        spec = spec_digest(task.manifest)
    except ProtocolError as problem:
        raise _refused(f"the task's terms are malformed: {problem}") from problem
    _same("task id", task_id.lower(), identity)
    _same("consumer", consumer, terms.consumer)
    _same("manifest's digest", terms.spec, spec)
    return terms


def check_receipt(
    domain: Domain,
    terms: TaskTerms,
    view: ReceiptView,
    *,
    operator_keys: Iterable[str],
    ordered_at_ms: int,
    now_ms: int,
    decimals: int,
    symbol: str,
) -> CheckedReceipt:
    """Raises VerificationFailed, naming the field, the value expected and the one found."""
    try:
        receipt = Receipt.from_body(view.receipt)
        digest = messages.digest(domain, receipt)
        signed_by = messages.recover(domain, receipt, view.signature)
        task_id = messages.task_id(domain, terms)
        allowed = {receipt.provider, *(to_address(key) for key in operator_keys)}
    except ProtocolError as problem:
        raise _refused(f"it is malformed: {problem}") from problem
    _same("digest", digest, view.digest)
    if receipt.provider == ZERO_ADDRESS or signed_by not in allowed:
        raise _refused(
            f"its signature is by {signed_by}, neither the provider {receipt.provider} "
            "nor a key bound to it"
        )
    _same("route", task_id, receipt.route)
    _same("fence", view.fence, receipt.seq)
    _same("prev", ZERO_DIGEST, receipt.prev)
    _same("request", terms.spec, receipt.request)
    _same("result", view.result_digest, receipt.result)
    _check_usage(terms, receipt, ordered_at_ms, now_ms)
    _same("total", charge_up(terms, receipt.calls, receipt.gpu_ms), receipt.total)
    return CheckedReceipt(
        task_id=task_id,
        digest=digest,
        body=view.receipt,
        view=view,
        charge=Money(receipt.total, decimals, symbol),
        signed_by=signed_by,
    )


def check_sealed_result(receipt: CheckedReceipt, sealed: bytes) -> None:
    """The downloaded bytes are the ones the provider signed for."""
    found = digest_of(sealed)
    if found != receipt.body.result:
        raise _refused(
            f"the result downloaded has the digest {found}, the receipt says {receipt.body.result}",
            "Fetch it again; if it stays, the stored result was changed.",
        )


def _check_usage(terms: TaskTerms, receipt: Receipt, ordered_at_ms: int, now_ms: int) -> None:
    """Time used lies after the order, before now, within the limit, and fits the GPUs ordered."""
    elapsed_ms = receipt.ended_at_ms - receipt.started_at_ms
    if elapsed_ms < 0:
        raise _refused(f"it ends {-elapsed_ms} ms before it starts")
    if receipt.started_at_ms < ordered_at_ms - CLOCK_MARGIN_MS:
        raise _refused(
            f"it starts at {receipt.started_at_ms} ms, before the order at {ordered_at_ms} ms"
        )
    if receipt.ended_at_ms > now_ms + CLOCK_MARGIN_MS:
        raise _refused(f"it ends at {receipt.ended_at_ms} ms, after now ({now_ms} ms)")
    if elapsed_ms > terms.max_seconds * 1000:
        raise _refused(f"it ran {elapsed_ms} ms; the limit is {terms.max_seconds * 1000} ms")
    if receipt.gpu_ms > terms.gpus * elapsed_ms:
        raise _refused(
            f"it bills {receipt.gpu_ms} GPU-ms; {terms.gpus} GPUs in {elapsed_ms} ms have "
            f"{terms.gpus * elapsed_ms}"
        )
    if receipt.calls > 1:
        raise _refused(f"it counts {receipt.calls} calls; a task is one at most")
    if (terms.gpus > 0) == (receipt.gpu_set == ZERO_DIGEST):
        raise _refused(f"its GPU set {receipt.gpu_set} does not fit {terms.gpus} GPUs ordered")


def _same(field: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise _refused(f"its {field} is {found}, expected {expected}")


def _refused(
    what: str,
    next_step: str = "Nothing was accepted. Report the provider; the task can be run elsewhere.",
) -> VerificationFailed:
    return VerificationFailed(f"The receipt was refused: {what}.", next_step=next_step)
