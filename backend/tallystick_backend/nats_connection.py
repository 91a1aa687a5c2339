"""One log-in at the message bus, tried until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypedDict, TypeVar, Unpack

import nats.errors
from nats.aio.client import Client

T = TypeVar("T")

RECONNECT_SECONDS: Final = 1.0
CONNECT_TIMEOUT_S: Final = 5
PING_INTERVAL_S: Final = 20


class Callbacks(TypedDict, total=False):
    error_cb: Callable[[Exception], Awaitable[None]]
    disconnected_cb: Callable[[], Awaitable[None]]
    reconnected_cb: Callable[[], Awaitable[None]]


async def connect(
    url: str,
    seed: str,
    name: str,
    stop: asyncio.Event,
    *,
    unreachable: Callable[[Exception], None],
    ready: Callable[[Client], Awaitable[None]] | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
    **callbacks: Unpack[Callbacks],
) -> Client | None:
    """Tries until it is connected, with `ready` done, or `stop` is set: then None. A connection
    that breaks later connects itself again. `unreachable` is told the first failure."""
    told = False
    while not stop.is_set():
        try:
            return await _unless(
                stop, _connect_once(url, seed, name, ready, reconnect_seconds, callbacks)
            )
        except (OSError, nats.errors.Error) as failure:
            if not told:
                unreachable(failure)
                told = True
            await _wait(stop, reconnect_seconds)
    return None


async def _connect_once(
    url: str,
    seed: str,
    name: str,
    ready: Callable[[Client], Awaitable[None]] | None,
    reconnect_seconds: float,
    callbacks: Callbacks,
) -> Client:
    client = Client()
    try:
        await client.connect(
            url,
            name=name,
            nkeys_seed_str=seed,
            max_reconnect_attempts=-1,
            # Typed as whole seconds; it only ever sleeps them.
            reconnect_time_wait=reconnect_seconds,  # type: ignore[arg-type]
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            **callbacks,
        )
        if ready is not None:
            await ready(client)
    except BaseException:
        # A connection that was refused, or given up for `stop`, keeps its socket otherwise.
        await client.close()
        raise
    return client


async def until_known(client: Client) -> None:
    """Returns once the server has every subscription made so far. The library writes the first PING
    ahead of one that still waits in its buffer; the second comes behind it."""
    await client.flush()
    await client.flush()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None when `stop` is set first. NATS tries for ever by itself."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
