"""What once failed is kept, and the tests that are named for it are there."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import KEPT
from tests.faults.every import campaigns

ROOT = Path(__file__).parents[2]
SEEDS: list[dict[str, Any]] = json.loads(KEPT.read_text())


@pytest.mark.parametrize("kept", SEEDS, ids=lambda kept: f"{kept['campaign']}-{kept['seed']}")
def test_a_kept_seed_can_be_run_and_says_what_it_found(kept: dict[str, Any]) -> None:
    assert kept["campaign"] in {campaign.name for campaign in campaigns()}
    assert kept["seed"] > 0
    assert kept["why"]


@pytest.mark.parametrize("kept", SEEDS, ids=lambda kept: f"{kept['campaign']}-{kept['seed']}")
def test_the_test_that_stands_for_it_exists(kept: dict[str, Any]) -> None:
    assert "pinned" in kept, "write a test for what this seed found, and name it here"
    file, _, name = kept["pinned"].partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}
