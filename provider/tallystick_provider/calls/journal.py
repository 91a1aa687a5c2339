"""What the provider writes down of its channels before it sends anything, and reads after a crash.

One SQLite file with `synchronous=FULL`, written on the loop's own thread while the disk is quick,
else by a thread. Group commit: what comes in one moment of the loop, or while a batch is being
written, is one batch, so one flush of the disk serves all calls of that moment, and one row holds
all their records. Beside them lie the results' bytes, each until the
voucher after it has come: a repeat of the request gets the very same answer, also from the next
process.

Now and then, and at a clean stop, a batch becomes a checkpoint: the state of every channel that has
records takes the place of the records, in one transaction. So neither the file nor the next start
grows with the number of calls.

A file that is new begins at its own time (`since_s`): a channel older than it signs nothing, for
what an earlier file signed there is not known. So losing it never makes two histories.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import structlog

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import ServingCheckpoint, ServingRecord
from tallystick.protocol.disk_pace import DiskPace
from tallystick.protocol.types import AppId, Digest
from tallystick_provider.errors import JournalError, JournalUnavailable

FORM: Final = 2
"""Of the tables; kept as the file's `user_version`."""
_TABLES: Final = f"""
begin;
create table if not exists meta (name text primary key, value text not null);
create table if not exists checkpoint (channel text primary key, line blob not null) without rowid;
create table if not exists batch (position integer primary key, lines blob not null);
create table if not exists result (
    channel text not null, seq integer not null, content blob not null, media_type text not null,
    queued_ms integer not null, cold_start_ms integer not null,
    primary key (channel, seq)) without rowid;
create table if not exists app (
    app_id text not null, version integer not null, manifest blob not null,
    primary key (app_id, version)) without rowid;
insert or ignore into meta values ('checkpoint_at', '0');
pragma user_version = {FORM};
commit;
"""
MAX_BATCH: Final = 512
CHECKPOINT_BATCHES: Final = 4096
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
"""So many batches, or so much in them, are read again at a start at most."""
CHANNEL_LENGTH: Final = 66

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


@dataclass(frozen=True, slots=True)
class Kept:
    """What a start finds."""

    lines: dict[Digest, list[bytes]]
    """The records of each channel, in order."""
    whole: bool
    """Whether nothing is missing between them, as far as the file itself can tell."""


