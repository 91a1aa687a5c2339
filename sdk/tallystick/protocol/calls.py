"""A call on a channel: what is asked, what it costs, and whether a receipt may be paid.

    request -> provider runs it -> Receipt(seq n, prev, total) -> checked -> Voucher(total, receipt)

Pure. `serving` and `paying` are the two ends as state machines; `verifying` is for who was not
there. All of them judge a receipt by the one list here, `receipt_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NewType, Self

from tallystick.protocol import call_bodies, merkle, messages, signatures
from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.channels import SignedReceipt
from tallystick.protocol.errors import AmountError, ProtocolError, ReceiptRefused
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.messages import Channel, Domain, Message, Receipt
from tallystick.protocol.money import UINT128_MAX
from tallystick.protocol.pricing import Price, max_charge_up, uncapped_charge_up
from tallystick.protocol.types import (
    ZERO_DIGEST,
    Address,
    AppId,
    Digest,
    Signature,
    to_digest,
)

__all__ = [
    "CLOCK_MARGIN_MS",
    "WAIT_MARGIN_MS",
    "CallAnswer",
    "CallId",
    "CallLimits",
    "CallRequest",
    "CallRun",
    "Check",
    "CheckedReceipt",
    "Link",
    "Sign",
    "Waited",
    "call_charge_up",
    "ceiling_up",
    "check_receipt",
    "next_receipt",
    "receipt_checks",
    "request_digest",
    "require_all",
    "result_digest",
    "run_checks",
    "signature_check",
]

CallId = NewType("CallId", str)
"""Chosen by whoever calls, kept when the call is repeated elsewhere: 8 to 64 of A-Za-z0-9_-."""

Sign = Callable[[Message], Signature]
"""Signs with one key for one deployment: `functools.partial(messages.sign, domain,
private_key=key)`."""

CALLS: Final = 1
"""A receipt on a channel is one call's."""

CLOCK_MARGIN_MS: Final = 5 * 60 * 1000
"""Clocks of payer and provider differ; more than this is a lie or a broken clock."""

WAIT_MARGIN_MS: Final = 1_000
"""A run cannot be longer than its caller waited, whatever the clocks say. The margin is for a
clock that is being set right meanwhile."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What is asked for: everything that a receipt's `request` commits to."""

    call_id: CallId
    app_id: AppId
    version: int
    price: Price
    """As quoted. The call is charged by it or not at all: a provider that starts it in a second
    with another price refuses."""
    max_seconds: int
    """The longest the call may run; at most the version's own limit."""
    input: Digest
    """keccak-256 of the input's bytes as sent."""

    @classmethod
    def from_body(cls, body: call_bodies.CallBody) -> Self:
        price = body.price
        return cls(
            CallId(body.call_id),
            AppId(to_digest(body.app_id)),
            body.version,
            Price(price.flat, price.fee_per_call, price.rate_per_gpu_second),
            body.max_seconds,
            to_digest(body.input),
        )

    def to_json(self) -> bytes:
        """`manifest.canonical_json` of the body, put together by hand: that takes ten times as
        long, and each end of a call needs it. No field holds what JSON would escape."""
        price = self.price
        return (
            f'{{"app_id":"{self.app_id}","call_id":"{self.call_id}","input":"{self.input}",'
            f'"max_seconds":{self.max_seconds},"price":{{"fee_per_call":"{price.fee_per_call}",'
            f'"flat":"{price.flat}","rate_per_gpu_second":"{price.rate_per_gpu_second}"}},'
            f'"version":{self.version}}}'
        ).encode()

    def to_body(self) -> call_bodies.CallBody:
        return call_bodies.CallBody(
            call_id=self.call_id,
            app_id=self.app_id,
            version=self.version,
            price=call_bodies.PriceBody(
                flat=self.price.flat,
                fee_per_call=self.price.fee_per_call,
                rate_per_gpu_second=self.price.rate_per_gpu_second,
            ),
            max_seconds=self.max_seconds,
            input=self.input,
        )


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What a version's manifest fixes for each of its calls."""

    gpus: int
    """Cards whose time is counted."""
    exclusive: bool
    """The call has its cards for itself, and its receipt names them."""
    max_seconds: int

    @classmethod
    def of(cls, manifest: AppManifest) -> Self:
        gpus = manifest.resources.gpus
        return cls(gpus, manifest.gpus_held == gpus > 0, manifest.timeout_s)


