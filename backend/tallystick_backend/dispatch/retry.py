"""A transaction that lost a race is simply run again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.session import Database, is_conflict

T = TypeVar("T")

ATTEMPTS = 12


async def transact(database: Database, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Runs `work` in a write transaction, again when another one came first.

    A second writer of the same key is a race too: the next try reads what the first one wrote.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with database.transaction() as session:
                return await work(session)
        except Exception as failure:
            raced = is_conflict(failure) or isinstance(failure, IntegrityError)
            if not raced or attempt == ATTEMPTS:
                raise
        await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 7)))
    raise AssertionError("the last attempt returns or raises")
