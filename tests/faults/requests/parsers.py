"""Every parser of texts by strangers, called directly with spoilt ones: it may refuse in its own
words, and do nothing else."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from tallystick.protocol import call_codec, call_frames, call_journal, wire
from tallystick.protocol.app_manifest import read_app_manifest
from tallystick.protocol.call_bodies import SignedReceiptBody
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.login import check_proof, make_proof
from tallystick.protocol.manifest import canonical_json
from tallystick_backend import siwe_login
from tallystick_backend.access import Seals
from tallystick_backend.api import cursors
from tallystick_backend.api.call_door import read_headers
from tallystick_backend.api.guard import check_json
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.webhooks import read_url
from tallystick_backend.offer_search import parse as parse_search
from tests.backend.api.called import PaidChannel, manifest
from tests.backend.api.order import order_body
from tests.backend.api.world import DEPLOYMENT
from tests.faults.campaign import Broken
from tests.faults.requests import spoiling
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER

REFUSALS = (ProtocolError, BackendError, ValidationError)
NOW_S = 1_750_000_000


def parsers() -> dict[str, tuple[bytes, Callable[[bytes], Any]]]:
    """By name: something good, and what reads it."""
    paid = PaidChannel(CONSUMER.address)
    call = paid.call("call-0001", at_ms=NOW_S * 1000)
    seals = Seals(b"k" * 32)
    cursor = cursors.make_cursor(seals, "tasks", [NOW_S, "0x" + "5a" * 32])
    app = manifest()
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
            "$defs": {"n": {"type": "integer", "multipleOf": 2}},
        }
    )
    siwe = (
        "backend.test:8000 wants you to sign in with your Ethereum account:\n"
        f"{CONSUMER.address}\n\nSign in to Tallystick.\n\n"
        "URI: http://backend.test:8000\nVersion: 1\nChain ID: 31337\nNonce: 0123456789abcdef\n"
        "Issued At: 2026-01-01T00:00:00Z\nExpiration Time: 2026-01-02T00:00:00Z"
    )
    proof = make_proof(DEPLOYMENT.domain, PROVIDER.address, OPERATOR.address, NOW_S, OPERATOR.key)
    order = order_body(DEPLOYMENT, CONSUMER, now_s=NOW_S)
    voucher = paid.voucher
    assert voucher is not None
    assert call.answer is not None
    answer = json.dumps(call.answer).encode()
    frame = call_frames.pack(call_frames.ANSWER, answer, b"content")
    beat = wire.LeaseBeat(task_id=order["terms"]["spec"], fence=1, stage="running")
    heartbeat = wire.Heartbeat(leases=(beat,))
    return {
        "voucher": (
            json.dumps(voucher.to_body().model_dump(mode="json")).encode(),
            lambda data: wire.parse(wire.SignedVoucherBody, data),
        ),
        "voucher on the bus": (call_codec.write_voucher(voucher), call_codec.read_voucher),
        "receipt": (
            json.dumps(call.answer["signed"]).encode(),
            lambda data: wire.parse(SignedReceiptBody, data),
        ),
        "call answer": (answer, call_codec.read_answer),
        "call frame": (frame, _whole_frame),
        "heartbeat": (
            heartbeat.model_dump_json().encode(),
            lambda data: wire.parse(wire.Heartbeat, data),
        ),
        "task terms": (
            json.dumps(order).encode(),
            lambda data: wire.parse(wire.CreateTask, data),
        ),
        "manifest": (
            canonical_json(app),
            lambda data: read_app_manifest(data, expected=digest_of(data)),
        ),
        "manifest with a schema": (
            _with_schema(canonical_json(app), schema),
            lambda data: read_app_manifest(data, expected=digest_of(data)),
        ),
        "journal line": (
            call_journal.to_json(call_journal.VoucherTaken(voucher)),
            call_journal.from_json,
        ),
        "log-in message": (siwe.encode(), lambda data: siwe_login.parse(_text(data))),
        "log-in proof": (
            proof.encode(),
            lambda data: check_proof(_text(data), DEPLOYMENT.domain, NOW_S, 60),
        ),
        "search": (
            b'vram>=24 gpu in (rtx3090, "rtx 4090") price<0.5 and not simulated',
            lambda data: parse_search(_text(data), 18),
        ),
        "cursor": (
            cursor.encode(),
            lambda data: cursors.open_cursor(seals, "tasks", _text(data)),
        ),
        "webhook address": (
            b"https://example.org:8443/hook?a=1",
            lambda data: read_url(_text(data), loopback=False),
        ),
        "call headers": (
            b"Bearer tk_0\nwait=5, respond-async\n100\napplication/json\nkey-1",
            _read_headers,
        ),
        "body": (json.dumps(order).encode(), check_json),
    }


def run(chance: random.Random, times: int) -> None:
    """Raises `Broken` when a parser does anything but take or refuse."""
    known = list(parsers().items())
    for number in range(times):
        name, (good, parse) = known[number % len(known)]
        data = _spoilt(chance, good)
        try:
            parse(data)
        except REFUSALS:
            continue
        except Exception as error:
            raise Broken(f"{name}: {type(error).__name__}: {error} for {data[:600]!r}") from error


def _spoilt(chance: random.Random, good: bytes) -> bytes:
    if good[:1] == b"{" and chance.random() < 0.6:
        return spoiling.json_bytes(chance, spoiling.spoilt(chance, json.loads(good)))
    if chance.random() < 0.3:
        text = spoiling.spoilt_text(chance, good.decode("latin-1"))
        return text.encode("utf-8", "surrogatepass")
    return spoiling.spoilt_bytes(chance, good)


def _whole_frame(data: bytes) -> None:
    frame = call_frames.unpack(data)
    call_codec.read_answer(frame.body)


def _read_headers(data: bytes) -> None:
    names = (b"authorization", b"prefer", b"tallystick-max-charge", b"content-type")
    lines = data.split(b"\n")
    found = list(zip((*names, b"idempotency-key"), lines, strict=False))
    for header in found:
        _read_one(header)
    for name in (b"tallystick-signer", b"accept", b"origin", b"content-length"):
        _read_one((name, lines[0]))


def _read_one(header: tuple[bytes, bytes]) -> None:
    """Each by itself: the first refusal would hide the others."""
    with contextlib.suppress(*REFUSALS):
        read_headers([header])


def _with_schema(text: bytes, schema: str) -> bytes:
    return json.dumps(json.loads(text) | {"input_schema": schema}).encode()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass" if _is_text(data) else "replace")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
