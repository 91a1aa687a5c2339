"""What a block explorer is given compiles to what was deployed, and says nothing of this machine.

The script compares all contracts when it runs; here the smallest one is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scripts import verification_input

ROOT = Path(__file__).resolve().parents[2]
COMPILER = yaml.safe_load((ROOT / "brownie-config.yaml").read_text())["compiler"]["solc"]


def test_the_sources_compile_to_the_code_on_file() -> None:
    path = "contracts/AppRegistry.sol"
    wanted = verification_input.standard_input(path, COMPILER)
    assert set(wanted["sources"]) == {
        path,
        "contracts/interfaces/IAppRegistry.sol",
        "contracts/libraries/CallPricing.sol",
    }
    exported = json.loads((verification_input.ABI / "AppRegistry.json").read_text())
    code = verification_input.compile_one(wanted, path, "AppRegistry")
    assert "0x" + code == exported["bytecode"], "run: make abi"


def test_every_contract_comes_with_all_it_imports() -> None:
    for name in verification_input.product():
        wanted = verification_input.standard_input(f"contracts/{name}.sol", COMPILER)
        assert str(ROOT) not in json.dumps(wanted)
        assert all("mocks" not in source for source in wanted["sources"])


@pytest.mark.parametrize(
    ("importer", "name", "path"),
    [
        ("contracts/A.sol", "./interfaces/I.sol", "contracts/interfaces/I.sol"),
        ("contracts/libraries/B.sol", "../A.sol", "contracts/A.sol"),
        ("contracts/A.sol", "@oz/x/Y.sol", "node_modules/@oz/x/Y.sol"),
        ("contracts/A.sol", "contracts/C.sol", "contracts/C.sol"),
    ],
)
def test_how_imports_are_followed(importer: str, name: str, path: str) -> None:
    assert verification_input.imported(importer, name, ["@oz=node_modules/@oz"]) == path
