"""The pages people read, and the code in them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "docs/reference/cli.md"
"""Written from the command tree; tests/sdk/cli/test_reference.py holds it to that."""


def markdown_pages() -> list[str]:
    """Every page that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in set(listed.stdout.splitlines()) if (ROOT / name).exists())


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def shown_code(page: str) -> Iterator[str]:
    """Each line of each code block and each piece of inline code."""
    text = text_of(page)
    for block in re.findall(r"^[ ]*```\w*\n(.*?)^[ ]*```", text, re.M | re.S):
        yield from (line.strip() for line in block.splitlines())
    prose = re.sub(r"^[ ]*```\w*\n.*?^[ ]*```", "", text, flags=re.M | re.S)
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def everything_shown() -> list[tuple[str, str]]:
    """(page, code) over all pages but the generated one."""
    return [
        (page, code) for page in markdown_pages() if page != GENERATED for code in shown_code(page)
    ]
