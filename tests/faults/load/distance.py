"""A provider far away: in a network namespace of its own, so that the network between it and the
market can lose what goes one way.

    programs on loopback  <-  forwarders on 10.231.77.1  <-  veth  <-  10.231.77.2, the provider

Inside, connections to the market's loopback ports are led to the forwarders, so the provider's
settings are those of any other. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NAMESPACE = "tallystick-far"
HERE, THERE = "10.231.77.1", "10.231.77.2"
_NEAR_END, _FAR_END = "tsfar0", "tsfar1"


@dataclass(frozen=True, slots=True)
class Distance:
    """The way between the market and one provider."""

    namespace: str = NAMESPACE

    @contextmanager
    def loses(self, what: str) -> Iterator[None]:
        """`sent`: nothing that the provider sends arrives; `heard`: it hears nothing. Connections
        stay open, as nobody is told."""
        chain, side = ("OUTPUT", "-o") if what == "sent" else ("INPUT", "-i")
        rule = [chain, side, _FAR_END, "-j", "DROP"]
        _inside("iptables", "-A", *rule)
        try:
            yield
        finally:
            _inside("iptables", "-D", *rule)


def missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "iptables"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install iproute2 iptables"
    return ""


@contextmanager
def distance(ports: list[int]) -> Iterator[Distance]:
    """`ports` on loopback are reached from the namespace."""
    _remove()
    forwarders = _Forwarders()
    try:
        _run("ip", "netns", "add", NAMESPACE)
        _run("ip", "link", "add", _NEAR_END, "type", "veth", "peer", "name", _FAR_END)
        _run("ip", "link", "set", _FAR_END, "netns", NAMESPACE)
        _run("ip", "addr", "add", f"{HERE}/30", "dev", _NEAR_END)
        _run("ip", "link", "set", _NEAR_END, "up")
        _inside("ip", "addr", "add", f"{THERE}/30", "dev", _FAR_END)
        _inside("ip", "link", "set", _FAR_END, "up")
        _inside("ip", "link", "set", "lo", "up")
        _inside("sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1")
        for port in ports:
            forwarders.open(port)
            led = ["-p", "tcp", "-d", "127.0.0.1", "--dport", str(port)]
            to = ["-j", "DNAT", "--to-destination", f"{HERE}:{port}"]
            _inside("iptables", "-t", "nat", "-A", "OUTPUT", *led, *to)
        masked = ["-o", _FAR_END, "-j", "MASQUERADE"]
        _inside("iptables", "-t", "nat", "-A", "POSTROUTING", *masked)
        yield Distance()
    finally:
        forwarders.close()
        _remove()


def _remove() -> None:
    """Also what a run that was killed left behind."""
    for command in (["netns", "del", NAMESPACE], ["link", "del", _NEAR_END]):
        subprocess.run(["ip", *command], capture_output=True, check=False)


def _inside(*command: str) -> None:
    _run("ip", "netns", "exec", NAMESPACE, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class _Forwarders:
    """From the near end of the veth to the same port on loopback, in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, port: int) -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _join(reader, writer, port)

        self._do(asyncio.start_server(take, HERE, port))

    def close(self) -> None:
        async def end() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]


async def _join(near: asyncio.StreamReader, far: asyncio.StreamWriter, port: int) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carry(near, writer), _carry(reader, far))
    far.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