@dataclass(slots=True)
class _Batch:
    """What becomes durable in one transaction."""

    entries: Sequence[Entry]
    checkpoints: Sequence[tuple[Digest, ServingCheckpoint]] | None = None
    """Instead of all records so far, those of `entries` among them."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class CallJournal:
    """`write` returns when it is on the disk. Raises JournalError, and from then on for ever: a
    process that cannot write may not sign, and one that wrote half of it must read it anew."""

    def __init__(
        self, path: Path, now_s: int, *, checkpoint_batches: int = CHECKPOINT_BATCHES
    ) -> None:
        """`now_s` is kept only by a file that is new; the later of our clock and the chain's."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._checkpoint_batches = checkpoint_batches
        self._state_of: Callable[[Digest], ServingCheckpoint | None] | None = None
        self._queue: list[tuple[Entry | None, asyncio.Future[None]]] = []
        self._writing = False
        self._broken = ""
        self._lock = threading.Lock()
        self._data = _open(path)
        with self._lock:
            self._data.execute("insert or ignore into meta values ('since_s', ?)", (str(now_s),))
            self._position = self._last_position()
        self._changed: set[Digest] = set()
        """Channels with records since the last checkpoint."""
        self._batches = 0
        self._bytes = 0
        self._due = False
        self._work: queue.SimpleQueue[tuple[_Batch, asyncio.AbstractEventLoop] | None] = (
            queue.SimpleQueue()
        )
        self._pace = DiskPace()
        self._thread = threading.Thread(target=self._write_on, name="call-journal", daemon=True)
        self._thread.start()

    def require_usable(self) -> None:
        """Raises what every `write` raises from now on."""
        if self._broken:
            raise JournalError(self._broken)

    @property
    def since_s(self) -> int:
        """No receipt of a channel older than this is known to be the last one."""
        return int(self._meta("since_s"))

    def begin_anew(self, now_s: int) -> None:
        """What is in it is not whole: the channels that it knows sign nothing more."""
        with self._lock:
            self._data.execute("update meta set value = ? where name = 'since_s'", (str(now_s),))
        self._due = True  # what is whole of it takes the place of the rest, with the next batch

    def take_checkpoints(self, state_of: Callable[[Digest], ServingCheckpoint | None]) -> None:
        """From now on: `state_of` answers what a channel has come to with all that was written or
        is waiting to be, None for one that nothing is known of any more."""
        self._state_of = state_of

    def put(self, entry: Entry) -> asyncio.Future[None]:
        """In the order in which it was called, whoever waits. Who stops waiting takes nothing
        back."""
        if entry.records:
            self._changed.add(entry.channel)
        return self._put(entry)

    async def write(self, entry: Entry) -> None:
        await self.put(entry)

    async def settled(self) -> None:
        """Until all that was put in before is on the disk."""
        if self._broken:
            raise JournalError(self._broken)
        if self._writing:
            await self._put(None)

    def close(self) -> None:
        """With all that waits, and a checkpoint."""
        self._work.put(None)
        self._thread.join()
        waiting, self._queue = self._queue, []
        try:
            if not self._broken and (self._changed or waiting):
                self._due = True
                self._commit(self._batch_of(waiting))
        except sqlite3.Error as error:
            log.error("call_journal_broken", why=str(error))
        self._broken = self._broken or "the call journal is closed: this agent is stopping"
        for _, future in waiting:
            _fail(future, self._broken)
        with self._lock:
            self._data.close()

    # --- reading, at the start --------------------------------------------------------------

    def read(self) -> Kept:
        """Every channel's records: its checkpoint, if there is one, and what came after it."""
        lines: dict[Digest, list[bytes]] = {}
        with self._lock:
            for channel, line in self._data.execute("select channel, line from checkpoint"):
                lines[Digest(channel)] = [line]
            expected = int(self._value("checkpoint_at"))
            whole = True
            batches = self._data.execute("select position, lines from batch order by position")
            for position, blob in batches:
                expected += 1
                whole = whole and position == expected
                expected = position
                found, complete = _unpacked(blob)
                whole = whole and complete
                for channel, line in found:
                    lines.setdefault(channel, []).append(line)
                    self._changed.add(channel)
        return Kept(lines, whole)

    def records(self, channel: Digest) -> Iterator[ServingRecord]:
        """Raises WireError at a line that is no record."""
        for line in self.read().lines.get(channel, ()):
            yield cast(ServingRecord, call_journal.from_json(line))

    def result(self, channel: Digest, seq: int) -> KeptResult | None:
        question = (
            "select content, media_type, queued_ms, cold_start_ms from result "
            "where channel = ? and seq = ?"
        )
        with self._lock:
            row = self._data.execute(question, (channel, seq)).fetchone()
        return None if row is None else KeptResult(*row)

    def _meta(self, name: str) -> str:
        with self._lock:
            return self._value(name)

    def _value(self, name: str) -> str:
        row = self._data.execute("select value from meta where name = ?", (name,)).fetchone()
        if row is None:
            raise JournalError(_damaged(self._path, f"it does not say its {name}"))
        return cast(str, row[0])

    def _last_position(self) -> int:
        row = self._data.execute("select max(position) from batch").fetchone()
        return max(row[0] or 0, int(self._value("checkpoint_at")))

    # --- apps -------------------------------------------------------------------------------

    def keep_app(self, app_id: AppId, version: int, manifest: bytes) -> None:
        with self._lock:
            self._data.execute(
                "insert or replace into app values (?, ?, ?)", (app_id, version, manifest)
            )

    def apps(self) -> tuple[tuple[AppId, int, bytes], ...]:
        with self._lock:
            rows = self._data.execute("select app_id, version, manifest from app").fetchall()
        return tuple((AppId(Digest(row[0])), row[1], row[2]) for row in rows)

    # --- writing: on the loop ---------------------------------------------------------------

    def _put(self, entry: Entry | None) -> asyncio.Future[None]:
        if self._broken:
            raise JournalError(self._broken)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append((entry, future))
        if not self._writing:
            self._writing = True
            loop.call_soon(self._write_next)
        return future

    def _write_next(self) -> None:
        if not self._queue or self._broken:
            self._writing = False
            return
        most = len(self._queue) if self._due else MAX_BATCH
        taken, self._queue = self._queue[:most], self._queue[most:]
        try:
            batch = self._batch_of(taken)
        except Exception as error:  # whatever it is, nobody may wait for ever
            self._written(_Batch((), waiting=[future for _, future in taken]), 0, error)
            return
        if batch.checkpoints is None and self._pace.is_quick():
            self._write_here(batch)
        else:
            self._work.put((batch, asyncio.get_running_loop()))

    def _batch_of(self, taken: Sequence[tuple[Entry | None, asyncio.Future[None]]]) -> _Batch:
        """A checkpoint, if one is due, only of all that waits: the states have come so far."""
        batch = _Batch(
            [entry for entry, _ in taken if entry is not None],
            waiting=[future for _, future in taken],
        )
        if self._due and self._state_of is not None:
            states = [(channel, self._state_of(channel)) for channel in self._changed]
            batch.checkpoints = [(c, state) for c, state in states if state is not None]
            self._changed = set()
            self._due = False
        return batch

    def _written(self, batch: _Batch, size: int, error: BaseException | None) -> None:
        waiting = batch.waiting
        if error is not None:
            self._broken = (
                f"the call journal {self._path} cannot be written ({error}); nothing is signed "
                "until the agent is started again"
            )
            log.error("call_journal_broken", why=self._broken)
            waiting = [*waiting, *(future for _, future in self._queue)]
            self._queue = []
        elif batch.checkpoints is not None:
            self._batches = self._bytes = 0
        else:
            self._batches += 1
            self._bytes += size
            if self._batches >= self._checkpoint_batches or self._bytes >= CHECKPOINT_BYTES:
                self._due = True
        for future in waiting:
            if error is not None:
                _fail(future, self._broken)
            elif not future.done():
                future.set_result(None)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._write_next)
        else:
            self._writing = False

    def _write_here(self, batch: _Batch) -> None:
        size, failure = 0, None
        try:
            with self._pace.measured():
                size = self._commit(batch)
        except Exception as error:
            failure = error
        self._written(batch, size, failure)

    # --- writing: here or in the thread ------------------------------------------------------

    def _write_on(self) -> None:
        while (work := self._work.get()) is not None:
            batch, loop = work
            size, failure = 0, None
            try:
                size = self._commit(batch)
            except BaseException as error:
                failure = error
            try:
                loop.call_soon_threadsafe(self._written, batch, size, failure)
            except RuntimeError:
                return  # the loop is closed: nobody is there to send anything

    def _commit(self, batch: _Batch) -> int:
        """Answers how many bytes of records there are now more."""
        lines = b"" if batch.checkpoints is not None else _packed(batch.entries)
        position = self._position + 1
        with self._lock:
            self._data.execute("begin immediate")
            try:
                if batch.checkpoints is not None:
                    self._put_checkpoints(batch.checkpoints, position)
                elif lines:
                    self._data.execute("insert into batch values (?, ?)", (position, lines))
                self._put_results(batch.entries)
                self._data.execute("commit")
            except BaseException:
                if self._data.in_transaction:
                    self._data.execute("rollback")
                raise
        if lines or batch.checkpoints is not None:
            self._position = position
        return len(lines)

    def _put_checkpoints(
        self, checkpoints: Iterable[tuple[Digest, ServingCheckpoint]], position: int
    ) -> None:
        self._data.executemany(
            "insert or replace into checkpoint values (?, ?)",
            ((channel, call_journal.to_json(state)) for channel, state in checkpoints),
        )
        self._data.execute("delete from batch")
        self._data.execute(
            "update meta set value = ? where name = 'checkpoint_at'", (str(position),)
        )

    def _put_results(self, entries: Sequence[Entry]) -> None:
        below: dict[Digest, int] = {}
        rows = []
        for entry in entries:
            if entry.result is not None:
                seq, kept = entry.result
                rows.append(
                    (
                        entry.channel,
                        seq,
                        kept.content,
                        kept.media_type,
                        kept.queued_ms,
                        kept.cold_start_ms,
                    )
                )
            if entry.drop_below_seq:
                below[entry.channel] = max(entry.drop_below_seq, below.get(entry.channel, 0))
        if rows:
            self._data.executemany("insert into result values (?, ?, ?, ?, ?, ?)", rows)
        for channel, seq in below.items():
            self._data.execute("delete from result where channel = ? and seq < ?", (channel, seq))


