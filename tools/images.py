"""Container images that our files name: by digest, or with a reason why not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NOT_BY_DIGEST: Final = {
    "postgres:16": "for developers and small operators: security updates of 16 come under this tag",
    "nats:2.11": "for developers and small operators: security updates of 2.11 come under this tag",
    "python:3.12-slim": "a base that is rebuilt every week with Debian's security updates; whoever "
    "publishes an image publishes its own digest",
}
"""What stands in a file without digest. What a provider runs is always by digest: see
`AppManifest.image` and `AgentSettings`."""

_LINE: Final = re.compile(r"^\s*(?:FROM\s+(?:--platform=\S+\s+)?|image:\s*)(?P<image>\S+)", re.M)


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    tag: str
    digest: str
    """Hex of SHA-256; empty: by tag only."""
    where: str

    @property
    def text(self) -> str:
        return f"{self.name}:{self.tag}" if self.tag else self.name


def named_images(root: Path) -> list[Image]:
    return sorted(set(_found(root)), key=lambda image: (image.where, image.text))


def _found(root: Path) -> Iterator[Image]:
    listed = subprocess.run(
        ["git", "ls-files", "*Dockerfile*", "*compose*.y*ml"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for where in listed.stdout.split():
        stages: set[str] = set()
        text = (root / where).read_text()
        for line in _LINE.finditer(text):
            named = line["image"]
            if named in stages or "$" in named:
                continue  # a stage of the same file, or what the user chooses
            stages |= set(re.findall(rf"FROM\s+{re.escape(named)}\s+AS\s+(\S+)", text, re.I))
            rest, _, digest = named.partition("@sha256:")
            name, _, tag = (
                rest.partition(":") if "/" not in rest.rpartition(":")[2] else (rest, "", "")
            )
            yield Image(name, tag, digest, where)
