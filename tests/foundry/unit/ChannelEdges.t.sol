// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What a channel's word remembers, from one voucher to the next and over its end (cases 10, 34, 42, 43 and 44).
contract ChannelEdges is Stage {
    IComputeEscrow.Channel private _channel;
    bytes32 private _id;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        address payer = people[0];
        _channel = IComputeEscrow.Channel(payer, vm.addr(sessionKeyOf[payer]), people[PROVIDER_FROM], 7);
        _id = escrow.channelIdOf(_channel);
        _deposit(100);
    }

    /// @dev Case 34: totals add up, so each voucher pays what it adds, and an older one nothing.
    function test_a_voucher_pays_what_it_adds() external {
        checkEqual(40, _redeem(40), "the first pays all of its total");
        checkEqual(0, _redeem(40), "once");
        checkEqual(25, _redeem(65), "the second what it adds");
        checkEqual(0, _redeem(40), "the first no more");
        checkEqual(1, _redeem(66), "the third what it adds to the second");
        _checkWord(100, 66);
    }

    /// @dev Case 43: what is deposited is paid, and the rest of the total once it is deposited too.
    function test_a_voucher_pays_no_more_than_the_deposit() external {
        checkEqual(100, _redeem(130), "the deposit");
        _checkWord(100, 100);
        _deposit(50);
        checkEqual(30, _redeem(130), "the rest");
        _checkWord(150, 130);
    }

    /// @dev Case 42: a channel that was closed and is opened again owes nothing for its old vouchers.
    function test_a_channel_opened_again_remembers_what_it_paid() external {
        checkEqual(40, _redeem(40), "paid");
        _requestClose();
        vm.warp(block.timestamp + CLOSE_S);
        checkEqual(60, escrow.close(_channel), "back to the payer");
        _checkWord(40, 40);
        _deposit(30);
        _checkWord(70, 40);
        checkEqual(0, _redeem(40), "the old voucher pays nothing");
        checkEqual(5, _redeem(45), "a new one what it adds");
    }

    /// @dev Cases 10 and 44: the period is whole, and no second request moves its end.
    function test_a_channel_closes_when_its_period_is_over() external {
        uint64 closeAt = uint64(block.timestamp + CLOSE_S);
        _requestClose();
        vm.warp(closeAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.CloseAlreadyRequested.selector, closeAt));
        this.requestClose();
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.ClosePeriodNotOver.selector, closeAt, closeAt - 1));
        escrow.close(_channel);
        checkEqual(90, _redeem(90), "a voucher counts until then");
        vm.warp(closeAt);
        checkEqual(10, escrow.close(_channel), "what was left");
    }

    function requestClose() external {
        _requestClose();
    }

    function _requestClose() private {
        vm.prank(_channel.payer);
        escrow.requestClose(_channel);
    }

    function _deposit(uint128 amount) private {
        vm.prank(_channel.payer);
        escrow.depositToChannel(_channel, amount);
    }

    function _redeem(uint128 total) private returns (uint256) {
        bytes32 digest = escrow.digestOfVoucher(
            IComputeEscrow.Voucher(_channel.payer, _channel.provider, _channel.salt, total, bytes32("receipt"))
        );
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[_channel.payer], digest);
        IComputeEscrow.Row[] memory rows = new IComputeEscrow.Row[](1);
        uint256 payerAndSalt = (uint256(uint160(_channel.payer)) << 96) | _channel.salt;
        rows[0] = IComputeEscrow.Row(payerAndSalt, total, bytes32("receipt"), r, vs);
        return escrow.redeem(_channel.provider, rows);
    }

    function _checkWord(uint256 expectedDeposit, uint256 expectedClaim) private view {
        (uint128 deposited, uint128 claimed,) = escrow.channelOf(_id);
        checkEqual(expectedDeposit, deposited, "deposited");
        checkEqual(expectedClaim, claimed, "claimed");
    }
}
