"""Answers that are delivered: one POST for each call that named an address, signed, repeated until
it is taken.

The signature is that of the Standard Webhooks scheme: `webhook-id`, `webhook-timestamp` and
`webhook-signature: v1,<base64 of HMAC-SHA256 over id.timestamp.body>` with the account's secret.

The address is a stranger's word, so the connection goes only to a public one: the name is resolved
here, every address it has is checked, and the checked one is connected to, not the name again.
Redirects are not followed, and what is answered is not read.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from tallystick_backend.access import Seals
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.errors import WebhookRefused
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import CallRow

log = structlog.get_logger(__name__)

MAX_URL: Final = 2_000
AT_ONCE: Final = 16
FIRST_PAUSE_MS: Final = 5_000
LONGEST_PAUSE_MS: Final = 3_600_000
LOOK_EVERY_S: Final = 1.0
STATUS_LINE_BYTES: Final = 1_000
ALLOWED_PORTS: Final = frozenset({443, 8443})

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a webhook goes, taken apart once and checked."""

    scheme: str
    name: str
    port: int
    path: str


def read_url(url: str, *, loopback: bool) -> Address:
    """Raises `WebhookRefused` for what could never be delivered to. Names are looked up later, each
    time: what a name means may change."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookRefused("the webhook's address is too long, or has characters none may have")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookRefused("the webhook's address cannot be read") from None
    name = parts.hostname or ""
    if parts.scheme not in (("https", "http") if loopback else ("https",)) or not name:
        raise WebhookRefused("the webhook's address is not https://")
    if parts.username is not None or parts.password is not None or parts.fragment or "\\" in url:
        raise WebhookRefused("the webhook's address carries a user name or a fragment")
    port = port or (443 if parts.scheme == "https" else 80)
    if not loopback and port not in ALLOWED_PORTS:
        raise WebhookRefused(f"the webhook's port is {port}: use 443 or 8443")
    literal = _literal(name)
    if literal is not None and not is_public(literal, loopback=loopback):
        raise WebhookRefused(f"the webhook's address {name} is not a public one")
    if literal is None and _looks_numeric(name):
        # 0x7f.1, 2130706433: some resolvers read these as addresses.
        raise WebhookRefused(f"the webhook's host {name} is no name")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, name, port, path)


def is_public(ip: str, *, loopback: bool) -> bool:
    """Whether anybody's machine may be there: not this one, not the network around it, not one of
    the ranges that stand for something else."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if address.is_loopback:
        return loopback
    if isinstance(address, ipaddress.IPv6Address):
        inside = _embedded(address)
        if inside is not None:
            return is_public(str(inside), loopback=loopback)
    if any(address in network for network in _NOBODYS):
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def secret_of(seals: Seals, account: str) -> str:
    """An account's secret, as it is shown."""
    return "whsec_" + base64.b64encode(seals.mac("webhook", account.lower())).decode()


def signature(seals: Seals, account: str, call_id: str, timestamp_s: int, body: bytes) -> str:
    key = seals.mac("webhook", account.lower())
    signed = f"{call_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def pause_ms(attempts: int) -> int:
    """After so many attempts."""
    return min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << 2 * max(0, attempts - 1))


