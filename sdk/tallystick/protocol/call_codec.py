"""The three messages of every call, between what the ends keep and their JSON.

What is written here is the JSON of `call_bodies`, field by field in one order. What comes in that
order, as it does from every agent of ours, is read by one pattern that holds each field to its
type; any other JSON goes through the models, which take and refuse the same. A call needs each of
these on both ends: the models alone took a quarter of its time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tallystick.protocol.call_bodies import CallAnswerBody, CallRequestBody
from tallystick.protocol.calls import CallAnswer, CallId, CallRequest, Link
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.messages import Channel, Receipt, Voucher
from tallystick.protocol.pricing import Price
from tallystick.protocol.serving import Ask
from tallystick.protocol.types import AppId, Digest, to_address
from tallystick.protocol.wire import UINT128_MAX, SignedVoucherBody, parse

__all__ = [
    "AnswerMessage",
    "RequestMessage",
    "read_answer",
    "read_request",
    "read_voucher",
    "write_answer",
    "write_request",
    "write_voucher",
]

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class RequestMessage:
    """`CallRequestBody`, as its reader keeps it."""

    ask: Ask
    channel: Channel
    stream: bool = False
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    """`CallAnswerBody`, as its reader keeps it."""

    number: int
    call_id: CallId
    answer: CallAnswer
    balance: int
    media_type: str = JSON
    queued_ms: int = 0
    cold_start_ms: int = 0


# --- writing ----------------------------------------------------------------------------------


def write_request(
    ask: Ask, channel: Channel, *, stream: bool = False, media_type: str = JSON
) -> bytes:
    voucher = b"null" if ask.voucher is None else write_voucher(ask.voucher)
    return b'{"number":%d,"call":%b,"channel":%b,"held_seq":%d,"held_receipt":"%b",' % (
        ask.number,
        ask.request.to_json(),
        _channel(channel),
        ask.held.seq,
        ask.held.digest.encode(),
    ) + b'"voucher":%b,"stream":%b,"media_type":%b}' % (
        voucher,
        b"true" if stream else b"false",
        _text(media_type),
    )


def write_answer(
    answer: CallAnswer,
    *,
    number: int,
    call_id: CallId,
    balance: int,
    media_type: str = JSON,
    queued_ms: int = 0,
    cold_start_ms: int = 0,
) -> bytes:
    if answer.gpu_ids or answer.samples or not _PLAIN.fullmatch(media_type):
        body = answer.to_body(number=number, call_id=call_id, balance=balance)
        waited = {"queued_ms": queued_ms, "cold_start_ms": cold_start_ms}
        body = body.model_copy(update={"media_type": media_type, **waited})
        return body.model_dump_json().encode()
    receipt = answer.signed.receipt
    return (
        f'{{"number":{number},"call_id":"{call_id}","result":"{receipt.result}","gpu_ids":[],'
        f'"usage":[],"signed":{{"receipt":{{"provider":"{receipt.provider}",'
        f'"route":"{receipt.route}","seq":{receipt.seq},"prev":"{receipt.prev}",'
        f'"request":"{receipt.request}","result":"{receipt.result}",'
        f'"gpu_set":"{receipt.gpu_set}","started_at_ms":{receipt.started_at_ms},'
        f'"ended_at_ms":{receipt.ended_at_ms},"calls":{receipt.calls},"gpu_ms":{receipt.gpu_ms},'
        f'"usage_root":"{receipt.usage_root}","total":"{receipt.total}"}},'
        f'"signature":"{answer.signed.signature}"}},"balance":"{balance}",'
        f'"media_type":"{media_type}","queued_ms":{queued_ms},"cold_start_ms":{cold_start_ms}}}'
    ).encode()


@lru_cache(maxsize=1024)
def write_voucher(signed: SignedVoucher) -> bytes:
    voucher = signed.voucher
    return (
        f'{{"voucher":{{"payer":"{voucher.payer}","provider":"{voucher.provider}",'
        f'"salt":"{voucher.salt}","total":"{voucher.total}","receipt":"{voucher.receipt}"}},'
        f'"signature":"{signed.signature}"}}'
    ).encode()


@lru_cache(maxsize=4096)
def _channel(channel: Channel) -> bytes:
    return (
        f'{{"payer":"{channel.payer}","signer":"{channel.signer}",'
        f'"provider":"{channel.provider}","salt":"{channel.salt}"}}'
    ).encode()


@lru_cache(maxsize=256)
def _text(media_type: str) -> bytes:
    return json.dumps(media_type).encode()


# --- reading ----------------------------------------------------------------------------------


def read_request(data: bytes) -> RequestMessage:
    """Raises `WireError`, or another `ProtocolError`, for what is no such body."""
    found = _REQUEST.fullmatch(data)
    if found is None:
        return _slow_request(data)
    groups = found.groups()
    (number, app_id, call_id, digest, seconds, fee, flat, rate, version, channel) = groups[:10]
    (held_seq, held_receipt, voucher, stream, media_type) = groups[10:]
    price = Price(int(flat), int(fee), int(rate))
    request = CallRequest(
        CallId(call_id.decode()),
        AppId(Digest(app_id.decode())),
        int(version),
        price,
        int(seconds),
        Digest(digest.decode()),
    )
    held = Link(int(held_seq), Digest(held_receipt.decode()))
    ask = Ask(int(number), request, held, None if voucher == b"null" else read_voucher(voucher))
    fits = (
        1 <= ask.number < _2_63
        and held.seq < _2_64
        and 1 <= request.version < _2_32
        and 1 <= request.max_seconds < _2_32
        and max(price.flat, price.fee_per_call, price.rate_per_gpu_second) <= UINT128_MAX
    )
    if not fits:
        return _slow_request(data)  # which says what does not
    return RequestMessage(ask, _read_channel(channel), stream == b"true", media_type.decode())


def read_answer(data: bytes) -> AnswerMessage:
    """Raises `WireError`, or another `ProtocolError`, for what is no such body."""
    found = _ANSWER.fullmatch(data)
    if found is None:
        return _slow_answer(data)
    (
        number,
        call_id,
        told,
        provider,
        route,
        seq,
        prev,
        request,
        result,
        gpu_set,
        started,
        ended,
    ) = found.groups()[:12]
    (calls, gpu_ms, usage_root, total, signature, balance, media_type, queued, cold) = (
        found.groups()[12:]
    )
    receipt = Receipt(
        to_address(provider.decode()),
        Digest(route.decode()),
        int(seq),
        Digest(prev.decode()),
        Digest(request.decode()),
        Digest(result.decode()),
        Digest(gpu_set.decode()),
        int(started),
        int(ended),
        int(calls),
        int(gpu_ms),
        Digest(usage_root.decode()),
        int(total),
    )
    message = AnswerMessage(
        int(number),
        CallId(call_id.decode()),
        CallAnswer(SignedReceipt(receipt, signature.decode())),
        int(balance),
        media_type.decode(),
        int(queued),
        int(cold),
    )
    times = (receipt.started_at_ms, receipt.ended_at_ms, message.queued_ms, message.cold_start_ms)
    fits = (
        message.number < _2_63
        and max(receipt.seq, receipt.calls, receipt.gpu_ms, *times) < _2_64
        and max(receipt.total, message.balance) <= UINT128_MAX
        and told == result
    )
    return message if fits else _slow_answer(data)


@lru_cache(maxsize=4096)
def read_voucher(data: bytes) -> SignedVoucher:
    """Raises `WireError`, or another `ProtocolError`, for what is no such body. The same one comes
    with every request until there is a newer."""
    found = _VOUCHER.fullmatch(data)
    if found is None:
        return SignedVoucher.from_body(parse(SignedVoucherBody, data))
    payer, provider, salt, total, receipt, signature = (part.decode() for part in found.groups())
    if int(salt) >= _2_96 or int(total) > UINT128_MAX:
        return SignedVoucher.from_body(parse(SignedVoucherBody, data))
    voucher = Voucher(
        to_address(payer), to_address(provider), int(salt), int(total), Digest(receipt)
    )
    return SignedVoucher(voucher, signature)


def _slow_request(data: bytes) -> RequestMessage:
    body = parse(CallRequestBody, data)
    return RequestMessage(
        Ask.from_body(body), Channel.from_body(body.channel), body.stream, body.media_type
    )


def _slow_answer(data: bytes) -> AnswerMessage:
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


@lru_cache(maxsize=4096)
def _read_channel(data: bytes) -> Channel:
    found = _CHANNEL.fullmatch(data)
    assert found is not None
    payer, signer, provider, salt = (part.decode() for part in found.groups())
    return Channel(to_address(payer), to_address(signer), to_address(provider), int(salt))


_2_32: Final = 2**32
_2_63: Final = 2**63
_2_64: Final = 2**64
_2_96: Final = 2**96

_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$&^_.+/-]{1,200}", re.ASCII)
"""A media type that JSON writes as it is."""

_ADDRESS: Final = rb'"(0x[0-9a-fA-F]{40})"'
_DIGEST: Final = rb'"(0x[0-9a-f]{64})"'
_INTEGER: Final = rb"(0|[1-9][0-9]{0,19})"
_AMOUNT: Final = rb'"(0|[1-9][0-9]{0,38})"'
_CALL_ID: Final = rb'"([A-Za-z0-9_-]{8,64})"'
_SIGNATURE: Final = rb'"(0x(?:[0-9a-fA-F]{2}){64,65})"'
_MEDIA_TYPE: Final = rb'"([A-Za-z0-9!#$&^_.+/-]{1,200})"'


def _pattern(*parts: bytes) -> re.Pattern[bytes]:
    return re.compile(b"".join(parts), re.ASCII)


def _uncaptured(pattern: re.Pattern[bytes]) -> bytes:
    return re.sub(rb'"\((?!\?)', rb'"(?:', pattern.pattern)


_CHANNEL: Final = _pattern(
    *(rb'\{"payer":', _ADDRESS, rb',"signer":', _ADDRESS),
    *(rb',"provider":', _ADDRESS, rb',"salt":', _AMOUNT, rb"\}"),
)
_VOUCHER: Final = _pattern(
    *(rb'\{"voucher":\{"payer":', _ADDRESS, rb',"provider":', _ADDRESS, rb',"salt":', _AMOUNT),
    *(rb',"total":', _AMOUNT, rb',"receipt":', _DIGEST, rb'\},"signature":', _SIGNATURE, rb"\}"),
)
_REQUEST: Final = _pattern(
    *(rb'\{"number":', _INTEGER, rb',"call":\{"app_id":', _DIGEST, rb',"call_id":', _CALL_ID),
    *(rb',"input":', _DIGEST, rb',"max_seconds":', _INTEGER),
    *(rb',"price":\{"fee_per_call":', _AMOUNT, rb',"flat":', _AMOUNT),
    *(rb',"rate_per_gpu_second":', _AMOUNT, rb'\},"version":', _INTEGER),
    *(rb'\},"channel":(', _uncaptured(_CHANNEL), rb'),"held_seq":', _INTEGER),
    *(rb',"held_receipt":', _DIGEST, rb',"voucher":(null|', _uncaptured(_VOUCHER)),
    *(rb'),"stream":(true|false),"media_type":', _MEDIA_TYPE, rb"\}"),
)
_ANSWER: Final = _pattern(
    *(rb'\{"number":', _INTEGER, rb',"call_id":', _CALL_ID, rb',"result":', _DIGEST),
    *(rb',"gpu_ids":\[\],"usage":\[\],"signed":\{"receipt":\{"provider":', _ADDRESS),
    *(rb',"route":', _DIGEST, rb',"seq":', _INTEGER, rb',"prev":', _DIGEST),
    *(rb',"request":', _DIGEST, rb',"result":', _DIGEST, rb',"gpu_set":', _DIGEST),
    *(rb',"started_at_ms":', _INTEGER, rb',"ended_at_ms":', _INTEGER, rb',"calls":', _INTEGER),
    *(rb',"gpu_ms":', _INTEGER, rb',"usage_root":', _DIGEST, rb',"total":', _AMOUNT),
    *(rb'\},"signature":', _SIGNATURE, rb'\},"balance":', _AMOUNT),
    *(rb',"media_type":', _MEDIA_TYPE, rb',"queued_ms":', _INTEGER, rb',"cold_start_ms":'),
    *(_INTEGER, rb"\}"),
)
