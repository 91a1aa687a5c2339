"""Write what a block explorer needs to verify the sources of a deployment.

    python scripts/verification_input.py          into build/verification, needs no network

One file a contract: the compiler's standard JSON input, with the sources that it uses and the
settings of brownie-config.yaml, and nothing of this machine. Each is compiled before it is written:
its bytecode must be that of sdk/tallystick/protocol/abi, which `brownie run deploy` deploys. Give
the explorer the file, the compiler's version and the constructor arguments, which `brownie run
deploy` prints.
"""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DESTINATION = ROOT / "build" / "verification"
ABI = ROOT / "sdk" / "tallystick" / "protocol" / "abi"
IMPORT = re.compile(r'^import\s[^;]*?"([^"]+)";', re.M)


def main() -> None:
    compiler = yaml.safe_load((ROOT / "brownie-config.yaml").read_text())["compiler"]["solc"]
    inputs = {name: standard_input(f"contracts/{name}.sol", compiler) for name in product()}
    DESTINATION.mkdir(parents=True, exist_ok=True)
    for name, wanted in inputs.items():
        compiled = compile_one(wanted, f"contracts/{name}.sol", name)
        exported = json.loads((ABI / f"{name}.json").read_text())["bytecode"]
        if "0x" + compiled != exported:
            raise SystemExit(
                f"error: {name} compiles to other code than {ABI.relative_to(ROOT)}/{name}.json"
                " holds: check out the commit that was deployed, or run `make abi`"
            )
        path = DESTINATION / f"{name}.json"
        path.write_text(json.dumps(wanted, indent=1) + "\n")
        print(f"{path.relative_to(ROOT)}  {len(wanted['sources'])} sources, the code on file")
    print(f"compiler {compiler['version']}")


def product() -> list[str]:
    return sorted(path.stem for path in ABI.glob("*.json"))


def standard_input(start: str, compiler: dict[str, Any]) -> dict[str, Any]:
    """The contract's file and all that it imports."""
    remappings = [mapping.rstrip("/") for mapping in compiler["remappings"]]
    sources: dict[str, dict[str, str]] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in sources:
            continue
        content = (ROOT / path).read_text(encoding="utf-8")
        sources[path] = {"content": content}
        waiting += [imported(path, name, remappings) for name in IMPORT.findall(content)]
    return {
        "language": "Solidity",
        "sources": dict(sorted(sources.items())),
        "settings": {
            "evmVersion": compiler["evm_version"],
            "viaIR": compiler["viaIR"],
            "optimizer": compiler["optimizer"],
            "remappings": remappings,
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
        },
    }


def imported(importer: str, name: str, remappings: list[str]) -> str:
    if name.startswith("."):
        return posixpath.normpath(posixpath.join(posixpath.dirname(importer), name))
    for mapping in remappings:
        prefix, _, target = mapping.partition("=")
        if name.startswith(prefix):
            return target + name.removeprefix(prefix)
    return name


def compile_one(wanted: dict[str, Any], path: str, name: str) -> str:
    only = {**wanted["settings"], "outputSelection": {path: {name: ["evm.bytecode.object"]}}}
    done = subprocess.run(
        [ROOT / ".make" / "solc", "--standard-json"],
        input=json.dumps({**wanted, "settings": only}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    broken = [e["formattedMessage"] for e in answer.get("errors", ()) if e["severity"] == "error"]
    if broken:
        raise SystemExit("error: the contracts do not compile:\n" + "\n".join(broken))
    return str(answer["contracts"][path][name]["evm"]["bytecode"]["object"])


if __name__ == "__main__":
    main()
