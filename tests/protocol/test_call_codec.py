"""The messages of a call, written and read
├── what is written is what the models write
├── what the models take is taken, and comes to the same; what they refuse is refused
│   ├── in our own order of fields, by the pattern
│   └── in any other, by the models
└── a character changed anywhere comes to the same as with the models
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol import call_codec
from tallystick.protocol.call_bodies import CallAnswerBody, CallRequestBody
from tallystick.protocol.call_codec import AnswerMessage, RequestMessage
from tallystick.protocol.calls import CallAnswer, CallId, CallRequest, Link
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import Channel
from tallystick.protocol.pricing import Price
from tallystick.protocol.serving import Ask
from tallystick.protocol.types import AppId, Digest
from tallystick.protocol.wire import SignedVoucherBody, parse
from tests.protocol.calling import CHANNEL, answer_of, link_of, request_of, run_of, sign_voucher

ANSWER = replace(answer_of(request_of(), run_of()), gpu_ids=(), samples=())
_VOUCHER = CHANNEL.voucher(1, link_of(ANSWER).digest)
VOUCHER = SignedVoucher(_VOUCHER, sign_voucher(_VOUCHER))

uint32s = st.integers(1, 2**32 - 1)
uint64s = st.integers(0, 2**64 - 1)
amounts = st.integers(0, 2**128 - 1)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest("0x" + raw.hex()))
call_ids = st.text("ABCxyz019_-", min_size=8, max_size=64).map(CallId)
media_types = st.sampled_from(
    ["application/json", "image/png", "audio/x-wav", "", 'text/plain; charset="utf-8"', "日本/語"]
)
requests = st.builds(
    CallRequest,
    call_ids,
    digests.map(AppId),
    uint32s,
    st.builds(Price, amounts, amounts, amounts),
    uint32s,
    digests,
)
asks = st.builds(
    Ask,
    st.integers(1, 2**63 - 1),
    requests,
    st.builds(Link, uint64s, digests),
    st.sampled_from([None, VOUCHER]),
)
channels = st.builds(lambda salt: replace(CHANNEL, salt=salt), st.integers(0, 2**96 - 1))
answers = st.builds(
    lambda seq, total, result, gpus: CallAnswer(
        SignedReceipt(
            replace(ANSWER.signed.receipt, seq=seq, total=total, result=result),
            ANSWER.signed.signature,
        ),
        gpus,
    ),
    uint64s,
    amounts,
    digests,
    st.sampled_from([(), ("GPU-1",)]),
)


def by_the_models(data: bytes) -> RequestMessage:
    body = parse(CallRequestBody, data)
    return RequestMessage(
        Ask.from_body(body), Channel.from_body(body.channel), body.stream, body.media_type
    )


def answer_by_the_models(data: bytes) -> AnswerMessage:
    body = parse(CallAnswerBody, data)
    return AnswerMessage(
        body.number,
        CallId(body.call_id),
        CallAnswer.from_body(body),
        body.balance,
        body.media_type,
        body.queued_ms,
        body.cold_start_ms,
    )


def outcome(read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except ProtocolError:
        return "refused"


@given(requests)
def test_a_request_hashes_as_its_canonical_json(request: CallRequest) -> None:
    assert request.to_json() == canonical_json(request.to_body())


@given(asks, channels, st.booleans(), media_types)
def test_a_request_is_written_as_the_models_write_it(
    ask: Ask, channel: Channel, stream: bool, media_type: str
) -> None:
    text = call_codec.write_request(ask, channel, stream=stream, media_type=media_type)
    body = ask.to_body(channel).model_copy(update={"stream": stream, "media_type": media_type})
    assert json.loads(text) == body.model_dump(mode="json")
    assert call_codec.read_request(text) == by_the_models(text)
    assert call_codec.read_request(text) == RequestMessage(ask, channel, stream, media_type)


@given(answers, st.integers(0, 2**63 - 1), call_ids, amounts, media_types, uint64s, uint64s)
def test_an_answer_is_written_as_the_models_write_it(
    answer: CallAnswer,
    number: int,
    call_id: CallId,
    balance: int,
    media_type: str,
    queued_ms: int,
    cold_start_ms: int,
) -> None:
    told = {"media_type": media_type, "queued_ms": queued_ms, "cold_start_ms": cold_start_ms}
    text = call_codec.write_answer(
        answer,
        number=number,
        call_id=call_id,
        balance=balance,
        media_type=media_type,
        queued_ms=queued_ms,
        cold_start_ms=cold_start_ms,
    )
    body = answer.to_body(number=number, call_id=call_id, balance=balance)
    assert json.loads(text) == body.model_copy(update=told).model_dump(mode="json")
    expected = AnswerMessage(number, call_id, answer, balance, media_type, queued_ms, cold_start_ms)
    assert call_codec.read_answer(text) == answer_by_the_models(text) == expected


def test_a_voucher_is_written_as_the_models_write_it() -> None:
    text = call_codec.write_voucher(VOUCHER)
    assert json.loads(text) == VOUCHER.to_body().model_dump(mode="json")
    assert call_codec.read_voucher(text) == VOUCHER
    assert call_codec.read_voucher(VOUCHER.to_body().model_dump_json(indent=1).encode()) == VOUCHER


def test_fields_in_another_order_are_read() -> None:
    text = call_codec.write_request(Ask(1, request_of(), Link(), VOUCHER), CHANNEL)
    other = json.dumps(dict(reversed(json.loads(text).items()))).encode()
    assert other != text
    assert call_codec.read_request(other) == call_codec.read_request(text)


REQUEST_TEXT = call_codec.write_request(Ask(7, request_of(), Link(), VOUCHER), CHANNEL)
ANSWER_TEXT = call_codec.write_answer(ANSWER, number=7, call_id=CallId("call-0001"), balance=5)
VOUCHER_TEXT = call_codec.write_voucher(VOUCHER)

READERS: list[tuple[bytes, Callable[[bytes], Any], Callable[[bytes], Any]]] = [
    (REQUEST_TEXT, call_codec.read_request, by_the_models),
    (ANSWER_TEXT, call_codec.read_answer, answer_by_the_models),
    (
        VOUCHER_TEXT,
        call_codec.read_voucher,
        lambda data: SignedVoucher.from_body(parse(SignedVoucherBody, data)),
    ),
]


@pytest.mark.parametrize("which", range(len(READERS)), ids=["request", "answer", "voucher"])
@given(data=st.data())
def test_one_character_changed_comes_to_the_same_as_with_the_models(
    which: int, data: st.DataObject
) -> None:
    text, read, by_models = READERS[which]
    at = data.draw(st.integers(0, len(text) - 1))
    to = data.draw(st.sampled_from(b'0123456789abcdefABCDEFxgZ"{}[],:-.+ \\\n\x00\xff_/'))
    cut = data.draw(st.integers(0, 2))
    changed = text[:at] + bytes([to]) * (cut > 0) + text[at + (cut < 2) :]
    assert outcome(read, changed) == outcome(by_models, changed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"number":7', b'"number":%d' % 2**63),
        (b'"number":7', b'"number":0'),
        (b'"version":1}', b'"version":%d}' % 2**32),
        (b'"held_seq":0', b'"held_seq":%d' % 2**64),
        (b'"salt":"7"', b'"salt":"%d"' % 2**96),
        (b'"flat":"5"', b'"flat":"%d"' % 2**128),
        (b'"flat":"5"', b'"flat":"05"'),
        (b'"total":"1"', b'"total":"%d"' % 2**128),
    ],
)
def test_numbers_beyond_their_types_come_to_the_same_as_with_the_models(
    before: bytes, after: bytes
) -> None:
    assert REQUEST_TEXT.count(before) >= 1
    changed = REQUEST_TEXT.replace(before, after)
    assert outcome(call_codec.read_request, changed) == outcome(by_the_models, changed)
