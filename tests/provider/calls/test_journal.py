"""What is written down before an answer leaves
├── it is there after kill -9 at any moment, whole, and nothing that was not said is missing
├── many writers are one flush and one row, in order
├── a checkpoint takes the place of what was written before, and says the same
├── a file that is new, damaged or cut begins anew
└── one that cannot be written signs nothing more
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.call_journal import Opened, Served
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.serving import Go, ServingChannel
from tallystick.protocol.types import AppId, Digest
from tallystick_provider.calls.channels import Channels
from tallystick_provider.calls.journal import CallJournal, Entry, KeptResult
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import JournalError, JournalUnavailable
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
    sign_voucher,
)
from tests.protocol.test_serving import ask_of, voucher_for
from tests.provider.calls import journal_child
from tests.support.anvil import digest_of_word

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.provider.calls.journal_child"])
KEPT = KeptResult(b"result", "application/json", 1, 2)
ID = channel_id(CHANNEL)


def journal_at(path: Path, now_s: int = NOW_S - 10, **settings: int) -> CallJournal:
    return CallJournal(path / "calls.sqlite", now_s, **settings)


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


def cut_off(journal: CallJournal) -> None:
    """As a process that is killed leaves it: without a last checkpoint."""
    journal._work.put(None)
    journal._thread.join()
    journal._data.close()


def rows_of(path: Path, table: str) -> int:
    with sqlite3.connect(path / "calls.sqlite") as data:
        return int(data.execute(f"select count(*) from {table}").fetchone()[0])


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

    @pytest.mark.parametrize(
        ("cut", "where"),
        [
            ("delete from batch", "position = 4"),
            ("update batch set lines = substr(lines, 1, 90)", "position = 7"),
            ("update batch set lines = substr(lines, 2)", "position = 7"),
            ("update batch set lines = x'00ff0a'", "position = 3"),
            ("delete from batch", "position = 1"),
        ],
        ids=["one is gone", "one is cut", "a name is cut", "one is broken", "the first is gone"],
    )
    async def test_one_that_was_cut_begins_anew_and_keeps_the_money(
        self, tmp_path: Path, cut: str, where: str
    ) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        for number in (1, 2, 3):
            await serve_one(channels, number)
            await pay(channels)
        best = channels.end(ID).voucher
        other = Channel(CHANNEL.payer, CHANNEL.signer, CHANNEL.provider, 8)
        await channels.of(other)
        cut_off(journal)
        with sqlite3.connect(tmp_path / "calls.sqlite") as data:
            assert data.execute(f"{cut} where {where}").rowcount == 1
        for attempt in range(2):  # the second time after a clean stop, from a checkpoint
            journal = journal_at(tmp_path)
            channels = channels_on(journal)
            assert journal.since_s == NOW_S + 1
            # Whoever cut one may have cut others; money is money.
            assert channels.end(channel_id(other)).abandoned
            held = channels.end(ID).voucher
            assert held == best if where != "position = 7" else held is not None
            assert channels.end(ID).abandoned
            assert attempt == 0 or rows_of(tmp_path, "batch") == 0
            journal.close()

    async def test_a_checkpoint_that_was_broken_begins_anew(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        await serve_one(channels_on(journal), 1)
        journal.close()
        with sqlite3.connect(tmp_path / "calls.sqlite") as data:
            data.execute("update checkpoint set line = substr(line, 1, 200)")
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        assert journal.since_s == NOW_S + 1
        await channels.of(CHANNEL)  # funded before that
        assert "journal begins at" in channels.end(ID).abandoned
        journal.close()

    def test_a_file_of_another_form_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "calls.sqlite") as data:
            data.execute("create table record (id integer primary key, line blob)")
        with pytest.raises(JournalError, match=r"its form is 0.*move it away and start again"):
            journal_at(tmp_path)

    def test_a_damaged_file_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "calls.sqlite").write_bytes(b"no database at all" * 100)
        with pytest.raises(JournalError, match="move it away and start again"):
            journal_at(tmp_path)

    def test_a_file_that_another_holds_is_not_called_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Case 85: whoever is told that it is damaged moves it away, and money with it."""
        journal_at(tmp_path).close()
        impatient = partial(sqlite3.connect, timeout=0)
        monkeypatch.setattr("tallystick_provider.calls.journal.sqlite3.connect", impatient)
        with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as other:
            other.execute("pragma locking_mode = exclusive")
            other.execute("begin exclusive")
            with pytest.raises(JournalUnavailable, match="cannot be used now") as refused:
                journal_at(tmp_path)
        assert "move it away" not in str(refused.value)
        journal_at(tmp_path).close()


