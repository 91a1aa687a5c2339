"""The dashboards ask for what the backend measures, by names and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tallystick_backend.metrics import Metrics
from tallystick_backend.store.repositories.views import Figures

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
BOARDS = sorted(FOLDER.glob("*.json"))
FROM_PROMETHEUS = {"instance", "job", "le"}
"""Labels that the scrape or the histogram adds."""


def measured() -> dict[str, set[str]]:
    """Every series that a backend with something of everything shows, with its labels."""
    metrics = Metrics()
    metrics.request_served("GET", "/v1/tasks", 200, 0.1)
    metrics.part_restarted("index")
    metrics.call_ended("failed", "NoProvider", 0.2, 0)
    metrics.gateway_stands(1, 2, 3)
    figures = Figures({"open": 1}, {"running": 1}, 1, {"running": 1}, 1, 5, 7)
    page = metrics.show(figures, {"index": "ok"}, 1).decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def queries(board: dict[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


def test_there_are_dashboards_for_all_that_is_measured() -> None:
    asked = "\n".join(query for board in BOARDS for query in queries(json.loads(board.read_text())))
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in measured()}
    assert [name for name in sorted(families) if name not in asked] == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_name_and_label_exists(board: Path) -> None:
    known = measured()
    for query in queries(json.loads(board.read_text())):
        names = re.findall(r"tallystick_\w+", query)
        assert names, query
        assert [name for name in names if name not in known] == [], query
        labels = {label for name in names for label in known[name]} | FROM_PROMETHEUS
        used = set(re.findall(r"(\w+)=~?\"", query))
        for by in re.findall(r"by \(([^)]*)\)", query):
            used |= {label.strip() for label in by.split(",")}
        assert used <= labels, query


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_anywhere(board: Path) -> None:
    content = json.loads(board.read_text())
    assert content["uid"] == f"tallystick-{board.stem}"
    ids = [panel["id"] for panel in content["panels"]]
    assert len(ids) == len(set(ids))
    for panel in content["panels"]:
        assert panel["title"]
        # Whichever Prometheus the reader names; none of ours is written in.
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        legends = re.findall(r"{{(\w+)}}", " ".join(t["legendFormat"] for t in panel["targets"]))
        for legend in legends:
            assert (
                legend == "instance"
                or any(legend in query for query in (t["expr"] for t in panel["targets"]))
                or legend
                in measured()[re.findall(r"tallystick_\w+", panel["targets"][0]["expr"])[0]]
            )
