"""Cases 138 and 142: strings of strangers are text, and nothing secret stays in a browser."""

from __future__ import annotations

import re
from pathlib import Path

from tallystick_backend.api.pages import content_policy

ROOT = Path(__file__).resolve().parents[2]
RUNS_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\(|"
    r"new Function|srcdoc|javascript:"
)
KEEPS = re.compile(r"localStorage|sessionStorage|document\.cookie|indexedDB|caches\.open")


def sources() -> list[Path]:
    found = [*(ROOT / "dapp" / "src").rglob("*.ts*"), *(ROOT / "embed").glob("*.ts")]
    return [path for path in sorted(found) if "generated" not in path.parts]


def test_nothing_makes_markup_or_code_of_a_text() -> None:
    for path in sources():
        assert not RUNS_TEXT.search(path.read_text()), path.relative_to(ROOT)


def test_what_stays_in_the_browser_is_how_the_page_looks() -> None:
    keep = [p.relative_to(ROOT).as_posix() for p in sources() if KEEPS.search(p.read_text())]
    assert keep == ["dapp/src/lib/preferences.ts"]
    names = re.search(r"type Name = (.+);", (ROOT / keep[0]).read_text())
    assert names is not None
    assert set(re.findall(r"'(\w+)'", names[1])) == {"language", "theme", "wallet"}


def test_pages_load_and_run_nothing_of_others() -> None:
    policy = dict(
        part.split(" ", 1) for part in content_policy("https://rpc.example/key").split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self' https://rpc.example"
    assert "unsafe" not in str(policy)
    text = (ROOT / "dapp" / "index.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not re.findall(r"<script(?![^>]*src=)", text)
