"""The message bus: NATS, with request and reply. Nothing here decides anything, and no money state
lives in it: whatever is lost is said again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tallystick_backend.dispatch.errors import BusClosed, NoAnswer, NoListener
from tallystick_backend.nats_connection import RECONNECT_SECONDS, connect, until_known

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[str, bytes], Awaitable[bytes | None]]
"""Subject and payload to the reply; None answers nothing."""

AT_ONCE_PER_SPEAKER = 4
WAITING_PER_SPEAKER = 256


def offer_subject(provider: str) -> str:
    return f"tallystick.provider.{provider.lower()}.offer"


def stop_subject(provider: str) -> str:
    return f"tallystick.provider.{provider.lower()}.stop"


def acceptance_subject(provider: str) -> str:
    return f"tallystick.provider.{provider.lower()}.acceptance"


class Bus(Protocol):
    @property
    def connected(self) -> bool: ...

    async def connect(self, stop: asyncio.Event) -> None:
        """Tries until it is connected or `stop` is set; then stays connected by itself."""
        ...

    async def close(self) -> None: ...

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> bytes:
        """Raises `NoListener` when it was certainly not received, else `NoAnswer`, `BusClosed`."""
        ...

    async def serve(self, subject: str, queue: str, handler: Handler) -> None:
        """Answers requests on `subject`; one of the servers of a queue gets each."""
        ...


class NatsBus:
    """A connection that logs in with an nkey named in the server's configuration."""

    def __init__(
        self, url: str, seed: str, name: str, *, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self._url = url
        self._seed = seed
        self._name = name
        self._reconnect_seconds = reconnect_seconds
        self._client: Client | None = None
        self.serving = False
        """True once the server knows what we answer."""
        self._busy: set[asyncio.Task[None]] = set()
        self._waiting: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    def __repr__(self) -> str:
        return f"NatsBus({self._url!r}, name={self._name!r})"

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def connect(self, stop: asyncio.Event) -> None:
        if self._client is None:
            self._client = await connect(
                self._url,
                self._seed,
                self._name,
                stop,
                unreachable=self._tell_unreachable,
                reconnect_seconds=self._reconnect_seconds,
                error_cb=self._tell_error,
                disconnected_cb=self._tell_disconnected,
                reconnected_cb=self._tell_reconnected,
            )
        if self._client is not None:
            log.info("bus_connected", bus=self._name, url=self._url)

    async def close(self) -> None:
        client, self._client = self._client, None
        self.serving = False
        for task in tuple(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        if client is not None:
            await client.close()

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> bytes:
        client = self._client
        if client is None or not client.is_connected:
            raise BusClosed("the message bus is not connected")
        try:
            reply = await client.request(subject, payload, timeout=timeout_s)
        except nats.errors.NoRespondersError:
            raise NoListener(f"nobody listens to {subject}") from None
        except nats.errors.TimeoutError:
            raise NoAnswer(f"no answer on {subject} within {timeout_s:g} s") from None
        except nats.errors.Error as failure:
            # It may have left before the connection broke.
            raise NoAnswer(f"{subject}: {failure}") from failure
        data: bytes = reply.data
        return data

    async def serve(self, subject: str, queue: str, handler: Handler) -> None:
        if self._client is None:
            raise BusClosed("connect before serving")

        async def receive(message: Msg) -> None:
            # Each speaker queues behind itself: one that floods us delays nobody else.
            speaker = _speaker(message.subject)
            if self._waiting[speaker] >= WAITING_PER_SPEAKER:
                return
            self._waiting[speaker] += 1
            task = asyncio.create_task(self._answer(speaker, message, handler))
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

        await self._client.subscribe(subject, queue=queue, cb=receive)
        await until_known(self._client)
        self.serving = True

    async def _answer(self, speaker: str, message: Msg, handler: Handler) -> None:
        turn = self._turns.setdefault(speaker, asyncio.Semaphore(AT_ONCE_PER_SPEAKER))
        try:
            async with turn:
                reply = await handler(message.subject, message.data)
            if reply is not None and message.reply:
                await message.respond(reply)
        except nats.errors.Error as failure:
            log.warning("reply_lost", subject=message.subject, why=repr(failure))
        except Exception:
            log.exception("message_failed", subject=message.subject)
        finally:
            self._waiting[speaker] -= 1
            if self._waiting[speaker] <= 0:
                del self._waiting[speaker]
                self._turns.pop(speaker, None)

    def _tell_unreachable(self, failure: Exception) -> None:
        log.warning("bus_unreachable", bus=self._name, url=self._url, why=repr(failure))

    async def _tell_error(self, failure: Exception) -> None:
        log.warning("bus_error", bus=self._name, why=repr(failure))

    async def _tell_disconnected(self) -> None:
        log.warning("bus_disconnected", bus=self._name)

    async def _tell_reconnected(self) -> None:
        log.info("bus_connected", bus=self._name, url=self._url)


def _speaker(subject: str) -> str:
    parts = subject.split(".")
    return parts[2] if len(parts) > 2 else subject
