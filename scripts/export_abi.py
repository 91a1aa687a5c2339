"""Write ABI and bytecode of the deployable contracts to sdk/tallystick/protocol/abi.

    python scripts/export_abi.py            compiles what changed, needs no network
    brownie run export_abi main             the same

One file a contract, {"contractName", "abi", "bytecode"}: `tallystick.protocol` reads the ABI,
local markets and tests deploy the bytecode without a compiler. The files are committed; `git diff`
after a run shows whether the contracts changed without them.
"""

from __future__ import annotations

import json
from pathlib import Path

from brownie import project

ROOT = Path(__file__).resolve().parent.parent
DESTINATION = ROOT / "sdk" / "tallystick" / "protocol" / "abi"

PRODUCT = (
    "TallyToken",
    "ComputeEscrow",
    "ProviderStaking",
    "TaskMarket",
    "DisputeCourt",
    "AppRegistry",
)


def main() -> None:
    build = compiled()
    DESTINATION.mkdir(parents=True, exist_ok=True)
    for name in PRODUCT:
        artifact = {
            "contractName": name,
            "abi": build[name]["abi"],
            "bytecode": "0x" + build[name]["bytecode"].removeprefix("0x"),
        }
        path = DESTINATION / f"{name}.json"
        path.write_text(json.dumps(artifact, indent=1) + "\n")
        print(f"{path.relative_to(ROOT)}  {len(artifact['bytecode']) // 2 - 1} bytes of code")


def compiled() -> dict[str, dict[str, object]]:
    """Build artifacts by contract name, compiled now if the sources changed."""
    loaded = project.get_loaded_projects()
    active = loaded[0] if loaded else project.load(ROOT, raise_if_loaded=False)
    return dict(active._build.items())


if __name__ == "__main__":
    main()
