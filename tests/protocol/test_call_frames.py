"""A frame comes out as it went in, and what is not one says what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol import wire
from tallystick.protocol.call_bodies import CallRefusalBody
from tallystick.protocol.call_frames import ANSWER, PIECE, REFUSAL, pack, unpack
from tallystick.protocol.errors import WireError


@given(st.binary(max_size=300))
def test_content_passes_as_it_is(content: bytes) -> None:
    frame = unpack(pack(PIECE, None, content))
    assert (frame.kind, frame.body, frame.content) == (PIECE, b"", content)


def test_the_body_is_read_as_its_kind() -> None:
    body = CallRefusalBody(code="paused_funds", detail="{}", number=3)
    frame = unpack(pack(REFUSAL, body, b"\x00{"))
    assert frame.content == b"\x00{"
    assert wire.parse(CallRefusalBody, frame.body) == body


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "0 bytes has no head"),
        (b"A\x00\x00\x00", "4 bytes has no head"),
        (b"Z\x00\x00\x00\x00", "begins with b'Z'"),
        (b"A\x00\x00\x00\x02{", "says 2 bytes of JSON and has 1"),
        (b"A\xff\xff\xff\xff{}", "says 4294967295 bytes of JSON and has 2"),
    ],
)
def test_what_is_no_frame_says_so(data: bytes, told: str) -> None:
    with pytest.raises(WireError, match=told):
        unpack(data)


@given(st.binary(max_size=40))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        frame = unpack(data)
    except WireError:
        return
    assert (
        pack(frame.kind, None, frame.content) == ANSWER[:0] + frame.kind + bytes(4) + frame.content
    )
