"""From the gateway's journal to the tables that everybody reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy import bindparam, delete, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import PayingCheckpoint, PayingRecord
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Domain
from tallystick.protocol.paying import PayingChannel
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick_backend.gateway import journal_lines
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database, JsonText
from tallystick_backend.store.tables import (
    CallRow,
    GatewayJournalRow,
    PayingChannelRow,
    SpendRow,
)

log = structlog.get_logger(__name__)

Values = dict[str, Any]

NEW_CALL: Final[Values] = {
    "account": "",
    "key_id": "",
    "idempotency_key": None,
    "request_hash": "",
    "app_id": "",
    "version": 0,
    "provider": "",
    "gpu_class": "",
    "gpus": 0,
    "channel_id": "",
    "state": "queued",
    "attempts": 0,
    "asked_at_ms": 0,
    "ended_at_ms": None,
    "queued_ms": 0,
    "cold_start_ms": 0,
    "run_ms": 0,
    "gpu_ms": 0,
    "flat": 0,
    "fee_per_call": 0,
    "rate_per_gpu_second": 0,
    "charge": 0,
    "seq": None,
    "total": 0,
    "request": {},
    "input": None,
    "answer": None,
    "voucher": None,
    "problem": None,
    "media_type": "",
    "result_bytes": 0,
    "result": None,
    "forget_at_ms": None,
    "webhook_url": "",
    "webhook_state": "",
    "webhook_attempts": 0,
    "webhook_at_ms": None,
    "warm_id": None,
    "signer": "",
}
"""A row of `call` of which nothing is said."""

_DOCUMENTS: Final = ("request", "answer", "voucher")
"""Columns of JSON that the journal has as text."""

_NO_DOMAIN: Final = Domain(0, ZERO_ADDRESS)
"""Records are put together without looking at a signature."""


@dataclass(slots=True)
class Projection:
    """What rows of the journal come to, together."""

    upto: int = 0
    """The last of these rows."""
    begun: dict[str, Values] = field(default_factory=dict)
    """Calls that the table does not have, by id."""
    changed: dict[str, Values] = field(default_factory=dict)
    spent: dict[tuple[Any, ...], Values] = field(default_factory=dict)
    ends: dict[str, PayingChannel | None] = field(default_factory=dict)
    """By channel; None where its records are not whole."""
    keys: set[tuple[str, str]] = field(default_factory=set)
    """Accounts and idempotency keys among them."""

    def __bool__(self) -> bool:
        return self.upto > 0

    def __len__(self) -> int:
        return len(self.begun) + len(self.changed)

    def add(
        self,
        upto: int,
        begun: Iterable[Values],
        changed: Iterable[Values],
        spent: Iterable[Values],
        ends: Mapping[str, PayingChannel | None],
    ) -> None:
        """One row more, number `upto`."""
        self.upto = upto
        self.ends |= ends
        for values in begun:
            self.begun[values["call_id"]] = NEW_CALL | values
            if values.get("idempotency_key") is not None:
                self.keys.add((values["account"], values["idempotency_key"]))
        for values in changed:
            call_id = values["call_id"]
            known = self.begun.get(call_id)
            if known is None:
                known = self.changed.setdefault(call_id, {})
            known.update(values)
        for values in spent:
            self.spent[(values["account"], values["day"], values["key_id"], values["app_id"])] = (
                values
            )

    async def store(self, session: AsyncSession, now_ms: int) -> None:
        for values in (*self.begun.values(), *self.changed.values()):
            for name in _DOCUMENTS:
                if isinstance(values.get(name), str):
                    values[name] = JsonText(values[name])
        connection = await session.connection()
        upsert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        # Before the new ones: a call that failed gives its key back, and another one may have it.
        by_columns: dict[tuple[str, ...], list[Values]] = {}
        for values in self.changed.values():
            names = tuple(sorted(name for name in values if name != "call_id"))
            by_columns.setdefault(names, []).append({f"b_{n}": v for n, v in values.items()})
        for names, rows in by_columns.items():
            await connection.execute(
                update(CallRow)
                .where(col(CallRow.call_id) == bindparam("b_call_id"))
                .values({name: bindparam(f"b_{name}") for name in names}),
                rows,
            )
        if self.begun:
            await connection.execute(insert(CallRow), list(self.begun.values()))
        if self.spent:
            spend = upsert(SpendRow)
            await connection.execute(
                spend.on_conflict_do_update(
                    index_elements=["account", "day", "key_id", "app_id"],
                    set_={"charge": spend.excluded.charge, "calls": spend.excluded.calls},
                ),
                list(self.spent.values()),
            )
        if self.ends:
            channel = upsert(PayingChannelRow)
            await connection.execute(
                channel.on_conflict_do_update(
                    index_elements=["channel_id"],
                    set_={
                        "used_at_ms": channel.excluded.used_at_ms,
                        "state": channel.excluded.state,
                    },
                ),
                [
                    {"channel_id": name, "used_at_ms": now_ms, "state": _state(end)}
                    for name, end in self.ends.items()
                ],
            )
        await connection.execute(
            delete(GatewayJournalRow).where(col(GatewayJournalRow.id) <= self.upto)
        )


async def read_projection(database: Database) -> Projection:
    """What a process that ended, or a row whose fate is not known, left in the journal."""
    projection = Projection()
    async with database.read() as session:
        rows = await calls.gateway_journal(session)
        records: dict[str, list[PayingRecord]] = {}
        for row in rows:
            begun: list[Values] = []
            changed: list[Values] = []
            spent: list[Values] = []
            into = {
                journal_lines.BEGUN: begun,
                journal_lines.CHANGED: changed,
                journal_lines.SPENT: spent,
            }
            for kind, channel_id, what in journal_lines.read(row.body):
                if kind == journal_lines.RECORD:
                    records.setdefault(channel_id, []).append(what)
                else:
                    into[kind].append(what)
            projection.add(row.id, begun, changed, spent, {})
        for channel_id, of_channel in records.items():
            known = await calls.paying_channel(session, channel_id)
            projection.ends[channel_id] = _rebuilt(
                channel_id, None if known is None else known.state, of_channel
            )
    return projection


def checkpoint_of(state: str) -> PayingCheckpoint | None:
    """None for a channel whose records were not whole."""
    try:
        record = call_journal.from_json(state.encode())
    except ProtocolError:
        return None
    return record if isinstance(record, PayingCheckpoint) else None


def _rebuilt(
    channel_id: str, state: str | None, records: list[PayingRecord]
) -> PayingChannel | None:
    before: list[PayingRecord] = []
    if state is not None:
        checkpoint = checkpoint_of(state)
        if checkpoint is None:
            return None
        before.append(checkpoint)
    try:
        return PayingChannel.rebuilt(_NO_DOMAIN, ChannelState(0, 0, 0), [*before, *records]).channel
    except ProtocolError as failure:
        # Nothing is signed on it any more; the money comes back by a close.
        log.error("journal_not_whole", channel=channel_id, why=str(failure))
        return None


def _state(end: PayingChannel | None) -> str:
    return "" if end is None else call_journal.to_json(end.checkpoint()).decode()
