// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What the contracts say they did, field by field: whoever keeps books from events knows nothing else. Always
/// somebody acts who is not the one that sends the transaction.
contract EventEdges is AloneStage {
    // ------------------------------------------------------------------ the escrow

    function test_what_an_account_did() external {
        _says(address(escrow));
        emit IComputeEscrow.Deposited(stranger, _consumer, 5);
        vm.prank(_consumer);
        escrow.deposit(stranger, 5);
        _says(address(escrow));
        emit IComputeEscrow.Withdrawn(stranger, appOwner, 4);
        vm.prank(stranger);
        escrow.withdraw(4, appOwner);
        _says(address(escrow));
        emit IComputeEscrow.PayoutAddressSet(_provider, appOwner);
        vm.prank(_provider);
        escrow.setPayoutAddress(_provider, appOwner);
        vm.prank(address(market));
        escrow.payProviderFrom(_consumer, 0, 1000, _provider, dispatcher, 0, dispatcher, 0);
        _says(address(escrow));
        emit IComputeEscrow.CreditWithdrawn(_provider, appOwner, 990, 10);
        escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0));
        _says(address(escrow));
        emit IComputeEscrow.FeesShared(_provider, 0, 10);
        escrow.shareFees(_provider);
    }

    function test_what_a_channel_did() external {
        address signer = vm.addr(sessionKeyOf[_consumer]);
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, signer, _provider, 7);
        bytes32 id = escrow.channelIdOf(channel);
        _says(address(escrow));
        emit IComputeEscrow.ChannelDeposited(id, _consumer, _provider, signer, 7, stranger, 100, 100);
        vm.prank(stranger);
        escrow.depositToChannel(channel, 100);
        _says(address(escrow));
        emit IComputeEscrow.ChannelFunded(id, _consumer, _provider, signer, 7, 30, 130);
        vm.prank(_consumer);
        escrow.fund(channel, 30);
        _says(address(escrow));
        emit IComputeEscrow.ChannelReleased(id, _consumer, _provider, 30, 100);
        vm.prank(_provider);
        escrow.release(channel, 30);
        uint64 closeAt = uint64(block.timestamp + CLOSE_S);
        _says(address(escrow));
        emit IComputeEscrow.CloseRequested(id, _consumer, _provider, closeAt);
        vm.prank(_consumer);
        checkEqual(closeAt, escrow.requestClose(channel), "its time");
        _says(address(escrow));
        emit IComputeEscrow.CloseCancelled(id, _consumer, _provider);
        vm.prank(_consumer);
        escrow.cancelClose(channel);
        _checkCloseAt(id, 0);
        vm.prank(_consumer);
        escrow.requestClose(channel);
        _checkCloseAt(id, closeAt);
        vm.warp(closeAt);
        _says(address(escrow));
        emit IComputeEscrow.ChannelClosed(id, _consumer, _provider, 100, 0);
        checkEqual(100, escrow.close(channel), "all of it");
        _checkCloseAt(id, 0);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.CloseNotRequested.selector, id));
        escrow.close(channel);
    }

    function test_what_an_allowance_did() external {
        address signer = vm.addr(sessionKeyOf[_consumer]);
        IComputeEscrow.ChannelAllowance memory allowance =
            IComputeEscrow.ChannelAllowance(_consumer, signer, 10, uint64(block.timestamp), "purpose", 0);
        bytes32 id = escrow.digestOfChannelAllowance(allowance);
        bytes memory signature = signed(keyOf[_consumer], id, false);
        bytes32 channel = escrow.channelIdOf(IComputeEscrow.Channel(_consumer, signer, _provider, 7));
        _says(address(escrow));
        emit IComputeEscrow.AllowanceUsed(id, _consumer, "purpose", channel, 4, 4);
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, _provider, 7, 4);
        _says(address(escrow));
        emit IComputeEscrow.AllowanceUsed(id, _consumer, "purpose", channel, 6, 10);
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, _provider, 7, 6);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.AllowanceExceeded.selector, 10, 11));
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, _provider, 7, 1);
        _says(address(escrow));
        emit IComputeEscrow.AllowanceRevoked(id, _consumer);
        vm.prank(_consumer);
        escrow.revokeAllowance(id);
    }

    // ------------------------------------------------------------------ the staking

    function test_what_a_provider_did() external {
        _says(address(staking));
        emit IProviderStaking.Staked(_provider, 3, UNIT + 3);
        vm.prank(_provider);
        staking.stake(3);
        uint64 withdrawableAt = uint64(block.timestamp + UNBONDING_S);
        for (uint256 i; i < 2; ++i) {
            _says(address(staking));
            emit IProviderStaking.UnbondRequested(_provider, i, 1, withdrawableAt, uint128(UNIT + 2 - i));
            vm.prank(_provider);
            checkEqual(i, staking.requestUnbond(1), "counted");
        }
        address key = vm.addr(0x0BE);
        bytes memory consent = signed(0x0BE, staking.digestOfOperatorKey(_provider, key), false);
        _says(address(staking));
        emit IProviderStaking.OperatorKeyBound(_provider, key);
        vm.prank(_provider);
        staking.bindOperatorKey(key, consent);
        _says(address(staking));
        emit IProviderStaking.OperatorKeyRetired(_provider, key, uint64(block.timestamp + RETIRED_KEY_S));
        vm.prank(_provider);
        staking.retireOperatorKey(key);
        _says(address(staking));
        emit IProviderStaking.CommissionSet(_provider, 200, uint64(block.timestamp + COMMISSION_NOTICE_S));
        vm.prank(_provider);
        staking.setCommission(200);
        _says(address(staking));
        emit IProviderStaking.GpusRegistered(_provider, 1, "gpus");
        vm.prank(_provider);
        staking.registerGpus("gpus", 1);
        vm.warp(withdrawableAt);
        _says(address(staking));
        emit IProviderStaking.StakeWithdrawn(_provider, 1, appOwner, 1);
        vm.prank(_provider);
        staking.withdrawStake(1, appOwner);
        _slash(1);
        vm.warp(block.timestamp + JAIL_S);
        _says(address(staking));
        emit IProviderStaking.Unjailed(_provider);
        vm.prank(_provider);
        staking.unjail();
    }

    function test_what_a_delegator_did() external {
        _says(address(staking));
        emit IProviderStaking.Delegated(_provider, stranger, 2 * UNIT, uint160(2 * UNIT), 2 * UNIT);
        vm.prank(stranger);
        staking.delegate(_provider, 2 * UNIT, 0);
        uint64 withdrawableAt = uint64(block.timestamp + UNBONDING_S);
        _says(address(staking));
        emit IProviderStaking.UndelegateRequested(_provider, stranger, 0, uint160(UNIT), UNIT, withdrawableAt, UNIT);
        vm.prank(stranger);
        staking.requestUndelegate(_provider, uint160(UNIT), 0);
        payment.mint(address(staking), 1024);
        _says(address(staking));
        emit IProviderStaking.FeesAdded(_provider, 1024, 0, 1024, uint64(block.timestamp + STREAM_S));
        vm.prank(address(escrow));
        staking.addFees(_provider, 1024);
        vm.warp(withdrawableAt);
        uint128 earned = staking.rewardsOf(_provider, stranger);
        checkAtMost(1024, earned, "no more than there were");
        checkAtMost(earned + 1, 1024, "all, to the unit");
        _says(address(staking));
        emit IProviderStaking.RewardsClaimed(_provider, stranger, appOwner, earned);
        vm.prank(stranger);
        staking.claimRewards(_provider, appOwner);
        _says(address(staking));
        emit IProviderStaking.DelegationWithdrawn(_provider, stranger, 0, appOwner, UNIT);
        vm.prank(stranger);
        staking.withdrawDelegation(0, appOwner);
        _says(address(staking));
        emit IProviderStaking.PotVoided(_provider, IProviderStaking.Pot.Delegated, 0, 1);
        _slash(UNIT + UNIT - 1);
    }

    // ------------------------------------------------------------------ the court

    function test_what_a_seat_did() external {
        address seat = people[PROVIDER_FROM + 1];
        vm.prank(seat);
        staking.stake(UNIT);
        uint64 time = uint64(block.timestamp + DAY_S);
        _says(address(court));
        emit IDisputeCourt.SeatTaken(seat, time);
        vm.prank(seat);
        court.takeSeat();
        vm.warp(time);
        _says(address(court));
        emit IDisputeCourt.SeatListed(seat, SEATS + 1);
        court.listSeat(seat);
        _says(address(court));
        emit IDisputeCourt.SeatLeaving(seat, time + DAY_S);
        vm.prank(seat);
        court.leaveSeat();
    }

    /// @dev Whoever shows a fault is named, and has a fifth of what was slashed.
    function test_what_a_reporter_did() external {
        vm.prank(_provider);
        staking.stake(UNIT);
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(bytes32("gpu")))));
        IDisputeCourt.SignedReceipt memory one = _receipt("route", leaf, 1);
        IDisputeCourt.SignedReceipt memory other = _receipt("route", leaf, 2);
        bytes32 offence = court.offenceOfRoute(_provider, "route");
        _says(address(court));
        emit IDisputeCourt.TwoHistoriesShown(_provider, "route", stranger, offence, UNIT);
        vm.prank(stranger);
        checkEqual(UNIT, court.reportTwoHistories(one, other), "a unit");
        checkEqual(UNIT / 5, staking.bountyOf(stranger), "a fifth");
        other = _receipt("other", leaf, 1);
        uint64 day = uint64(_leaseFrom / 1 days);
        offence = court.offenceOfGpu(_provider, "gpu", day);
        _says(address(court));
        emit IDisputeCourt.GpuSoldTwiceShown(_provider, "gpu", stranger, day, offence, UNIT);
        vm.prank(stranger);
        checkEqual(UNIT, court.reportGpuSoldTwice(one, other, "gpu", new bytes32[](0), new bytes32[](0)), "a unit");
        check(staking.isPunished(offence), "for this GPU and day");
        checkEqual(2 * (UNIT / 5), staking.bountyOf(stranger), "a fifth of both");
    }

    // ------------------------------------------------------------------ the market

    function test_what_a_proof_and_its_dispute_did() external {
        vm.warp(_leaseFrom + 10);
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(_terms, _usage(0, 1000, 1, 1000));
        uint64 endsAt = uint64(block.timestamp + MIN_CHALLENGE_S);
        _says(address(market));
        emit ITaskMarket.TaskProven(_id, _consumer, _provider, 0, receipt.total, digest, endsAt);
        this.prove(0, 1000, 1, 1000);
        ITaskMarket.ProvenWork memory work = ITaskMarket.ProvenWork(_provider, receipt.total, digest);
        uint128 amount = market.bondOf(_terms.verification, work.charge);
        uint256 before = vm.snapshotState();
        _says(address(market));
        emit ITaskMarket.TaskDisputed(_id, _consumer, _provider, amount, uint64(block.timestamp + COURT_S));
        _says(address(court));
        emit IDisputeCourt.DrawCalled(_id, 1, uint64(block.number + 8), uint64(block.timestamp + 3 days));
        vm.prank(_consumer);
        market.dispute(_terms, work);
        address[] memory nobody = new address[](0);
        _says(address(market));
        emit ITaskMarket.DisputeResolved(_id, _consumer, _provider, ITaskMarket.Verdict.Wrong, amount, 0, nobody);
        _says(address(market));
        emit ITaskMarket.TaskRefunded(_id, _consumer, work.charge);
        vm.prank(address(court));
        market.resolve(_terms, work, ITaskMarket.Verdict.Wrong, nobody);
        vm.revertToState(before);
        vm.warp(endsAt + 1);
        _says(address(market));
        emit ITaskMarket.TaskSettled(_id, _consumer, _provider, work.charge, digest, dispatcher, 0, address(0), 0);
        market.finalize(_terms, work, "");
    }

    // ------------------------------------------------------------------ acts

    /// @dev The next event of this contract is the one that follows.
    function _says(address who) private {
        vm.expectEmit(who);
    }

    function _slash(uint128 amount) private {
        vm.prank(address(court));
        staking.slash(_provider, amount, keccak256(abi.encode(amount)), new address[](0));
    }

    function _receipt(bytes32 route, bytes32 gpuSet, uint128 total)
        private
        view
        returns (IDisputeCourt.SignedReceipt memory shown)
    {
        ITaskMarket.Receipt memory receipt;
        receipt.provider = _provider;
        receipt.route = route;
        receipt.gpuSet = gpuSet;
        receipt.startedAtMs = uint64(uint256(_leaseFrom) * 1000);
        receipt.endedAtMs = receipt.startedAtMs + 10_000;
        receipt.total = total;
        shown.receipt = receipt;
        (shown.r, shown.vs) = signedWords(keyOf[_provider], market.digestOfReceipt(receipt));
    }

    function _checkCloseAt(bytes32 id, uint256 expected) private view {
        (,, uint64 closeAt) = escrow.channelOf(id);
        checkEqual(expected, closeAt, "closeAt");
    }
}
