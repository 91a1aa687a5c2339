"""The gateway beside its limit: a raw ASGI echo, and the gateway with everything on, at 1, 16 and
64 connections.

    make bench-calls

Everything runs on this machine: the echo; then nats-server, a provider that answers in this very
benchmark's own process with the kernel's serving end and a real key, and the backend's HTTP with
authentication, routing, limits, receipt check, voucher and journal. The load comes from a plain
asyncio client in a process of its own. Figures drift with the machine; the ratio is what counts.
The chain's part is rows, as in the tests: opening a channel is no call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONNECTIONS = (1, 16, 64)
BODY = b'{"name":"Ada"}'


@dataclass(frozen=True)
class Figures:
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float
    errors: int


# --- load -------------------------------------------------------------------------------------


async def load(port: int, path: str, headers: str, connections: int, seconds: float) -> list[float]:
    """Seconds of each answered call; a failed one is negative."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json"]
    lines += [*headers.splitlines(), f"Content-Length: {len(BODY)}", "", ""]
    request = "\r\n".join(lines).encode() + BODY
    took: list[float] = []
    until_s = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until_s:
            began_s = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line[:15].lower() == b"content-length:":
                    length = int(line[15:])
            if length:
                await reader.readexactly(length)
            ok = head.startswith(b"HTTP/1.1 200")
            took.append((time.perf_counter() - began_s) * (1 if ok else -1))
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took


def _load_process(args: tuple[int, str, str, int, float], pipe: Any) -> None:
    uvloop.install()
    pipe.send(asyncio.run(load(*args)))


async def measured(port: int, path: str, headers: str, connections: int, seconds: float) -> Figures:
    context = multiprocessing.get_context("spawn")
    await _loaded(context, (port, path, headers, connections, min(1.0, seconds)))
    cpu_s = _cpu_s()
    began_s = time.perf_counter()
    took = await _loaded(context, (port, path, headers, connections, seconds))
    wall_s = time.perf_counter() - began_s
    good = sorted(one for one in took if one > 0)
    if not good:
        raise SystemExit(f"bench: no call of {len(took)} was answered with 200")
    return Figures(
        calls_per_s=len(good) / min(wall_s, seconds),
        p50_ms=1000 * statistics.median(good),
        p99_ms=1000 * good[min(len(good) - 1, int(len(good) * 0.99))],
        cpu_s_per_1000=1000 * (_cpu_s() - cpu_s) / len(good),
        errors=len(took) - len(good),
    )


async def _loaded(context: Any, args: tuple[Any, ...]) -> list[float]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_load_process, args=(args, theirs))
    process.start()
    took: list[float] = await asyncio.to_thread(ours.recv)
    await asyncio.to_thread(process.join)
    return took


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- what is measured -------------------------------------------------------------------------


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The limit: reads the body, sends it back."""
    if scope["type"] != "http":
        return
    message = await receive()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(message["body"])).encode())],
        }
    )
    await send({"type": "http.response.body", "body": message["body"]})


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http="httptools", log_config=None, access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def gateway(folder: Path, credit_calls: int) -> AsyncIterator[tuple[Any, str, str]]:
    import structlog

    from tallystick.protocol.channels import ChannelState
    from tallystick_backend.store.session import Database
    from tests.backend.gateway.market import APP_ID, bus_server, make_market

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    database = Database(f"sqlite+aiosqlite:///{folder}/bench.db")
    await database.migrate()
    with bus_server(folder) as server:
        market = await make_market(
            database, server, folder, call_limit="100000000/minute", channel_calls=1_000_000
        )
        try:
            await market.joins(credit_calls=credit_calls)
            await market.start()
            first = await market.call()
            if first.status_code != 200:
                raise SystemExit(f"bench: the first call failed: {first.text}")
            # A provider follows the chain by itself; nothing of that is in a call's way.
            (channel,) = await market.channels()
            seen = ChannelState(channel.deposited, 0, 0)

            async def as_seen(_channel: object) -> ChannelState:
                return seen

            market.provider.chain = as_seen
            unhurry(market.backend.gateway.settings)
            header = f"Authorization: Bearer {market.token}\r\n"
            yield market.app, f"/v1/apps/{APP_ID}/calls", header
        finally:
            await market.end()
            await database.close()


def unhurry(settings: Any) -> None:
    """The tests' world looks around more often than a gateway does."""
    from tallystick_backend.gateway.settings import GatewaySettings

    usual = GatewaySettings()
    for name in ("poll_s", "chain_poll_s", "repeat_s"):
        object.__setattr__(settings, name, getattr(usual, name))


async def main(seconds: float, credit_calls: int, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []

    async def measure(name: str, port: int, path: str, headers: str) -> None:
        for connections in CONNECTIONS:
            figures = await measured(port, path, headers, connections, seconds)
            rows.append({"what": name, "connections": connections, **figures.__dict__})

    async with served(echo) as port:
        await measure("raw ASGI echo", port, "/", "")
    with tempfile.TemporaryDirectory() as folder:
        async with gateway(Path(folder), credit_calls) as (app, path, header), served(app) as port:
            await measure("gateway, everything on", port, path, header)
    if as_json:
        print(json.dumps({"cpus": os.cpu_count(), "credit_calls": credit_calls, "rows": rows}))
        return
    limit = {row["connections"]: row["calls_per_s"] for row in rows[: len(CONNECTIONS)]}
    print(
        f"{'what':<24}{'conn':>5}{'calls/s':>10}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'CPU s/1000':>12}{'errors':>8}"
    )
    for row in rows:
        ratio = row["calls_per_s"] / limit[row["connections"]]
        print(
            f"{row['what']:<24}{row['connections']:>5}{row['calls_per_s']:>10,.0f}{ratio:>8.3f}"
            f"{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['cpu_s_per_1000']:>12.3f}"
            f"{row['errors']:>8}"
        )
    print("The provider runs in the gateway's process here, and its CPU is in the gateway's row.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--credit-calls", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    uvloop.install()
    asyncio.run(main(given.seconds, given.credit_calls, given.json))
