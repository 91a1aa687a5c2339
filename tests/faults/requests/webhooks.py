"""Webhook addresses that point inwards: none is ever connected to.

The real sender with a resolver of ours in place of the system's, and a canary that listens on this
machine's loopback. Every address is tried the whole way, to the connection."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tallystick_backend.access import Seals
from tallystick_backend.clock import ManualClock
from tallystick_backend.gateway.errors import WebhookRefused
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.webhooks import Webhooks
from tallystick_backend.store.session import Database
from tests.faults.campaign import Broken

PRIVATE_V4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
PRIVATE_V6: Final = (
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "2001:db8::/32",
    "100::/64",
    "2001:10::/28",
)
AROUND_V4: Final = ("::ffff:0:0/96", "::/96", "64:ff9b::/96", "2002::/16", "64:ff9b:1::/48")
"""Where an IPv4 address is inside an IPv6 one."""


def addresses(chance: random.Random) -> list[str]:
    """An inward one of every range, and each IPv4 one again inside every IPv6 form."""
    inward_v4 = [_one_of(ipaddress.ip_network(net), chance) for net in PRIVATE_V4]
    inward_v4 += ["127.0.0.1", "169.254.169.254", "169.254.170.2", "100.100.100.200"]
    found = list(inward_v4)
    found += [_one_of(ipaddress.ip_network(net), chance) for net in PRIVATE_V6]
    found += ["fd00:ec2::254", "fe80::1%lo", "::1%1"]
    for inside in inward_v4:
        number = int(ipaddress.IPv4Address(inside))
        for around in AROUND_V4:
            base = ipaddress.IPv6Network(around)
            shifted = number << 80 if around == "2002::/16" else number
            found.append(str(ipaddress.IPv6Address(int(base.network_address) | shifted)))
    return found


def spellings(ip: str) -> list[str]:
    """One IPv4 address as resolvers of all ages read it."""
    number = int(ipaddress.IPv4Address(ip))
    parts = ip.split(".")
    return [
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(f"0{int(part):o}" for part in parts),
        ".".join(hex(int(part)) for part in parts),
        f"{parts[0]}.{int(ipaddress.IPv4Address(ip)) & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        ip + ".",
        ".".join(part.zfill(3) for part in parts),
        "".join(chr(0xFF10 + int(d)) if d.isdigit() else "\u3002" for d in ip),
        f"[::ffff:{ip}]",
        f"[::{ip}]",
        f"[64:ff9b::{ip}]",
    ]


def urls(ip: str, port: int, chance: random.Random) -> list[str]:
    """An address in every place where a reader could take it for the host."""
    host = f"[{ip}]" if ":" in ip else ip
    return [
        f"https://{host}/",
        f"https://{host}:{port}/",
        f"http://{host}:{port}/",
        f"https://example.org@{host}:{port}/",
        f"https://example.org:443@{host}/",
        f"https://{host}#@example.org/",
        f"https://{host}\\@example.org/",
        f"https://example.org\\@{host}/",
        f"https:///{host}/",
        f"//{host}/",
        f"HTTPS://{host}/",
        f"https:\t//{host}/",
        f"https://{host}%2f.example.org/",
        f"https://{host}%00.example.org/",
        f"https://{host}?.example.org/",
        f" https://{host}/",
        f"gopher://{host}:{port}/_x",
        f"file://{host}/etc/passwd",
        f"unix://{host}/",
        f"https://example.org:{chance.choice((22, 80, 6379, 8545, port))}/",
    ]


class Liar:
    """A name server: each name first leads outwards, then inwards, or to both."""

    def __init__(self, inward: str) -> None:
        self.inward = inward
        self.asked = 0

    async def __call__(self, name: str, port: int) -> list[str]:
        self.asked += 1
        if name.startswith("both"):
            return ["93.184.215.14", self.inward]
        if name.startswith("rebinds"):
            return ["93.184.215.14"] if self.asked == 1 else [self.inward]
        return [self.inward]


@asynccontextmanager
async def canary() -> AsyncIterator[tuple[int, list[str]]]:
    """A port on every loopback address, and who came."""
    came: list[str] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(serve, ["127.0.0.1", "::1"], 0, family=socket.AF_UNSPEC)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def run(chance: random.Random, folder: Path, rounds: int) -> int:
    """How many addresses were tried. Raises `Broken` for one that is connected to."""
    database = Database(f"sqlite+aiosqlite:///{folder / 'webhooks.db'}")
    tried = 0
    opened: list[tuple[str, int]] = []
    really = asyncio.open_connection

    async def watched(host: str, port: int, **options: Any) -> Any:
        opened.append((host, port))
        raise OSError(f"the campaign lets nothing out, to {host}:{port} either")

    try:
        async with canary() as (port, came):
            asyncio.open_connection = watched  # type: ignore[assignment]
            for _ in range(rounds):
                inward = addresses(chance)
                written = [url for ip in inward for url in urls(ip, port, chance)]
                written += [
                    f"https://{name}/{end}"
                    for ip in inward
                    if ":" not in ip
                    for name in spellings(ip)
                    for end in ("", "x")
                ]
                for url in written:
                    await _try(database, url, Liar("127.0.0.1"), opened)
                tried += len(written)
                for ip in inward:
                    for name in ("inward.example.org", "both.example.org"):
                        await _try(database, f"https://{name}/", Liar(ip), opened)
                        tried += 1
                    liar = Liar(ip)
                    outward = await _try(database, "https://rebinds.example.org/", liar, [])
                    if outward != ["93.184.215.14"]:
                        raise Broken(f"a name that leads outwards was not tried: {outward}")
                    opened.clear()
                    await _try(database, "https://rebinds.example.org/", liar, opened)
                    tried += 1
            if came:
                raise Broken(f"the canary was reached: {came}")
    finally:
        asyncio.open_connection = really
        await database.close()
    return tried


async def _try(
    database: Database, url: str, liar: Liar, opened: list[tuple[str, int]]
) -> list[str]:
    """Delivers, as if the address had been taken with the call; answers what was connected to."""
    hooks = Webhooks(database, Seals(b"k" * 32), ManualClock(), GatewaySettings(), liar)
    hooks.body_of = lambda row: {}
    row: Any = SimpleNamespace(
        webhook_url=url, account="0x" + "11" * 20, call_id="call-0001", webhook_attempts=0
    )
    before = len(opened)
    reached: list[str] = []
    try:
        await hooks._post(row)
    except (WebhookRefused, UnicodeError):
        pass
    except OSError as failure:
        reached = [str(failure).rpartition("to ")[2].partition(":443")[0].partition(" ")[0]]
    if len(opened) > before:
        where = opened[before:]
        if any(_inward(host) for host, _ in where):
            raise Broken(f"{url} led to a connection to {where}")
    return reached


def _inward(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True  # a name: it would be looked up again, by somebody else
    if address.version == 6 and any(address in ipaddress.ip_network(net) for net in AROUND_V4):
        return True
    return not address.is_global


def _one_of(network: Any, chance: random.Random) -> str:
    return str(network[chance.randrange(min(network.num_addresses, 2**60))])
