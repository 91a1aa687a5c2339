"""The line to the backend: NATS, outwards only.

The agent logs in with a fresh proof signed by its operator key each time, so it reconnects by
itself and not through the library, which would repeat an old one. Whatever arrives is checked as a
body before anything acts on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from pydantic import ValidationError

from tallystick.protocol import wire
from tallystick.protocol.log_stream import without_secrets
from tallystick.protocol.login import make_proof
from tallystick.protocol.messages import Domain
from tallystick.protocol.signatures import PrivateKey, address_of
from tallystick.protocol.types import Address
from tallystick_provider.backend import Offline
from tallystick_provider.clock import Clock

REQUEST_SECONDS = 10.0
CONNECT_SECONDS = 5
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 15.0

Body = TypeVar("Body", bound=wire.WireModel)
Answer = TypeVar("Answer", bound=wire.WireModel)
log = structlog.get_logger()


class Handlers(Protocol):
    """What the agent does when asked."""

    async def on_connected(self) -> None: ...

    async def on_offer(self, offer: wire.Offer) -> wire.OfferReply: ...

    async def on_stop(self, stop: wire.Stop) -> wire.Ack: ...

    async def on_acceptance(self, notice: wire.AcceptanceNotice) -> wire.Ack: ...


Send = Callable[[bytes], Awaitable[None]]
Line = Callable[[bytes, Send, int], Awaitable[None]]
"""A subject whose messages are read elsewhere: the message, where its answers go, and the most
bytes that one of them may have."""


class Inbox:
    def __init__(
        self,
        url: str,
        domain: Domain,
        provider: Address,
        key: PrivateKey,
        clock: Clock,
        lines: Mapping[str, Line] | None = None,
    ) -> None:
        self._url = url
        self._lines = lines or {}
        self._domain = domain
        self._provider = provider
        self._key = key
        self._clock = clock
        self._subject = provider.lower()
        self._nats: Nats | None = None
        self.problem = "not connected yet"

    @property
    def connected(self) -> bool:
        return self._nats is not None and self._nats.is_connected

    async def run(self, stop: asyncio.Event, handlers: Handlers) -> None:
        """Stays connected until told to stop."""
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                if await self._stay(stop, handlers):
                    pause_s = FIRST_PAUSE_S
            except (Offline, nats.errors.Error, OSError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                self.problem = without_secrets(f"no log-in at {self._url}: {why}")
                log.warning("backend_unreachable", problem=self.problem, retry_s=round(pause_s, 1))
            finally:
                await self._disconnect()
            if not stop.is_set():
                # Spread out, so that a restarted backend is not met by everybody at once.
                await _first(stop.wait(), asyncio.sleep(pause_s * random.uniform(0.5, 1.5)))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _stay(self, stop: asyncio.Event, handlers: Handlers) -> bool:
        """Until the line breaks or `stop`; False when `stop` came before there was one."""
        connecting = asyncio.ensure_future(self._connect(handlers))
        await _first(stop.wait(), connecting)
        if connecting.cancelled():
            return False
        closed, self.problem = connecting.result(), ""
        try:
            await handlers.on_connected()
            await _first(stop.wait(), closed.wait())
        except Offline as error:
            self.problem = str(error)
        return True

    async def announce(self, announcement: wire.Announcement) -> wire.AnnouncementReply:
        return await self._ask("announce", announcement, wire.AnnouncementReply)

    async def heartbeat(self, beat: wire.Heartbeat) -> wire.HeartbeatReply:
        return await self._ask("heartbeat", beat, wire.HeartbeatReply)

    async def log(self, chunk: wire.LogChunk) -> wire.Ack:
        return await self._ask("log", chunk, wire.Ack)

    async def finished(self, finished: wire.Finished) -> wire.Ack:
        return await self._ask("finished", finished, wire.Ack)

    async def failed(self, failed: wire.Failed) -> wire.Ack:
        return await self._ask("failed", failed, wire.Ack)

    async def _connect(self, handlers: Handlers) -> asyncio.Event:
        closed = asyncio.Event()

        async def on_closed() -> None:
            closed.set()

        key = address_of(self._key)
        proof = make_proof(
            self._domain, self._provider, key, self._clock.now_ms() // 1000, self._key
        )
        self._nats = await log_in(
            self._url,
            self._subject,
            proof,
            name=f"tallystick-provider {self._subject}",
            ping_interval=5,
            max_outstanding_pings=2,
            closed_cb=on_closed,
            disconnected_cb=on_closed,
        )
        for verb, model, handle in (
            ("offer", wire.Offer, handlers.on_offer),
            ("stop", wire.Stop, handlers.on_stop),
            ("acceptance", wire.AcceptanceNotice, handlers.on_acceptance),
        ):
            await self._nats.subscribe(
                f"tallystick.provider.{self._subject}.{verb}", cb=_answering(model, handle)
            )
        for verb, line in self._lines.items():
            await self._nats.subscribe(
                f"tallystick.provider.{self._subject}.{verb}", cb=_carrying(line, self._nats)
            )
        # The library writes the first PING ahead of subscriptions that still wait in its buffer;
        # the second comes behind them.
        await self._nats.flush(CONNECT_SECONDS)
        await self._nats.flush(CONNECT_SECONDS)
        log.info("backend_connected", url=self._url)
        return closed

    async def _disconnect(self) -> None:
        line, self._nats = self._nats, None
        if line is not None:
            await _hang_up(line)

    async def _ask(self, verb: str, body: wire.WireModel, answer: type[Answer]) -> Answer:
        line = self._nats
        if line is None or not line.is_connected:
            raise Offline(self.problem or "not connected to the backend")
        try:
            reply = await line.request(
                f"tallystick.backend.{self._subject}.{verb}",
                body.model_dump_json().encode(),
                timeout=REQUEST_SECONDS,
            )
            return answer.model_validate_json(reply.data)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Offline(
                f"the backend did not answer {verb}: {str(error) or type(error).__name__}"
            ) from None
        except ValidationError as error:
            raise Offline(f"the backend's answer to {verb} is not understood: {error}") from None


async def log_in(url: str, subject: str, proof: str, **options: Any) -> Nats:
    """One try, with one proof. The caller closes the line; a try that fails or is given up leaves
    no socket behind. Raises Offline with what the server or the system said."""
    line = Nats()
    heard: list[Exception] = []

    async def on_error(error: Exception) -> None:
        heard[:] = [error]
        log.debug("bus_error", error=str(error))

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await line.connect(
                url,
                token=proof,
                inbox_prefix=f"_INBOX.{subject}".encode(),
                allow_reconnect=False,
                connect_timeout=CONNECT_SECONDS,
                # With 0 the library would try for ever by itself, always with this one proof.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=on_error,
                **options,
            )
    except BaseException as error:
        await _hang_up(line)
        if isinstance(error, nats.errors.Error | OSError | TimeoutError):
            # "No servers available" hides why.
            why = next((str(told) for told in heard if str(told)), str(error))
            raise Offline(why or type(error).__name__) from None
        raise
    return line


async def _hang_up(line: Nats) -> None:
    with suppress(Exception):  # it may be broken already, or have never begun
        async with asyncio.timeout(CONNECT_SECONDS):
            await line.close()


def _answering(model: type[Body], handle: Callable[[Any], Awaitable[wire.WireModel]]) -> Any:
    """Checks the body, answers it. Each message has a task of its own: none holds up others."""
    running: set[asyncio.Task[None]] = set()

    async def answer(message: Msg) -> None:
        try:
            body = model.model_validate_json(message.data)
        except ValidationError as error:
            reason = f"not a well-formed {model.__name__}: {error.error_count()} errors"
            log.warning("message_refused", reason=reason)
            refusal: wire.WireModel = (
                wire.OfferReply(accepted=False, reason=reason)
                if model is wire.Offer
                else wire.Ack(ok=False, reason=reason)
            )
            await _reply(message, refusal)
            return
        try:
            done = await handle(body)
        except Exception:  # the edge: unanswered, the backend asks again
            log.exception("message_broke", kind=model.__name__)
            return
        await _reply(message, done)

    async def receive(message: Msg) -> None:
        task = asyncio.create_task(answer(message))
        running.add(task)
        task.add_done_callback(running.discard)

    return receive


def _carrying(line: Line, bus: Nats) -> Any:
    """Hands the message on as it is; each has a task of its own."""
    running: set[asyncio.Task[None]] = set()

    async def send(message: Msg, data: bytes) -> None:
        if not message.reply:
            return
        try:
            await message.respond(data)
        except (nats.errors.Error, OSError) as error:
            log.debug("answer_not_sent", error=str(error))  # asked again after a reconnect

    async def carry(message: Msg) -> None:
        try:
            await line(message.data, partial(send, message), bus.max_payload)
        except Exception:  # the edge: unanswered, whoever asked asks again
            log.exception("message_broke", subject=message.subject)

    async def receive(message: Msg) -> None:
        task = asyncio.create_task(carry(message))
        running.add(task)
        task.add_done_callback(running.discard)

    return receive


async def _reply(message: Msg, body: wire.WireModel) -> None:
    if message.reply:
        try:
            await message.respond(body.model_dump_json().encode())
        except (nats.errors.Error, OSError) as error:
            log.debug("answer_not_sent", error=str(error))  # asked again after a reconnect


async def _first(*waits: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
