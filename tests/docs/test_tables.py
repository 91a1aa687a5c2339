"""Tables that follow from the code say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick_backend.tasks import TASK_STATES
from tests.docs.pages import ROOT, text_of
from tools import doc_tables, security_cases

RUN = "run: make openapi"


@pytest.mark.parametrize("page", doc_tables.PAGES)
def test_a_page_is_current(page: str) -> None:
    text = text_of(page)
    assert doc_tables.BLOCK.search(text), f"{page} has no table to fill"
    assert doc_tables.filled(text) == text, RUN


def test_every_table_is_on_a_page() -> None:
    used = {m["name"] for p in doc_tables.PAGES for m in doc_tables.BLOCK.finditer(text_of(p))}
    assert used == set(doc_tables.TABLES)


def test_a_stale_page_is_told_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n\n<!-- table: task-states -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(doc_tables, "ROOT", page.parent)
    monkeypatch.setattr(doc_tables, "PAGES", ("page.md",))
    assert doc_tables.main(["--check"]) == 1
    assert "page.md" in capsys.readouterr().err
    assert doc_tables.main([]) == 0
    assert doc_tables.main(["--check"]) == 0
    assert "`orphaned`" in page.read_text()


def test_the_vocabulary_has_every_state() -> None:
    table = text_of("docs/vocabulary.md").partition("## States of a task")[2]
    assert re.findall(r"^\| `([a-z]+)` \|", table, re.M) == list(TASK_STATES)


# --- security cases ---------------------------------------------------------------------------


def test_there_are_148_cases() -> None:
    assert set(range(1, 149)) == security_cases.KNOWN


def test_each_path_named_by_hand_exists() -> None:
    for number, paths in security_cases.NAMED_HERE.items():
        for path in paths:
            assert (ROOT / path).exists(), f"case {number}: there is no {path}"


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("Case 92: rejected", {92}),
        ("(cases 72, 73, 82, 83)", {72, 73, 82, 83}),
        ("security cases 35 and 36), and the contracts agree (48).", {35, 36, 48}),
        ("cases 1, 2, and 3", {1, 2, 3}),
        ("exit code (124) and no more", set()),
        ("case 7: to the wei, in 10 rounds", {7}),
        ("in case 900 things happen", set()),
    ],
)
def test_how_a_test_names_a_case(line: str, numbers: set[int]) -> None:
    assert security_cases.cases_in(line) == numbers
