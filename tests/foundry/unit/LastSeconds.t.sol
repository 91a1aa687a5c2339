// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice The last second in which something may still be done, and the same second for two things at once; the tests of
/// each rule look at the second after it.
contract LastSeconds is AloneStage {
    /// @dev The court's verdict counts in the last second of its time.
    function test_a_verdict_in_the_courts_last_second_counts() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.warp(block.timestamp + COURT_S);
        vm.prank(address(court));
        market.resolve(_terms, work, ITaskMarket.Verdict.Wrong, new address[](0));
        (uint128 available,) = escrow.accountOf(_consumer);
        checkEqual(100 * TALLY, available, "refunded");
    }

    /// @dev A lease that ends in the second of the cancel was in force at the cancel: good until the task's end.
    function test_a_lease_that_ends_with_the_cancel_is_good_until_the_end() external {
        _leaseUntil = _leaseFrom + 10;
        _cancelAfter(10);
        uint256 end = _leaseFrom + 10 + CANCEL_S;
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.DeadlinePassed.selector, end, end + 1));
        this.prove(0, 1000, 1, 1000);
        vm.warp(end);
        this.prove(0, 1000, 1, 1000);
        checkEqual(7 + 3 + 1000, _locked(), "proven");
    }

    function test_a_lease_that_ended_before_the_cancel_is_over() external {
        _leaseUntil = _leaseFrom + 9;
        _cancelAfter(10);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.LeaseOver.selector, _leaseUntil, _leaseFrom + 10));
        this.prove(0, 1000, 1, 1000);
    }

    /// @dev A task cancelled near its deadline ends with the deadline; one cancelled long before, after its hour.
    function test_a_cancelled_task_ends_at_the_earlier_end() external {
        uint256 before = vm.snapshotState();
        uint32[3] memory early = [CANCEL_S + 1, CANCEL_S, CANCEL_S - 1];
        for (uint256 i; i < early.length; ++i) {
            uint256 cancelledAt = _terms.deadline - early[i];
            uint256 end = least(cancelledAt + CANCEL_S, _terms.deadline);
            vm.warp(cancelledAt);
            vm.expectEmit(address(market));
            emit ITaskMarket.TaskCancelled(_id, _consumer, uint64(cancelledAt), uint64(end));
            vm.prank(_consumer);
            market.cancel(_terms);
            vm.warp(end);
            vm.expectRevert(abi.encodeWithSelector(ITaskMarket.NotEndedYet.selector, end, end));
            market.reclaim(_terms);
            vm.warp(end + 1);
            market.reclaim(_terms);
            checkEqual(0, _locked(), "refunded");
            vm.revertToState(before);
        }
    }

    /// @dev A call may take no time that the clock shows.
    function test_a_run_may_take_no_time() external {
        vm.warp(_leaseFrom + 10);
        this.prove(1000, 1000, 1, 0);
        checkEqual(7 + 3, _locked(), "the call and the task");
    }

    // ------------------------------------------------------------------ the court

    function test_a_draw_in_its_last_second() external {
        _disputed();
        vm.roll(block.number + 10);
        (uint64 lastDrawAt,,) = court.timesOf(_id);
        vm.warp(lastDrawAt);
        court.draw(_terms);
        checkEqual(lastDrawAt, court.disputeOf(_id).drawnAt, "drawn");
    }

    /// @dev An undecided round is followed by another if there is a second left to draw it, and else by none.
    function test_a_second_round_while_it_can_be_drawn() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.roll(block.number + 10);
        court.draw(_terms);
        (uint64 lastDrawAt,,) = court.timesOf(_id);
        uint256 before = vm.snapshotState();
        vm.warp(lastDrawAt);
        court.conclude(_terms, work);
        IDisputeCourt.Dispute memory dispute = court.disputeOf(_id);
        checkEqual(2, dispute.round, "the second");
        checkEqual(0, dispute.drawnAt, "nobody is drawn");
        checkEqual(block.number + 8, dispute.drawBlock, "eight blocks ahead");
        check(dispute.state == IDisputeCourt.State.Drawing, "drawing");
        checkEqual(0, _credit(_provider), "nothing is paid");
        vm.revertToState(before);
        vm.warp(lastDrawAt + 1);
        court.conclude(_terms, work);
        check(court.disputeOf(_id).state == IDisputeCourt.State.None, "over");
        checkEqual(work.charge, _credit(_provider), "paid");
    }

    /// @dev A seat that is listed in the second of the dispute does not count for it.
    function test_a_seat_of_the_same_second_is_none() external {
        _free(SEATS - 2);
        ITaskMarket.ProvenWork memory work = _proven();
        address[2] memory seats = [people[PROVIDER_FROM + 1], people[PROVIDER_FROM + 2]];
        for (uint256 i; i < seats.length; ++i) {
            vm.prank(seats[i]);
            staking.stake(UNIT);
            vm.prank(seats[i]);
            court.takeSeat();
        }
        vm.warp(block.timestamp + DAY_S);
        court.listSeat(seats[0]);
        court.listSeat(seats[1]);
        checkEqual(4, court.seats(), "four seats");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooFewSeats.selector, 3, 2));
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    /// @dev And none that is listed then is drawn, whatever the seed.
    function test_a_seat_of_the_same_second_is_not_drawn() external {
        ITaskMarket.ProvenWork memory work = _proven();
        address late = people[PROVIDER_FROM + 1];
        vm.prank(late);
        staking.stake(UNIT);
        vm.prank(late);
        court.takeSeat();
        vm.warp(block.timestamp + DAY_S);
        court.listSeat(late);
        vm.prank(_consumer);
        market.dispute(_terms, work);
        uint256 from = block.number;
        uint256 before = vm.snapshotState();
        for (uint256 i; i < 8; ++i) {
            vm.roll(from + 10 + 300 * i);
            address[3] memory drawn = court.draw(_terms);
            for (uint256 j; j < 3; ++j) {
                check(drawn[j] != late, "came with the dispute");
            }
            vm.revertToState(before);
        }
    }

    /// @dev Who would gain by the verdict does not count as a seat: once, however many roles it has.
    function test_a_party_is_no_seat() external {
        _free(1);
        _renew(people[SEAT_FROM + 1], address(0));
        ITaskMarket.ProvenWork memory work = _proven();
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooFewSeats.selector, 3, 2));
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    function test_a_party_in_two_roles_is_one_seat() external {
        _renew(people[SEAT_FROM + 1], people[SEAT_FROM + 1]);
        address[3] memory drawn = _drawn();
        for (uint256 i; i < 3; ++i) {
            check(drawn[i] != people[SEAT_FROM + 1], "the other three");
        }
    }

    /// @dev With no seat of before the dispute, a party's own that was listed with it takes nothing away.
    function test_no_seat_and_a_party_with_one() external {
        _free(SEATS);
        _renew(people[PROVIDER_FROM + 1], address(0));
        ITaskMarket.ProvenWork memory work = _proven();
        address late = people[PROVIDER_FROM + 1];
        vm.prank(late);
        staking.stake(UNIT);
        vm.prank(late);
        court.takeSeat();
        vm.warp(block.timestamp + DAY_S);
        court.listSeat(late);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooFewSeats.selector, 3, 0));
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    function test_a_seat_that_came_to_jail_is_not_listed() external {
        address seat = people[PROVIDER_FROM + 1];
        vm.prank(seat);
        staking.stake(UNIT);
        vm.prank(seat);
        court.takeSeat();
        vm.prank(address(court));
        staking.slash(seat, 1, "offence", new address[](0));
        vm.warp(block.timestamp + DAY_S);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatJailed.selector, seat));
        court.listSeat(seat);
        // As many seats as it has are no more than it has.
        vm.prank(address(court));
        staking.setSeats(seat, 1);
        court.dismissSeat(seat);
        checkEqual(SEATS, court.seats(), "it never was");
        (uint64 listableAt,,) = court.seatOf(seat);
        checkEqual(0, listableAt, "gone");
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStaking.ProviderJailed.selector, seat, staking.jailedUntil(seat))
        );
        vm.prank(address(court));
        staking.setSeats(seat, 1);
    }

    // ------------------------------------------------------------------ acts

    /// @dev The first seats of the list leave it, by way of jail.
    function _free(uint256 count) private {
        for (uint256 i; i < count; ++i) {
            address seat = people[SEAT_FROM + i];
            vm.prank(address(court));
            staking.slash(seat, 1, keccak256(abi.encode(seat)), new address[](0));
            court.dismissSeat(seat);
        }
        vm.warp(block.timestamp + 1);
    }

    /// @dev Another task, with these who may gain by it.
    function _renew(address signer, address royaltyTo) private {
        _terms.signer = signer;
        _terms.royaltyTo = royaltyTo;
        ++_terms.nonce;
        vm.prank(_consumer);
        _id = market.createTask(_terms, "");
    }
}
