"""Bodies of a call take what they say and nothing else (security cases 49 and 134)."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from tallystick.protocol import wire
from tallystick.protocol.call_bodies import (
    CallAnswerBody,
    CallRefusalBody,
    CallRequestBody,
    RefusalCode,
)
from tallystick.protocol.calls import Link
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import WireError
from tallystick.protocol.serving import Ask, Refusal
from tests.protocol.calling import CHANNEL, answer_of, link_of, request_of, run_of, sign_voucher

ANSWER = answer_of(request_of(), run_of())
_VOUCHER = CHANNEL.voucher(1, link_of(ANSWER).digest)
VOUCHER = SignedVoucher(_VOUCHER, sign_voucher(_VOUCHER))
REQUEST: dict[str, Any] = json.loads(
    Ask(1, request_of(), Link(), VOUCHER).to_body(CHANNEL).model_dump_json()
)


def with_(path: str, value: object) -> str:
    """The request as JSON with one value changed or added."""
    content = json.loads(json.dumps(REQUEST))
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(content)


def test_a_request_is_read() -> None:
    body = wire.parse(CallRequestBody, json.dumps(REQUEST))
    assert Ask.from_body(body) == Ask(1, request_of(), Link(), VOUCHER)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[("number", value) for value in (0, -1, 1.0, "1", True, None, 2**63)],
        *[("call.price.flat", value) for value in ("1e18", "0.1", 0.1, "-1", str(2**128), True)],
        *[("call.max_seconds", value) for value in (0, -1, 1.5, 2**32)],
        *[("call.version", value) for value in (0, "1", 2**32)],
        *[("call.call_id", value) for value in ("", "short", "a" * 65, "call 0001", "../../etc")],
        *[("call.input", value) for value in ("", "0x", "0x" + "AB" * 32, None)],
        ("call.app_id", "llama"),
        ("channel.salt", 2**96),
        ("held_seq", -1),
        ("held_receipt", None),
        ("voucher.voucher.total", "1e3"),
        ("voucher.signature", "0x12"),
        ("call.paid", True),
        ("balance", "1000"),
        ("operator_keys", []),
    ],
    ids=str,
)
def test_anything_else_is_refused(path: str, value: object) -> None:
    with pytest.raises(WireError):
        wire.parse(CallRequestBody, with_(path, value))


def test_a_name_given_twice_is_refused() -> None:
    text = json.dumps(REQUEST)[:-1] + ', "number": 2}'
    with pytest.raises(WireError, match="twice"):
        wire.parse(CallRequestBody, text)


def test_an_answer_is_bounded() -> None:
    body = ANSWER.to_body(number=1, call_id=request_of().call_id, balance=5)
    content = json.loads(body.model_dump_json())
    assert wire.parse(CallAnswerBody, json.dumps(content)) == body
    for change in ({"gpu_ids": ["GPU-1"] * 65}, {"gpu_ids": ["G" * 201]}, {"balance": "-1"}):
        with pytest.raises(WireError):
            wire.parse(CallAnswerBody, json.dumps({**content, **change}))


@pytest.mark.parametrize("code", get_args(RefusalCode))
def test_every_refusal_travels(code: RefusalCode) -> None:
    """However long its reason: a refusal is never refused for that."""
    body = Refusal(code, "x" * 5_000, 3).to_body()
    again = wire.parse(CallRefusalBody, body.model_dump_json())
    assert (again.code, again.number, len(again.detail)) == (code, 3, 500)


def test_a_refusal_is_one_of_them() -> None:
    with pytest.raises(WireError, match="code"):
        wire.parse(CallRefusalBody, '{"code": "because"}')
