// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice A GPU counts as sold twice only if its own leaf is in both sets (case 26): no inner node passes for a leaf, no
/// empty or foreign proof for a real one, no leaf counts twice. A leaf is one word, hashed twice, so that no 64 bytes of an
/// inner node can be given for one; there are no multiproofs. At 10,000 runs, 100,000 proofs that do not hold.
contract MerkleFuzz is Stage {
    address private _provider;

    function setUp() public {
        build();
        _provider = people[PROVIDER_FROM];
        vm.prank(_provider);
        staking.stake(4 * UNIT);
    }

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function testFuzz_a_leaf_of_both_sets_is_punished(bytes32[4] calldata ids, uint8 which) external {
        (bytes32 root, bytes32[] memory proof) = _tree(ids, which % 4);
        checkEqual(UNIT, _report(root, ids[which % 4], proof), "one unit");
    }

    function testFuzz_an_inner_node_is_no_leaf(bytes32[4] calldata ids) external {
        (bytes32 root,) = _tree(ids, 0);
        // The proof of an inner node, one level shorter; hashed once as a leaf is hashed, and not at all.
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _pair(_leaf(ids[2]), _leaf(ids[3]));
        _refused(root, _pair(_leaf(ids[0]), _leaf(ids[1])), proof);
        _refused(root, root, new bytes32[](0));
        _refused(root, keccak256(abi.encode(ids[0])), proof);
    }

    function testFuzz_another_id_or_proof_is_refused(bytes32[4] calldata ids, bytes32 other, uint8 which, uint8 bit)
        external
    {
        (bytes32 root, bytes32[] memory proof) = _tree(ids, which % 4);
        vm.assume(other != ids[0] && other != ids[1] && other != ids[2] && other != ids[3]);
        _refused(root, other, proof);
        _refused(root, ids[which % 4], new bytes32[](0));
        bytes32 right = proof[0];
        proof[0] = bytes32(uint256(right) ^ (1 << bit));
        _refused(root, ids[which % 4], proof);
        (proof[0], proof[1]) = (proof[1], right);
        _refused(root, ids[which % 4], proof);
    }

    /// @dev A set of three: its last leaf counted twice makes another set, and no proof of one holds in the other.
    function testFuzz_a_leaf_counted_twice_is_refused(bytes32[3] calldata ids) external {
        vm.assume(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        bytes32 both = _pair(_leaf(ids[0]), _leaf(ids[1]));
        bytes32 last = _leaf(ids[2]);
        bytes32[] memory doubled = new bytes32[](2);
        (doubled[0], doubled[1]) = (last, both);
        bytes32[] memory right = new bytes32[](1);
        right[0] = both;
        bytes32 root = _pair(last, both);
        _refused(root, ids[2], doubled);
        _refused(_pair(_pair(last, last), both), ids[2], right);
        checkEqual(UNIT, _report(root, ids[2], right), "the last leaf of three");
    }

    function testFuzz_a_set_of_none_holds_nothing(bytes32 id) external {
        _refused(0, id, new bytes32[](0));
    }

    // ------------------------------------------------------------------ private

    function _refused(bytes32 root, bytes32 id, bytes32[] memory proof) private {
        (IDisputeCourt.SignedReceipt memory one, IDisputeCourt.SignedReceipt memory other) = _two(root);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.GpuNotInSet.selector, root, id));
        court.reportGpuSoldTwice(one, other, id, proof, proof);
    }

    function _report(bytes32 root, bytes32 id, bytes32[] memory proof) private returns (uint128) {
        (IDisputeCourt.SignedReceipt memory one, IDisputeCourt.SignedReceipt memory other) = _two(root);
        return court.reportGpuSoldTwice(one, other, id, proof, proof);
    }

    function _two(bytes32 root)
        private
        view
        returns (IDisputeCourt.SignedReceipt memory one, IDisputeCourt.SignedReceipt memory other)
    {
        one.receipt.provider = _provider;
        one.receipt.gpuSet = root;
        one.receipt.endedAtMs = uint64(block.timestamp * 1000);
        one.receipt.startedAtMs = one.receipt.endedAtMs - 10_000;
        other.receipt = abi.decode(abi.encode(one.receipt), (ITaskMarket.Receipt));
        other.receipt.route = bytes32(uint256(1));
        (one.r, one.vs) = signedWords(keyOf[_provider], market.digestOfReceipt(one.receipt));
        (other.r, other.vs) = signedWords(keyOf[_provider], market.digestOfReceipt(other.receipt));
    }

    function _tree(bytes32[4] calldata ids, uint256 which) private pure returns (bytes32 root, bytes32[] memory proof) {
        bytes32 left = _pair(_leaf(ids[0]), _leaf(ids[1]));
        bytes32 right = _pair(_leaf(ids[2]), _leaf(ids[3]));
        root = _pair(left, right);
        proof = new bytes32[](2);
        proof[0] = _leaf(ids[which ^ 1]);
        proof[1] = which < 2 ? right : left;
    }

    function _leaf(bytes32 id) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(id))));
    }

    function _pair(bytes32 one, bytes32 other) private pure returns (bytes32) {
        return one < other ? keccak256(abi.encodePacked(one, other)) : keccak256(abi.encodePacked(other, one));
    }
}
