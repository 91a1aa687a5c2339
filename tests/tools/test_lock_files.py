"""Lock files name packages by version and digest; where they come from is the reader's affair.

Case 147.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tools.images import NOT_BY_DIGEST, named_images

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


# --- every package by its digest --------------------------------------------------------------

FOUNDRY = re.compile(
    r"node_modules/@foundry-rs/(anvil|cast|forge)-(darwin|linux|win32)-(amd64|arm64)"
)
"""Programs for other machines than the one the lock was made on: the registry that it was made with
has none of them, so nobody could compute their digests. `npm install` on such a machine adds its
own; until then npm trusts the connection there."""


def test_every_python_package_has_digests() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    for package in lock["package"]:
        if "registry" not in package["source"]:
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert files, package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


def test_every_node_package_has_a_digest() -> None:
    for folder in ("", "dapp"):
        packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
        without = [name for name, e in packages.items() if name and "integrity" not in e]
        assert [name for name in without if FOUNDRY.fullmatch(name) is None] == []
        assert len(without) <= 12


def test_every_environment_of_tools_is_locked() -> None:
    folder = ROOT / "tools" / "environments"
    wanted = sorted(folder.glob("*.in"))
    assert len(wanted) >= 8
    for path in wanted:
        for line in path.read_text().split():
            assert "==" in line, f"{path.name}: {line} has no version"
        lock = path.with_suffix(".txt").read_text()
        for entry in re.split(r"\n(?=\S)", lock.strip()):
            assert re.match(r"[\w.\[\],-]+==\S+", entry), entry[:80]
            assert "--hash=sha256:" in entry, entry[:80]
        assert "://" not in lock, f"{path.name} names a place"


def test_make_installs_them_by_their_digests_only() -> None:
    makefile = (ROOT / "Makefile").read_text() + (ROOT / "tools" / "bootstrap").read_text()
    for line in re.sub(r"\\\n", " ", makefile).splitlines():
        if "pip install" in line:
            assert "--require-hashes" in line, line
            assert "--only-binary :all:" in line, line


def test_no_package_runs_a_program_when_it_is_installed() -> None:
    """Foundry's packages would; the set-up links their programs itself."""
    for folder in ("", "dapp"):
        assert "ignore-scripts=true" in (ROOT / folder / ".npmrc").read_text().splitlines()
        packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
        scripted = {name for name, entry in packages.items() if entry.get("hasInstallScript")}
        foundry = {f"node_modules/@foundry-rs/{tool}" for tool in ("anvil", "cast", "forge")}
        assert scripted <= foundry


def test_every_image_is_by_digest_or_has_a_reason() -> None:
    found = named_images(ROOT)
    assert len(found) >= 4
    for image in found:
        assert image.digest or len(NOT_BY_DIGEST[image.text]) > 40, image
    assert set(NOT_BY_DIGEST) <= {image.text for image in found}
