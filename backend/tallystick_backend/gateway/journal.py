"""What has to be durable before a message leaves, for all calls of a moment in one row.

    post    -> one row of `gateway_journal`, by one statement that also requires the fence; then
               callers hear, and vouchers leave with the next requests or by themselves
    project -> behind the answers, many rows at a time: what they say goes to `call`, `spend` and
               `paying_channel`, and they are deleted, in one transaction

While one row is written, the next one's entries collect: the busier, the more calls share one
commit. An entry's records stand in the order in which they were handed in. When a row cannot be
written, nothing of it was sent, and the channels in it are `broken`: what the process thinks of
them is ahead of what is written, so they are read anew before they are used.

The other tables and what is left in the journal are together what is true. Who reads the tables
and must see the calls of a moment ago awaits `projected` first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from tallystick.protocol.call_journal import PayingRecord
from tallystick.protocol.paying import PayingChannel
from tallystick_backend.clock import Clock
from tallystick_backend.gateway import journal_lines
from tallystick_backend.gateway.errors import GatewayNotReady, JournalFailed
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.gateway.projection import Projection, read_projection
from tallystick_backend.store.session import Database, is_conflict

log = structlog.get_logger(__name__)

TRIES: Final = 6
PROJECT_AFTER_S: Final = 0.25
"""How far the tables may be behind while nobody asks for them."""
MOST_UNPROJECTED: Final = 5_000
"""Entries; beyond, calls wait for the tables."""

Values = dict[str, Any]


class Stream:
    """One channel's part of the journal."""

    __slots__ = ("broken", "channel_id", "committed", "seal", "state")

    def __init__(
        self,
        channel_id: str,
        seal: Callable[[], Sequence[PayingRecord]],
        committed: Callable[[PayingChannel], None],
        state: Callable[[], PayingChannel],
    ) -> None:
        self.channel_id = channel_id
        self.seal = seal
        """Asked before each row: one voucher for all receipts of the moment."""
        self.committed = committed
        """Told after it, before anybody who waits is: the end as far as it is durable now."""
        self.state = state
        """The end with every record in it that was handed in."""
        self.broken = False


