// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Amounts at the ends of their type, and what an allowance remembers. The market's checks keep most of these from
/// the escrow; it makes them again (cases 41 and 49).
contract AmountEdges is Stage {
    uint128 private constant MOST = type(uint128).max;
    address private _payer;
    address private _provider;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        _payer = people[0];
        _provider = people[PROVIDER_FROM];
    }

    // ------------------------------------------------------------------ what the market may say

    function test_no_amount_of_a_payment_is_wider_than_its_type() external {
        uint256 wide = uint256(MOST) + 1;
        for (uint256 i; i < 4; ++i) {
            uint256[4] memory amounts;
            amounts[i] = wide;
            vm.expectRevert(IComputeEscrow.AmountTooLarge.selector);
            this.pay(amounts);
        }
    }

    function test_a_charge_is_paid_out_of_what_is_there() external {
        _deposit(100);
        _lock(40);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InsufficientAvailable.selector, 61, 60));
        this.pay([uint256(0), 61, 0, 0]);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InsufficientLocked.selector, 41, 40));
        this.pay([uint256(41), 61, 0, 0]);
        this.pay([uint256(40), 100, 0, 0]);
        _checkAccount(0, 0);
        checkEqual(100, _credit(_provider), "all of it");
    }

    function test_shares_are_parts_of_the_charge() external {
        _deposit(100);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.SharesAboveCharge.selector, 50, 51));
        this.pay([uint256(0), 50, 30, 21]);
        this.pay([uint256(0), 50, 30, 20]);
        checkEqual(0, _credit(_provider), "nothing is left for the provider");
        checkEqual(30, _credit(dispatcher), "the dispatcher's");
        checkEqual(20, _credit(appOwner), "the royalty");
    }

    /// @dev What comes back from locked must not run over into it.
    function test_what_is_unlocked_does_not_run_over() external {
        payment.mint(_payer, MOST);
        _deposit(MOST);
        _lock(1);
        _deposit(1);
        vm.expectRevert(IComputeEscrow.AmountTooLarge.selector);
        this.pay([uint256(1), 0, 0, 0]);
        this.pay([uint256(1), 1, 0, 0]);
        _checkAccount(MOST, 0);
    }

    function test_what_is_unlocked_was_locked() external {
        _deposit(100);
        _lock(40);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InsufficientLocked.selector, 41, 40));
        vm.prank(address(market));
        escrow.unlock(_payer, 41);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InsufficientAvailable.selector, 61, 60));
        vm.prank(address(market));
        escrow.lockAvailable(_payer, 61);
        vm.prank(address(market));
        escrow.unlock(_payer, 40);
        _checkAccount(100, 0);
    }

    // ------------------------------------------------------------------ credit

    /// @dev The credit's word holds the fees above it: a sum that would run over stays in its channel.
    function test_a_credit_does_not_run_over() external {
        payment.mint(_payer, MOST);
        _deposit(MOST);
        this.pay([uint256(0), MOST, 0, 0]);
        IComputeEscrow.Row[] memory rows = _voucher(1);
        vm.expectRevert(IComputeEscrow.AmountTooLarge.selector);
        escrow.redeem(_provider, rows);
        vm.expectRevert(IComputeEscrow.AmountTooLarge.selector);
        escrow.withdrawCredit(_provider, rows);
        uint256 had = payment.balanceOf(_provider);
        uint256 fee = uint256(MOST) / 100;
        checkEqual(MOST - fee, escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0)), "without the voucher");
        checkEqual(had + MOST - fee, payment.balanceOf(_provider), "paid");
        checkEqual(1, escrow.redeem(_provider, rows), "then the voucher");
    }

    function test_nothing_is_no_amount() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_payer, people[1], _provider, 0);
        vm.expectRevert(IComputeEscrow.ZeroAmount.selector);
        escrow.deposit(_payer, 0);
        vm.expectRevert(IComputeEscrow.ZeroAmount.selector);
        escrow.depositToChannel(channel, 0);
        vm.expectRevert(IComputeEscrow.ZeroAmount.selector);
        escrow.withdraw(0, _payer);
        vm.expectRevert(IComputeEscrow.ZeroAmount.selector);
        vm.prank(_provider);
        escrow.release(channel, 0);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NoCredit.selector, _provider));
        escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0));
    }

    function test_nothing_is_paid_in_for_nobody() external {
        address[2] memory nobody = [address(0), address(escrow)];
        for (uint256 i; i < nobody.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InvalidRecipient.selector, nobody[i]));
            vm.prank(_payer);
            escrow.deposit(nobody[i], 1);
        }
    }

    /// @dev All for the treasury while nobody stands behind the payee; then half for the pool, of an odd sum the smaller.
    function test_fees_go_to_the_treasury_and_to_the_pool() external {
        _deposit(2100);
        _earn(1000);
        (uint128 toPool, uint128 toTreasury) = escrow.shareFees(_provider);
        checkEqual(0, toPool, "nobody stands behind it");
        checkEqual(10, toTreasury, "all of it");
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NoFees.selector, _provider));
        escrow.shareFees(_provider);
        vm.prank(stranger);
        staking.delegate(_provider, UNIT, 0);
        _earn(1100);
        uint256 had = payment.balanceOf(treasury);
        (toPool, toTreasury) = escrow.shareFees(_provider);
        checkEqual(5, toPool, "half, rounded down");
        checkEqual(6, toTreasury, "the rest");
        checkEqual(had + 6, payment.balanceOf(treasury), "paid");
        checkEqual(5, payment.balanceOf(address(staking)), "for the pool");
        (uint128 remaining,) = staking.streamOf(_provider);
        checkEqual(5, remaining, "flows");
    }

    // ------------------------------------------------------------------ allowances

    function test_an_allowance_remembers_what_it_paid_and_its_end() external {
        (IComputeEscrow.ChannelAllowance memory allowance, bytes32 id) = _allowance(_payer);
        bytes memory signature = signed(keyOf[_payer], id, false);
        _deposit(100);
        _spend(allowance, signature, 7);
        _checkAllowance(id, 7, false);
        vm.expectRevert(IComputeEscrow.ZeroAmount.selector);
        vm.prank(allowance.signer);
        escrow.fundWithAllowance(allowance, signature, _provider, 0, 0);
        vm.prank(_payer);
        escrow.revokeAllowance(id);
        _checkAllowance(id, 7, true);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.AllowanceWasRevoked.selector, id));
        vm.prank(_payer);
        escrow.revokeAllowance(id);
    }

    /// @dev The third of the people signs by contract.
    function test_a_contract_allows_too() external {
        address wallet = people[2];
        (IComputeEscrow.ChannelAllowance memory allowance, bytes32 id) = _allowance(wallet);
        vm.prank(wallet);
        escrow.deposit(wallet, 100);
        bytes memory forged = signed(keyOf[stranger], id, false);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.InvalidAllowanceSignature.selector, wallet, stranger));
        vm.prank(allowance.signer);
        escrow.fundWithAllowance(allowance, forged, _provider, 0, 7);
        _spend(allowance, signed(keyOf[wallet], id, false), 7);
        (uint128 spent,) = escrow.allowanceOf(wallet, id);
        checkEqual(7, spent, "spent");
        (uint128 available,) = escrow.accountOf(wallet);
        checkEqual(93, available, "out of the wallet's account");
    }

    // ------------------------------------------------------------------ acts

    /// @param amounts Unlocked, charge, the dispatcher's share, the royalty.
    function pay(uint256[4] memory amounts) external {
        vm.prank(address(market));
        escrow.payProviderFrom(_payer, amounts[0], amounts[1], _provider, dispatcher, amounts[2], appOwner, amounts[3]);
    }

    function _deposit(uint128 amount) private {
        vm.prank(_payer);
        escrow.deposit(_payer, amount);
    }

    /// @dev A hundredth of it becomes fees.
    function _earn(uint256 charge) private {
        this.pay([uint256(0), charge, 0, 0]);
        escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0));
    }

    function _lock(uint128 amount) private {
        vm.prank(address(market));
        escrow.lockAvailable(_payer, amount);
    }

    /// @dev Of a channel of its own, that has as much.
    function _voucher(uint128 total) private returns (IComputeEscrow.Row[] memory rows) {
        vm.prank(_payer);
        escrow.depositToChannel(IComputeEscrow.Channel(_payer, vm.addr(sessionKeyOf[_payer]), _provider, 0), total);
        bytes32 digest = escrow.digestOfVoucher(IComputeEscrow.Voucher(_payer, _provider, 0, total, "receipt"));
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[_payer], digest);
        rows = new IComputeEscrow.Row[](1);
        rows[0] = IComputeEscrow.Row(uint256(uint160(_payer)) << 96, total, "receipt", r, vs);
    }

    function _allowance(address payer)
        private
        view
        returns (IComputeEscrow.ChannelAllowance memory allowance, bytes32 id)
    {
        address signer = vm.addr(sessionKeyOf[payer]);
        allowance = IComputeEscrow.ChannelAllowance(payer, signer, 10, uint64(block.timestamp), "purpose", 0);
        id = escrow.digestOfChannelAllowance(allowance);
    }

    function _spend(IComputeEscrow.ChannelAllowance memory allowance, bytes memory signature, uint128 amount) private {
        vm.prank(allowance.signer);
        escrow.fundWithAllowance(allowance, signature, _provider, 0, amount);
    }

    function _credit(address payee) private view returns (uint256 credit) {
        (credit,) = escrow.payeeOf(payee);
    }

    function _checkAccount(uint256 expectedAvailable, uint256 expectedLocked) private view {
        (uint128 available, uint128 locked) = escrow.accountOf(_payer);
        checkEqual(expectedAvailable, available, "available");
        checkEqual(expectedLocked, locked, "locked");
    }

    function _checkAllowance(bytes32 id, uint256 expectedSpent, bool expectedRevoked) private view {
        (uint128 spent, bool revoked) = escrow.allowanceOf(_payer, id);
        checkEqual(expectedSpent, spent, "spent");
        check(revoked == expectedRevoked, "revoked");
    }
}
