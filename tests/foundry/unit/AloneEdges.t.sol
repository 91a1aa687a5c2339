// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice A proof without acceptance, from the lease to the last word of the court: who may, until when, for how much
/// (cases 14, 23, 25 and 29, law L11).
contract AloneEdges is AloneStage {
    // ------------------------------------------------------------------ the lease

    function test_a_lease_is_good_until_its_last_second() external {
        vm.warp(_leaseUntil + 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.LeaseOver.selector, _leaseUntil, _leaseUntil + 1));
        this.prove(0, 1000, 1, 1000);
        vm.warp(_leaseUntil);
        this.prove(0, 1000, 1, 1000);
    }

    function test_work_begins_inside_the_lease() external {
        _leaseFrom += 10;
        vm.warp(_leaseFrom + 10);
        uint256 fromMs = uint256(_leaseFrom) * 1000;
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.StartedBeforeLease.selector, fromMs, fromMs - 1));
        this.prove(-1, 1000, 1, 1000);
        this.prove(0, 1000, 1, 1000);
    }

    function test_no_more_gpu_time_than_the_run_had() external {
        vm.warp(_leaseFrom + 10);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.TooMuchGpuTime.selector, 1000, 1001));
        this.prove(0, 1000, 1, 1001);
        this.prove(0, 1000, 1, 1000);
    }

    function test_one_call_at_most() external {
        vm.warp(_leaseFrom + 10);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.TooManyCalls.selector, 1, 2));
        this.prove(0, 1000, 2, 1000);
        this.prove(0, 1000, 1, 1000);
        checkEqual(7 + 3 + 1000, _locked(), "what the proof is worth stays locked");
    }

    function test_each_gpu_has_a_unit_of_stake_behind_it() external {
        vm.warp(_leaseFrom + 10);
        vm.prank(_provider);
        staking.requestUnbond(1);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.StakeTooLow.selector, 1, 0));
        this.prove(0, 1000, 1, 1000);
    }

    // ------------------------------------------------------------------ cancel

    /// @dev Case 14: neither a stranger, nor who would be paid.
    function test_nobody_but_the_consumer_cancels() external {
        address[3] memory others = [stranger, _provider, dispatcher];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ITaskMarket.OnlyConsumer.selector, _consumer, others[i]));
            vm.prank(others[i]);
            market.cancel(_terms);
        }
        (, uint64 cancelledAt) = market.taskOf(_id);
        checkEqual(0, cancelledAt, "not cancelled");
    }

    /// @dev Twenty seconds of work, cancelled after ten: ten are paid, and the call that had begun.
    function test_gpu_time_after_the_cancel_is_not_paid() external {
        _cancelAfter(10);
        vm.warp(_leaseFrom + 20);
        this.prove(0, 20_000, 1, 20_000);
        checkEqual(7 + 3 + 10_000, _locked(), "paid until the cancel");
    }

    function test_a_call_begun_with_the_cancel_is_not_paid() external {
        _cancelAfter(10);
        vm.warp(_leaseFrom + 20);
        this.prove(10_000, 20_000, 1, 10_000);
        checkEqual(7, _locked(), "the task alone");
    }

    // ------------------------------------------------------------------ dispute

    /// @dev Until the window's last second, not in the next.
    function test_a_dispute_comes_inside_the_window() external {
        ITaskMarket.ProvenWork memory work = _proven();
        uint64 endsAt = uint64(block.timestamp + MIN_CHALLENGE_S);
        vm.warp(endsAt + 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.ChallengeWindowOver.selector, endsAt, endsAt + 1));
        vm.prank(_consumer);
        market.dispute(_terms, work);
        vm.warp(endsAt);
        vm.prank(_consumer);
        market.dispute(_terms, work);
        checkEqual(work.charge + market.bondOf(_terms.verification, work.charge), _locked(), "charge and bond");
    }

    /// @dev Case 25: the court has its whole time, its last second too; after it the provider is paid and the bond is back.
    function test_a_dispute_does_not_end_before_the_courts_time() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        uint64 endsAt = uint64(block.timestamp + COURT_S);
        vm.warp(endsAt);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.CourtNotOver.selector, endsAt, endsAt));
        market.endDispute(_terms, work);
        vm.warp(endsAt + 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.CourtOver.selector, endsAt, endsAt + 1));
        vm.prank(address(court));
        market.resolve(_terms, work, ITaskMarket.Verdict.Wrong, new address[](0));
        market.endDispute(_terms, work);
        checkEqual(0, _locked(), "nothing is locked any more");
        (uint128 available,) = escrow.accountOf(_consumer);
        checkEqual(100 * TALLY - work.charge, available, "the consumer paid the charge alone");
        checkEqual(work.charge, _credit(_provider), "the provider has the charge");
    }

    function test_nobody_but_the_court_resolves() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.OnlyCourt.selector, address(court), _provider));
        vm.prank(_provider);
        market.resolve(_terms, work, ITaskMarket.Verdict.Right, new address[](0));
    }

    /// @dev Case 23: a third of the bond each, whether two of them earn it or three; the provider has what is left.
    function test_a_checker_has_a_third_of_the_bond() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        uint128 amount = market.bondOf(_terms.verification, work.charge);
        checkEqual(3 * TALLY + (3 * uint256(work.charge) + 9) / 10, amount, "three tenths, rounded up, and the floor");
        uint256 before = vm.snapshotState();
        for (uint256 checkers = 2; checkers <= 3; ++checkers) {
            address[] memory paid = new address[](checkers);
            for (uint256 i; i < checkers; ++i) {
                paid[i] = people[SEAT_FROM + i];
            }
            vm.prank(address(court));
            market.resolve(_terms, work, ITaskMarket.Verdict.Right, paid);
            for (uint256 i; i < checkers; ++i) {
                checkEqual(amount / 3, _credit(paid[i]), "a third");
            }
            checkEqual(work.charge + amount - checkers * (amount / 3), _credit(_provider), "charge and the rest");
            checkEqual(0, _locked(), "nothing is locked any more");
            vm.revertToState(before);
        }
    }

    /// @dev A wrong result is not paid, and the consumer that said so has its bond back.
    function test_a_wrong_result_is_refunded() external {
        ITaskMarket.ProvenWork memory work = _disputed();
        vm.prank(address(court));
        market.resolve(_terms, work, ITaskMarket.Verdict.Wrong, new address[](0));
        (uint128 available, uint128 locked) = escrow.accountOf(_consumer);
        checkEqual(100 * TALLY, available, "all of it");
        checkEqual(0, locked, "nothing is locked any more");
        checkEqual(0, _credit(_provider), "the provider has nothing");
    }

    // ------------------------------------------------------------------ the court

    /// @dev Four seats, of which one may accept results for the consumer: the other three are drawn, whatever the seed.
    function test_a_party_is_not_drawn() external {
        _terms.signer = people[SEAT_FROM];
        for (uint256 i; i < 8; ++i) {
            ++_terms.nonce;
            vm.prank(_consumer);
            _id = market.createTask(_terms, "");
            address[3] memory drawn = _drawn();
            for (uint256 j; j < drawn.length; ++j) {
                check(drawn[j] != _terms.signer, "no party judges itself");
                check(drawn[j] != drawn[(j + 1) % 3], "three people");
            }
        }
    }

    function test_a_vote_is_the_one_that_was_committed() external {
        address[3] memory drawn = _drawn();
        bytes32 committed = court.commitmentOf(IDisputeCourt.Vote.Right, "salt", drawn[0], _id);
        bytes32 other = court.commitmentOf(IDisputeCourt.Vote.Wrong, "salt", drawn[0], _id);
        vm.prank(drawn[0]);
        court.commit(_id, drawn[0], committed);
        vm.warp(block.timestamp + DAY_S + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongReveal.selector, committed, other));
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.Wrong, "salt");
        bytes32 never = court.commitmentOf(IDisputeCourt.Vote.Right, "salt", drawn[1], _id);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongReveal.selector, bytes32(0), never));
        court.reveal(_id, drawn[1], IDisputeCourt.Vote.Right, "salt");
        court.reveal(_id, drawn[0], IDisputeCourt.Vote.Right, "salt");
        check(court.checkersOf(_id, 1)[0].vote == IDisputeCourt.Vote.Right, "the vote counts");
    }
}
