"""Run campaigns of faults.

    make faults                                     the short form, as CI runs it
    make faults-long SEEDS=100 HOURS=4              everything, many seeds
    make faults ARGS="--only chain --seed 17"       one seed again
    make faults-long SEEDS=25 ARGS="--only kills --record"

A seed that fails is printed with the command that repeats it, and written to
tests/faults/kept_seeds.json: every run begins with those that lie there. Where a test has been
written for what a seed found, that test is named there ("pinned"), and a full seed is left to the
long form.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.campaign import Campaign, Done, run_seed
from tests.faults.every import campaigns

HERE = Path(__file__).parent
KEPT = HERE / "kept_seeds.json"
FIGURES = HERE / "figures"


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _arguments(arguments)
    # As an interrupt: what a campaign has started, it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=True)
    done: list[Done] = []
    until = time.monotonic() + asked.hours * 3600 if asked.hours else None
    before = {campaign.name: _recorded(campaign, asked) for campaign in asked.only}
    console.print(f"Faults on purpose: {', '.join(c.name for c in asked.only)}.")
    with Progress(
        TextColumn("[bold]{task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
    ) as progress:
        for campaign, seeds in _plan(asked, before, console):
            bar = progress.add_task("", total=len(seeds), name=campaign.name)
            for seed, full in seeds:
                if until is not None and time.monotonic() > until:
                    progress.update(bar, description="time is up")
                    break
                found = _run(
                    campaign, seed, full, lambda t, b=bar: progress.update(b, description=t)
                )
                done.append(found)
                if asked.record:
                    _record(campaign, before[campaign.name], asked.full, done)
                progress.update(bar, advance=1, description="")
                if not console.is_terminal and not found.problem:
                    console.print(f"seed {seed} of {campaign.name} held, {found.seconds:.0f} s")
                if found.problem:
                    console.print(found.problem, markup=False, highlight=False)
                    console.print(f"[red]seed {seed} of {campaign.name} failed[/red]; again:")
                    console.print(f"  {_again(found)}", markup=False, highlight=False)
                    _keep(found)
    _print(console, asked.only, done)
    failed = [d for d in done if d.problem]
    console.print(f"{len(done) - len(failed)} seeds held, {len(failed)} failed")
    return 1 if failed or not done else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    known = {campaign.name: campaign for campaign in campaigns()}
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help=f"of {', '.join(known)}; several with commas")
    parser.add_argument("--full", action="store_true", help="try everything in each seed")
    parser.add_argument("--seeds", type=int, help="how many seeds of each campaign")
    parser.add_argument("--seed", type=int, help="this one seed, or the first of --seeds")
    parser.add_argument("--hours", type=float, help="begin no seed after so many hours")
    parser.add_argument("--record", action="store_true", help="write the figures beside the tests")
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="with --record: only other seeds, added to those figures",
    )
    asked = parser.parse_args(arguments)
    names = asked.only.split(",") if asked.only else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no campaign is named {unknown[0]!r}; there are {', '.join(known)}")
    asked.only = [known[name] for name in names]
    return asked


def _plan(
    asked: argparse.Namespace, before: dict[str, dict[str, Any]], console: Console
) -> Iterator[tuple[Campaign, Sequence[tuple[int, bool]]]]:
    """Seeds of each campaign, each with whether everything is tried. A run that names no seed
    begins with those that once failed; the short form, where no test stands for them."""
    kept = json.loads(KEPT.read_text())
    for campaign in asked.only:
        if lacks := campaign.missing():
            console.print(f"[yellow]{campaign.name} is left out[/yellow]: {lacks}")
            continue
        first = 1 if asked.seed is None else asked.seed
        many = 1 if asked.seed is not None and asked.seeds is None else asked.seeds
        last = first + (campaign.seeds if many is None else many)
        wanted = [(seed, asked.full) for seed in range(first, last)]
        if asked.seed is None:
            of_old = [
                (k["seed"], k["full"])
                for k in kept
                if k["campaign"] == campaign.name
                and (asked.full or not k["full"] or "pinned" not in k)
            ]
            wanted = [*of_old, *(one for one in wanted if one not in of_old)]
        counted = before[campaign.name]["numbers"]
        wanted = [(seed, full) for seed, full in wanted if seed not in counted]
        yield campaign, wanted


def _run(campaign: Campaign, seed: int, full: bool, say: object) -> Done:
    directory = Path(tempfile.mkdtemp(prefix=f"faults-{campaign.name}-{seed}-"))
    found = run_seed(campaign, seed, full, directory, say)  # type: ignore[arg-type]
    if not found.problem:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        found.problem += f"what it left is in {directory}\n"
    return found


def _again(found: Done) -> str:
    full = " --full" if found.full else ""
    return f'make faults ARGS="--only {found.campaign} --seed {found.seed}{full}"'


def _keep(found: Done) -> None:
    """For ever: nobody but a person takes a seed out again."""
    kept = json.loads(KEPT.read_text())
    seed = {"campaign": found.campaign, "seed": found.seed, "full": found.full}
    if seed not in [{k: one[k] for k in seed} for one in kept]:
        said = [line.strip() for line in found.problem.splitlines() if line.strip()]
        kept.append(seed | {"why": said[-2][:200]})
        KEPT.write_text(json.dumps(kept, indent=2) + "\n")


def _print(console: Console, asked: Sequence[Campaign], done: Sequence[Done]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("tried", "times", "held each time"):
        table.add_column(heading, justify="right" if heading == "times" else "left")
    for campaign in asked:
        counts = _counts(campaign, done)
        for key, row in campaign.rows.items():
            if counts[key]:
                table.add_row(row.tried, f"{counts[key]:,}", row.holds)
    console.print(table)


def _record(campaign: Campaign, before: dict[str, Any], full: bool, done: Sequence[Done]) -> None:
    """After each seed, so that a run that is ended leaves what it tried. The figures take the place
    of those that stood for the campaign, or with --go-on are added to them."""
    seeds = [d for d in done if d.campaign == campaign.name]
    figures = {
        "on": datetime.now(UTC).date().isoformat(),
        "seeds": before["seeds"] + len(seeds),
        "numbers": [*before["numbers"], *(d.seed for d in seeds)],
        "failed": before["failed"] + sum(1 for d in seeds if d.problem),
        "full": full,
        "seconds": before["seconds"] + round(sum(d.seconds for d in seeds)),
        "counts": dict(Counter(before["counts"]) + _counts(campaign, done)),
    }
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{campaign.name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def _recorded(campaign: Campaign, asked: argparse.Namespace) -> dict[str, Any]:
    """What the figures go on from."""
    path = FIGURES / f"{campaign.name}.json"
    if not asked.go_on or not path.exists():
        return {"seeds": 0, "numbers": [], "failed": 0, "seconds": 0, "counts": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    if "numbers" not in found:
        sys.exit(f"{path} does not say of which seeds it is: record anew, without --go-on")
    return found


def _counts(campaign: Campaign, done: Sequence[Done]) -> Counter[str]:
    total: Counter[str] = Counter()
    for found in done:
        if found.campaign == campaign.name and not found.problem:
            total += found.counts
    return total


if __name__ == "__main__":
    sys.exit(main())
