"""Lock files name packages by version and digest; where they come from is the reader's affair."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_uv_lock_knows_the_default_registry_only() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())

    sources = {package["source"].get("registry") for package in lock["package"]} - {None}

    assert sources == {"https://pypi.org/simple"}


def test_package_lock_names_no_address() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]

    assert [name for name, entry in packages.items() if "resolved" in entry] == []


def test_package_lock_covers_every_platform_that_foundry_ships() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]

    for tool in ("anvil", "cast", "forge"):
        for platform in packages[f"node_modules/@foundry-rs/{tool}"]["optionalDependencies"]:
            assert f"node_modules/{platform}" in packages


def test_compiler_version_is_the_same_everywhere() -> None:
    configured = re.search(r"version: (\S+)", (ROOT / "brownie-config.yaml").read_text())
    packaged = json.loads((ROOT / "package.json").read_text())["devDependencies"]["solc"]

    assert configured is not None
    assert configured[1] == packaged
