// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice After a fork changed the chain id: what was begun before it ends under its old id, what is begun after it has a
/// new one.
contract ForkEdges is AloneStage {
    uint256 private constant NEW_CHAIN = 999_999;

    function test_a_task_of_before_is_cancelled_and_refunded() external {
        vm.chainId(NEW_CHAIN);
        check(market.digestOfTaskTerms(_terms) != _id, "another id now");
        vm.prank(_consumer);
        market.cancel(_terms);
        vm.warp(_leaseFrom + CANCEL_S + 1);
        market.reclaim(_terms);
        checkEqual(0, _locked(), "refunded");
    }

    function test_a_task_of_after_has_its_own_id() external {
        vm.chainId(NEW_CHAIN);
        ++_terms.nonce;
        vm.prank(_consumer);
        bytes32 id = market.createTask(_terms, "");
        checkEqual(market.digestOfTaskTerms(_terms), id, "of the new chain");
        checkEqual(2 * _terms.maxCharge, _locked(), "two tasks");
        vm.warp(_terms.deadline + 1);
        market.reclaim(_terms);
        checkEqual(_terms.maxCharge, _locked(), "one of them");
        --_terms.nonce;
        market.reclaim(_terms);
        checkEqual(0, _locked(), "and the other");
    }

    function test_a_proof_of_before_is_paid() external {
        ITaskMarket.ProvenWork memory work = _proven();
        vm.chainId(NEW_CHAIN);
        vm.warp(block.timestamp + MIN_CHALLENGE_S + 1);
        market.finalize(_terms, work, "");
        checkEqual(work.charge, _credit(_provider), "paid");
    }

    /// @dev Under whose id the market and the court agreed before.
    function test_a_dispute_of_before_is_heard() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.chainId(NEW_CHAIN);
        vm.roll(block.number + 10);
        address[3] memory drawn = court.draw(_terms);
        for (uint256 i; i < 3; ++i) {
            bytes32 commitment = court.commitmentOf(IDisputeCourt.Vote.Wrong, "salt", drawn[i], _id);
            vm.prank(drawn[i]);
            court.commit(_id, drawn[i], commitment);
        }
        vm.warp(block.timestamp + DAY_S + 1);
        for (uint256 i; i < 3; ++i) {
            court.reveal(_id, drawn[i], IDisputeCourt.Vote.Wrong, "salt");
        }
        court.conclude(_terms, work);
        checkEqual(0, _locked(), "refunded");
        check(staking.isPunished(court.offenceOfTask(_id)), "for this task");
    }

    /// @dev A receipt names the one before it by its digest of either chain; with the same total, and by no other name.
    function test_a_receipt_follows_one_of_before() external {
        bytes32 channel = keccak256(abi.encode(_consumer, people[1], _provider, uint96(3)));
        ITaskMarket.Receipt memory earlier;
        earlier.provider = _provider;
        earlier.route = channel;
        earlier.endedAtMs = uint64(uint256(_leaseFrom) * 1000);
        earlier.total = 10;
        ITaskMarket.Receipt memory later_ = abi.decode(abi.encode(earlier), (ITaskMarket.Receipt));
        later_.seq = 1;
        later_.prev = market.digestOfReceipt(earlier);
        vm.chainId(NEW_CHAIN);
        bytes32 digest = market.digestOfReceipt(earlier);
        check(later_.prev != digest, "another digest now");
        for (uint256 i; i < 2; ++i) {
            bytes32 laterDigest = market.digestOfReceipt(later_);
            _report(earlier, later_, abi.encodeWithSelector(IDisputeCourt.ReceiptsFollow.selector, digest, laterDigest));
            later_.prev = digest;
        }
        later_.prev = "another";
        _report(earlier, later_, "");
        (uint128 bonded,) = staking.stakeOf(_provider);
        checkEqual(0, bonded, "a unit");
    }

    function _report(ITaskMarket.Receipt memory earlier, ITaskMarket.Receipt memory later_, bytes memory reason)
        private
    {
        IDisputeCourt.SignedReceipt memory one;
        IDisputeCourt.SignedReceipt memory other;
        one.receipt = earlier;
        other.receipt = later_;
        (one.r, one.vs) = signedWords(keyOf[_provider], market.digestOfReceipt(earlier));
        (other.r, other.vs) = signedWords(keyOf[_provider], market.digestOfReceipt(later_));
        if (reason.length != 0) vm.expectRevert(reason);
        court.reportBrokenChain(_consumer, people[1], 3, one, other);
    }
}
