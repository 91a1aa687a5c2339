"""The stand-in compiler: it answers what Brownie, Foundry and Slither ask, nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def solc(tmp_path: Path) -> list[str]:
    """As tools/compiler.py lays it out: the script beside a soljson.js, and nothing else."""
    node = shutil.which("node", path=f"{ROOT}/.make/bin{os.pathsep}{os.environ['PATH']}")
    assert node is not None, "no node on PATH: run 'make setup'"
    shutil.copy(ROOT / "tools" / "solcjs.js", tmp_path)
    (tmp_path / "soljson.js").symlink_to(ROOT / "node_modules" / "solc" / "soljson.js")
    return [node, str(tmp_path / "solcjs.js")]


def run(
    command: list[str], *arguments: str, stdin: str = "", folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, cwd=folder, check=False
    )


def standard_json(source: str, **settings: object) -> str:
    wanted = {"*": {"*": ["evm.bytecode.object"]}}
    return json.dumps(
        {
            "language": "Solidity",
            "sources": {"A.sol": {"content": source}},
            "settings": {"outputSelection": wanted, **settings},
        }
    )


def test_version_reads_like_the_native_one(solc: list[str]) -> None:
    packaged = json.loads((ROOT / "package.json").read_text())["devDependencies"]["solc"]

    reply = run(solc, "--version")

    assert reply.returncode == 0
    assert f"Version: {packaged}+commit." in reply.stdout


def test_imports_are_read_from_disk_through_remappings(solc: list[str]) -> None:
    source = 'import "@oz/utils/Strings.sol"; contract A { string public s = Strings.toString(7); }'

    reply = run(
        solc,
        "--standard-json",
        stdin=standard_json(source, remappings=["@oz/=node_modules/@openzeppelin/contracts/"]),
    )

    output = json.loads(reply.stdout)
    assert [error for error in output.get("errors", []) if error["severity"] == "error"] == []
    assert output["contracts"]["A.sol"]["A"]["evm"]["bytecode"]["object"]


def test_base_path_is_searched(solc: list[str], tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "B.sol").write_text("contract B {}")

    reply = run(
        solc,
        *("--standard-json", "--base-path", str(library)),
        stdin=standard_json('import "B.sol"; contract A is B {}'),
        folder=tmp_path,
    )

    assert "B.sol" in json.loads(reply.stdout)["contracts"]


def test_a_missing_import_is_named(solc: list[str]) -> None:
    reply = run(solc, "--standard-json", stdin=standard_json('import "gone/C.sol";'))

    (error,) = [e for e in json.loads(reply.stdout)["errors"] if e["severity"] == "error"]
    assert "gone/C.sol" in error["message"]


def test_large_output_arrives_whole_through_a_pipe(solc: list[str]) -> None:
    source = "".join(f"contract C{i} {{ uint256[99] public values; }}\n" for i in range(400))
    everything = {"*": {"*": ["*"], "": ["ast"]}}

    reply = run(solc, "--standard-json", stdin=standard_json(source, outputSelection=everything))

    assert len(reply.stdout) > 1_000_000
    assert len(json.loads(reply.stdout)["contracts"]["A.sol"]) == 400


@pytest.mark.parametrize("arguments", [[], ["--combined-json", "abi"], ["--base-path"]])
def test_other_requests_are_refused(solc: list[str], arguments: list[str]) -> None:
    reply = run(solc, *arguments)

    assert reply.returncode == 1
    assert reply.stderr.startswith("solc: ")
