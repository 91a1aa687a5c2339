"""Nothing is said that is not written
├── a refusal shows a receipt only when it is on the disk, and none where that fails
└── a repeat that comes while its answer is being written waits for it
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.call_bodies import CallAnswerBody
from tallystick.protocol.call_codec import RequestMessage
from tallystick.protocol.call_frames import ANSWER, unpack
from tallystick.protocol.disk_pace import DiskPace
from tallystick.protocol.serving import Go, Refusal
from tallystick.protocol.wire import parse
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.journal import CallJournal
from tallystick_provider.calls.service import CallService, _Call
from tallystick_provider.clock import ManualClock
from tests.protocol.calling import APP, CHANNEL, DOMAIN, LIMITS, NOW_MS, sign_receipt
from tests.protocol.test_serving import ask_of
from tests.provider.calls.test_journal import ID, KEPT, Chain, cut_off, journal_at, serve_one
from tests.provider.waiting import until

NONE: Any = None


@contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is written until the event is set."""
    let_go = threading.Event()
    commit = CallJournal._commit

    def slow(self: CallJournal, batch: Any) -> int:
        assert let_go.wait(20)
        return commit(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(CallJournal, "_commit", slow)
        patched.setattr(DiskPace, "is_quick", lambda _pace: False)
        try:
            yield let_go
        finally:
            let_go.set()


def service_on(journal: CallJournal) -> CallService:
    clock = ManualClock(NOW_MS)
    channels = Channels(DOMAIN, journal, Chain(), clock, credit_calls=2)
    channels.load()
    service = CallService(CHANNEL.provider, channels, NONE, journal, sign_receipt, clock, 2)
    service.ready.set()
    return service


async def receipt_on_its_way(service: CallService) -> asyncio.Task[Any]:
    """Signed, and not on the disk yet."""
    serving = asyncio.create_task(serve_one(service.channels, 1))
    await until(lambda: bool(service.channels.end(ID).unpaid), what="the receipt")
    return serving


def refusal_of(service: CallService) -> Refusal:
    step = service.channels.end(ID).may_serve(
        ask_of(2, request=None, voucher=None), LIMITS, APP, now_ms=0
    )
    assert isinstance(step.reply, Refusal)
    assert step.reply.receipt is not None
    return step.reply


class TestARefusal:
    async def test_waits_for_the_receipt_that_it_shows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = service_on(journal_at(tmp_path))
        await service.channels.of(CHANNEL)
        with slow_disk(monkeypatch) as let_go:
            serving = await receipt_on_its_way(service)
            refusal = refusal_of(service)
            saying = asyncio.create_task(service.sayable(refusal))
            await asyncio.sleep(0.05)
            assert not saying.done()
            let_go.set()
            assert await saying == refusal
        assert (await serving).answer.signed == refusal.receipt
        cut_off(service.journal)
        with sqlite3.connect(tmp_path / "calls.sqlite") as data:
            assert data.execute("select count(*) from batch").fetchone() == (2,)

    async def test_shows_none_that_was_never_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = service_on(journal_at(tmp_path))
        await service.channels.of(CHANNEL)
        with slow_disk(monkeypatch) as let_go:
            serving = await receipt_on_its_way(service)
            service.journal._data.execute("pragma query_only=1")
            let_go.set()
            said = await service.sayable(refusal_of(service))
        assert said.receipt is None
        assert said.voucher is None
        assert await asyncio.gather(serving, return_exceptions=True)
        service.journal.close()

    async def test_of_nothing_waits_for_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = service_on(journal_at(tmp_path))
        await service.channels.of(CHANNEL)
        with slow_disk(monkeypatch):
            await receipt_on_its_way(service)
            plain = Refusal("failed", "no request at all")
            assert await service.sayable(plain) == plain
        service.journal.close()


async def test_a_repeat_gets_the_answer_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_on(journal_at(tmp_path))
    await service.channels.of(CHANNEL)
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    with slow_disk(monkeypatch) as let_go:
        serving = await receipt_on_its_way(service)
        call = _Call(service, RequestMessage(ask_of(1), CHANNEL), b"", send, 1 << 20)
        step = service.channels.end(ID).may_serve(ask_of(1), LIMITS, APP, now_ms=NOW_MS)
        assert step.reply is not None
        assert not isinstance(step.reply, Go | Refusal)
        again = asyncio.create_task(call._send_again(ID, step.reply))
        await asyncio.sleep(0.05)
        assert not sent
        let_go.set()
        await again
    frame = unpack(sent[0])
    assert (frame.kind, frame.content) == (ANSWER, KEPT.content)
    assert parse(CallAnswerBody, frame.body).signed == (await serving).answer.signed.to_body()
    service.journal.close()
