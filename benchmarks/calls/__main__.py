"""What a call costs in time: our gateway with everything on, beside the limit and two peers.

    make bench-calls                      every contender, 3 rounds, at 1, 16 and 64 connections
    make bench-calls ARGS="--seconds 2"   shorter

One run measures all of them, in turns, so that a machine that slows down slows all of them; the
table shows medians of the rounds. A ratio is calls per second beside the raw echo of the same
rounds. CPU is that of all processes of a contender (ours: backend, broker, provider and worker),
without the load's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.calls import contenders, load, market
from benchmarks.calls.contenders import Contender
from benchmarks.calls.load import Measured

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "bench-calls.json"
CONNECTIONS = (1, 16, 64)
LIMIT = "raw ASGI echo"
OURS = "Tallystick gateway"
ALL: dict[str, Contender] = {
    LIMIT: contenders.raw_echo,
    OURS: market.gateway,
    "Ray Serve, fast proxy": contenders.ray_serve,
    "RunPod, local server": contenders.runpod_local,
}

Results = dict[tuple[str, int], list[Measured]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="each measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--only", nargs="+", choices=sorted(ALL), help="these contenders")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    load.wrk()
    names = [name for name in ALL if not asked.only or name in asked.only]
    results = _measure(names, asked.rounds, asked.seconds)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(_rows(results), indent=2) + "\n")
    console = Console()
    if asked.json:
        console.print_json(data=_rows(results))
    else:
        console.print(_table(names, results))
        if OURS in names:
            console.print(_parts(results[OURS, CONNECTIONS[-1]]))
        console.print(f"every measurement: {OUTPUT.relative_to(ROOT)}", style="dim")


def _measure(names: list[str], rounds: int, seconds: int) -> Results:
    results: Results = defaultdict(list)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=rounds * len(names) * len(CONNECTIONS))
        for number in range(rounds):
            for name in names:
                progress.update(bar, description=f"round {number + 1}: {name}")
                with ALL[name]() as target:
                    load.measure(target, CONNECTIONS[-1], 1)  # warm
                    for connections in CONNECTIONS:
                        results[name, connections].append(
                            load.measure(target, connections, seconds)
                        )
                        progress.advance(bar)
    return results


def _table(names: list[str], results: Results) -> Table:
    table = Table(title="Calls: medians of the rounds")
    table.add_column("contender")
    for column in (
        *("connections", "calls/s", "of the limit", "p50 ms", "p99 ms"),
        *("CPU s / 1,000 calls", "memory MiB", "failed"),
    ):
        table.add_column(column, justify="right")
    for name in names:
        for connections in CONNECTIONS:
            measured = results[name, connections]
            limit = results.get((LIMIT, connections))
            ratio = f"{_calls(measured) / _calls(limit):.3f}" if limit else "-"
            table.add_row(
                name if connections == CONNECTIONS[0] else "",
                str(connections),
                f"{_calls(measured):,.0f}",
                ratio,
                f"{_median(measured, 'p50_ms'):.2f}",
                f"{_median(measured, 'p99_ms'):.2f}",
                f"{_median(measured, 'cpu_s_per_1000'):.3f}",
                f"{_median(measured, 'memory_mib'):.0f}",
                str(sum(one.failed for one in measured)),
            )
        table.add_section()
    return table


def _parts(measured: list[Measured]) -> Table:
    table = Table(title=f"Where ours goes, at {CONNECTIONS[-1]} connections")
    table.add_column("process")
    table.add_column("CPU us / call", justify="right")
    table.add_column("memory MiB", justify="right")
    for name in measured[0].parts:
        us = statistics.median(one.parts[name].cpu_s / one.calls * 1e6 for one in measured)
        mib = statistics.median(one.parts[name].memory_mib for one in measured)
        table.add_row(name, f"{us:,.0f}", f"{mib:,.0f}")
    return table


def _calls(measured: list[Measured]) -> float:
    return _median(measured, "calls_per_s")


def _median(measured: list[Measured], field: str) -> float:
    return float(statistics.median(getattr(one, field) for one in measured))


def _rows(results: Results) -> list[dict[str, object]]:
    return [
        {"contender": name, "round": number, **asdict(one)}
        for (name, _), measured in results.items()
        for number, one in enumerate(measured, 1)
    ]


if __name__ == "__main__":
    main()
