"""The table of docs/reference/reliability.md: what campaigns of faults tried, how often, and what
held. The figures lie beside the campaigns, written by `make faults-long ARGS=--record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.faults.campaign import Campaign
from tests.faults.every import campaigns

FIGURES = Path("tests/faults/figures")


def table(root: Path) -> str:
    chapters = []
    for campaign in campaigns():
        path = root / FIGURES / f"{campaign.name}.json"
        if path.exists():
            chapters.append(_chapter(campaign, json.loads(path.read_text(encoding="utf-8"))))
    beside = root / FIGURES / "neighbour.json"
    if beside.exists():
        chapters.append(_neighbour(json.loads(beside.read_text(encoding="utf-8"))))
    return "\n\n".join(chapters)


def _chapter(campaign: Campaign, figures: dict[str, Any]) -> str:
    seeds, failed = figures["seeds"], figures["failed"]
    minutes = -(-figures["seconds"] // 60)
    named = "1 seed" if seeds == 1 else f"{seeds} seeds"
    full = "" if figures["full"] else ", the short form"
    lines = [
        f"### {campaign.title}",
        "",
        f"{named}, {failed} failed; {minutes} minutes on {figures['on']}{full}. "
        f"`make faults-long SEEDS={seeds} ARGS='--only {campaign.name}'`",
        "",
        "| tried | times | held each time |",
        "|---|---:|---|",
    ]
    counts = figures["counts"]
    lines += [
        f"| {row.tried} | {counts[name]:,} | {row.holds} |"
        for name, row in campaign.rows.items()
        if counts.get(name)
    ]
    return "\n".join(lines)


def _neighbour(figures: dict[str, Any]) -> str:
    lines = [
        "### An ordinary program beside a hostile one",
        "",
        f"Medians of {figures['pairs']} pairs, alone and beside in turns, half a core each; "
        f"{figures['on']}. `python -m tests.faults.sandbox.neighbour {figures['pairs']}`",
        "",
        "| the hostile one wears out | alone, s | spread, s | beside, s | slower |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {kind} | {one['alone_ms'] / 1000:.2f} | {one['alone_spread_ms'] / 1000:.2f} "
        f"| {one['beside_ms'] / 1000:.2f} | {one['slower_bp'] / 100:+.1f} % |"
        for kind, one in figures["kinds"].items()
    ]
    return "\n".join(lines)
