"""Rows as the index leaves them behind events, for tests of what is shown of them."""

from __future__ import annotations

from typing import Any

from sqlmodel import col, select

from tallystick.protocol.hashing import digest_of
from tallystick_backend.index.record import parties
from tallystick_backend.store.tables import (
    ChainEventEntityRow,
    ChainEventPartyRow,
    ChainEventRow,
)
from tests.backend.api.world import World
from tests.support.anvil import CONSUMER, DISPATCHER, PROVIDER

TASK = digest_of(b"a task")
APP = digest_of(b"an app")
CHANNEL = digest_of(b"a channel")


async def happened(
    world: World, name: str, *, block: int = 5, entity: str | None = None, **args: Any
) -> int:
    """One event, in the next place of the chain; answers its id."""
    async with world.database.transaction() as session:
        last = (
            await session.exec(select(ChainEventRow).order_by(col(ChainEventRow.id).desc()))
        ).first()
        number = 1 if last is None or last.id is None else last.id + 1
        session.add(
            ChainEventRow(
                id=number,
                block_number=block,
                block_hash=digest_of(f"block {block}".encode()),
                log_index=number,
                tx_hash=digest_of(f"transaction {number}".encode()),
                timestamp_s=world.backend.now_s(),
                contract="TaskMarket",
                name=name,
                args=args,
            )
        )
        await session.flush()
        for address in parties(args):
            session.add(ChainEventPartyRow(address=address, event_id=number, name=name))
        if entity is not None:
            session.add(ChainEventEntityRow(entity=entity, event_id=number))
    return number


def settled(**changes: Any) -> dict[str, Any]:
    return {
        "task_id": TASK,
        "consumer": CONSUMER.address,
        "provider": PROVIDER.address,
        "charge": "80",
        "receipt": digest_of(b"receipt"),
        "dispatcher": DISPATCHER.address,
        "dispatcher_share": "4",
        "royalty_to": "0x" + "00" * 20,
        "royalty_share": "0",
    } | changes


def redeemed(amount: int = 7, **changes: Any) -> dict[str, Any]:
    return {
        "channel_id": CHANNEL,
        "payer": CONSUMER.address,
        "provider": PROVIDER.address,
        "amount": str(amount),
        "claimed": "70",
        "receipt": digest_of(b"receipt"),
    } | changes
