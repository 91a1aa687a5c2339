"""Frames to providers and back, on one connection.

Replies come on `tallystick.backend.<provider>.answer.<gateway>.<n>`: a subject that the server lets
only this provider publish on, as often as it likes, so nobody answers for another and streams need
no right of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any, Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tallystick_backend.gateway.errors import GatewayNotReady
from tallystick_backend.nats_connection import RECONNECT_SECONDS, connect, until_known

log = structlog.get_logger(__name__)

MAX_CONTENT_BYTES: Final = 8 * 2**20 - 64 * 1024
"""Of an input: a message has 8 MiB, with the request's own words beside it."""

OnReply = Callable[[bytes | None], None]
"""One reply; None when nobody listens there."""


class Silent(Exception):
    """No answer in time, or nobody there; told apart by `nobody`."""

    def __init__(self, subject: str, *, nobody: bool) -> None:
        super().__init__(f"{'nobody listens to' if nobody else 'no answer on'} {subject}")
        self.nobody = nobody


class CallBus(Protocol):
    @property
    def connected(self) -> bool: ...

    async def connect(self, stop: asyncio.Event) -> None: ...

    async def close(self) -> None: ...

    def listen(self, provider: str, on_reply: OnReply) -> str:
        """A subject for replies of this provider, until `forget`."""
        ...

    def forget(self, reply: str) -> None: ...

    async def send(self, provider: str, verb: str, payload: bytes, reply: str) -> None: ...

    async def ask(self, provider: str, verb: str, payload: bytes, timeout_s: float) -> bytes:
        """Raises `Silent`."""
        ...


class NatsCallBus:
    def __init__(
        self, url: str, seed: str, *, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self._url = url
        self._seed = seed
        self._reconnect_seconds = reconnect_seconds
        self._client: Client | None = None
        self._name = secrets.token_hex(16)
        self._numbers = itertools.count(1)
        self._listening: dict[str, OnReply] = {}

    def __repr__(self) -> str:
        return f"NatsCallBus({self._url!r})"

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def connect(self, stop: asyncio.Event) -> None:
        if self._client is not None:
            return
        self._client = await connect(
            self._url,
            self._seed,
            "tallystick-gateway",
            stop,
            unreachable=self._tell_unreachable,
            ready=self._listen,
            reconnect_seconds=self._reconnect_seconds,
            error_cb=self._tell_error,
        )
        if self._client is not None:
            log.info("call_bus_connected", url=self._url)

    async def _listen(self, client: Client) -> None:
        await client.subscribe(
            f"tallystick.backend.*.answer.{self._name}.*",
            cb=self._receive,
            pending_bytes_limit=1024 * 2**20,
        )
        await until_known(client)

    def _tell_unreachable(self, failure: Exception) -> None:
        log.warning("call_bus_unreachable", url=self._url, why=repr(failure))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def listen(self, provider: str, on_reply: OnReply) -> str:
        subject = f"tallystick.backend.{provider.lower()}.answer.{self._name}.{next(self._numbers)}"
        self._listening[subject] = on_reply
        return subject

    def forget(self, reply: str) -> None:
        self._listening.pop(reply, None)

    async def send(self, provider: str, verb: str, payload: bytes, reply: str) -> None:
        client = self._client
        if client is None or not client.is_connected:
            raise GatewayNotReady("the message bus is not connected")
        try:
            await client.publish(
                f"tallystick.provider.{provider.lower()}.{verb}", payload, reply=reply
            )
        except nats.errors.Error as failure:
            raise GatewayNotReady(f"the message bus took nothing: {failure}") from failure

    async def ask(self, provider: str, verb: str, payload: bytes, timeout_s: float) -> bytes:
        heard: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def on_reply(data: bytes | None) -> None:
            if not heard.done():
                heard.set_result(data)

        reply = self.listen(provider, on_reply)
        try:
            await self.send(provider, verb, payload, reply)
            async with asyncio.timeout(timeout_s):
                data = await heard
        except TimeoutError:
            raise Silent(f"{provider} {verb}", nobody=False) from None
        finally:
            self.forget(reply)
        if data is None:
            raise Silent(f"{provider} {verb}", nobody=True)
        return data

    async def _receive(self, message: Msg) -> None:
        on_reply = self._listening.get(message.subject)
        if on_reply is None:
            return
        try:
            on_reply(None if _is_nobody(message) else message.data)
        except Exception:
            log.exception("reply_failed", subject=message.subject)

    async def _tell_error(self, failure: Exception) -> None:
        log.warning("call_bus_error", why=repr(failure))


def _is_nobody(message: Msg) -> bool:
    """The server's own word that there is no listener."""
    headers: dict[str, Any] | None = message.headers
    return not message.data and headers is not None and headers.get("Status") == "503"
