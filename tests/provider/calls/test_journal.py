"""What is written down before an answer leaves
├── it is there after kill -9 at any moment, whole, and nothing that was not said is missing
├── many writers are one flush, in order
├── a file that is new, damaged or cut begins anew
└── one that cannot be written signs nothing more
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sqlite3
from pathlib import Path

import pytest

from tallystick.protocol.call_journal import Opened, Served, ServingRecord
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.serving import Go, ServingChannel
from tallystick.protocol.types import AppId, Digest
from tallystick_provider.calls.channels import NOT_WHOLE, Channels
from tallystick_provider.calls.journal import CallJournal, Entry, KeptResult
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import JournalError
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    LIMITS,
    NOW_MS,
    NOW_S,
    funded,
    run_of,
    sign_receipt,
)
from tests.protocol.test_serving import ask_of, voucher_for
from tests.provider.calls import journal_child
from tests.support.anvil import digest_of_word

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.provider.calls.journal_child"])
KEPT = KeptResult(b"result", "application/json", 1, 2)
ID = channel_id(CHANNEL)


def journal_at(path: Path, now_s: int = NOW_S - 10) -> CallJournal:
    return CallJournal(path / "calls.sqlite", now_s)


class Chain:
    """What the chain would say."""

    def __init__(self, state: ChannelState | None = None, funded_at_s: int | None = NOW_S) -> None:
        self.state = state or funded()
        self.funded = funded_at_s
        self.asked = 0

    async def channel(self, channel: Channel) -> ChannelState:
        self.asked += 1
        return self.state

    async def funded_at_s(self, channel: Channel) -> int | None:
        return self.funded


def channels_on(journal: CallJournal, chain: Chain | None = None) -> Channels:
    made = Channels(DOMAIN, journal, chain or Chain(), ManualClock(NOW_MS), credit_calls=1)
    made.load()
    return made


async def serve_one(channels: Channels, number: int) -> Served:
    """One call, answered and not paid for."""
    await channels.of(CHANNEL)
    end = channels.end(ID)
    step = end.may_serve(ask_of(number, end.paid), LIMITS, APP, now_ms=NOW_MS)
    assert isinstance(step.reply, Go), step.reply
    await channels.apply(ID, step)
    done = channels.end(ID).serve(number, run_of(), APP, sign_receipt)
    assert isinstance(done.reply, Served)
    await channels.apply(ID, done, (done.reply.receipt.seq, KEPT))
    return done.reply


async def pay(channels: Channels) -> None:
    await channels.apply(ID, channels.end(ID).accept_voucher(voucher_for(channels.end(ID))))


class TestAfterARestart:
    async def test_goes_on_where_it_was(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        first = await serve_one(channels, 1)
        await pay(channels)
        second = await serve_one(channels, 2)
        before = channels.end(ID)
        journal.close()

        journal = journal_at(tmp_path, NOW_S + 999)  # later: the file keeps its own beginning
        chain = Chain()
        channels = channels_on(journal, chain)
        assert chain.asked == 0  # not before it serves again
        await channels.of(CHANNEL)
        assert channels.end(ID) == before
        assert channels.end(ID).again(1) == first
        assert channels.end(ID).again(2) == second
        assert channels.result(ID, 2) == KEPT
        await pay(channels)
        assert channels.result(ID, 1) is None  # not asked for any more
        assert channels.result(ID, 2) == KEPT  # its answer may have been lost all the same
        journal.close()

    async def test_a_journal_that_was_lost_signs_nothing_on_old_channels(
        self, tmp_path: Path
    ) -> None:
        journal = journal_at(tmp_path)
        await serve_one(channels_on(journal), 1)
        journal.close()
        for path in tmp_path.iterdir():
            path.unlink()
        journal = journal_at(tmp_path, NOW_S + 1)
        channels = channels_on(journal)
        await channels.of(CHANNEL)
        step = channels.end(ID).may_serve(ask_of(1), LIMITS, APP, now_ms=NOW_MS)
        assert "journal begins at" in channels.end(ID).abandoned
        assert getattr(step.reply, "code", "") == "new_salt"
        journal.close()

    @pytest.mark.parametrize("cut", ["a line is gone", "a line is broken", "the beginning is gone"])
    async def test_one_that_was_cut_begins_anew_and_keeps_the_money(
        self, tmp_path: Path, cut: str
    ) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        for number in (1, 2, 3):
            await serve_one(channels, number)
            await pay(channels)
        best = channels.end(ID).voucher
        other = Channel(CHANNEL.payer, CHANNEL.signer, CHANNEL.provider, 8)
        await channels.of(other)
        journal.close()
        data = sqlite3.connect(tmp_path / "calls.sqlite")
        with data:
            if cut == "a line is gone":
                data.execute("delete from record where id = 4")
            elif cut == "a line is broken":
                data.execute("update record set line = substr(line, 1, 40) where id = 7")
            else:
                data.execute("delete from record where id = 1")
        data.close()
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        assert journal.since_s == NOW_S + 1
        assert channels.end(channel_id(other)).abandoned  # whoever cut one may have cut others
        if cut != "the beginning is gone":
            assert channels.end(ID).abandoned == NOT_WHOLE
            held = channels.end(ID).voucher
            assert held == best if cut == "a line is gone" else held is not None
        journal.close()

    def test_a_damaged_file_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "calls.sqlite").write_bytes(b"no database at all" * 100)
        with pytest.raises(JournalError, match="move it away and start again"):
            journal_at(tmp_path)


class TestWriting:
    async def test_many_at_once_are_few_flushes_in_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = journal_at(tmp_path)
        flushes: list[int] = []
        commit = CallJournal._commit

        def counted(self: CallJournal, entries: list[Entry]) -> None:
            flushes.append(len(entries))
            commit(self, entries)

        monkeypatch.setattr(CallJournal, "_commit", counted)
        entries = [Entry(ID, (Opened(CHANNEL, number),), drop_below_seq=0) for number in range(200)]
        await asyncio.gather(*(journal.write(entry) for entry in entries))
        assert sum(flushes) == 200
        assert len(flushes) < 20
        assert [r.at_s for r in journal.records(ID) if isinstance(r, Opened)] == list(range(200))
        journal.close()

    async def test_one_who_stops_waiting_takes_nothing_back(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        writing = asyncio.create_task(journal.write(Entry(ID, (Opened(CHANNEL, 1),))))
        await asyncio.sleep(0)
        writing.cancel()
        await journal.write(Entry(ID, (Opened(CHANNEL, 2),)))
        assert len(list(journal.records(ID))) == 2
        journal.close()

    async def test_a_disk_that_fails_ends_all_signing(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        await serve_one(channels, 1)
        journal._data.execute("pragma query_only=1")
        with pytest.raises(JournalError, match="nothing is signed until"):
            await pay(channels)
        journal._data.execute("pragma query_only=0")
        with pytest.raises(JournalError, match="nothing is signed until"):
            await serve_one(channels, 2)
        journal.close()

    def test_apps_are_remembered(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        app = AppId(digest_of_word(5))
        journal.keep_app(app, 1, b"{}")
        journal.keep_app(app, 1, b"{}")
        journal.close()
        journal = journal_at(tmp_path)
        assert journal.apps() == ((app, 1, b"{}"),)
        journal.close()


class TestOpening:
    async def test_twice_at_once_is_once(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        await asyncio.gather(*(channels.of(CHANNEL) for _ in range(8)))
        assert len(list(journal.records(ID))) == 1
        journal.close()

    async def test_one_with_money_taken_that_the_journal_knows_nothing_of(
        self, tmp_path: Path
    ) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal, Chain(funded(claimed=5)))
        await channels.of(CHANNEL)
        assert "redeemed" in channels.end(ID).abandoned
        journal.close()

    async def test_more_redeemed_than_was_signed_abandons_it(self, tmp_path: Path) -> None:
        journal, chain = journal_at(tmp_path), Chain()
        channels = channels_on(journal, chain)
        await serve_one(channels, 1)
        chain.state = funded(claimed=999_999)
        await channels.look_again(ID)
        assert channels.end(ID).abandoned
        journal.close()
        journal = journal_at(tmp_path)
        assert channels_on(journal, Chain()).end(ID).abandoned  # for ever
        journal.close()


@pytest.mark.parametrize("step", range(1, 25))
def test_killed_at_any_moment_it_has_all_that_was_said(tmp_path: Path, step: int) -> None:
    """The child serves and takes vouchers, says each receipt to a file as a provider would send it,
    and dies before or after a commit. Every receipt that was said is in the journal, once."""
    said = tmp_path / "said"
    child = PROCESSES.Process(
        target=journal_child.main, args=(str(tmp_path / "calls.sqlite"), str(said), step)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    journal = journal_at(tmp_path)
    records: list[ServingRecord] = list(journal.records(ID))
    if not records:
        assert step == 1  # before anything was written
        assert not said.exists()
        journal.close()
        return
    end = ServingChannel.rebuilt(DOMAIN, funded(), records).channel
    kept = [record for record in records if isinstance(record, Served)]
    assert [record.receipt.seq for record in kept] == list(range(1, len(kept) + 1))
    told = [Digest(line) for line in said.read_text().split()] if said.exists() else []
    by_seq = {record.receipt.seq: record for record in kept}
    for seq, digest in enumerate(told, start=1):
        assert journal_child.digest_of_receipt(by_seq[seq].receipt) == digest
    assert len(kept) - len(told) in (0, 1)  # written, and killed before it was said
    for place in (end.paid_place, *end.unpaid):
        if place is not None:
            assert journal.result(ID, place.link.seq) is not None
    journal.close()
