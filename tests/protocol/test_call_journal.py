"""What an end of a channel wrote down comes back as it was (security case 50)."""

from __future__ import annotations

from typing import get_args

import pytest

from tallystick.protocol.call_journal import (
    Abandoned,
    Accepted,
    Asked,
    GivenUp,
    Opened,
    PayingCheckpoint,
    Record,
    Served,
    ServingCheckpoint,
    VoucherSigned,
    VoucherTaken,
    from_json,
    to_json,
)
from tallystick.protocol.calls import Link
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import WireError
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.money import UINT128_MAX
from tests.protocol.calling import (
    CHANNEL,
    NOW_MS,
    answer_of,
    link_of,
    request_of,
    run_of,
    sign_voucher,
)

ANSWER = answer_of(request_of(), run_of(samples=(UsageSample(NOW_MS, "GPU-1", None),)))
_VOUCHER = CHANNEL.voucher(UINT128_MAX, link_of(ANSWER).digest)
VOUCHER = SignedVoucher(_VOUCHER, sign_voucher(_VOUCHER))
RECORDS: tuple[Record, ...] = (
    Opened(CHANNEL, 5),
    Served(1, request_of(), ANSWER),
    VoucherTaken(VOUCHER),
    ServingCheckpoint(CHANNEL, 5, None, (), None, 0, ""),
    ServingCheckpoint(
        CHANNEL,
        5,
        Served(1, request_of(), ANSWER),
        (Served(2, request_of(2), ANSWER), Served(3, request_of(3), ANSWER)),
        VOUCHER,
        3,
        "lost",
    ),
    Asked(2, request_of(2), UINT128_MAX, NOW_MS),
    Accepted(2, ANSWER.signed, link_of(ANSWER).digest),
    VoucherSigned(VOUCHER),
    GivenUp(3),
    Abandoned("lost", None),
    Abandoned("behind", VOUCHER),
    PayingCheckpoint(
        CHANNEL,
        5,
        link_of(ANSWER),
        ANSWER.signed,
        VOUCHER,
        (Asked(2, request_of(2), UINT128_MAX, NOW_MS),),
        2,
        "",
    ),
    PayingCheckpoint(CHANNEL, 5, Link(), None, None, (), 0, "lost"),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_comes_back(record: Record) -> None:
    line = to_json(record)
    assert b"\n" not in line
    assert from_json(line) == record


def test_there_is_one_of_each() -> None:
    assert {type(record) for record in RECORDS} == set(get_args(Record))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_line_that_a_crash_cut_is_no_record(record: Record) -> None:
    line = to_json(record)
    for cut in range(len(line)):
        with pytest.raises(WireError):
            from_json(line[:cut])


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"kind":"Channel","record":{}}',
        b'{"kind":"GivenUp","record":{"number":"x"}}',
        b'{"kind":"GivenUp","record":{"number":1.0}}',
        b'{"kind":"GivenUp","record":{"number":"1"}}',
        b'{"kind":"GivenUp","record":{"number":true}}',
        b'{"kind":"GivenUp","record":{}}',
        b'{"kind":["GivenUp"],"record":{"number":1}}',
        b"\xff",
    ],
)
def test_nor_is_anything_else(line: bytes) -> None:
    with pytest.raises(WireError):
        from_json(line)
