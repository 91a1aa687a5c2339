"""How much slower an ordinary program is beside a hostile one (case 109).

    python -m tests.faults.sandbox.neighbour [PAIRS] [--record]

Both have half a core. The ordinary one does a fixed amount of work, alone and, from a second after
its start on, beside the hostile one in turns; the medians of its own times are compared. On a
machine that does other things, too, they say as much as their spread, which is printed beside them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tallystick.protocol import wire
from tests.faults.sandbox.programs import Program
from tests.faults.sandbox.world import World, world
from tests.provider.waiting import until

KINDS = {
    "CPU": "busy_loops",
    "memory": "page_cache_for_ever",
    "disk": "disk_without_rest",
    "forks": "fork_storm",
    "log, endless line": "log_without_an_end_of_line",
    "log, empty lines": "log_of_empty_lines",
}
BLOCKS = 5_000
"""Some ten seconds of work."""
FIGURES = Path(__file__).parents[1] / "figures" / "neighbour.json"


async def measure(pairs: int) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    directory = Path(tempfile.mkdtemp(prefix="faults-neighbour-"))
    async with world(directory, "bounded") as place:
        await _work(place)  # whatever is only read once
        for kind, name in KINDS.items():
            alone, beside = [], []
            for _ in range(pairs):
                alone.append(await _work(place))
                hostile = await _start(place, name)
                beside.append(await _work(place))
                await place.stop(hostile)
            slower = statistics.median(beside) / statistics.median(alone) - 1
            found[kind] = {
                "alone_ms": round(statistics.median(alone) * 1000),
                "alone_spread_ms": round((max(alone) - min(alone)) * 1000),
                "beside_ms": round(statistics.median(beside) * 1000),
                "slower_bp": round(slower * 10_000),
            }
            print(f"{kind}: {json.dumps(found[kind])}", flush=True)
    return found


async def _work(place: World) -> float:
    steady = Program("steady_work", tries=False, says="took", seconds=120)
    offer = await place.order(steady, BLOCKS=str(BLOCKS))
    await place.take(offer)
    await place.ended(steady, offer, "bounded")
    return float(place.said(offer).split("took ")[1].split()[0])


async def _start(place: World, name: str) -> wire.Offer:
    offer = await place.order(Program(name, seconds=300))
    await place.take(offer)
    await until(lambda: place.stand.lease(offer).started_ms is not None, 60, "the start")
    await asyncio.sleep(1)
    return offer


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    pairs = next((int(word) for word in sys.argv[1:] if word.isdigit()), 5)
    found = asyncio.run(measure(pairs))
    if "--record" in sys.argv:
        FIGURES.parent.mkdir(exist_ok=True)
        figures = {"on": datetime.now(UTC).date().isoformat(), "pairs": pairs, "kinds": found}
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
