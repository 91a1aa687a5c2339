"""Install the Solidity compiler that brownie-config.yaml names, once for Brownie and Foundry alike.

First choice is the native build that py-solc-x downloads. Where its download site cannot be
reached, the same version comes from npm (package `solc`, locked in package-lock.json) behind a
small command. Either way it ends at ~/.solcx/solc-v<version>, where Brownie looks, and .make/solc
points to it for Foundry.

Usage: python tools/compiler.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import requests
import solcx
import yaml

ROOT = Path(__file__).resolve().parent.parent
NPM_SOLC = ROOT / "node_modules" / "solc"
FOUNDRY_LINK = ROOT / ".make" / "solc"

DOWNLOAD_SITE = "https://binaries.soliditylang.org/linux-amd64/list.json"
PROBE_TIMEOUT_S = 5
DOWNLOAD_TIMEOUT_S = 180


def main() -> int:
    version = configured_version()
    command = Path(solcx.get_solcx_install_folder()) / f"solc-v{version}"
    if answers(command, version):
        print(f"solc {version} is installed: {command}")
    elif download_native(version) and answers(command, version):
        print(f"solc {version} downloaded (native build): {command}")
    else:
        install_from_npm(version, command)
        if not answers(command, version):
            print(
                f"solc {version} from npm does not run: try '{command} --version'", file=sys.stderr
            )
            return 1
        print(f"solc {version} installed from npm (WebAssembly build): {command}")
    link_for_foundry(command)
    return 0


def configured_version() -> str:
    """One place names the compiler; package.json must agree, since it may have to supply it."""
    config = yaml.safe_load((ROOT / "brownie-config.yaml").read_text())
    version = str(config["compiler"]["solc"]["version"])
    packaged = json.loads((ROOT / "package.json").read_text())["devDependencies"]["solc"]
    if packaged != version:
        sys.exit(
            f"brownie-config.yaml asks for solc {version}, package.json for {packaged}: "
            "name the same version in both"
        )
    return version


def answers(command: Path, version: str) -> bool:
    if not command.is_file():
        return False
    try:
        reply = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return reply.returncode == 0 and f"Version: {version}+" in reply.stdout


def download_native(version: str) -> bool:
    """Return whether the download ran to its end; a closed network is an answer, not an error."""
    try:
        requests.get(DOWNLOAD_SITE, timeout=PROBE_TIMEOUT_S).raise_for_status()
    except requests.RequestException:
        print("the native solc cannot be downloaded from here; taking the one from npm")
        return False
    program = f"import solcx; solcx.install_solc({version!r})"
    try:
        download = subprocess.run(
            [sys.executable, "-c", program], timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return download.returncode == 0


def install_from_npm(version: str, command: Path) -> None:
    """Copy, not link: the compiler serves every checkout of this user and outlives this one."""
    node = shutil.which("node")
    if node is None:
        sys.exit("node is not on PATH: run this through 'make setup', which provides it")
    folder = command.parent / f"solcjs-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(NPM_SOLC / "soljson.js", folder / "soljson.js")
    shutil.copyfile(ROOT / "tools" / "solcjs.js", folder / "solcjs.js")
    # This very Node may live in a checkout that is deleted later; then any other on PATH will do.
    lines = [
        "#!/bin/sh",
        f"node='{os.path.realpath(node)}'",
        '[ -x "$node" ] || node=node',
        f'exec "$node" "{folder / "solcjs.js"}" "$@"',
    ]
    draft = folder / f"command.{os.getpid()}"
    draft.write_text("\n".join(lines) + "\n")
    draft.chmod(0o755)
    draft.replace(command)


def link_for_foundry(command: Path) -> None:
    FOUNDRY_LINK.parent.mkdir(exist_ok=True)
    FOUNDRY_LINK.unlink(missing_ok=True)
    FOUNDRY_LINK.symlink_to(command)


if __name__ == "__main__":
    sys.exit(main())
