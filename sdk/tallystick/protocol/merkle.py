"""OpenZeppelin's standard Merkle tree: leaves hashed twice, sorted, pairs hashed in order of value.

The double hash keeps an inner node from passing as a leaf. Proofs fit OpenZeppelin's `MerkleProof`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eth_abi.abi import encode

from tallystick.protocol.errors import MerkleError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.types import ZERO_DIGEST, Digest, to_digest

__all__ = [
    "UsageSample",
    "gpu_id_digest",
    "gpu_set_root",
    "leaf_hash",
    "proof",
    "root",
    "usage_root",
    "verify",
]

_NO_READING = 2**64 - 1


@dataclass(frozen=True, slots=True)
class UsageSample:
    """One metering sample; `energy_mj` counts from the start of the run, None if the card cannot
    tell."""

    at_ms: int
    gpu_id: str
    energy_mj: int | None


def root(leaves: Sequence[bytes]) -> Digest:
    """Of ABI-encoded leaves. Their order does not matter; two equal ones are an error."""
    return to_digest(_tree(leaves)[0])


def proof(leaves: Sequence[bytes], leaf: bytes) -> tuple[Digest, ...]:
    """The siblings on the way from `leaf` to the root."""
    tree = _tree(leaves)
    try:
        at = tree.index(leaf_hash(leaf), len(tree) // 2)
    except ValueError:
        raise MerkleError(
            "the leaf is not in the tree: prove one of the leaves it was built of"
        ) from None
    siblings = []
    while at > 0:
        siblings.append(to_digest(tree[at + 1 if at % 2 else at - 1]))
        at = (at - 1) // 2
    return tuple(siblings)


def verify(root: Digest, leaf: bytes, proof: Sequence[Digest]) -> bool:
    node = leaf_hash(leaf)
    for sibling in proof:
        node = _pair(node, bytes.fromhex(sibling[2:]))
    return to_digest(node) == root


def gpu_set_root(gpu_ids: Iterable[str]) -> Digest:
    """Of the GPUs held exclusively for one receipt; zero if there are none."""
    leaves = [bytes.fromhex(gpu_id_digest(gpu_id)[2:]) for gpu_id in gpu_ids]
    return root(leaves) if leaves else ZERO_DIGEST


def usage_root(samples: Iterable[UsageSample]) -> Digest:
    """Of (uint64 atMs, bytes32 gpuId, uint64 energyMj); zero if there are none. A reading that the
    card cannot give is 2^64 - 1, so that it never looks like zero."""
    leaves = [_sample_leaf(sample) for sample in samples]
    return root(leaves) if leaves else ZERO_DIGEST


def gpu_id_digest(gpu_id: str) -> Digest:
    """A GPU id on chain: hash of the driver's id, such as `GPU-5c1f...`."""
    if not gpu_id:
        raise MerkleError("a GPU id is empty: give the driver's id")
    return to_digest(keccak256(gpu_id.encode()))


def leaf_hash(leaf: bytes) -> bytes:
    return keccak256(keccak256(leaf))


def _sample_leaf(sample: UsageSample) -> bytes:
    energy_mj = _NO_READING if sample.energy_mj is None else sample.energy_mj
    gpu_id = bytes.fromhex(gpu_id_digest(sample.gpu_id)[2:])
    return encode(["uint64", "bytes32", "uint64"], [sample.at_ms, gpu_id, energy_mj])


def _tree(leaves: Sequence[bytes]) -> list[bytes]:
    """A complete binary tree as a list: children of `i` are 2i+1 and 2i+2, smallest leaf last."""
    if not leaves:
        raise MerkleError("a tree needs at least one leaf")
    hashed = sorted(leaf_hash(leaf) for leaf in leaves)
    if any(one == other for one, other in pairwise(hashed)):
        raise MerkleError("a leaf comes twice: every leaf of a tree is another")
    tree = [b""] * (len(hashed) - 1) + hashed[::-1]
    for at in range(len(hashed) - 2, -1, -1):
        tree[at] = _pair(tree[2 * at + 1], tree[2 * at + 2])
    return tree


def _pair(one: bytes, other: bytes) -> bytes:
    return keccak256(one + other if one < other else other + one)
