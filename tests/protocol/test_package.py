"""The kernel stands alone, and says what it offers."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import tallystick.protocol
from tallystick.protocol import errors

MODULES = sorted(module.name for module in pkgutil.iter_modules(tallystick.protocol.__path__))


def test_imports_neither_brownie_nor_anybody_else_of_ours() -> None:
    lines = "\n".join(f"import tallystick.protocol.{name}" for name in MODULES)
    check = (
        "import sys\n" + lines + "\n"
        "foreign = ('brownie', 'tallystick_backend', 'tallystick_provider', 'tallystick.client',"
        " 'fastapi', 'sqlalchemy')\n"
        "print([name for name in sys.modules if name.startswith(foreign)])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "wire"])
def test_public_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(f"tallystick.protocol.{name}")
    assert all(hasattr(module, public) for public in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_every_error_has_one_base() -> None:
    assert all(issubclass(getattr(errors, name), errors.ProtocolError) for name in errors.__all__)
