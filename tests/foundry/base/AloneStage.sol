// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "./Stage.sol";
import {vm} from "./Vm.sol";

/// @notice One open task, a provider that can prove it alone, and a court of four listed seats.
abstract contract AloneStage is Stage {
    ITaskMarket.TaskTerms internal _terms;
    bytes32 internal _id;
    address internal _consumer;
    address internal _provider;
    uint64 internal _leaseFrom;
    uint64 internal _leaseUntil;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    /// @dev One token unit for each GPU-millisecond, three for a call, seven for the task.
    function setUp() public {
        build();
        _consumer = people[0];
        _provider = people[PROVIDER_FROM];
        for (uint256 i; i < SEATS; ++i) {
            vm.prank(people[SEAT_FROM + i]);
            staking.stake(UNIT);
            vm.prank(people[SEAT_FROM + i]);
            court.takeSeat();
        }
        vm.warp(START + DAY_S);
        for (uint256 i; i < SEATS; ++i) {
            court.listSeat(people[SEAT_FROM + i]);
        }
        vm.warp(START + 2 * DAY_S);
        vm.prank(_provider);
        staking.stake(UNIT);
        vm.prank(_consumer);
        escrow.deposit(_consumer, 100 * TALLY);

        _leaseFrom = uint64(block.timestamp);
        _leaseUntil = _leaseFrom + 100;
        _terms.consumer = _consumer;
        _terms.dispatcher = dispatcher;
        _terms.gpus = 1;
        _terms.flat = 7;
        _terms.feePerCall = 3;
        _terms.ratePerGpuSecond = 1000;
        _terms.maxCharge = 1_000_000;
        _terms.maxSeconds = 1000;
        _terms.deadline = _leaseFrom + 1 days;
        _terms.challengeWindow = MIN_CHALLENGE_S;
        // A checker repeats a tenth of the work.
        _terms.verification = 1 + 256 * 1000;
        vm.prank(_consumer);
        _id = market.createTask(_terms, "");
    }

    // ------------------------------------------------------------------ acts

    /// @param startMs Counted from the lease's first second, as is the end.
    function prove(int256 startMs, uint256 endMs, uint64 calls, uint64 gpuMs) external {
        ITaskMarket.LeasedProof memory proof;
        proof.terms = _terms;
        proof.usage = _usage(startMs, endMs, calls, gpuMs);
        (, bytes32 receipt) = market.receiptOf(_terms, proof.usage);
        proof.receiptSignature = signed(keyOf[_provider], receipt, false);
        proof.leaseFrom = _leaseFrom;
        proof.leaseUntil = _leaseUntil;
        bytes32 assignment = market.digestOfAssignment(
            ITaskMarket.Assignment(_id, _provider, proof.usage.fence, _leaseFrom, _leaseUntil)
        );
        proof.assignment = signed(keyOf[dispatcher], assignment, false);
        market.proveAlone(proof);
    }

    function _usage(int256 startMs, uint256 endMs, uint64 calls, uint64 gpuMs)
        internal
        view
        returns (ITaskMarket.Usage memory usage)
    {
        usage.provider = _provider;
        usage.gpuSet = bytes32("gpus");
        usage.startedAtMs = uint64(uint256(int256(uint256(_leaseFrom) * 1000) + startMs));
        usage.endedAtMs = uint64(uint256(_leaseFrom) * 1000 + endMs);
        usage.calls = calls;
        usage.gpuMs = gpuMs;
    }

    function _cancelAfter(uint256 time) internal {
        vm.warp(_leaseFrom + time);
        vm.prank(_consumer);
        market.cancel(_terms);
    }

    function _proven() internal returns (ITaskMarket.ProvenWork memory work) {
        vm.warp(_leaseFrom + 10);
        this.prove(0, 1000, 1, 1000);
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(_terms, _usage(0, 1000, 1, 1000));
        return ITaskMarket.ProvenWork(_provider, receipt.total, digest);
    }

    function _disputed() internal returns (ITaskMarket.ProvenWork memory work) {
        work = _proven();
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    function _drawn() internal returns (address[3] memory) {
        _disputed();
        vm.roll(block.number + 10);
        return court.draw(_terms);
    }

    function _locked() internal view returns (uint256 locked) {
        (, locked) = escrow.accountOf(_consumer);
    }

    function _credit(address payee) internal view returns (uint256 credit) {
        (credit,) = escrow.payeeOf(payee);
    }
}
