"""What the provider writes down of its channels before it sends anything, and reads after a crash.

One SQLite file with `synchronous=FULL` and one thread that writes it. Group commit: what comes
while a batch is being written is the next batch, so one flush of the disk serves all calls of that
moment. Beside each receipt lie the result's bytes, until the voucher after it has come: a repeat of
the request gets the very same answer, also from the next process.

A file that is new begins at its own time (`since_s`): a channel older than it signs nothing, for
what an earlier file signed there is not known. So losing it never makes two histories.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import structlog

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import ServingRecord
from tallystick.protocol.types import AppId, Digest
from tallystick_provider.errors import JournalError

_TABLES: Final = """
create table if not exists meta (name text primary key, value text not null);
create table if not exists record (
    id integer primary key autoincrement, channel text not null, line blob not null);
create index if not exists record_of_channel on record (channel, id);
create table if not exists result (
    channel text not null, seq integer not null, content blob not null, media_type text not null,
    queued_ms integer not null, cold_start_ms integer not null,
    primary key (channel, seq)) without rowid;
create table if not exists app (
    app_id text not null, version integer not null, manifest blob not null,
    primary key (app_id, version)) without rowid;
"""
MAX_BATCH: Final = 512

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class KeptResult:
    """What goes back beside a receipt."""

    content: bytes
    media_type: str
    queued_ms: int
    cold_start_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What becomes durable together."""

    channel: Digest
    records: tuple[ServingRecord, ...]
    result: tuple[int, KeptResult] | None = None
    """The place of the receipt among the records, and its result."""
    drop_below_seq: int = 0
    """Results of earlier places are not asked for any more."""


class CallJournal:
    """`write` returns when it is on the disk. Raises JournalError, and from then on for ever: a
    process that cannot write may not sign, and one that wrote half of it must read it anew."""

    def __init__(self, path: Path, now_s: int) -> None:
        """`now_s` is kept only by a file that is new; the later of our clock and the chain's."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._queue: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing = False
        self._broken = ""
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "call-journal")
        self._data = _open(path)
        with self._data:
            self._data.execute("insert or ignore into meta values ('since_s', ?)", (str(now_s),))

    @property
    def since_s(self) -> int:
        """No receipt of a channel older than this is known to be the last one."""
        with self._lock:
            row = self._data.execute("select value from meta where name = 'since_s'").fetchone()
        return int(row[0])

    def begin_anew(self, now_s: int) -> None:
        """What is in it is not whole: the channels that it knows sign nothing more."""
        with self._lock, self._data:
            self._data.execute("update meta set value = ? where name = 'since_s'", (str(now_s),))

    async def write(self, entry: Entry) -> None:
        """In the order in which it was called, whoever waits."""
        if self._broken:
            raise JournalError(self._broken)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append((entry, future))
        if not self._writing:
            self._writing = True
            loop.call_soon(self._write_next)
        await asyncio.shield(future)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        with self._lock:
            self._data.close()

    # --- reading, at the start --------------------------------------------------------------

    def channels(self) -> tuple[Digest, ...]:
        with self._lock:
            rows = self._data.execute("select distinct channel from record").fetchall()
        return tuple(Digest(row[0]) for row in rows)

    def records(self, channel: Digest) -> Iterator[ServingRecord]:
        """Raises WireError at a line that is no record."""
        question = "select line from record where channel = ? order by id"
        with self._lock:
            rows = self._data.execute(question, (channel,)).fetchall()
        for (line,) in rows:
            yield cast(ServingRecord, call_journal.from_json(line))

    def result(self, channel: Digest, seq: int) -> KeptResult | None:
        question = (
            "select content, media_type, queued_ms, cold_start_ms from result "
            "where channel = ? and seq = ?"
        )
        with self._lock:
            row = self._data.execute(question, (channel, seq)).fetchone()
        return None if row is None else KeptResult(*row)

    # --- apps -------------------------------------------------------------------------------

    def keep_app(self, app_id: AppId, version: int, manifest: bytes) -> None:
        with self._lock, self._data:
            self._data.execute(
                "insert or replace into app values (?, ?, ?)", (app_id, version, manifest)
            )

    def apps(self) -> tuple[tuple[AppId, int, bytes], ...]:
        with self._lock:
            rows = self._data.execute("select app_id, version, manifest from app").fetchall()
        return tuple((AppId(Digest(row[0])), row[1], row[2]) for row in rows)

    # --- writing ----------------------------------------------------------------------------

    def _write_next(self) -> None:
        batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
        if not batch:
            self._writing = False
            return
        loop = asyncio.get_running_loop()
        entries = [entry for entry, _ in batch]
        work = loop.run_in_executor(self._thread, self._commit, entries)
        work.add_done_callback(lambda done: self._written(batch, done))

    def _written(
        self,
        batch: Sequence[tuple[Entry, asyncio.Future[None]]],
        done: asyncio.Future[None],
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            self._broken = (
                f"the call journal {self._path} cannot be written ({error}); nothing is signed "
                "until the agent is started again"
            )
            log.error("call_journal_broken", why=self._broken)
            batch = [*batch, *self._queue]
            self._queue = []
        for _, future in batch:
            if future.done():
                continue
            if self._broken:
                future.set_exception(JournalError(self._broken))
                future.exception()  # who waits may have left
            else:
                future.set_result(None)
        self._write_next()

    def _commit(self, entries: Sequence[Entry]) -> None:
        with self._lock, self._data:
            for entry in entries:
                self._data.executemany(
                    "insert into record (channel, line) values (?, ?)",
                    [(entry.channel, call_journal.to_json(record)) for record in entry.records],
                )
                if entry.result is not None:
                    seq, kept = entry.result
                    self._data.execute(
                        "insert into result values (?, ?, ?, ?, ?, ?)",
                        (
                            entry.channel,
                            seq,
                            kept.content,
                            kept.media_type,
                            kept.queued_ms,
                            kept.cold_start_ms,
                        ),
                    )
                if entry.drop_below_seq:
                    self._data.execute(
                        "delete from result where channel = ? and seq < ?",
                        (entry.channel, entry.drop_below_seq),
                    )


def _open(path: Path) -> sqlite3.Connection:
    try:
        data = sqlite3.connect(path, check_same_thread=False)
        data.execute("pragma journal_mode=wal")
        data.execute("pragma synchronous=full")
        data.execute("pragma busy_timeout=10000")
        data.executescript(_TABLES)
        with closing(data.execute("pragma quick_check")) as check:
            found = check.fetchone()
    except sqlite3.DatabaseError as error:
        raise JournalError(_damaged(path, str(error))) from error
    if found[0] != "ok":
        data.close()
        raise JournalError(_damaged(path, str(found[0])))
    return data


def _damaged(path: Path, why: str) -> str:
    return (
        f"the call journal {path} is damaged ({why[:200]}); move it away and start again: the "
        "agent then begins a new one, and gateways open new channels. Vouchers in it that were not "
        "redeemed are lost with it"
    )
