// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {HostileToken} from "../base/HostileToken.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Every verb that moves a token, called by the token in the middle of every other (case 1). That the call fails
/// for the guard alone is shown by the same call from outside, which gets through.
contract ReentryEdges is Stage {
    uint256 private constant ESCROW_VERBS = 6;
    uint256 private constant STAKING_VERBS = 10;
    IComputeEscrow.Channel private _channel;
    address private _provider;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        _provider = people[PROVIDER_FROM];
        _channel = IComputeEscrow.Channel(people[0], people[1], _provider, 0);
        vm.prank(people[0]);
        escrow.deposit(people[0], 10_000);
        // Everything that either token could take out for itself.
        address[2] memory both = [address(payment), address(bond)];
        bond.mint(address(bond), 100 * UNIT);
        payment.mint(address(bond), 1000);
        bond.approveFor(address(staking), type(uint256).max);
        vm.prank(address(bond));
        payment.approve(address(escrow), 1000);
        for (uint256 i; i < both.length; ++i) {
            address one = both[i];
            vm.prank(one);
            escrow.deposit(one, 100);
            vm.prank(one);
            staking.stake(3 * UNIT);
            vm.prank(one);
            staking.requestUnbond(UNIT);
            vm.prank(one);
            staking.delegate(_provider, 5 * UNIT, 0);
            vm.prank(one);
            staking.requestUndelegate(_provider, uint160(UNIT), 0);
            vm.prank(address(market));
            escrow.payProviderFrom(people[0], 0, 2000, one, one, 0, one, 0);
            vm.prank(one);
            staking.setCommission(5000);
        }
        // Fees behind two payees, one for each of the verbs that take them.
        vm.prank(address(market));
        escrow.payProviderFrom(people[0], 0, 2000, _provider, _provider, 0, _provider, 0);
        escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0));
        vm.warp(START + UNBONDING_S);
        address[] memory some = new address[](2);
        (some[0], some[1]) = (address(payment), address(bond));
        vm.prank(people[PROVIDER_FROM + 1]);
        staking.stake(UNIT);
        vm.prank(address(court));
        staking.slash(people[PROVIDER_FROM + 1], UNIT, "offence", some);
        // The bond's own pool has fees, half of them commission.
        for (uint256 i; i < both.length; ++i) {
            vm.prank(people[3]);
            staking.delegate(both[i], UNIT, 0);
            payment.mint(address(staking), 1000);
            vm.prank(address(escrow));
            staking.addFees(both[i], 1000);
        }
        payment.mint(address(staking), 1000);
        vm.prank(address(escrow));
        staking.addFees(_provider, 1000);
        vm.warp(START + UNBONDING_S + STREAM_S);
    }

    function test_no_verb_of_the_escrow_inside_another() external {
        for (uint256 outer; outer < ESCROW_VERBS; ++outer) {
            for (uint256 inner; inner < ESCROW_VERBS; ++inner) {
                _enter(payment, address(escrow), _escrowVerb(outer), _escrowVerb(inner));
            }
        }
    }

    function test_no_verb_of_the_staking_inside_another() external {
        for (uint256 outer; outer < STAKING_VERBS; ++outer) {
            // The last two are paid in the other token.
            HostileToken moved = outer < STAKING_VERBS - 2 ? bond : payment;
            for (uint256 inner; inner < STAKING_VERBS; ++inner) {
                _enter(
                    moved, address(staking), _stakingVerb(outer, address(moved)), _stakingVerb(inner, address(moved))
                );
            }
        }
    }

    /// @dev The token itself is the one who calls, from outside and from inside.
    function _enter(HostileToken moved, address target, bytes memory outer, bytes memory inner) private {
        uint256 before = vm.snapshotState();
        _call(moved, target, inner);
        vm.revertToState(before);
        before = vm.snapshotState();
        moved.arm(target, inner);
        _call(moved, target, outer);
        check(!moved.breached(), string.concat("inside: ", vm.toString(inner)));
        vm.revertToState(before);
    }

    function _call(HostileToken from, address target, bytes memory data) private {
        vm.prank(address(from));
        // solhint-disable-next-line avoid-low-level-calls
        (bool done,) = target.call(data);
        check(done, string.concat("from outside: ", vm.toString(data)));
    }

    function _escrowVerb(uint256 which) private view returns (bytes memory) {
        if (which == 0) return abi.encodeCall(IComputeEscrow.deposit, (stranger, 1));
        if (which == 1) return abi.encodeCall(IComputeEscrow.depositWithPermit, (stranger, 1, 0, 0, 0, 0));
        if (which == 2) return abi.encodeCall(IComputeEscrow.withdraw, (1, stranger));
        if (which == 3) return abi.encodeCall(IComputeEscrow.depositToChannel, (_channel, 1));
        if (which == 4) return abi.encodeCall(IComputeEscrow.depositToChannelWithPermit, (_channel, 1, 0, 0, 0, 0));
        return abi.encodeCall(IComputeEscrow.withdrawCredit, (address(payment), new IComputeEscrow.Row[](0)));
    }

    function _stakingVerb(uint256 which, address from) private view returns (bytes memory) {
        if (which == 0) return abi.encodeCall(IProviderStaking.stake, (1));
        if (which == 1) return abi.encodeCall(IProviderStaking.stakeWithPermit, (1, 0, 0, 0, 0));
        if (which == 2) return abi.encodeCall(IProviderStaking.withdrawStake, (0, stranger));
        if (which == 3) return abi.encodeCall(IProviderStaking.delegate, (_provider, UNIT, 0));
        if (which == 4) {
            return abi.encodeCall(IProviderStaking.delegateWithPermit, (_provider, UNIT, 0, 0, 0, 0, 0));
        }
        if (which == 5) return abi.encodeCall(IProviderStaking.withdrawDelegation, (0, stranger));
        if (which == 6) return abi.encodeCall(IProviderStaking.withdrawBounty, (from));
        if (which == 7) return abi.encodeCall(IProviderStaking.burnSlashed, ());
        if (which == 8) return abi.encodeCall(IProviderStaking.claimRewards, (_provider, stranger));
        return abi.encodeCall(IProviderStaking.withdrawFees, (from));
    }

    /// @dev Both legs of a sharing of fees.
    function test_nothing_inside_a_sharing_of_fees() external {
        for (uint256 inner; inner < ESCROW_VERBS; ++inner) {
            _enter(payment, address(escrow), abi.encodeCall(IComputeEscrow.shareFees, (_provider)), _escrowVerb(inner));
        }
        for (uint256 outer; outer < ESCROW_VERBS; ++outer) {
            _enter(payment, address(escrow), _escrowVerb(outer), abi.encodeCall(IComputeEscrow.shareFees, (_provider)));
        }
    }
}