class Webhooks:
    def __init__(
        self,
        database: Database,
        seals: Seals,
        clock: Clock,
        settings: GatewaySettings,
        resolve: Resolve | None = None,
    ) -> None:
        self._database = database
        self._seals = seals
        self._clock = clock
        self._settings = settings
        self._resolve = resolve or _resolve
        self.body_of: Callable[[CallRow], dict[str, Any]] = lambda row: {"call_id": row.call_id}
        """What is said of a call; HTTP's view of it."""

    def check(self, url: str) -> str:
        """Raises `WebhookRefused`."""
        read_url(url, loopback=self._settings.webhook_loopback)
        return url

    def secret(self, account: str) -> str:
        return secret_of(self._seals, account)

    async def run(self, stop: asyncio.Event, due: asyncio.Event) -> None:
        while not stop.is_set():
            due.clear()
            try:
                await self.deliver_due()
            except Exception:
                log.exception("webhooks_not_delivered")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(due.wait(), LOOK_EVERY_S)

    async def deliver_due(self) -> int:
        async with self._database.read() as session:
            rows = await calls.webhooks_due(session, self._clock.now_ms(), AT_ONCE)
        await asyncio.gather(*(self._deliver(row) for row in rows))
        return len(rows)

    async def _deliver(self, row: CallRow) -> None:
        attempts = row.webhook_attempts + 1
        try:
            status = await self._post(row)
            taken, why = 200 <= status < 300, f"status {status}"
        except (OSError, WebhookRefused, TimeoutError, ssl.SSLError, ValueError) as failure:
            taken, why = False, repr(failure)[:200]
        now_ms = self._clock.now_ms()
        if taken:
            state, at_ms = "delivered", None
        elif attempts >= self._settings.webhook_tries:
            state, at_ms = "given_up", None
        else:
            state, at_ms = "due", now_ms + pause_ms(attempts)
        log.info("webhook_tried", call=row.call_id, state=state, attempts=attempts, why=why)
        async with self._database.transaction() as session:
            await calls.note_webhook(
                session,
                row.call_id,
                webhook_state=state,
                webhook_attempts=attempts,
                webhook_at_ms=at_ms,
            )

    async def _post(self, row: CallRow) -> int:
        to = read_url(row.webhook_url, loopback=self._settings.webhook_loopback)
        body = json.dumps(self.body_of(row), separators=(",", ":")).encode()
        timestamp_s = self._clock.now_ms() // 1000
        signed = signature(self._seals, row.account, row.call_id, timestamp_s, body)
        head = (
            f"POST {to.path} HTTP/1.1\r\n"
            f"Host: {_host(to)}\r\n"
            "User-Agent: tallystick-webhooks\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"webhook-id: {row.call_id}\r\n"
            f"webhook-timestamp: {timestamp_s}\r\n"
            f"webhook-signature: {signed}\r\n"
            "Connection: close\r\n\r\n"
        ).encode("ascii")
        async with asyncio.timeout(self._settings.webhook_timeout_s):
            ip = await self._checked(to)
            context = ssl.create_default_context() if to.scheme == "https" else None
            reader, writer = await asyncio.open_connection(
                ip, to.port, ssl=context, server_hostname=to.name if context else None
            )
            try:
                writer.write(head + body)
                await writer.drain()
                line = await reader.readuntil(b"\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as failure:
                raise OSError("the answer was no HTTP") from failure
            finally:
                writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
        words = line[:STATUS_LINE_BYTES].split()
        if len(words) < 2 or not words[1].isdigit():
            raise OSError("the answer was no HTTP")
        return int(words[1])

    async def _checked(self, to: Address) -> str:
        """One address of the name, all of which are public: a name that has a private one as well
        is refused whole."""
        found = [to.name] if _literal(to.name) else await self._resolve(to.name, to.port)
        if not found:
            raise WebhookRefused(f"the name {to.name} has no address")
        for ip in found:
            if not is_public(ip, loopback=self._settings.webhook_loopback):
                raise WebhookRefused(f"the name {to.name} leads to {ip}, which is not public")
        return found[0]


async def _resolve(name: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _literal(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None


def _looks_numeric(name: str) -> bool:
    last = name.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or last.startswith("0x")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, translated (NAT64), 6to4 or Teredo one leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    for network in _NAT64:
        if address in network:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


_NOBODYS: Final = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; some read as global
    ipaddress.ip_network("192.88.99.0/24"),  # once 6to4 relays
)
_NAT64: Final = (
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("::/96"),
)


def _host(to: Address) -> str:
    name = f"[{to.name}]" if ":" in to.name else to.name
    return name if to.port in (443, 80) else f"{name}:{to.port}"
