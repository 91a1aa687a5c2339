"""One message, one digest, whoever computes it (case 38).

The vectors on file were computed by eth_account. Here viem (TypeScript) and `cast` compute every
one of them again; `test_messages.py` holds the SDK to them, and
`tests/contracts/unit/libraries/test_message_hash.py` the contracts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.signatures import address_of, recover_digest
from tests.protocol.vectors import generate
from tests.support.effort import tries

ROOT = Path(__file__).resolve().parents[2]
VECTORS: list[dict[str, Any]] = json.loads(generate.PATH.read_text())["vectors"]
NODE_MODULES = Path(os.environ.get("NODE_PATH", ROOT / "node_modules"))
CAST = ROOT / "node_modules" / ".bin" / "cast"
DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
KEY = "0x" + "11" * 32
SIGNER = address_of(KEY)


def typed(vector: dict[str, Any], *, with_domain: bool) -> dict[str, Any]:
    fields = [part.split(" ") for part in generate.TYPES[vector["type"]].split(",")]
    types = {vector["type"]: [{"name": name, "type": kind} for kind, name in fields]}
    if with_domain:
        types["EIP712Domain"] = DOMAIN_FIELDS
    return {
        "types": types,
        "primaryType": vector["type"],
        "domain": {
            "name": "Tallystick",
            "version": "1",
            "chainId": vector["chainId"],
            "verifyingContract": vector["escrow"],
        },
        "message": vector["message"],
    }


def test_there_are_enough_of_every_type() -> None:
    assert len(VECTORS) >= 200
    assert {vector["type"] for vector in VECTORS} == set(generate.TYPES)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH: run `make setup`")
def test_viem_computes_every_digest_on_file() -> None:
    assert (NODE_MODULES / "viem").exists(), "viem is missing: run `make setup`"
    lines = "".join(json.dumps(typed(vector, with_domain=False)) + "\n" for vector in VECTORS)
    done = subprocess.run(
        ["node", str(generate.PATH.with_name("digests.mjs"))],
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [vector["digest"] for vector in VECTORS]


@pytest.mark.parametrize("kind", generate.TYPES)
def test_cast_computes_every_digest_on_file(kind: str, tmp_path: Path) -> None:
    """`cast` prints no digest of typed data, but what it signs is the digest: from its signature
    and the digest on file, its key's address comes back, or that of somebody unknown."""
    mine = [vector for vector in VECTORS if vector["type"] == kind]
    assert len(mine) == generate.PER_TYPE
    path = tmp_path / "typed.json"
    for vector in mine[: tries(6, long=len(mine))]:
        path.write_text(json.dumps(typed(vector, with_domain=True)))
        signature = cast("wallet", "sign", "--private-key", KEY, "--data", "--from-file", str(path))
        assert recover_digest(bytes.fromhex(vector["digest"][2:]), signature) == SIGNER, vector


def cast(*arguments: str) -> str:
    done = subprocess.run(
        [str(CAST), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