@dataclass(slots=True)
class Entry:
    """What stands or falls together."""

    stream: Stream | None = None
    records: Sequence[PayingRecord] = ()
    insert: Values | None = None
    """A new row of `call`; columns that are not named have their defaults."""
    update: Callable[[], Values] | None = None
    """Columns of a row of `call`, with its `call_id`; asked for after the vouchers were signed."""
    spend: Callable[[], Values] | None = None
    """A whole row of `spend`."""
    done: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Journal:
    def __init__(self, database: Database, fence: Fence, clock: Clock) -> None:
        self._database = database
        self._fence = fence
        self._clock = clock
        self._waiting: list[Entry] = []
        self._news: asyncio.Future[None] | None = None
        self._projection = Projection()
        self._unsure = True
        """The table may hold rows that are not in `_projection`: it is read first."""
        self._last = 0
        """Number of the last row."""
        self._numbered = False
        """`_last` is beyond all rows that another process left."""
        self._projecting = asyncio.Lock()
        self._writing = asyncio.Lock()
        """A row is written and not in `_projection` yet; never taken before `_projecting`."""
        self.transactions = 0
        self.entries = 0

    def post(self, entry: Entry) -> asyncio.Future[None]:
        """In order; the future ends when it is durable, or with `JournalFailed`."""
        if entry.stream is not None and entry.stream.broken:
            _fail(entry, JournalFailed())
            return entry.done
        self._waiting.append(entry)
        self._wake()
        return entry.done

    async def write(self, entry: Entry) -> None:
        await self.post(entry)

    async def projected(self) -> None:
        """Until the tables have all that was durable before."""
        if self._unsure or self._projection or self._projecting.locked():
            await self._project()

    def knows_key(self, account: str, key: str) -> bool:
        """A call under this key may be durable, and not in the tables yet."""
        if self._unsure or self._projecting.locked() or self._projection.changed:
            return True
        return (account, key) in self._projection.keys

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and until everything that was posted before it is in the tables."""
        waking = asyncio.create_task(self._wake_at(stop))
        projecting = asyncio.create_task(self._keep_projecting())
        try:
            while True:
                if self._waiting:
                    await self._commit()
                elif stop.is_set():
                    break
                else:
                    self._news = asyncio.get_running_loop().create_future()
                    await self._news
            if self._fence.held:
                await self.projected()
        finally:
            waking.cancel()
            projecting.cancel()
            await asyncio.gather(waking, projecting, return_exceptions=True)
            for entry in self._waiting:
                _fail(entry, JournalFailed())
            self._waiting = []

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake()

    # --- one row ------------------------------------------------------------------------------

    async def _commit(self) -> None:
        batch: list[Entry] = []
        streams: dict[int, Stream] = {}
        try:
            if not self._numbered or len(self._projection) >= MOST_UNPROJECTED:
                await self._project()
            async with self._writing:
                # Taken only now: what is posted while this waits is in the ends, and so must be in
                # this row.
                batch, self._waiting = self._waiting, []
                batch = [entry for entry in batch if not _is_broken(entry)]
                streams = {id(e.stream): e.stream for e in batch if e.stream is not None}
                row = _row(batch, list(streams.values()))
                await self._write(row)
                self._projection.add(self._last, row.inserts, row.updates, row.spends, row.ends)
        except Exception as failure:
            if not batch:
                batch, self._waiting = self._waiting, []
                streams = {id(e.stream): e.stream for e in batch if e.stream is not None}
            self._unsure = True
            if not isinstance(failure, GatewayNotReady):
                log.error("journal_failed", entries=len(batch), exc_info=failure)
            for stream in streams.values():
                stream.broken = True
            for entry in batch:
                _fail(entry, failure if isinstance(failure, GatewayNotReady) else JournalFailed())
            return
        if not batch:
            return
        self.transactions += 1
        self.entries += len(batch)
        for stream in streams.values():
            stream.committed(row.ends[stream.channel_id])
        for entry in batch:
            if not entry.done.done():
                entry.done.set_result(None)

    async def _write(self, row: Row) -> None:
        if not row.lines:
            self._fence.require_held()
            return
        body = "\n".join(row.lines)
        self._last += 1
        for attempt in range(1, TRIES + 1):
            try:
                await self._fence.insert_journal(self._last, body)
                return
            except Exception as failure:
                if attempt == TRIES or not is_conflict(failure):
                    raise
            await asyncio.sleep(0.01 * attempt)

    # --- the tables ---------------------------------------------------------------------------

    async def _keep_projecting(self) -> None:
        while True:
            await asyncio.sleep(PROJECT_AFTER_S)
            try:
                await self.projected()
            except GatewayNotReady:
                return
            except Exception:
                log.exception("journal_not_projected")

    async def _project(self) -> None:
        async with self._projecting:
            if self._unsure:
                async with self._writing:
                    self._projection = await read_projection(self._database)
                    self._last = max(self._last, self._projection.upto)
                    self._numbered = True
                    self._unsure = False
            if not self._projection:
                return
            projection, self._projection = self._projection, Projection()
            try:
                for attempt in range(1, TRIES + 1):
                    try:
                        async with self._database.transaction() as session:
                            await self._fence.require(session)
                            await projection.store(session, self._clock.now_ms())
                        return
                    except Exception as failure:
                        if attempt == TRIES or not is_conflict(failure):
                            raise
                    await asyncio.sleep(0.01 * attempt)
            except BaseException:
                # It is all in the journal still.
                self._unsure = True
                raise


@dataclass(slots=True)
class Row:
    """A row of the journal, and the same for the tables."""

    lines: list[str] = field(default_factory=list)
    inserts: list[Values] = field(default_factory=list)
    updates: list[Values] = field(default_factory=list)
    spends: list[Values] = field(default_factory=list)
    ends: dict[str, PayingChannel] = field(default_factory=dict)


def _row(batch: list[Entry], streams: list[Stream]) -> Row:
    # Sealed first: rows name the voucher that pays for them. No await here, so that nothing is
    # taken between a seal and the lines it belongs behind, and the ends are those of these lines.
    row = Row()
    sealed = {id(stream): stream.seal() for stream in streams}
    for stream in streams:
        row.ends[stream.channel_id] = stream.state()
    for entry in batch:
        if entry.stream is not None:
            row.lines += journal_lines.records(entry.stream.channel_id, entry.records)
        if entry.insert is not None:
            row.inserts.append(entry.insert)
            row.lines.append(journal_lines.begun(entry.insert))
        if entry.update is not None:
            values = entry.update()
            row.updates.append(values)
            row.lines.append(journal_lines.changed(values))
    for stream in streams:
        row.lines += journal_lines.records(stream.channel_id, sealed[id(stream)])
    spends: dict[tuple[Any, ...], Values] = {}
    for entry in batch:
        if entry.spend is not None:
            spent = entry.spend()
            # The last one of a row stands for those before it: it is a running total.
            spends[(spent["account"], spent["day"], spent["key_id"], spent["app_id"])] = spent
    row.spends = list(spends.values())
    row.lines += [journal_lines.spent(spent) for spent in row.spends]
    return row


def _is_broken(entry: Entry) -> bool:
    if entry.stream is None or not entry.stream.broken:
        return False
    _fail(entry, JournalFailed())
    return True


def _fail(entry: Entry, failure: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(failure)
        entry.done.exception()  # whoever posted without waiting hears of it from the stream
