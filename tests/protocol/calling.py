"""One app, one channel and both its ends, for tests that change one thing about them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from tallystick.protocol import messages
from tallystick.protocol.apps import AppHistory, PricePoint, VersionHistory
from tallystick.protocol.calls import (
    CallAnswer,
    CallId,
    CallLimits,
    CallRequest,
    CallRun,
    Link,
    next_receipt,
)
from tallystick.protocol.channels import ChannelState, SignedReceipt
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Channel, Domain, Receipt
from tallystick.protocol.paying import PayingChannel
from tallystick.protocol.pricing import Price
from tallystick.protocol.serving import ServingChannel
from tallystick.protocol.types import ZERO_ADDRESS, AppId
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER, digest_of_word, person

SESSION = person("session key")
DOMAIN = Domain(31_337, person("escrow").address)
CHANNEL = Channel(CONSUMER.address, SESSION.address, PROVIDER.address, 7)
NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000
PRICE = Price(flat=5, fee_per_call=10, rate_per_gpu_second=366)
GPUS = ("GPU-1", "GPU-2")
LIMITS = CallLimits(gpus=2, exclusive=True, max_seconds=60)
APP = AppHistory(
    AppId(digest_of_word(1)),
    CONSUMER.address,
    ZERO_ADDRESS,
    0,
    (
        VersionHistory(
            digest_of_word(2), digest_of_word(3), "ipfs://m", (PricePoint(NOW_S - 100, PRICE),)
        ),
    ),
)
INPUT = digest_of(b'{"n": 1}')
RESULT_BYTES = b'{"answer": 42}'
RESULT = digest_of(RESULT_BYTES)
OPERATORS = frozenset({OPERATOR.address})

sign_receipt = partial(messages.sign, DOMAIN, private_key=OPERATOR.key)
sign_voucher = partial(messages.sign, DOMAIN, private_key=SESSION.key)


def request_of(word: int = 1, **changes: Any) -> CallRequest:
    request = CallRequest(
        call_id=CallId(f"call-{word:08}"),
        app_id=APP.app_id,
        version=1,
        price=PRICE,
        max_seconds=60,
        input=INPUT,
    )
    return replace(request, **changes)


def run_of(seconds: int = 10, **changes: Any) -> CallRun:
    """Both cards for so long."""
    run = CallRun(
        started_at_ms=NOW_MS,
        ended_at_ms=NOW_MS + 1000 * seconds,
        gpu_ms=2000 * seconds,
        result=RESULT,
        gpu_ids=GPUS,
    )
    return replace(run, **changes)


def signed_by(person_key: str, receipt: Receipt) -> SignedReceipt:
    return SignedReceipt(receipt, messages.sign(DOMAIN, receipt, person_key))


def answer_of(
    asked: CallRequest, run: CallRun, last: Link | None = None, **lies: Any
) -> CallAnswer:
    """Signed by the operator key after the lies were put in, as a dishonest provider would."""
    receipt = replace(next_receipt(CHANNEL, last or Link(), asked, run), **lies)
    return CallAnswer(signed_by(OPERATOR.key, receipt), run.gpu_ids, run.samples)


def link_of(answer: CallAnswer) -> Link:
    receipt = answer.signed.receipt
    return Link(receipt.seq, messages.digest(DOMAIN, receipt), receipt.total)


def funded(deposited: int = 1_000_000, claimed: int = 0, close_at: int = 0) -> ChannelState:
    return ChannelState(deposited, claimed, close_at)


def provider_end(chain: ChannelState | None = None, **settings: Any) -> ServingChannel:
    step = ServingChannel.opened(
        DOMAIN,
        settings.pop("channel", CHANNEL),
        chain or funded(),
        funded_at_s=NOW_S,
        journal_since_s=NOW_S - 10,
        now_s=NOW_S,
        **settings,
    )
    return step.channel


def payer_end(chain: ChannelState | None = None, **settings: Any) -> PayingChannel:
    step = PayingChannel.opened(
        DOMAIN, settings.pop("channel", CHANNEL), chain or funded(), now_s=NOW_S, **settings
    )
    return step.channel
