"""docs/architecture.md is true of the code: its layers are the imports there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, text_of

PAGE = "docs/architecture.md"
PACKAGES = {
    "tallystick_backend": ROOT / "backend" / "tallystick_backend",
    "tallystick_provider": ROOT / "provider" / "tallystick_provider",
}


def layers(package: str) -> list[list[str]]:
    """From the picture: `app > api > dispatch | index`, highest first."""
    line = re.search(rf"^ +{package}\W+(\w.*)$", text_of(PAGE), re.M)
    assert line is not None, f"{PAGE} has no line for {package}"
    return [
        [name.strip().replace("main", "__main__") for name in layer.split("|")]
        for layer in line[1].split(">")
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_layers_import_downwards_only(package: str) -> None:
    stack = layers(package)
    height = {name: -place for place, layer in enumerate(stack) for name in layer}
    for name, own in height.items():
        for imported in imports(package, name) & set(height):
            assert height[imported] < own, f"{package}.{name} imports {imported}: not below it"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_of_the_picture_exists(package: str) -> None:
    for name in (n for layer in layers(package) for n in layer):
        assert files(package, name), f"{package} has no {name}"


def imports(package: str, module: str) -> set[str]:
    """Names right under the package that this module or folder imports, itself left out."""
    found: set[str] = set()
    for path in files(package, module):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            root, _, rest = node.module.partition(".")
            if root == package:
                found |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
    return found - {module}


def files(package: str, module: str) -> list[Path]:
    folder = PACKAGES[package]
    single = folder / f"{module}.py"
    return [single] if single.exists() else sorted((folder / module).rglob("*.py"))
