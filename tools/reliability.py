"""The table of docs/reference/reliability.md: what campaigns of faults tried, how often, and what
held. The figures lie beside the campaigns, written by `make faults-long ARGS=--record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.faults.campaign import Campaign
from tests.faults.every import campaigns

FIGURES = Path("tests/faults/figures")
TOGETHER = {
    "kill -9, at marked steps and at any moment": ("kills.kills", "chain.kill9", "outbox.kills"),
    "Hostile programs in real containers": ("sandbox.programs",),
    "Bad inputs: requests, messages on the bus, texts for parsers": (
        *("requests.inputs", "requests.bus", "requests.parsers", "requests.schemathesis"),
    ),
    "Orders, versions and container bodies with something that nobody may have": (
        *("specs.engine", "specs.orders", "specs.agent"),
    ),
}
"""Counts that several campaigns have, as `campaign.row`."""


def table(root: Path) -> str:
    figures = {path.stem: json.loads(path.read_text()) for path in (root / FIGURES).glob("*.json")}
    shown = [campaign for campaign in campaigns() if campaign.name in figures]
    chapters = [_together({campaign.name: figures[campaign.name] for campaign in shown})]
    chapters += [_chapter(campaign, figures[campaign.name]) for campaign in shown]
    if "neighbour" in figures:
        chapters.append(_neighbour(figures["neighbour"]))
    return "\n\n".join(chapters)


def _together(figures: dict[str, Any]) -> str:
    seeds = sum(one["seeds"] for one in figures.values())
    failed = sum(one["failed"] for one in figures.values())
    lines = ["### All campaigns", "", "| tried | times |", "|---|---:|"]
    lines.append(f"| Seeds; {failed} of them failed | {seeds:,} |")
    for tried, places in TOGETHER.items():
        pairs = [place.split(".") for place in places]
        times = sum(figures[name]["counts"].get(row, 0) for name, row in pairs if name in figures)
        if times:
            lines.append(f"| {tried} | {times:,} |")
    return "\n".join(lines)


def _chapter(campaign: Campaign, figures: dict[str, Any]) -> str:
    seeds, failed = figures["seeds"], figures["failed"]
    minutes = -(-figures["seconds"] // 60)
    named = "1 seed" if seeds == 1 else f"{seeds} seeds"
    if 1 < len(numbers := sorted(figures.get("numbers", ()))) <= 20:
        named += f" ({', '.join(map(str, numbers))})"
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
