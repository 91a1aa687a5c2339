"""Trees as OpenZeppelin's JavaScript library builds them, proofs as its contracts check them."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import merkle
from tallystick.protocol.errors import MerkleError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.types import ZERO_DIGEST, to_digest

# From the test data (sorted leaves) and the README of @openzeppelin/merkle-tree 1.0.6.
SIX_LETTERS = [encode(["string"], [letter]) for letter in "abcdef"]
TREE_OF_SIX_LETTERS = [
    "0x6deb52b5da8fd108f79fab00341f38d2587896634c646ee52e49f845680a70c8",
    "0x52426e0f1f65ff7e209a13b8c29cffe82e3acaf3dad0a9b9088f3b9a61a929c3",
    "0xfd3cf45654e88d1cc5d663578c82c76f4b5e3826bacaa1216441443504538f51",
    "0x8076923e76cf01a7c048400a2304c9a9c23bbbdac3a98ea3946340fdafbba34f",
    "0x965b92c6cf08303cc4feb7f3e0819c436c2cec17c6f0688a6af139c9a368707c",
    "0xeba909cf4bb90c6922771d7f126ad0fd11dfde93f3937a196274e1ac20fd2f5b",
    "0xc62a8cfa41edc0ef6f6ae27a2985b7d39c7fea770787d7e104696c6e81f64848",
    "0x9cf5a63718145ba968a01c1d557020181c5b252f665cf7386d370eddb176517b",
    "0x9c15a6a0eaeed500fd9eed4cbeab71f797cefcc67bfd46683e4d2e6ff7f06d1c",
    "0x9a4f64e953595df82d1b4f570d34c4f4f0cfaf729a61e9d60e83e579e1aa283e",
    "0x19ba6c6333e0e9a15bf67523e0676e2f23eb8e574092552d5e888c64a4bb3681",
]
README_LEAVES = [
    encode(["address", "uint256"], ["0x" + digit * 40, amount])
    for digit, amount in (("1", 5 * 10**18), ("2", 25 * 10**17))
]
README_ROOT = "0xd4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


class TestReferenceTrees:
    def test_roots(self) -> None:
        assert merkle.root(SIX_LETTERS) == TREE_OF_SIX_LETTERS[0]
        assert merkle.root(README_LEAVES) == README_ROOT

    def test_a_proof_names_the_siblings(self) -> None:
        # "a" is node 8: siblings 7, 4, 2.
        expected = tuple(TREE_OF_SIX_LETTERS[node] for node in (7, 4, 2))
        assert merkle.proof(SIX_LETTERS, SIX_LETTERS[0]) == expected


@settings(max_examples=60, deadline=None)
@given(leaves=st.lists(st.binary(max_size=40), min_size=1, max_size=33, unique=True))
def test_every_leaf_is_proven_and_nothing_else(leaves: list[bytes]) -> None:
    root = merkle.root(leaves)
    assert merkle.root(leaves[::-1]) == root
    for leaf in leaves:
        proof = merkle.proof(leaves, leaf)
        assert merkle.verify(root, leaf, proof)
        assert not merkle.verify(root, leaf + b"x", proof)
        if proof:
            assert not merkle.verify(root, leaf, proof[1:])


def test_an_inner_node_does_not_pass_as_a_leaf() -> None:
    left, right = TREE_OF_SIX_LETTERS[1:3]
    node = b"".join(sorted(bytes.fromhex(digest[2:]) for digest in (left, right)))
    assert to_digest(keccak256(node)) == TREE_OF_SIX_LETTERS[0]
    assert not merkle.verify(to_digest(TREE_OF_SIX_LETTERS[0]), node, ())


def test_no_leaves_and_equal_leaves_are_refused() -> None:
    with pytest.raises(MerkleError, match="at least one"):
        merkle.root([])
    with pytest.raises(MerkleError, match="twice"):
        merkle.root([b"a", b"b", b"a"])
    with pytest.raises(MerkleError, match="not in the tree"):
        merkle.proof(SIX_LETTERS, b"a")


class TestGpuSets:
    def test_no_gpus_are_zero(self) -> None:
        assert merkle.gpu_set_root([]) == ZERO_DIGEST

    def test_the_order_does_not_matter_and_the_ids_do(self) -> None:
        root = merkle.gpu_set_root(["GPU-1", "GPU-2"])
        assert root == merkle.gpu_set_root(["GPU-2", "GPU-1"])
        assert root != merkle.gpu_set_root(["GPU-1", "GPU-3"])

    def test_one_card_is_proven_with_its_id(self) -> None:
        ids = [f"GPU-{number}" for number in range(5)]
        leaves = [bytes.fromhex(merkle.gpu_id_digest(gpu_id)[2:]) for gpu_id in ids]
        assert merkle.verify(merkle.gpu_set_root(ids), leaves[3], merkle.proof(leaves, leaves[3]))

    def test_a_card_named_twice_and_a_nameless_one_are_refused(self) -> None:
        with pytest.raises(MerkleError, match="twice"):
            merkle.gpu_set_root(["GPU-1", "GPU-1"])
        with pytest.raises(MerkleError, match="empty"):
            merkle.gpu_set_root([""])


class TestUsage:
    def test_no_samples_are_zero(self) -> None:
        assert merkle.usage_root([]) == ZERO_DIGEST

    def test_a_missing_reading_is_not_zero(self) -> None:
        without = merkle.usage_root([UsageSample(1, "GPU-1", None)])
        assert without != merkle.usage_root([UsageSample(1, "GPU-1", 0)])
