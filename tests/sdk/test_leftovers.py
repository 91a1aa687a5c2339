"""what a killed agent of a local market leaves (case 110): outputs that are still mounted are taken
down with it, and nothing beside the market is touched"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tallystick.devnet import leftovers
from tallystick_provider.runtime import TaskDirectory, volume


def mounted(root: Path) -> TaskDirectory:
    why = volume.why_not(root.parent)
    if why:
        pytest.skip(f"no file systems can be mounted here: {why}")
    place = TaskDirectory(root)
    place.output.mkdir(parents=True)
    volume.make(place, 1, 0)
    (place.output / "model").write_text("weights")
    return place


def test_mounts_and_images_of_the_market_go_and_others_stay(tmp_path: Path) -> None:
    market = tmp_path / "a market"
    places = [mounted(market / "provider-1" / "tasks" / name) for name in ("one", "two")]
    other = mounted(tmp_path / "a market's neighbour" / "provider-1" / "tasks" / "one")
    try:
        leftovers.unmount(market)
        leftovers.unmount(market)
        for place in places:
            assert not os.path.ismount(place.output)
            assert os.listdir(place.root) == ["out"]
        assert (other.output / "model").read_text() == "weights"
    finally:
        for place in (*places, other):
            volume.remove(place.root)


def test_a_market_that_was_never_there_has_none(tmp_path: Path) -> None:
    leftovers.unmount(tmp_path / "nowhere")