@dataclass(frozen=True, slots=True)
class Link:
    """How far a channel's chain of receipts has come: what the next one follows."""

    seq: int = 0
    digest: Digest = ZERO_DIGEST
    total: int = 0


@dataclass(frozen=True, slots=True)
class CallRun:
    """What the provider saw of a run. Its time is the worker's own, from the input's arrival there
    to the end of the answer; a cold start lies before it."""

    started_at_ms: int
    ended_at_ms: int
    gpu_ms: int
    result: Digest
    gpu_ids: tuple[str, ...] = ()
    """Held exclusively; none if the worker shares its cards among calls."""
    samples: tuple[UsageSample, ...] = ()


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What comes back beside the result's bytes."""

    signed: SignedReceipt
    gpu_ids: tuple[str, ...] = ()
    samples: tuple[UsageSample, ...] = ()

    @classmethod
    def from_body(cls, body: call_bodies.CallAnswerBody) -> Self:
        return cls(
            SignedReceipt.from_body(body.signed),
            body.gpu_ids,
            tuple(UsageSample(one.at_ms, one.gpu_id, one.energy_mj) for one in body.usage),
        )

    def to_body(self, *, number: int, call_id: CallId, balance: int) -> call_bodies.CallAnswerBody:
        return call_bodies.CallAnswerBody(
            number=number,
            call_id=call_id,
            result=self.signed.receipt.result,
            gpu_ids=self.gpu_ids,
            usage=tuple(
                call_bodies.UsageSampleBody(
                    at_ms=one.at_ms, gpu_id=one.gpu_id, energy_mj=one.energy_mj
                )
                for one in self.samples
            ),
            signed=self.signed.to_body(),
            balance=balance,
        )


@dataclass(frozen=True, slots=True)
class Waited:
    """From asking to having the whole answer, both by the payer's clock."""

    asked_at_ms: int
    answered_at_ms: int


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a call. `ok` is None where what was shown does not answer it."""

    name: str
    ok: bool | None
    expected: object
    found: object


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """A receipt that may be paid; `check_receipt` makes them."""

    signed: SignedReceipt
    digest: Digest
    charge: int
    """What this one call adds to the total."""
    signed_by: Address

    @property
    def link(self) -> Link:
        return Link(self.signed.receipt.seq, self.digest, self.signed.receipt.total)


@lru_cache(maxsize=8192)
def request_digest(request: CallRequest) -> Digest:
    """A receipt's `request`: keccak-256 of the request's canonical JSON."""
    return digest_of(request.to_json())


def result_digest(content: bytes) -> Digest:
    """A receipt's `result`: keccak-256 of the answer's bytes as delivered. Of a streamed answer all
    pieces together: `hashing.StreamDigest`."""
    return digest_of(content)


def call_charge_up(price: Price, calls: int, gpu_ms: int) -> int:
    """flat + fee_per_call * calls + roundUp(rate_per_gpu_second * gpu_ms / 1000)."""
    charge = uncapped_charge_up(price, calls, gpu_ms)
    if charge > UINT128_MAX:
        raise AmountError(f"the charge {charge} does not fit an amount: {gpu_ms} GPU-ms at {price}")
    return charge


def ceiling_up(request: CallRequest, limits: CallLimits) -> int:
    """The most the call can cost: what the deposit must cover before it starts."""
    return max_charge_up(request.price, limits.gpus, request.max_seconds)


def next_receipt(channel: Channel, last: Link, request: CallRequest, run: CallRun) -> Receipt:
    """The receipt that follows `last`, still to be signed."""
    return Receipt(
        provider=channel.provider,
        route=messages.channel_id(channel),
        seq=last.seq + 1,
        prev=last.digest,
        request=request_digest(request),
        result=run.result,
        gpu_set=merkle.gpu_set_root(run.gpu_ids),
        started_at_ms=run.started_at_ms,
        ended_at_ms=run.ended_at_ms,
        calls=CALLS,
        gpu_ms=run.gpu_ms,
        usage_root=merkle.usage_root(run.samples),
        total=last.total + call_charge_up(request.price, CALLS, run.gpu_ms),
    )


def check_receipt(
    domain: Domain,
    channel: Channel,
    last: Link,
    request: CallRequest,
    answer: CallAnswer,
    *,
    result: Digest,
    limits: CallLimits,
    app: AppHistory,
    operator_keys: Collection[Address],
    waited: Waited,
) -> CheckedReceipt:
    """Raises `ReceiptRefused` with the first field that is not as it must be. `result` is the
    digest of the bytes that came, never the receipt's word."""
    receipt = answer.signed.receipt
    digest = _digest(domain, receipt)
    require_all(
        receipt_checks(
            channel, last, request, answer, result=result, limits=limits, app=app, waited=waited
        )
    )
    signed_by, check = signature_check(digest, answer.signed, operator_keys)
    require_all((check,))
    return CheckedReceipt(answer.signed, digest, receipt.total - last.total, signed_by)


