"""Write eip712.json: random messages of every type with the digests that eth_account computes.

    python -m tests.protocol.vectors.generate

Our own digests have no part in it. Solidity and TypeScript compare with the same file.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

PATH = Path(__file__).with_name("eip712.json")
PER_TYPE = 44
"""Security case 38 asks for 200 vectors."""

# Written out once more, so that a change of the kernel's type strings shows.
TYPES = {
    "TaskTerms": "address consumer,address signer,address dispatcher,address royaltyTo,"
    "bytes32 spec,uint32 gpus,uint128 flat,uint128 feePerCall,uint128 ratePerGpuSecond,"
    "uint16 dispatcherBps,uint16 royaltyBps,uint128 maxCharge,uint32 maxSeconds,uint64 deadline,"
    "uint32 challengeWindow,uint32 verification,uint256 nonce",
    "Assignment": "bytes32 taskId,address provider,uint64 fence,uint64 leaseFrom,uint64 leaseUntil",
    "Receipt": "address provider,bytes32 route,uint64 seq,bytes32 prev,bytes32 request,"
    "bytes32 result,bytes32 gpuSet,uint64 startedAtMs,uint64 endedAtMs,uint64 calls,uint64 gpuMs,"
    "bytes32 usageRoot,uint128 total",
    "Acceptance": "bytes32 taskId,uint128 total,bytes32 receipt",
    "OperatorKey": "address provider,address key",
    "Voucher": "address payer,address provider,uint96 salt,uint128 total,bytes32 receipt",
    "ChannelAllowance": "address payer,address signer,uint128 cap,uint64 expiresAt,"
    "bytes32 purpose,uint256 nonce",
}


def main() -> None:
    PATH.write_text(render())


def render() -> str:
    return json.dumps({"vectors": vectors()}, indent=1) + "\n"


def vectors() -> list[dict[str, Any]]:
    chance = random.Random(712)
    return [_vector(chance, name, at) for name in TYPES for at in range(PER_TYPE)]


def _vector(chance: random.Random, name: str, at: int) -> dict[str, Any]:
    fields = [tuple(part.split(" ")) for part in TYPES[name].split(",")]
    domain = {
        "name": "Tallystick",
        "version": "1",
        "chainId": chance.choice([1, 10, 8453, 31337, 2**53 + 1]),
        "verifyingContract": _value(chance, "address", at),
    }
    message = {field: _value(chance, kind, at) for kind, field in fields}
    signable = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                name: [{"name": field, "type": kind} for kind, field in fields],
            },
            "primaryType": name,
            "domain": domain,
            "message": message,
        }
    )
    digest = keccak(b"\x19" + signable.version + signable.header + signable.body)
    return {
        "type": name,
        "chainId": str(domain["chainId"]),
        "escrow": domain["verifyingContract"],
        "message": {key: str(value) for key, value in message.items()},
        "digest": "0x" + digest.hex(),
    }


def _value(chance: random.Random, kind: str, at: int) -> Any:
    """The first two vectors of a type are all zeros and all ones, the edges of every field."""
    bits = {"address": 160, "bytes32": 256}.get(kind) or int(kind.removeprefix("uint"))
    number = {0: 0, 1: 2**bits - 1}.get(at, chance.getrandbits(chance.randint(1, bits)))
    if kind == "address":
        return to_checksum_address(number.to_bytes(20, "big"))
    if kind == "bytes32":
        return "0x" + number.to_bytes(32, "big").hex()
    return number


if __name__ == "__main__":
    main()
