// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What two receipts must show before a provider loses a unit for them.
contract ReportEdges is Stage {
    address private _provider;
    ITaskMarket.Receipt private _one;
    ITaskMarket.Receipt private _other;
    bytes private _expected;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    /// @dev Two receipts of one route and place that differ in what they are worth.
    function setUp() public {
        build();
        _provider = people[PROVIDER_FROM];
        vm.prank(_provider);
        staking.stake(2 * UNIT);
        _one.provider = _provider;
        _one.route = bytes32("route");
        _one.seq = 5;
        _one.startedAtMs = uint64(block.timestamp * 1000);
        _one.endedAtMs = _one.startedAtMs + 10_000;
        _one.total = 10;
        _other = _one;
        _other.total = 11;
    }

    // ------------------------------------------------------------------ two histories

    function test_two_histories_are_of_one_route() external {
        _other.route = bytes32("other");
        _expect(abi.encodeWithSelector(IDisputeCourt.DifferentRoutes.selector, _one.route, _other.route));
        _reportHistories();
    }

    function test_two_histories_are_of_one_place() external {
        _other.seq = 6;
        _expect(abi.encodeWithSelector(IDisputeCourt.DifferentPlaces.selector, 5, 6));
        _reportHistories();
    }

    function test_two_histories_are_of_one_provider() external {
        _other.provider = people[PROVIDER_FROM + 1];
        _expect(abi.encodeWithSelector(IDisputeCourt.DifferentProviders.selector, _provider, _other.provider));
        _reportHistories();
    }

    function test_one_receipt_is_one_history() external {
        bytes32 digest = market.digestOfReceipt(_one);
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SameReceipt.selector, digest));
        court.reportTwoHistories(one, one);
    }

    /// @dev Case 36: no signature recovers to the zero address, for which nobody answers.
    function test_nobody_answers_for_no_signature() external {
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        IDisputeCourt.SignedReceipt memory other = _signed(_other);
        (other.r, other.vs) = (0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotAnswerable.selector, _provider, address(0)));
        court.reportTwoHistories(one, other);
    }

    /// @dev Case 69.
    function test_two_histories_cost_a_unit_once() external {
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        IDisputeCourt.SignedReceipt memory other = _signed(_other);
        checkEqual(UNIT, court.reportTwoHistories(one, other), "one unit");
        bytes32 offence = court.offenceOfRoute(_provider, _one.route);
        check(staking.isPunished(offence), "the route is punished");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.AlreadyPunished.selector, offence));
        court.reportTwoHistories(other, one);
        (uint128 bonded,) = staking.stakeOf(_provider);
        checkEqual(UNIT, bonded, "no more than one");
    }

    // ------------------------------------------------------------------ a broken chain

    function test_only_neighbours_can_break_a_chain() external {
        _chain(7);
        _expect(abi.encodeWithSelector(IDisputeCourt.NotNeighbours.selector, 6, 7));
        _reportChain();
    }

    function test_a_task_has_no_chain() external {
        bytes32 channel = _chain(6);
        _other.route = bytes32("task");
        _expect(abi.encodeWithSelector(IDisputeCourt.WrongChannel.selector, channel, bytes32("task")));
        _reportChain();
    }

    function test_receipts_that_follow_are_no_fault() external {
        _chain(6);
        bytes32 digest = market.digestOfReceipt(_one);
        _other.prev = digest;
        _expect(abi.encodeWithSelector(IDisputeCourt.ReceiptsFollow.selector, digest, market.digestOfReceipt(_other)));
        _reportChain();
    }

    function test_a_receipt_that_names_another_before_it_is_a_fault() external {
        _chain(6);
        _other.prev = bytes32("another");
        _reportChain();
        _checkLost();
    }

    /// @dev Though it names the right one before it.
    function test_a_total_that_falls_is_a_fault() external {
        _chain(6);
        _other.prev = market.digestOfReceipt(_one);
        // The total before it is part of its digest, and higher.
        _other.total = _one.total - 1;
        _reportChain();
        _checkLost();
    }

    // ------------------------------------------------------------------ a GPU sold twice

    function test_one_route_sells_no_gpu_twice() external {
        _expect(abi.encodeWithSelector(IDisputeCourt.SameRoute.selector, _one.route));
        _reportGpu();
    }

    /// @dev Two seconds are clocks and hand-over; a millisecond more is a lie.
    function test_an_overlap_of_two_seconds_is_allowed() external {
        _sellTwice();
        _other.startedAtMs = _one.endedAtMs - 2000;
        _other.endedAtMs = _one.endedAtMs + 1;
        _expect(abi.encodeWithSelector(IDisputeCourt.OverlapTooShort.selector, 2001, 2000));
        _reportGpu();
        _other.startedAtMs -= 1;
        _reportGpu();
        _checkLost();
    }

    function test_a_run_after_the_other_overlaps_by_nothing() external {
        _sellTwice();
        _other.startedAtMs = _one.endedAtMs + 1;
        _other.endedAtMs = _one.endedAtMs + 10_000;
        _expect(abi.encodeWithSelector(IDisputeCourt.OverlapTooShort.selector, 2001, 0));
        _reportGpu();
    }

    /// @dev Case 26.
    function test_the_gpu_is_in_both_sets() external {
        _sellTwice();
        _other.gpuSet = bytes32("another set");
        _expect(abi.encodeWithSelector(IDisputeCourt.GpuNotInSet.selector, _other.gpuSet, bytes32("gpu")));
        _reportGpu();
    }

    // ------------------------------------------------------------------ what is shown

    /// @dev Makes the two the receipts of one channel, at places 5 and `seq`.
    function _chain(uint64 seq) private returns (bytes32 channel) {
        channel = keccak256(abi.encode(people[0], people[1], _provider, uint96(3)));
        _one.route = channel;
        _other.route = channel;
        _other.seq = seq;
    }

    function _sellTwice() private {
        _other.route = bytes32("other");
        _one.gpuSet = keccak256(bytes.concat(keccak256(abi.encode(bytes32("gpu")))));
        _other.gpuSet = _one.gpuSet;
    }

    /// @dev Of the report that comes next.
    function _expect(bytes memory reason) private {
        _expected = reason;
    }

    function _reportHistories() private {
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        IDisputeCourt.SignedReceipt memory other = _signed(_other);
        if (_expected.length != 0) vm.expectRevert(_expected);
        court.reportTwoHistories(one, other);
        delete _expected;
    }

    function _reportChain() private {
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        IDisputeCourt.SignedReceipt memory other = _signed(_other);
        if (_expected.length != 0) vm.expectRevert(_expected);
        court.reportBrokenChain(people[0], people[1], 3, one, other);
        delete _expected;
    }

    function _reportGpu() private {
        IDisputeCourt.SignedReceipt memory one = _signed(_one);
        IDisputeCourt.SignedReceipt memory other = _signed(_other);
        bytes32[] memory alone = new bytes32[](0);
        if (_expected.length != 0) vm.expectRevert(_expected);
        court.reportGpuSoldTwice(one, other, bytes32("gpu"), alone, alone);
        delete _expected;
    }

    function _signed(ITaskMarket.Receipt memory receipt)
        private
        view
        returns (IDisputeCourt.SignedReceipt memory shown)
    {
        shown.receipt = receipt;
        (shown.r, shown.vs) = signedWords(keyOf[receipt.provider], market.digestOfReceipt(receipt));
    }

    function _checkLost() private view {
        (uint128 bonded,) = staking.stakeOf(_provider);
        checkEqual(UNIT, bonded, "one unit of two");
        check(staking.isJailed(_provider), "jailed");
    }
}