def require_all(checks: Iterator[Check] | Sequence[Check]) -> None:
    for check in checks:
        if check.ok is False:
            raise ReceiptRefused(check.name, check.expected, check.found)


def receipt_checks(
    channel: Channel,
    last: Link | None,
    request: CallRequest,
    answer: CallAnswer,
    *,
    result: Digest | None,
    limits: CallLimits,
    app: AppHistory,
    waited: Waited | None,
) -> Iterator[Check]:
    """Every field but the signature, in the order of a receipt. What is None was not shown."""
    receipt = answer.signed.receipt
    yield _same("provider", channel.provider, receipt.provider)
    yield _same("route", messages.channel_id(channel), receipt.route)
    if last is None:
        first = receipt.seq == 1
        expected = ZERO_DIGEST if first else "the digest of the receipt before it"
        yield Check("prev", receipt.prev == ZERO_DIGEST if first else None, expected, receipt.prev)
    else:
        yield _same("seq", last.seq + 1, receipt.seq)
        yield _same("prev", last.digest, receipt.prev)
    yield _same("request", request_digest(request), receipt.request)
    if result is None:
        yield Check("result", None, "the digest of the answer's bytes", receipt.result)
    else:
        yield _same("result", result, receipt.result)
    yield from _time_checks(receipt, request, limits, waited)
    yield _same("calls", CALLS, receipt.calls)
    yield _price_check(receipt, request, app)
    yield _gpu_ms_check(receipt, limits)
    yield _gpu_set_check(receipt, answer.gpu_ids, limits)
    yield _usage_root_check(receipt, answer.samples)
    yield _total_check(receipt, last, request)


def run_checks(
    receipt: Receipt,
    request: CallRequest,
    gpu_ids: Sequence[str],
    *,
    limits: CallLimits,
    app: AppHistory,
) -> Iterator[Check]:
    """Those of `receipt_checks` that can fail for a receipt that `next_receipt` made of a run."""
    yield from _time_checks(receipt, request, limits, None)
    yield _price_check(receipt, request, app)
    yield _gpu_ms_check(receipt, limits)
    held = limits.gpus if limits.exclusive else 0
    if len(gpu_ids) != held:
        yield Check("gpu_set", False, f"one of {held} cards", f"one of {len(gpu_ids)}")


