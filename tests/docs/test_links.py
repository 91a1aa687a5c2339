"""Every link inside the repository leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, markdown_pages, text_of

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", markdown_pages())
def test_every_link_of_a_page_resolves(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    broken = [link for link in LINK.findall(prose) if not resolves(page, link)]
    assert not broken, f"{page} links to what is not there: {', '.join(broken)}"


def resolves(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True  # elsewhere; tests reach no network
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.exists() or not target.resolve().is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """Headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("docs/README.md", True),
        ("docs/quickstart/README.md#2-submit", True),
        ("docs/quickstart/README.md#nowhere", False),
        ("docs/missing.md", False),
        ("../elsewhere", False),
        ("https://example.org/page", True),
    ],
)
def test_what_a_link_is_held_to(link: str, *, expected: bool) -> None:
    assert resolves("README.md", link) is expected


def test_the_readme_leads_to_every_drawer() -> None:
    linked = set(LINK.findall(text_of("docs/README.md")))
    for drawer in ("quickstart", "how-to", "discussions", "reference"):
        assert f"{drawer}/README.md" in linked
        pages = {p.name for p in (ROOT / "docs" / drawer).glob("*.md")} - {"README.md"}
        listed = set(LINK.findall(text_of(f"docs/{drawer}/README.md")))
        assert pages <= listed, f"docs/{drawer}/README.md does not list {pages - listed}"
