// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice From the seat to the verdict: who may speak, until when, and what silence costs (cases 23 and 25).
contract CourtEdges is AloneStage {
    bytes32 private constant SALT = "salt";
    uint128 private constant SILENCE = UNIT / 10;

    // ------------------------------------------------------------------ seats

    function test_a_seat_is_listed_once_and_not_before_its_time() external {
        address seat = people[PROVIDER_FROM + 1];
        vm.prank(seat);
        staking.stake(UNIT);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NoSeat.selector, seat));
        court.listSeat(seat);
        vm.prank(seat);
        court.takeSeat();
        uint64 listableAt = uint64(block.timestamp + DAY_S);
        vm.warp(listableAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooSoon.selector, listableAt, listableAt - 1));
        court.listSeat(seat);
        vm.warp(listableAt);
        court.listSeat(seat);
        checkEqual(SEATS + 1, court.seats(), "one more");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatAlreadyListed.selector, seat));
        court.listSeat(seat);
    }

    /// @dev The last of the list takes the place that is free, and the units are its owner's again.
    function test_a_seat_is_free_after_its_notice() external {
        address seat = people[SEAT_FROM];
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatNotLeaving.selector, seat));
        court.freeSeat(seat);
        vm.prank(seat);
        court.leaveSeat();
        uint64 leavableAt = uint64(block.timestamp + DAY_S);
        vm.warp(leavableAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooSoon.selector, leavableAt, leavableAt - 1));
        court.freeSeat(seat);
        vm.warp(leavableAt);
        court.freeSeat(seat);
        checkEqual(SEATS - 1, court.seats(), "one less");
        checkEqual(1, staking.unitsOf(seat), "its unit backs GPUs again");
        for (uint256 i = 1; i < SEATS; ++i) {
            (,, bool listed) = court.seatOf(people[SEAT_FROM + i]);
            check(listed, "the others keep theirs");
        }
    }

    function test_a_seat_is_taken_once_and_left_once() external {
        address seat = people[SEAT_FROM];
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatAlreadyTaken.selector, seat));
        vm.prank(seat);
        court.takeSeat();
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotJailed.selector, seat));
        court.dismissSeat(seat);
        vm.prank(seat);
        court.leaveSeat();
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatIsLeaving.selector, seat));
        vm.prank(seat);
        court.leaveSeat();
    }

    function test_a_seat_that_leaves_is_not_listed() external {
        address seat = people[PROVIDER_FROM + 1];
        vm.prank(seat);
        staking.stake(UNIT);
        vm.prank(seat);
        court.takeSeat();
        vm.prank(seat);
        court.leaveSeat();
        vm.warp(block.timestamp + DAY_S);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatIsLeaving.selector, seat));
        court.listSeat(seat);
    }

    function test_a_jailed_provider_takes_no_seat() external {
        _jail(_provider);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.SeatJailed.selector, _provider));
        vm.prank(_provider);
        court.takeSeat();
    }

    // ------------------------------------------------------------------ the draw

    function test_a_dispute_needs_three_seats() external {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.UnknownDispute.selector, _id));
        court.timesOf(_id);
        for (uint256 i; i < 2; ++i) {
            _jail(people[SEAT_FROM + i]);
            court.dismissSeat(people[SEAT_FROM + i]);
        }
        vm.warp(block.timestamp + 1);
        ITaskMarket.ProvenWork memory work = _proven();
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooFewSeats.selector, 3, 2));
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    function test_a_draw_waits_for_its_block_and_is_made_once() external {
        _disputed();
        uint64 drawBlock = court.disputeOf(_id).drawBlock;
        vm.roll(drawBlock);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.DrawBlockAhead.selector, drawBlock, drawBlock));
        court.draw(_terms);
        vm.roll(drawBlock + 1);
        court.draw(_terms);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDisputeCourt.WrongState.selector, IDisputeCourt.State.Drawing, IDisputeCourt.State.Sworn
            )
        );
        court.draw(_terms);
    }

    /// @dev Seats that are in jail when the draw comes are passed over, though still listed.
    function test_a_draw_needs_three_that_may_judge() external {
        _disputed();
        vm.roll(block.number + 10);
        _jail(people[SEAT_FROM]);
        uint256 before = vm.snapshotState();
        address[3] memory drawn = court.draw(_terms);
        for (uint256 i; i < drawn.length; ++i) {
            check(drawn[i] != people[SEAT_FROM], "not the jailed one");
        }
        vm.revertToState(before);
        _jail(people[SEAT_FROM + 1]);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooFewSeats.selector, 3, 2));
        court.draw(_terms);
    }

    /// @dev Case 25: until its last second a draw is everybody's to make; after it the provider is paid.
    function test_a_dispute_that_nobody_draws_ends_undecided() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.roll(block.number + 10);
        (uint64 lastDrawAt,,) = court.timesOf(_id);
        vm.warp(lastDrawAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.DrawStillPossible.selector, lastDrawAt, lastDrawAt));
        court.conclude(_terms, work);
        vm.warp(lastDrawAt + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.DrawTooLate.selector, lastDrawAt, lastDrawAt + 1));
        court.draw(_terms);
        court.conclude(_terms, work);
        checkEqual(work.charge, _credit(_provider), "the provider is paid");
        checkEqual(0, _locked(), "the bond is back");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.UnknownDispute.selector, _id));
        court.timesOf(_id);
    }

    // ------------------------------------------------------------------ votes

    function test_a_vote_is_committed_once_and_is_something() external {
        address[3] memory drawn = _drawn();
        vm.expectRevert(IDisputeCourt.EmptyCommitment.selector);
        vm.prank(drawn[0]);
        court.commit(_id, drawn[0], 0);
        vm.prank(drawn[0]);
        court.commit(_id, drawn[0], "one");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.AlreadyCommitted.selector, drawn[0]));
        vm.prank(drawn[0]);
        court.commit(_id, drawn[0], "two");
        vm.expectRevert(IDisputeCourt.NoVote.selector);
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.None, SALT);
    }

    function test_who_was_not_drawn_has_no_vote() external {
        address[3] memory drawn = _drawn();
        address other;
        for (uint256 i; i < SEATS; ++i) {
            address seat = people[SEAT_FROM + i];
            if (seat != drawn[0] && seat != drawn[1] && seat != drawn[2]) other = seat;
        }
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotDrawn.selector, _id, other));
        vm.prank(other);
        court.commit(_id, other, "one");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.OnlyChecker.selector, drawn[0], other));
        vm.prank(other);
        court.commit(_id, drawn[0], "one");
    }

    function test_commit_and_reveal_have_a_last_second() external {
        address[3] memory drawn = _drawn();
        (, uint64 commitEndsAt, uint64 revealEndsAt) = court.timesOf(_id);
        bytes32 commitment = court.commitmentOf(IDisputeCourt.Vote.Right, SALT, drawn[0], _id);
        vm.warp(commitEndsAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.CommitNotOver.selector, commitEndsAt, commitEndsAt));
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.Right, SALT);
        vm.prank(drawn[0]);
        court.commit(_id, drawn[0], commitment);
        vm.warp(commitEndsAt + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.CommitOver.selector, commitEndsAt, commitEndsAt + 1));
        vm.prank(drawn[1]);
        court.commit(_id, drawn[1], commitment);
        vm.warp(revealEndsAt + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.RevealOver.selector, revealEndsAt, revealEndsAt + 1));
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.Right, SALT);
        vm.warp(revealEndsAt);
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.Right, SALT);
    }

    // ------------------------------------------------------------------ the verdict

    /// @dev Case 23: two that say the work is right are a majority, paid out of the bond; the third may speak until the end.
    function test_two_for_the_provider_pay_it() external {
        (ITaskMarket.ProvenWork memory work, address[3] memory drawn) =
            _voted([IDisputeCourt.Vote.Right, IDisputeCourt.Vote.NoInput, IDisputeCourt.Vote.None]);
        (,, uint64 revealEndsAt) = court.timesOf(_id);
        vm.warp(revealEndsAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.RevealNotOver.selector, revealEndsAt, revealEndsAt));
        court.conclude(_terms, work);
        vm.warp(revealEndsAt + 1);
        court.conclude(_terms, work);
        uint128 amount = market.bondOf(_terms.verification, work.charge);
        checkEqual(amount / 3, _credit(drawn[0]), "a third");
        checkEqual(amount / 3, _credit(drawn[1]), "a third");
        checkEqual(0, _credit(drawn[2]), "nothing for silence");
        checkEqual(work.charge + amount - 2 * (amount / 3), _credit(_provider), "charge and the rest");
        checkEqual(UNIT, _bonded(drawn[2]), "one that is silent beside a majority loses nothing");
    }

    function test_two_against_the_provider_cost_it_a_unit() external {
        (ITaskMarket.ProvenWork memory work, address[3] memory drawn) =
            _voted([IDisputeCourt.Vote.Wrong, IDisputeCourt.Vote.NoResult, IDisputeCourt.Vote.Right]);
        // All three spoke: nothing to wait for.
        court.conclude(_terms, work);
        (uint128 available,) = escrow.accountOf(_consumer);
        checkEqual(100 * TALLY, available, "the consumer has all of it back");
        checkEqual(0, _bonded(_provider), "the provider lost its unit");
        checkEqual(UNIT / 5 / 2, staking.bountyOf(drawn[0]), "half of a fifth");
        checkEqual(UNIT / 5 / 2, staking.bountyOf(drawn[1]), "half of a fifth");
        checkEqual(0, staking.bountyOf(drawn[2]), "nothing for the minority");
        check(staking.isPunished(court.offenceOfTask(_id)), "for this task");
    }

    /// @dev Case 25: no majority in either round. Who was silent pays a tenth of a unit each time, the provider is paid.
    function test_silence_is_punished_and_a_second_round_is_the_last() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        address silent;
        for (uint8 round = 1; round <= 2; ++round) {
            vm.roll(court.disputeOf(_id).drawBlock + 1);
            address[3] memory drawn = court.draw(_terms);
            checkEqual(round, court.disputeOf(_id).round, "round");
            silent = drawn[2];
            uint256 had = _bonded(silent);
            _vote(drawn, [IDisputeCourt.Vote.Right, IDisputeCourt.Vote.Wrong, IDisputeCourt.Vote.None]);
            (,, uint64 revealEndsAt) = court.timesOf(_id);
            vm.warp(revealEndsAt + 1);
            court.conclude(_terms, work);
            checkEqual(had - SILENCE, _bonded(silent), "a tenth of a unit");
            check(staking.isPunished(court.offenceOfSilence(_id, silent, round)), "for this round");
            checkEqual(UNIT, _bonded(drawn[0]), "who spoke keeps all");
            checkEqual(UNIT, _bonded(drawn[1]), "who spoke keeps all");
            checkEqual(round == 1 ? 0 : work.charge, _credit(_provider), "paid after the last round");
            if (round == 2) continue;
            // Out of jail again with a whole unit, so that there are three for another draw.
            vm.prank(silent);
            staking.stake(SILENCE);
        }
        checkEqual(0, _locked(), "the bond is back");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.UnknownDispute.selector, _id));
        court.timesOf(_id);
    }

    // ------------------------------------------------------------------ acts

    function _jail(address provider) private {
        vm.prank(address(court));
        staking.slash(provider, 1, keccak256(abi.encode(provider)), new address[](0));
    }

    function _voted(IDisputeCourt.Vote[3] memory votes)
        private
        returns (ITaskMarket.ProvenWork memory work, address[3] memory drawn)
    {
        work = _disputed();
        vm.roll(block.number + 10);
        drawn = court.draw(_terms);
        _vote(drawn, votes);
    }

    /// @dev Commits and reveals all votes but `None`.
    function _vote(address[3] memory drawn, IDisputeCourt.Vote[3] memory votes) private {
        for (uint256 i; i < votes.length; ++i) {
            if (votes[i] == IDisputeCourt.Vote.None) continue;
            bytes32 commitment = court.commitmentOf(votes[i], SALT, drawn[i], _id);
            vm.prank(drawn[i]);
            court.commit(_id, drawn[i], commitment);
        }
        (, uint64 commitEndsAt,) = court.timesOf(_id);
        vm.warp(commitEndsAt + 1);
        for (uint256 i; i < votes.length; ++i) {
            if (votes[i] != IDisputeCourt.Vote.None) court.reveal(_id, drawn[i], votes[i], SALT);
        }
    }

    function _bonded(address provider) private view returns (uint256 bonded) {
        (bonded,) = staking.stakeOf(provider);
    }
}
