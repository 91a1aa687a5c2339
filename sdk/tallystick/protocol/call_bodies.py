"""Bodies of a call between the payer's side (a gateway, or the consumer's own SDK) and a provider.

NATS subjects (request and reply; `<p>` is the provider's address in lower case):

    tallystick.provider.<p>.app       AppBody           -> AppReplyBody
    tallystick.provider.<p>.call      CallRequestBody   -> CallAnswerBody or CallRefusalBody
    tallystick.provider.<p>.voucher   SignedVoucherBody -> Ack or CallRefusalBody
    tallystick.provider.<p>.cancel    CancelBody        -> Ack
    tallystick.provider.<p>.load      LoadRequestBody   -> LoadBody
    tallystick.provider.<p>.starts    StartsRequestBody -> StartsBody

A call's messages are frames (`call_frames`), with input and result beside the body; the others are
JSON. A repeat is harmless: a request is known by its number, a voucher is a running total.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, Strict

from tallystick.protocol.wire import (
    Amount,
    ChannelBody,
    Count,
    DigestHex,
    ReceiptBody,
    ShortText,
    SignatureHex,
    SignedVoucherBody,
    Uint64,
    WireModel,
)

__all__ = [
    "WARM_MEDIA_TYPE",
    "WARM_SECONDS",
    "AppBody",
    "AppLoadBody",
    "AppReplyBody",
    "CallAnswerBody",
    "CallBody",
    "CallRefusalBody",
    "CallRequestBody",
    "CancelBody",
    "LoadBody",
    "LoadRequestBody",
    "PriceBody",
    "RefusalCode",
    "SignedReceiptBody",
    "StartBody",
    "StartsBody",
    "StartsRequestBody",
    "UsageSampleBody",
    "WorkerState",
    "is_warm",
]

WARM_MEDIA_TYPE: Final = "application/vnd.tallystick.warm"
"""Of the empty input of a **warm call**: its worker is started if none is up, and asked on its
ready path; the handler never hears of it. It has a place, a receipt and a price like any call."""

WARM_SECONDS: Final = 2
"""The longest that a gateway lets a warm call run: what it reserves for one, and the most that one
can cost."""

CallIdText = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]

RefusalCode = Literal[
    "new_salt",
    "paused_funds",
    "closing",
    "unpaid",
    "in_flight",
    "stale",
    "price_changed",
    "too_long",
    "voucher",
    "unknown_app",
    "no_worker",
    "too_large",
    "timed_out",
    "failed",
]
"""Why nothing was run, or nothing is charged for what was. The first nine are the channel's own:

new_salt        nothing is signed on this channel any more: open one with another salt
paused_funds    the deposit does not cover the most that the call can cost: top it up
closing         a close was requested
unpaid          as many calls wait for their voucher as the provider gives credit for
in_flight       as many calls run as the provider gives credit for, or this one does already
stale           older than what the provider has: a late message, or a payer that lost its journal
price_changed   the app has another price now: ask again by that
too_long        the call may run longer than the version allows
voucher         the voucher that came with the request is no good

The others are the run's, and nothing is charged for it:

unknown_app     the version was not brought here, has no price now, or is not served any more
no_worker       infrastructure: nothing was run, or its worker was lost on the way. Another provider
                may run it, if the app says that this is safe
too_large       the input or the answer is longer than the manifest allows
timed_out       no whole answer within the request's time
failed          the app's or the caller's own: `detail` begins with the worker's problem code and a
                colon (`input_refused: ...`, `handler_failed: ...`), of a server of its own with
                `http_<status>:`. Without one it was cancelled, or the request was malformed
