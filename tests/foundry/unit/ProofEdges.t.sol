// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice The last millisecond and the last second on either side of a task's rules (cases 28, 29, 30 and 36).
contract ProofEdges is Stage {
    ITaskMarket.TaskTerms private _terms;
    bytes32 private _id;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        vm.prank(people[0]);
        escrow.deposit(people[0], 1000);
        _terms.consumer = people[0];
        _terms.gpus = 1;
        _terms.flat = 7;
        _terms.maxCharge = 100;
        _terms.maxSeconds = 60;
        _terms.deadline = uint64(block.timestamp + 1 days);
        _terms.challengeWindow = 1 days;
        vm.prank(people[0]);
        _id = market.createTask(_terms, "");
    }

    function test_a_run_has_a_longest_time() external {
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.RanTooLong.selector, 60_000, 60_001));
        this.prove(60_001, 0);
        this.prove(60_000, 0);
    }

    function test_work_does_not_end_in_the_future() external {
        vm.expectPartialRevert(ITaskMarket.EndedInFuture.selector);
        this.prove(1000, 1000);
        // The chain's clock shows whole seconds: the last one counts to its end.
        this.prove(1000, 999);
    }

    function test_paid_until_the_deadline_and_refunded_from_the_next_second() external {
        vm.warp(_terms.deadline);
        vm.expectPartialRevert(ITaskMarket.NotEndedYet.selector);
        market.reclaim(_terms);
        uint256 before = vm.snapshotState();
        this.prove(1000, 0);
        vm.revertToState(before);
        vm.warp(_terms.deadline + 1);
        vm.expectPartialRevert(ITaskMarket.DeadlinePassed.selector);
        this.prove(1000, 0);
        market.reclaim(_terms);
    }

    /// @dev Nobody signs for the zero address, so without a dispatcher nothing is proven alone.
    function test_without_a_dispatcher_nobody_assigns() external {
        vm.prank(people[4]);
        staking.stake(UNIT);
        ITaskMarket.LeasedProof memory proof;
        proof.terms = _terms;
        proof.usage = _usage(1000, 0);
        (, bytes32 digest) = market.receiptOf(_terms, proof.usage);
        proof.receiptSignature = signed(keyOf[people[4]], digest, false);
        proof.leaseUntil = uint64(block.timestamp);
        proof.assignment = new bytes(65);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.InvalidAssignmentSignature.selector, address(0), address(0)));
        market.proveAlone(proof);
    }

    function prove(uint256 elapsedMs, uint256 aheadMs) external {
        ITaskMarket.AcceptedProof memory proof;
        proof.terms = _terms;
        proof.usage = _usage(elapsedMs, aheadMs);
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(_terms, proof.usage);
        (proof.receiptR, proof.receiptVs) = signedWords(keyOf[people[4]], digest);
        bytes32 acceptance = market.digestOfAcceptance(ITaskMarket.Acceptance(_id, receipt.total, digest));
        proof.acceptance = signed(keyOf[people[0]], acceptance, false);
        market.prove(proof);
    }

    function _usage(uint256 elapsedMs, uint256 aheadMs) private view returns (ITaskMarket.Usage memory usage) {
        usage.provider = people[4];
        usage.gpuSet = bytes32("gpus");
        usage.endedAtMs = uint64(block.timestamp * 1000 + aheadMs);
        usage.startedAtMs = uint64(usage.endedAtMs - elapsedMs);
        usage.gpuMs = uint64(elapsedMs);
    }
}
