"""What has to be durable before a message leaves, for all calls of a moment in one transaction.

While one transaction runs, the next one's entries collect: the busier, the more calls share one
commit. An entry's lines stand in the order in which they were handed in. When a transaction fails,
nothing of it was sent, and the channels in it are `broken`: what the process thinks of them is
ahead of what is written, so they are read anew before they are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import PayingRecord
from tallystick_backend.gateway.errors import GatewayNotReady, JournalFailed
from tallystick_backend.gateway.fence import Fence
from tallystick_backend.store.session import Database, is_conflict
from tallystick_backend.store.tables import CallRow, PayingRecordRow, SpendRow

log = structlog.get_logger(__name__)

TRIES = 6

Values = dict[str, Any]


class Stream:
    """One channel's part of the journal."""

    __slots__ = ("broken", "channel_id", "committed", "seal")

    def __init__(
        self,
        channel_id: str,
        seal: Callable[[], Sequence[PayingRecord]],
        committed: Callable[[], Awaitable[None]],
    ) -> None:
        self.channel_id = channel_id
        self.seal = seal
        """Asked before each transaction: one voucher for all receipts of the moment."""
        self.committed = committed
        """Told after it, before anybody who waits is."""
        self.broken = False


@dataclass(slots=True)
class Entry:
    """What stands or falls together."""

    stream: Stream | None = None
    records: Sequence[PayingRecord] = ()
    insert: Values | None = None
    """A whole row of `call`."""
    update: Callable[[], Values] | None = None
    """Columns of a row of `call`, with its `call_id`; asked for after the vouchers were signed."""
    spend: Callable[[], Values] | None = None
    """A whole row of `spend`."""
    done: asyncio.Future[None] = field(default_factory=lambda: _future())


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


class Journal:
    def __init__(self, database: Database, fence: Fence) -> None:
        self._database = database
        self._fence = fence
        self._waiting: list[Entry] = []
        self._news = asyncio.Event()
        self.transactions = 0
        self.entries = 0

    def post(self, entry: Entry) -> asyncio.Future[None]:
        """In order; the future ends when it is durable, or with `JournalFailed`."""
        if entry.stream is not None and entry.stream.broken:
            entry.done.set_exception(JournalFailed())
            entry.done.exception()
            return entry.done
        self._waiting.append(entry)
        self._news.set()
        return entry.done

    async def write(self, entry: Entry) -> None:
        await self.post(entry)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and until everything that was posted before it is written."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while True:
                if not self._waiting:
                    if stop.is_set():
                        return
                    self._news.clear()
                    news = asyncio.create_task(self._news.wait())
                    await asyncio.wait({news, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
                    continue
                batch, self._waiting = self._waiting, []
                await self._commit(batch)
        finally:
            stopping.cancel()
            for entry in self._waiting:
                _fail(entry, JournalFailed())
            self._waiting = []

    async def _commit(self, batch: list[Entry]) -> None:
        batch = [entry for entry in batch if not _is_broken(entry)]
        if not batch:
            return
        streams = {id(e.stream): e.stream for e in batch if e.stream is not None}
        try:
            rows = _rows(batch, list(streams.values()))
            await self._write(rows)
        except Exception as failure:
            if not isinstance(failure, GatewayNotReady):
                log.error("journal_failed", entries=len(batch), exc_info=failure)
            for stream in streams.values():
                stream.broken = True
            for entry in batch:
                _fail(entry, failure if isinstance(failure, GatewayNotReady) else JournalFailed())
            return
        self.transactions += 1
        self.entries += len(batch)
        for stream in streams.values():
            try:
                await stream.committed()
            except Exception as failure:
                # What could not be sent now is sent with the next request.
                log.warning("voucher_not_sent", channel=stream.channel_id, why=repr(failure))
        for entry in batch:
            if not entry.done.done():
                entry.done.set_result(None)

    async def _write(self, rows: _Rows) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                async with self._database.transaction() as session:
                    await self._fence.require(session)
                    await rows.store(session)
                return
            except Exception as failure:
                if attempt == TRIES or not is_conflict(failure):
                    raise
            await asyncio.sleep(0.01 * attempt)


@dataclass(slots=True)
class _Rows:
    lines: list[Values]
    inserts: list[Values]
    updates: dict[tuple[str, ...], list[Values]]
    spends: list[Values]

    async def store(self, session: AsyncSession) -> None:
        connection = await session.connection()
        if self.lines:
            await connection.execute(insert(PayingRecordRow), self.lines)
        if self.inserts:
            await connection.execute(insert(CallRow), self.inserts)
        for names, rows in self.updates.items():
            await connection.execute(
                update(CallRow)
                .where(col(CallRow.call_id) == bindparam("b_call_id"))
                .values({name: bindparam("b_" + name) for name in names}),
                rows,
            )
        if self.spends:
            await connection.execute(_upsert_spend(session), self.spends)


def _rows(batch: list[Entry], streams: list[Stream]) -> _Rows:
    # Sealed first: rows name the voucher that pays for them. No await here, so that nothing is
    # taken between a seal and the lines it belongs behind.
    sealed = {id(stream): stream.seal() for stream in streams}
    lines: list[Values] = []
    for stream in streams:
        of_stream = [e for e in batch if e.stream is stream]
        records = [r for e in of_stream for r in e.records] + list(sealed[id(stream)])
        lines += [
            {"channel_id": stream.channel_id, "line": call_journal.to_json(record).decode()}
            for record in records
        ]
    inserts = [e.insert for e in batch if e.insert is not None]
    updates: dict[tuple[str, ...], list[Values]] = {}
    for entry in batch:
        if entry.update is None:
            continue
        values: Mapping[str, Any] = entry.update()
        names = tuple(sorted(name for name in values if name != "call_id"))
        updates.setdefault(names, []).append({"b_" + name: v for name, v in values.items()})
    spends: dict[tuple[Any, ...], Values] = {}
    for entry in batch:
        if entry.spend is not None:
            row = entry.spend()
            # The last one of a row stands for those before it: it is a running total.
            spends[(row["account"], row["day"], row["key_id"], row["app_id"])] = row
    return _Rows(lines, inserts, updates, list(spends.values()))


def _upsert_spend(session: AsyncSession) -> Any:
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    statement = (postgresql.insert if is_postgresql else sqlite.insert)(SpendRow)
    return statement.on_conflict_do_update(
        index_elements=["account", "day", "key_id", "app_id"],
        set_={"charge": statement.excluded.charge, "calls": statement.excluded.calls},
    )


def _is_broken(entry: Entry) -> bool:
    if entry.stream is None or not entry.stream.broken:
        return False
    _fail(entry, JournalFailed())
    return True


def _fail(entry: Entry, failure: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(failure)
        entry.done.exception()  # whoever posted without waiting hears of it from the stream