def signature_check(
    digest: Digest, signed: SignedReceipt, operator_keys: Collection[Address]
) -> tuple[Address, Check]:
    """Who signed, and whether that is the provider or a key bound to it."""
    provider = signed.receipt.provider
    expected = f"one by {provider} or a key bound to it"
    try:
        found = signatures.recover_digest(bytes.fromhex(digest[2:]), signed.signature)
    except ProtocolError as problem:
        return provider, Check("signature", False, expected, f"none: {problem}")
    ok = found == provider or found in operator_keys
    return found, Check("signature", ok, expected, f"one by {found}")


def _time_checks(
    receipt: Receipt, request: CallRequest, limits: CallLimits, waited: Waited | None
) -> Iterator[Check]:
    started_ms, ended_ms = receipt.started_at_ms, receipt.ended_at_ms
    longest_ms = min(request.max_seconds, limits.max_seconds) * 1000
    latest_ms = started_ms + longest_ms
    if waited is not None:
        earliest_ms = waited.asked_at_ms - CLOCK_MARGIN_MS
        yield Check(
            "started_at_ms", started_ms >= earliest_ms, f"{earliest_ms} or later", started_ms
        )
        waited_ms = waited.answered_at_ms - waited.asked_at_ms + WAIT_MARGIN_MS
        latest_ms = min(latest_ms, started_ms + waited_ms, waited.answered_at_ms + CLOCK_MARGIN_MS)
    yield Check(
        "ended_at_ms",
        started_ms <= ended_ms <= latest_ms,
        f"from {started_ms} to {latest_ms}",
        ended_ms,
    )


def _price_check(receipt: Receipt, request: CallRequest, app: AppHistory) -> Check:
    """The request's price is the registry's in the second in which the call started."""
    if app.app_id != request.app_id:
        return Check("price", False, f"one of app {request.app_id}", f"one of app {app.app_id}")
    try:
        quoted = app.price_for(receipt.started_at_ms, version=request.version)
    except ProtocolError as problem:
        return Check("price", False, f"none: {problem}", request.price)
    return _same("price", quoted, request.price)


def _gpu_ms_check(receipt: Receipt, limits: CallLimits) -> Check:
    allowed_ms = limits.gpus * max(0, receipt.ended_at_ms - receipt.started_at_ms)
    return Check("gpu_ms", receipt.gpu_ms <= allowed_ms, f"at most {allowed_ms}", receipt.gpu_ms)


def _gpu_set_check(receipt: Receipt, gpu_ids: Sequence[str], limits: CallLimits) -> Check:
    held = limits.gpus if limits.exclusive else 0
    if len(gpu_ids) != held:
        return Check("gpu_set", False, f"one of {held} cards", f"one of {len(gpu_ids)}")
    try:
        return _same("gpu_set", merkle.gpu_set_root(gpu_ids), receipt.gpu_set)
    except ProtocolError as problem:
        return Check("gpu_set", False, f"no root: {problem}", receipt.gpu_set)


def _usage_root_check(receipt: Receipt, samples: Sequence[UsageSample]) -> Check:
    try:
        return _same("usage_root", merkle.usage_root(samples), receipt.usage_root)
    except (ProtocolError, ValueError) as problem:
        return Check("usage_root", False, f"no root: {problem}", receipt.usage_root)


def _total_check(receipt: Receipt, last: Link | None, request: CallRequest) -> Check:
    try:
        charge = call_charge_up(request.price, receipt.calls, receipt.gpu_ms)
    except AmountError as problem:
        return Check("total", False, f"none: {problem}", receipt.total)
    if last is None and receipt.seq != 1:
        # The rest is what came before, which nobody showed.
        ok = None if receipt.total >= charge else False
        return Check("total", ok, f"{charge} more than the receipt before it", receipt.total)
    # Beyond every amount it is no receipt's total, which fits its type or has no digest.
    return _same("total", (last.total if last else 0) + charge, receipt.total)


def _digest(domain: Domain, receipt: Receipt) -> Digest:
    try:
        return messages.digest(domain, receipt)
    except ProtocolError as problem:
        raise ReceiptRefused("form", "values that fit their types", problem) from problem


def _same(name: str, expected: object, found: object) -> Check:
    return Check(name, expected == found, expected, found)