"""


class PriceBody(WireModel):
    flat: Amount
    fee_per_call: Amount
    rate_per_gpu_second: Amount


def is_warm(media_type: str, content: bytes) -> bool:
    return media_type == WARM_MEDIA_TYPE and not content


class CallBody(WireModel):
    """What the receipt's `request` commits to: the hash of this body's canonical JSON."""

    call_id: CallIdText
    app_id: DigestHex
    version: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
    price: PriceBody
    max_seconds: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
    input: DigestHex


class SignedReceiptBody(WireModel):
    receipt: ReceiptBody
    signature: SignatureHex


class CallRequestBody(WireModel):
    """One request on a channel, and how far the payer has come there."""

    number: Annotated[int, Strict(), Field(ge=1, le=2**63 - 1)]
    """Counts the channel's requests from 1. The same message sent again keeps it; a call asked for
    once more has the next."""
    call: CallBody
    channel: ChannelBody
    held_seq: Uint64
    """Of the last receipt that the payer holds; the answer's is a later one."""
    held_receipt: DigestHex
    """Its digest; zero while there is none."""
    voucher: SignedVoucherBody | None = None
    """The payer's last one, so that none is lost for long."""
    stream: bool = False
    """Send the pieces of the answer as they come, if it is a stream of events: then its media type
    is `text/event-stream`. Any other answer comes as it would without this."""
    media_type: ShortText = "application/json"
    """Of the input."""


class UsageSampleBody(WireModel):
    at_ms: Uint64
    gpu_id: ShortText
    energy_mj: Uint64 | None


class CallAnswerBody(WireModel):
    number: Count
    call_id: CallIdText
    result: DigestHex
    """Of the bytes that come beside it; whoever pays computes it from them."""
    gpu_ids: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    usage: Annotated[tuple[UsageSampleBody, ...], Field(max_length=4096)] = ()
    signed: SignedReceiptBody
    balance: Amount
    """What the deposit still covers once this call is paid."""
    media_type: ShortText = "application/json"
    queued_ms: Uint64 = 0
    """Waited for a warm worker's free place."""
    cold_start_ms: Uint64 = 0
    """Of that, while a worker was being started for it. Never charged."""


class CallRefusalBody(WireModel):
    """With what the provider holds, so that a payer can repair a lost answer or see that its own
    journal is behind."""

    code: RefusalCode
    detail: Annotated[str, Field(max_length=500)] = ""
    number: Count = 0
    receipt: SignedReceiptBody | None = None
    voucher: SignedVoucherBody | None = None


class AppBody(WireModel):
    """A version that calls may come for. The provider reads the manifest's digest on chain itself,
    and pulls the image."""

    app_id: DigestHex
    version: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
    manifest: Annotated[str, Field(max_length=256 * 1024)]
    """The manifest's file, byte for byte."""


WorkerState = Literal["cold", "pulling", "starting", "warm", "failed"]
"""Of a version at one provider: what the next call would meet."""


class AppReplyBody(WireModel):
    accepted: bool
    reason: ShortText = ""
    """Why this provider does not serve it, in words."""


class CancelBody(WireModel):
    """Nobody waits for this call any more."""

    channel: ChannelBody
    number: Count


class LoadRequestBody(WireModel):
    """Of everything the provider serves."""


class AppLoadBody(WireModel):
    app_id: DigestHex
    version: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
    state: WorkerState
    workers: Count
    """Ready ones."""
    max_workers: Count
    """As many as the manifest allows and the provider has room for now."""
    places: Count
    """Calls that the ready ones answer at a time."""
    running: Count
    queued: Count
    delay_ms: Count
    """What a call that came now would wait for, as far as the provider can tell."""
    cold_start_ms: Count
    """Median of those seen; 0 while none was."""
    problem: ShortText = ""


class LoadBody(WireModel):
    at_ms: Uint64
    credit_calls: Annotated[int, Strict(), Field(ge=1, le=1024)] = 1
    """How many calls may be without a voucher on one channel."""
    apps: Annotated[tuple[AppLoadBody, ...], Field(max_length=1024)] = ()


START_LOG_CHARS: Final = 2_000
STARTS_TOLD: Final = 8


class StartsRequestBody(WireModel):
    """How workers of an app started lately. A gateway asks for the app's publisher alone."""

    app_id: DigestHex


class StartBody(WireModel):
    """One start of a worker. Nobody had called it when `text` was read, so nothing of a caller's is
    in it: an app has no network, and its log is no way out for what it was given either."""

    version: Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
    at_ms: Uint64
    ready: bool
    why: ShortText = ""
    """Why it did not become ready."""
    text: Annotated[str, Field(max_length=START_LOG_CHARS)]
    """The end of what it wrote until then."""


class StartsBody(WireModel):
    starts: Annotated[tuple[StartBody, ...], Field(max_length=STARTS_TOLD)] = ()
    """The newest first."""
