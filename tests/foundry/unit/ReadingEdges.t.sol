// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What the contracts answer when asked, in a state that is known to the unit.
contract ReadingEdges is AloneStage {
    uint128 private constant MOST = type(uint128).max;

    // ------------------------------------------------------------------ the market

    /// @dev The receipt that a provider signs, field by field; its digest is that of the whole.
    function test_a_receipt_has_every_field_of_its_work() external view {
        ITaskMarket.TaskTerms memory terms = _terms;
        terms.spec = "spec";
        ITaskMarket.Usage memory usage = _usage(1, 1002, 2, 1000);
        usage.fence = 3;
        usage.result = "result";
        usage.usageRoot = "root";
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(terms, usage);
        checkEqual(_provider, receipt.provider, "provider");
        checkEqual(market.digestOfTaskTerms(terms), receipt.route, "route");
        checkEqual(3, receipt.seq, "seq");
        checkEqual(bytes32(0), receipt.prev, "a task has no receipt before");
        checkEqual(bytes32("spec"), receipt.request, "request");
        checkEqual(bytes32("result"), receipt.result, "result");
        checkEqual(bytes32("gpus"), receipt.gpuSet, "gpuSet");
        checkEqual(uint256(_leaseFrom) * 1000 + 1, receipt.startedAtMs, "startedAtMs");
        checkEqual(uint256(_leaseFrom) * 1000 + 1002, receipt.endedAtMs, "endedAtMs");
        checkEqual(2, receipt.calls, "calls");
        checkEqual(1000, receipt.gpuMs, "gpuMs");
        checkEqual(bytes32("root"), receipt.usageRoot, "usageRoot");
        checkEqual(7 + 2 * 3 + 1000, receipt.total, "total");
        checkEqual(market.digestOfReceipt(receipt), digest, "digest");
    }

    /// @dev From nothing to nothing, and the time that goes with each state.
    function test_a_task_has_a_state_and_its_time() external {
        _checkTask(ITaskMarket.Status.Open, 0);
        uint256 before = vm.snapshotState();
        _cancelAfter(5);
        _checkTask(ITaskMarket.Status.Open, _leaseFrom + 5);
        vm.revertToState(before);
        ITaskMarket.ProvenWork memory work = _proven();
        _checkTask(ITaskMarket.Status.Proven, _leaseFrom + 10 + MIN_CHALLENGE_S);
        vm.warp(_leaseFrom + 20);
        vm.prank(_consumer);
        market.dispute(_terms, work);
        _checkTask(ITaskMarket.Status.Disputed, _leaseFrom + 20);
        vm.prank(address(court));
        market.resolve(_terms, work, ITaskMarket.Verdict.Undecided, new address[](0));
        _checkTask(ITaskMarket.Status.None, 0);
    }

    // ------------------------------------------------------------------ the court

    /// @dev The stage's court has six days, a day for each commit and reveal.
    function test_a_dispute_has_its_times() external {
        _disputed();
        // Not block.timestamp: the optimizer reads it again after the warp.
        uint256 openedAt = _leaseFrom + 10;
        (uint64 lastDrawAt, uint64 commitEndsAt, uint64 revealEndsAt) = court.timesOf(_id);
        checkEqual(openedAt + 3 days, lastDrawAt, "two commits and a reveal before the end");
        checkEqual(0, commitEndsAt, "nobody is drawn");
        checkEqual(0, revealEndsAt, "nobody is drawn");
        vm.roll(block.number + 10);
        vm.warp(openedAt + 100);
        address[3] memory drawn = court.draw(_terms);
        (lastDrawAt, commitEndsAt, revealEndsAt) = court.timesOf(_id);
        checkEqual(openedAt + 3 days, lastDrawAt, "as before");
        checkEqual(openedAt + 100 + 1 days, commitEndsAt, "a day");
        checkEqual(openedAt + 100 + 2 days, revealEndsAt, "and another");
        IDisputeCourt.Dispute memory dispute = court.disputeOf(_id);
        checkEqual(_provider, dispute.provider, "provider");
        checkEqual(openedAt, dispute.openedAt, "openedAt");
        checkEqual(openedAt + 100, dispute.drawnAt, "drawnAt");
        checkEqual(1, dispute.round, "round");
        check(dispute.state == IDisputeCourt.State.Sworn, "sworn");
        IDisputeCourt.Checker[3] memory checkers = court.checkersOf(_id, 1);
        for (uint256 i; i < 3; ++i) {
            checkEqual(drawn[i], checkers[i].seat, "seat");
            checkEqual(bytes32(0), checkers[i].commitment, "nothing yet");
        }
    }

    function test_a_seat_has_its_times() external {
        address seat = people[PROVIDER_FROM + 1];
        _checkSeat(seat, 0, 0, false);
        vm.prank(seat);
        staking.stake(UNIT);
        vm.prank(seat);
        court.takeSeat();
        uint256 listableAt = block.timestamp + DAY_S;
        _checkSeat(seat, listableAt, 0, false);
        vm.warp(listableAt);
        court.listSeat(seat);
        _checkSeat(seat, listableAt, 0, true);
        vm.warp(listableAt + 7);
        vm.prank(seat);
        court.leaveSeat();
        _checkSeat(seat, listableAt, listableAt + 7 + DAY_S, true);
        vm.warp(listableAt + 7 + DAY_S);
        court.freeSeat(seat);
        _checkSeat(seat, 0, 0, false);
        (uint16 seats, uint16 covered) = staking.seatsOf(seat);
        checkEqual(0, seats, "no seat");
        checkEqual(0, covered, "none covered");
    }

    /// @dev A seat whose unit was slashed is not covered, and backs no GPU.
    function test_units_are_whole_and_seats_come_first() external {
        address seat = people[SEAT_FROM];
        _checkUnits(seat, 0, 1, 1);
        vm.prank(seat);
        staking.stake(2 * UNIT);
        _checkUnits(seat, 2, 1, 1);
        _slash(seat, 1, "one");
        _checkUnits(seat, 1, 1, 1);
        _slash(seat, 2 * UNIT, "two");
        _checkUnits(seat, 0, 1, 0);
    }

    // ------------------------------------------------------------------ the staking

    function test_requests_have_their_worth_and_time() external {
        vm.prank(stranger);
        staking.delegate(_provider, 4 * UNIT, 0);
        vm.prank(stranger);
        staking.requestUndelegate(_provider, uint160(UNIT), 0);
        uint256 dueAt = block.timestamp + UNBONDING_S;
        _checkUndelegate(0, _provider, UNIT, dueAt);
        _checkUndelegate(1, address(0), 0, 0);
        vm.prank(_provider);
        staking.requestUnbond(UNIT / 2);
        (uint128 amount, uint64 withdrawableAt) = staking.unbondRequest(_provider, 0);
        checkEqual(UNIT / 2, amount, "amount");
        checkEqual(dueAt, withdrawableAt, "time");
        (uint128 bonded, uint128 unbonding) = staking.stakeOf(_provider);
        checkEqual(UNIT / 2, bonded, "bonded");
        checkEqual(UNIT / 2, unbonding, "unbonding");
        (uint128 delegated, uint160 shares, uint32 generation, uint128 undelegating) = staking.poolOf(_provider);
        checkEqual(3 * UNIT, delegated, "delegated");
        checkEqual(3 * UNIT, shares, "shares");
        checkEqual(0, generation, "generation");
        checkEqual(UNIT, undelegating, "undelegating");
        // All that is its own, and half of what others delegated.
        _slash(_provider, UNIT + 2 * UNIT, "offence");
        _checkUndelegate(0, _provider, UNIT / 2, dueAt);
        (amount,) = staking.unbondRequest(_provider, 0);
        checkEqual(0, amount, "slashed away");
        vm.warp(dueAt);
        vm.prank(stranger);
        staking.withdrawDelegation(0, stranger);
        _checkUndelegate(0, address(0), 0, 0);
        vm.prank(_provider);
        checkEqual(0, staking.withdrawStake(0, _provider), "of an earlier generation");
        checkEqual(1, staking.unbondRequestsOf(_provider), "counted for good");
        checkEqual(1, staking.undelegateRequestsOf(stranger), "counted for good");
    }

    // ------------------------------------------------------------------ channels

    /// @dev What each row would add, in this order: one channel thrice, a row of nobody, one that wants more than there is.
    function test_rows_are_worth_what_they_add() external {
        IComputeEscrow.Channel memory one = _channel(0, 100);
        IComputeEscrow.Channel memory other = _channel(1, 50);
        IComputeEscrow.Row[] memory rows = new IComputeEscrow.Row[](7);
        rows[0] = _row(one, 40);
        rows[1] = _row(one, 65);
        rows[2] = _row(other, 60);
        rows[3] = _row(one, 30);
        rows[4] = _row(one, 66);
        rows[4].r = 0;
        rows[5] = _row(one, 100);
        rows[6] = _row(other, 70);
        uint256[7] memory expected = [uint256(40), 25, 50, 0, 0, 35, 0];
        uint128[] memory amounts = escrow.redeemable(_provider, rows);
        checkEqual(7, amounts.length, "one answer a row");
        for (uint256 i; i < 7; ++i) {
            checkEqual(expected[i], amounts[i], "what it adds");
        }
        // What was claimed before counts, and another provider has nothing of it.
        IComputeEscrow.Row[] memory first = new IComputeEscrow.Row[](1);
        first[0] = rows[0];
        checkEqual(40, escrow.redeem(_provider, first), "paid");
        checkEqual(0, escrow.redeemable(_provider, first)[0], "once");
        checkEqual(25, escrow.redeemable(_provider, rows)[1], "what is left of it");
        // A hundred, less what was claimed, is what can be let go.
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InsufficientUnclaimed.selector, 61, 60));
        vm.prank(_provider);
        escrow.release(one, 61);
        checkEqual(0, escrow.redeemable(stranger, rows)[0], "for its provider");
        checkEqual(110, escrow.redeem(_provider, rows), "all of the rest");
        checkEqual(150, _credit(_provider), "all of both");
    }

    /// @dev A total as large as its type is a number; one that was redeemed leaves no trace the second time.
    function test_the_largest_total_pays_what_is_there_once() external {
        IComputeEscrow.Row[] memory rows = new IComputeEscrow.Row[](1);
        rows[0] = _row(_channel(0, 100), MOST);
        checkEqual(100, escrow.redeemable(_provider, rows)[0], "all that is there");
        checkEqual(100, escrow.redeem(_provider, rows), "paid");
        vm.recordLogs();
        checkEqual(0, escrow.redeem(_provider, rows), "once");
        checkEqual(0, vm.getRecordedLogs().length, "and said once");
    }

    // ------------------------------------------------------------------ acts

    function _channel(uint96 salt, uint128 amount) private returns (IComputeEscrow.Channel memory channel) {
        channel = IComputeEscrow.Channel(_consumer, vm.addr(sessionKeyOf[_consumer]), _provider, salt);
        vm.prank(_consumer);
        escrow.depositToChannel(channel, amount);
    }

    function _row(IComputeEscrow.Channel memory channel, uint128 total)
        private
        view
        returns (IComputeEscrow.Row memory)
    {
        bytes32 digest = escrow.digestOfVoucher(
            IComputeEscrow.Voucher(channel.payer, channel.provider, channel.salt, total, "receipt")
        );
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[channel.payer], digest);
        return IComputeEscrow.Row((uint256(uint160(channel.payer)) << 96) | channel.salt, total, "receipt", r, vs);
    }

    function _slash(address provider, uint128 amount, bytes32 offence) private {
        vm.prank(address(court));
        staking.slash(provider, amount, offence, new address[](0));
    }

    function _checkTask(ITaskMarket.Status expected, uint256 expectedTime) private view {
        (ITaskMarket.Status status, uint64 time) = market.taskOf(_id);
        checkEqual(uint256(expected), uint256(status), "status");
        checkEqual(expectedTime, time, "time");
    }

    function _checkSeat(address seat, uint256 expectedListable, uint256 expectedLeavable, bool expectedListed)
        private
        view
    {
        (uint64 listableAt, uint64 leavableAt, bool listed) = court.seatOf(seat);
        checkEqual(expectedListable, listableAt, "listableAt");
        checkEqual(expectedLeavable, leavableAt, "leavableAt");
        check(listed == expectedListed, "listed");
    }

    function _checkUnits(address seat, uint256 expectedUnits, uint256 expectedSeats, uint256 expectedCovered)
        private
        view
    {
        checkEqual(expectedUnits, staking.unitsOf(seat), "units");
        (uint16 seats, uint16 covered) = staking.seatsOf(seat);
        checkEqual(expectedSeats, seats, "seats");
        checkEqual(expectedCovered, covered, "covered");
    }

    function _checkUndelegate(uint256 request, address expectedFrom, uint256 expected, uint256 expectedTime)
        private
        view
    {
        (address from, uint128 amount, uint64 withdrawableAt) = staking.undelegateRequest(stranger, request);
        checkEqual(expectedFrom, from, "provider");
        checkEqual(expected, amount, "amount");
        checkEqual(expectedTime, withdrawableAt, "time");
    }
}
