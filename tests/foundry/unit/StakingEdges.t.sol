// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Who loses how much, in which order, and when stake may leave (cases 54 to 58, 61, 63, 69, 70, 71 and 120).
contract StakingEdges is Stage {
    address private _provider;
    address private _delegator;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        _provider = people[PROVIDER_FROM];
        _delegator = stranger;
        vm.prank(_provider);
        staking.stake(2 * UNIT);
    }

    /// @dev Cases 56 and 58: the whole clock, its last second too.
    function test_stake_leaves_when_its_clock_has_run() external {
        uint64 withdrawableAt = uint64(block.timestamp + UNBONDING_S);
        vm.prank(_provider);
        uint256 request = staking.requestUnbond(UNIT);
        vm.warp(withdrawableAt - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStaking.UnbondingNotOver.selector, withdrawableAt, withdrawableAt - 1)
        );
        vm.prank(_provider);
        staking.withdrawStake(request, _provider);
        vm.warp(withdrawableAt);
        vm.prank(_provider);
        checkEqual(UNIT, staking.withdrawStake(request, _provider), "all of it");
    }

    /// @dev Case 55: what is on its way out pays too.
    function test_unbonding_does_not_save_from_a_slash() external {
        vm.prank(_provider);
        uint256 request = staking.requestUnbond(2 * UNIT);
        checkEqual(UNIT, _slash(UNIT, "offence"), "slashed");
        (uint128 bonded, uint128 unbonding) = staking.stakeOf(_provider);
        checkEqual(0, bonded, "bonded");
        checkEqual(UNIT, unbonding, "unbonding");
        vm.warp(block.timestamp + UNBONDING_S);
        vm.prank(_provider);
        checkEqual(UNIT, staking.withdrawStake(request, _provider), "what is left");
    }

    /// @dev Case 69.
    function test_one_offence_is_punished_once() external {
        _slash(UNIT, "offence");
        address[] memory nobody = new address[](0);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.AlreadyPunished.selector, bytes32("offence")));
        vm.prank(address(court));
        staking.slash(_provider, UNIT, "offence", nobody);
        checkEqual(UNIT, _slash(UNIT, "another"), "another one is");
    }

    /// @dev Case 71: delegators answer only for what the provider's own stake does not cover.
    function test_a_provider_loses_before_its_delegators() external {
        vm.prank(_delegator);
        staking.delegate(_provider, 5 * UNIT, 0);
        checkEqual(UNIT, _slash(UNIT, "first"), "one unit");
        _checkStake(UNIT, 5 * UNIT);
        checkEqual(3 * UNIT, _slash(3 * UNIT, "second"), "three units");
        _checkStake(0, 3 * UNIT);
        checkEqual(3 * UNIT, _slash(9 * UNIT, "third"), "no more than there is");
    }

    /// @dev Case 70.
    function test_a_jail_has_its_time() external {
        _slash(1, "offence");
        uint64 until = uint64(block.timestamp + JAIL_S);
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.JailNotOver.selector, until, until - 1));
        vm.prank(_provider);
        staking.unjail();
        vm.warp(until);
        vm.prank(_provider);
        staking.unjail();
        check(!staking.isJailed(_provider), "free");
    }

    /// @dev Case 120: a key is bound with its own signature over this provider, and then to nobody else.
    function test_a_key_consents_and_stays() external {
        uint256 keysKey = 0x0BE;
        address key = vm.addr(keysKey);
        bytes memory forged = signed(keyOf[_provider], staking.digestOfOperatorKey(_provider, key), false);
        bytes memory consent = signed(keysKey, staking.digestOfOperatorKey(_provider, key), false);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.InvalidKeySignature.selector, key, _provider));
        vm.prank(_provider);
        staking.bindOperatorKey(key, forged);
        vm.prank(_provider);
        staking.bindOperatorKey(key, consent);
        address other = people[PROVIDER_FROM + 1];
        bytes memory second = signed(keysKey, staking.digestOfOperatorKey(other, key), false);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.KeyAlreadyBound.selector, key, _provider));
        vm.prank(other);
        staking.bindOperatorKey(key, second);
    }

    /// @dev Case 63: who joins for the moment of a payment has nothing of it yet.
    function test_fees_flow_over_their_time() external {
        vm.prank(_delegator);
        staking.delegate(_provider, UNIT, 0);
        vm.prank(address(escrow));
        staking.addFees(_provider, STREAM_S * 10);
        checkEqual(0, staking.rewardsOf(_provider, _delegator), "nothing at once");
        vm.warp(block.timestamp + STREAM_S / 4);
        checkEqual(_earned(uint256(STREAM_S) * 10 / 4, UNIT, UNIT), _rewards(_delegator), "a quarter");
        // 5^21 divides a unit of stake, and not the fees: what is rounded off comes with the next ones.
        checkEqual(uint256(STREAM_S) * 10 / 4 - 1, _rewards(_delegator), "a quarter, less the unit that is carried");
        vm.warp(block.timestamp + STREAM_S);
        checkEqual(_earned(uint256(STREAM_S) * 10, UNIT, UNIT), _rewards(_delegator), "all of it");
        checkEqual(uint256(STREAM_S) * 10 - 1, _rewards(_delegator), "all of it, less the unit that is carried");
    }

    /// @dev Case 63, law L2: to the unit, at any second, for any two delegators; both together never above what has flowed,
    /// nor three units below it.
    function testFuzz_fees_flow_to_the_unit(uint128 fees, uint128 one, uint128 other, uint32 elapsed) external {
        fees = uint128(1 + fees % 1e27);
        one = uint128(UNIT / 100 + one % (50 * UNIT));
        other = uint128(UNIT / 100 + other % (50 * UNIT));
        vm.prank(_delegator);
        staking.delegate(_provider, one, 0);
        vm.prank(people[0]);
        staking.delegate(_provider, other, 0);
        vm.prank(address(escrow));
        staking.addFees(_provider, fees);
        uint256 passed = elapsed % (STREAM_S + 1);
        vm.warp(block.timestamp + passed);
        uint256 flowed = uint256(fees) * passed / STREAM_S;
        uint256 shares = uint256(one) + other;
        checkEqual(_earned(flowed, one, shares), _rewards(_delegator), "one");
        checkEqual(_earned(flowed, other, shares), _rewards(people[0]), "the other");
        uint256 both = _rewards(_delegator) + _rewards(people[0]);
        checkAtMost(flowed, both, "never above what has flowed");
        checkAtMost(both + 2, flowed, "less than one lost for each, and one for the pool's own carry");
    }

    /// @dev The exact part of whole units that flowed to a pool with nothing carried, in rationals: flowed * held / shares,
    /// less `held` fractions of 2^-96 at most, because a share's part is cut off there. Nothing is above 2^256: fees are
    /// below 2^90 and stake is below 2^77.
    function _earned(uint256 flowed, uint256 held, uint256 shares) private pure returns (uint256) {
        uint256 cut = (flowed << 96) % shares;
        // (flowed * 2^96 - cut) / shares is whole: what one share has earned.
        return held * (((flowed << 96) - cut) / shares) >> 96;
    }

    function _rewards(address who) private view returns (uint256) {
        return staking.rewardsOf(_provider, who);
    }

    function _slash(uint128 amount, bytes32 offence) private returns (uint128) {
        address[] memory beneficiaries = new address[](1);
        beneficiaries[0] = people[0];
        vm.prank(address(court));
        return staking.slash(_provider, amount, offence, beneficiaries);
    }

    function _checkStake(uint256 expectedOwn, uint256 expectedDelegated) private view {
        (uint128 bonded,) = staking.stakeOf(_provider);
        (uint128 delegated,,,) = staking.poolOf(_provider);
        checkEqual(expectedOwn, bonded, "own");
        checkEqual(expectedDelegated, delegated, "delegated");
    }
}
