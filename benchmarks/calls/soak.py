"""A hundred thousand metered calls, and not a unit astray.

    make soak-calls                       100,000 calls over 64 connections
    make soak-calls ARGS="--calls 2000"   fewer

Real programs on loopback: chain, broker, backend with its gateway, provider, worker. Every answer
is read and checked, and what it says it cost is added up here. Then the consumer asks for the
channel's close, the provider redeems, and five books must say the same to the unit: the answers,
the database's calls, its sums by day, the last voucher, and the chain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from benchmarks.calls.market import Serving, serving
from tallystick import GPUClient

REDEEM_WITHIN_S = 60.0


@dataclass(slots=True)
class Answers:
    """What the callers saw."""

    calls: int = 0
    errors: int = 0
    charged: int = 0
    first_error: str = ""

    def failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why


@dataclass(frozen=True, slots=True)
class Books:
    """The same sum, as each of them has it; in the token's smallest unit."""

    answers: int
    database: int
    summaries: int
    vouchers: int
    chain: int

    @property
    def drift(self) -> int:
        told: tuple[int, ...] = astuple(self)
        return max(told) - min(told)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000, help="(default: 100,000)")
    parser.add_argument("--connections", type=int, default=64, help="(default: 64)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    with serving() as found:
        before = _charged_before(found)
        began = time.monotonic()
        answers = asyncio.run(_make(found, asked.calls, asked.connections))
        seconds = time.monotonic() - began
        answers.charged += before
        books = _books(found, answers)
    told = {**asdict(answers), "seconds": round(seconds, 1), "books": asdict(books)}
    told["drift"] = books.drift
    if asked.json:
        print(json.dumps(told))
    else:
        _show(answers, books, seconds)
    return 1 if answers.errors or books.drift else 0


async def _make(found: Serving, calls: int, connections: int) -> Answers:
    answers = Answers()
    target = found.target
    left = iter(range(calls))
    progress = Progress(
        "calls",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with progress:
        bar = progress.add_task("", total=calls)
        # httpx would take more of the machine than what it calls.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=60),
            headers=target.headers,
        ) as http:

            async def caller() -> None:
                for number in left:
                    text = f"call {number}"
                    try:
                        async with http.post(target.url, json={"text": text}) as answer:
                            _read(answers, answer, await answer.read(), text)
                    except (aiohttp.ClientError, TimeoutError) as problem:
                        answers.failed(repr(problem))
                    progress.advance(bar)

            await asyncio.gather(*(caller() for _ in range(connections)))
    return answers


def _read(answers: Answers, answer: aiohttp.ClientResponse, body: bytes, text: str) -> None:
    if answer.status != 200:
        answers.failed(f"{answer.status}: {body[:300]!r}")
    elif json.loads(body) != {"text": text}:
        answers.failed(f"{text!r} was answered with {body[:300]!r}")
    else:
        answers.calls += 1
        answers.charged += int(answer.headers["tallystick-charge"])


def _charged_before(found: Serving) -> int:
    """By the call that warmed the worker. Asked for, as the tables come behind the answers."""
    with GPUClient(**found.market.client_settings()) as client:
        return sum(int(row.charge) for row in client.summaries(by="day").items)


def _books(found: Serving, answers: Answers) -> Books:
    with GPUClient(**found.market.client_settings()) as client:
        page = client.summaries(by="day")
        summaries = sum(int(row.charge) for row in page.items)
        channels = client.channels()
        for channel in channels:
            client.close_channel(channel.id)
        chain = _redeemed(client)
    return Books(answers.charged, _database_sum(found), summaries, _vouchers(found), chain)


def _redeemed(client: GPUClient) -> int:
    """Waits until the provider has brought its vouchers to the chain, which a close makes it do."""
    deadline = time.monotonic() + REDEEM_WITHIN_S
    last = -1
    while time.monotonic() < deadline:
        claimed = sum(int(channel.claimed) for channel in client.channels())
        if claimed == last and claimed:
            return claimed
        last = claimed
        time.sleep(2)
    return max(last, 0)


def _database_sum(found: Serving) -> int:
    return sum(int(charge) for (charge,) in _rows(found, "select charge from call"))


def _vouchers(found: Serving) -> int:
    """The last voucher of each channel, as the gateway keeps it."""
    ends = [
        json.loads(state)["record"] for (state,) in _rows(found, "select state from paying_channel")
    ]
    return sum(int(end["voucher"]["voucher"]["total"]) for end in ends if end["voucher"])


def _rows(found: Serving, query: str) -> list[tuple[str, ...]]:
    path = Path(found.market.plan.directory) / "backend.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def _show(answers: Answers, books: Books, seconds: float) -> None:
    console = Console()
    table = Table(title=f"{answers.calls:,} calls in {seconds:,.0f} s, {answers.errors} errors")
    table.add_column("book")
    table.add_column("sum, smallest unit", justify="right")
    for name, amount in asdict(books).items():
        table.add_row(name, f"{amount:,}")
    console.print(table)
    console.print(f"drift: {books.drift:,} units")
    if answers.first_error:
        console.print(f"the first error: {answers.first_error}", style="red")


if __name__ == "__main__":
    sys.exit(main())