def _fail(future: asyncio.Future[None], why: str) -> None:
    if not future.done():
        future.set_exception(JournalError(why))
        future.exception()  # who waits may have left


def _packed(entries: Iterable[Entry]) -> bytes:
    return b"".join(
        entry.channel.encode() + b" " + call_journal.to_json(record) + b"\n"
        for entry in entries
        for record in entry.records
    )


def _unpacked(blob: bytes) -> tuple[list[tuple[Digest, bytes]], bool]:
    """The lines, each with its channel, and whether they are as they were put in."""
    found, whole = [], blob.endswith(b"\n")
    for line in blob.split(b"\n"):
        if not line:
            continue
        channel, _, record = line.partition(b" ")
        if len(channel) != CHANNEL_LENGTH or not channel.isalnum():
            whole = False
            continue
        found.append((Digest(channel.decode("ascii", "replace")), record))
    return found, whole


def _open(path: Path) -> sqlite3.Connection:
    try:
        data = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        (form,) = data.execute("pragma user_version").fetchone()
        (tables,) = data.execute("select count(*) from sqlite_master").fetchone()
        if tables and form != FORM:
            data.close()
            raise JournalError(_damaged(path, f"its form is {form}, and this agent's is {FORM}"))
        data.execute("pragma journal_mode=wal")
        data.execute("pragma synchronous=full")
        data.execute("pragma busy_timeout=10000")
        data.executescript(_TABLES)
        with closing(data.execute("pragma quick_check")) as check:
            found = check.fetchone()
    except sqlite3.OperationalError as error:
        # It may be as good as ever: nobody may be told to move money away for a full disk.
        raise JournalUnavailable(
            f"the call journal {path} cannot be used now ({error}); make room on its disk, or end "
            "what holds it, and start again"
        ) from error
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