class TestWriting:
    async def test_many_at_once_are_few_flushes_in_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = journal_at(tmp_path)
        flushes: list[int] = []
        commit = CallJournal._commit

        def counted(self: CallJournal, batch: Any) -> int:
            flushes.append(len(batch.entries))
            return commit(self, batch)

        monkeypatch.setattr(CallJournal, "_commit", counted)
        entries = [Entry(ID, (Opened(CHANNEL, number),), drop_below_seq=0) for number in range(200)]
        await asyncio.gather(*(journal.write(entry) for entry in entries))
        assert sum(flushes) == 200
        assert len(flushes) < 20
        assert [r.at_s for r in journal.records(ID) if isinstance(r, Opened)] == list(range(200))
        assert rows_of(tmp_path, "batch") == len(flushes)
        journal.close()

    async def test_settled_is_when_all_before_it_is_there(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        await journal.settled()  # nothing to wait for
        writing = journal.put(Entry(ID, (Opened(CHANNEL, 1),)))
        await journal.settled()
        assert writing.done()
        assert rows_of(tmp_path, "batch") == 1
        journal.close()
        with pytest.raises(JournalError, match="is closed"):
            await journal.settled()

    async def test_what_waits_when_it_is_closed_is_written_and_not_said(
        self, tmp_path: Path
    ) -> None:
        journal = journal_at(tmp_path)
        writing = journal.put(Entry(ID, (Opened(CHANNEL, 1),)))
        journal.close()
        with pytest.raises(JournalError, match="is closed"):
            await writing
        journal = journal_at(tmp_path)
        assert list(journal.records(ID)) == [Opened(CHANNEL, 1)]
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
        with pytest.raises(JournalError, match="until the agent is started again"):
            journal.require_usable()  # what ends the agent, for whatever starts it again
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


class TestCheckpoints:
    async def test_keep_the_file_and_the_start_small(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path, checkpoint_batches=5)
        channels = channels_on(journal)
        for number in range(1, 40):
            await serve_one(channels, number)
            await pay(channels)
        last = await serve_one(channels, 40)
        before = channels.end(ID)
        assert 0 < rows_of(tmp_path, "batch") <= 6
        assert rows_of(tmp_path, "checkpoint") == 1
        cut_off(journal)
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        await channels.of(CHANNEL)
        assert channels.end(ID) == before
        assert channels.end(ID).again(40) == last
        assert channels.result(ID, 40) == KEPT
        journal.close()

    async def test_a_clean_stop_leaves_nothing_else(self, tmp_path: Path) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        await serve_one(channels, 1)
        await pay(channels)
        before = channels.end(ID)
        journal.close()
        assert (rows_of(tmp_path, "batch"), rows_of(tmp_path, "checkpoint")) == (0, 1)
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        await channels.of(CHANNEL)
        assert channels.end(ID) == before
        await serve_one(channels, 2)  # and goes on behind it
        cut_off(journal)
        journal = journal_at(tmp_path)
        assert channels_on(journal).end(ID).last.seq == 2
        journal.close()

    async def test_hold_what_is_being_written_meanwhile(self, tmp_path: Path) -> None:
        """Of many channels at once, each with a state ahead of the disk."""
        journal = journal_at(tmp_path, checkpoint_batches=1)
        channels = channels_on(journal)
        many = [
            Channel(CHANNEL.payer, CHANNEL.signer, CHANNEL.provider, 100 + n) for n in range(50)
        ]
        await asyncio.gather(*(channels.of(channel) for channel in many))
        await asyncio.gather(*(channels.of(CHANNEL), serve_one(channels, 1)))
        ends = dict(channels.ends())
        cut_off(journal)
        journal = journal_at(tmp_path)
        again = channels_on(journal, Chain())
        for channel in (*many, CHANNEL):
            await again.of(channel)
        assert dict(again.ends()) == ends
        journal.close()

    async def test_a_state_that_cannot_be_told_ends_all_signing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = journal_at(tmp_path, checkpoint_batches=1)
        channels = channels_on(journal)

        def broken(self: ServingChannel) -> None:
            raise RuntimeError("no state")

        monkeypatch.setattr(ServingChannel, "checkpoint", broken)
        await channels.of(CHANNEL)
        with pytest.raises(JournalError, match="nothing is signed until"):
            await serve_one(channels, 1)
        monkeypatch.undo()
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

    async def test_a_voucher_for_a_channel_that_was_never_served_spoils_nothing(
        self, tmp_path: Path
    ) -> None:
        journal = journal_at(tmp_path)
        channels = channels_on(journal, Chain(funded(claimed=5)))
        await channels.of(CHANNEL)
        ahead = CHANNEL.voucher(10**9, digest_of_word(5))
        signed = SignedVoucher(ahead, sign_voucher(ahead))
        await channels.apply(ID, channels.end(ID).accept_voucher(signed))
        cut_off(journal)
        journal = journal_at(tmp_path)
        channels = channels_on(journal)
        assert journal.since_s == NOW_S - 10  # whole, as far as it goes
        assert channels.end(ID).voucher == signed
        assert channels.end(ID).abandoned
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


@pytest.mark.parametrize("every", [1000, 3], ids=["records", "checkpoints"])
@pytest.mark.parametrize("step", range(1, 37))
def test_killed_at_any_moment_it_has_all_that_was_said(
    tmp_path: Path, step: int, every: int
) -> None:
    """The child serves and takes vouchers, says each receipt to a file as a provider would send it,
    and dies before, in the middle of or after a commit, of records or of a checkpoint. Every
    receipt that was said is in the journal, once."""
    said = tmp_path / "said"
    child = PROCESSES.Process(
        target=journal_child.main, args=(str(tmp_path / "calls.sqlite"), str(said), step, every)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    journal = journal_at(tmp_path)
    kept = journal.read()
    assert kept.whole
    if not kept.lines:
        assert step <= 2  # before anything was written
        assert not said.exists()
        journal.close()
        return
    channels = channels_on(journal)
    assert journal.since_s == NOW_S - 10
    end = channels.end(ID)
    told = [Digest(line) for line in said.read_text().split()] if said.exists() else []
    assert end.last.seq - len(told) in (0, 1)  # written, and killed before it was said
    places = [place for place in (end.paid_place, *end.unpaid) if place is not None]
    for place in places:
        assert place.link.digest == journal_child.digest_of_receipt(place.served.receipt)
        if place.link.seq <= len(told):
            assert place.link.digest == told[place.link.seq - 1]
        assert journal.result(ID, place.link.seq) is not None
    if told and not places:
        raise AssertionError("what was said is forgotten")
    journal.close()
