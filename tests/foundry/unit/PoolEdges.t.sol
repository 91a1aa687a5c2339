// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {Stage} from "../base/Stage.sol";
import {Vm, vm} from "../base/Vm.sol";

/// @notice Those behind a provider, its keys and its GPUs: what is refused, and what is left when a pool is slashed away.
contract PoolEdges is Stage {
    uint256 private constant KEY = 0x0BE;
    /// @dev What a slash of a unit may just leave in a pot without voiding it.
    uint128 private constant JUST_SHARED = (UNIT >> 32) + 1e9;
    address private _provider;
    address private _delegator;
    address private _key;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        _provider = people[PROVIDER_FROM];
        _delegator = stranger;
        _key = vm.addr(KEY);
        vm.prank(_provider);
        staking.stake(2 * UNIT);
    }

    // ------------------------------------------------------------------ stake

    function test_stake_leaves_to_somebody() external {
        vm.prank(_provider);
        uint256 request = staking.requestUnbond(UNIT);
        checkEqual(1, staking.unbondRequestsOf(_provider), "one request");
        vm.warp(START + UNBONDING_S);
        address[2] memory nobody = [address(0), address(staking)];
        for (uint256 i; i < nobody.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IProviderStaking.InvalidRecipient.selector, nobody[i]));
            vm.prank(_provider);
            staking.withdrawStake(request, nobody[i]);
        }
        vm.prank(_provider);
        checkEqual(UNIT, staking.withdrawStake(request, _provider), "all of it");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.UnknownRequest.selector, _provider, request));
        vm.prank(_provider);
        staking.withdrawStake(request, _provider);
    }

    function test_what_leaves_was_there() external {
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        vm.prank(_provider);
        staking.requestUnbond(0);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.InsufficientBonded.selector, 2 * UNIT + 1, 2 * UNIT));
        vm.prank(_provider);
        staking.requestUnbond(2 * UNIT + 1);
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        vm.prank(_provider);
        staking.stake(0);
    }

    // ------------------------------------------------------------------ GPUs and keys

    function test_a_key_registers_gpus_until_it_is_retired() external {
        _bind();
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.GpuSetMissing.selector, 1));
        vm.prank(_key);
        staking.registerGpus(0, 1);
        vm.prank(_key);
        staking.registerGpus(bytes32("gpus"), 2);
        checkEqual(2, staking.gpusOf(_provider), "the provider's");
        vm.prank(_provider);
        staking.retireOperatorKey(_key);
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStaking.KeyAlreadyRetired.selector, _key, uint64(block.timestamp))
        );
        vm.prank(_key);
        staking.registerGpus(0, 0);
        vm.prank(_provider);
        staking.registerGpus(0, 0);
        checkEqual(0, staking.gpusOf(_provider), "none are left");
    }

    /// @dev Case 120: a retired key signs nothing new, and answers for what it signed until its time is over.
    function test_a_retired_key_answers_for_its_time() external {
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.KeyNotBound.selector, _key));
        vm.prank(_provider);
        staking.retireOperatorKey(_key);
        _bind();
        check(staking.signsFor(_key, _provider), "it signs");
        vm.prank(_provider);
        staking.retireOperatorKey(_key);
        (address bound, uint64 retiredAt) = staking.operatorKey(_key);
        checkEqual(_provider, bound, "still the provider's");
        checkEqual(START, retiredAt, "retired now");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.KeyAlreadyRetired.selector, _key, retiredAt));
        vm.prank(_provider);
        staking.retireOperatorKey(_key);
        check(!staking.signsFor(_key, _provider), "it signs no more");
        vm.warp(START + RETIRED_KEY_S);
        check(staking.answersFor(_provider, _key), "the last second it answers for");
        vm.warp(START + RETIRED_KEY_S + 1);
        check(!staking.answersFor(_provider, _key), "and no longer");
    }

    /// @dev Case 36: a key that was never bound names the zero address as its provider.
    function test_nobody_signs_for_nobody() external view {
        check(staking.signsFor(_provider, _provider), "each signs for itself");
        check(staking.answersFor(_provider, _provider), "and answers");
        check(!staking.signsFor(_key, address(0)), "an unbound key for nobody");
        check(!staking.signsFor(address(0), _provider), "nobody for a provider");
        check(!staking.answersFor(address(0), _key), "nobody by an unbound key");
        check(!staking.answersFor(_provider, address(0)), "a provider by nobody");
        check(!staking.answersFor(_provider, _key), "a provider by an unbound key");
    }

    // ------------------------------------------------------------------ the court's orders

    function test_a_jailed_provider_gets_no_seat_and_keeps_the_one_it_has() external {
        vm.prank(address(court));
        staking.setSeats(_provider, 1);
        _slash(1, "offence");
        uint64 until = staking.jailedUntil(_provider);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.ProviderJailed.selector, _provider, until));
        vm.prank(address(court));
        staking.setSeats(_provider, 2);
        (uint16 seats,) = staking.seatsOf(_provider);
        checkEqual(1, seats, "one seat");
        vm.prank(address(court));
        staking.setSeats(_provider, 0);
        (seats,) = staking.seatsOf(_provider);
        checkEqual(0, seats, "taken away");
    }

    function test_out_of_jail_with_a_whole_unit() external {
        _slash(UNIT + 1, "offence");
        check(staking.isPunished("offence"), "punished");
        check(!staking.isPunished("another"), "for this alone");
        vm.warp(START + JAIL_S);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.StakeTooLow.selector, UNIT, UNIT - 1));
        vm.prank(_provider);
        staking.unjail();
        vm.prank(_provider);
        staking.stake(1);
        vm.prank(_provider);
        staking.unjail();
        check(!staking.isJailed(_provider), "free");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.NotJailed.selector, _provider));
        vm.prank(_provider);
        staking.unjail();
    }

    /// @dev A fifth is shared out; what nobody is named for burns with the rest.
    function test_a_bounty_for_nobody_burns() external {
        address[] memory some = new address[](2);
        some[0] = people[0];
        vm.prank(address(court));
        staking.slash(_provider, UNIT, "offence", some);
        checkEqual(UNIT / 10, staking.bountyOf(people[0]), "half of a fifth");
        checkEqual(0, staking.bountyOf(address(0)), "nobody has nothing");
        uint256 burned = bond.balanceOf(BURN);
        checkEqual(UNIT - UNIT / 10, staking.burnSlashed(), "the rest");
        checkEqual(burned + UNIT - UNIT / 10, bond.balanceOf(BURN), "burned");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.NothingToWithdraw.selector, BURN));
        staking.burnSlashed();
    }

    function test_more_than_there_is_takes_all_that_there_is() external {
        (uint128 had,) = staking.stakeOf(_provider);
        vm.prank(address(court));
        checkEqual(had, staking.slash(_provider, had + 1, "offence", new address[](0)), "nobody delegated");
        vm.prank(address(court));
        checkEqual(0, staking.slash(_provider, 1, "another", new address[](0)), "nothing is left");
    }

    function test_a_bounty_of_less_than_a_unit_each_is_none() external {
        address[] memory some = new address[](2);
        some[0] = people[0];
        some[1] = people[1];
        vm.recordLogs();
        vm.prank(address(court));
        staking.slash(_provider, 9, "offence", some);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            check(logs[i].topics[0] != IProviderStaking.BountyCredited.selector, "nobody is told of nothing");
        }
        checkEqual(0, staking.bountyOf(people[0]), "a fifth of nine is one, which two do not share");
        checkEqual(9, staking.burnSlashed(), "all of it");
    }

    // ------------------------------------------------------------------ a pool

    function test_a_delegation_is_for_somebody_and_worth_its_shares() external {
        vm.expectRevert(IProviderStaking.ZeroAddress.selector);
        vm.prank(_delegator);
        staking.delegate(address(0), UNIT, 0);
        uint128 least_ = UNIT / 100;
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.DelegationTooSmall.selector, least_, least_ - 1));
        vm.prank(_delegator);
        staking.delegate(_provider, least_ - 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.SharesBelowMinimum.selector, UNIT + 1, UNIT));
        vm.prank(_delegator);
        staking.delegate(_provider, UNIT, uint160(UNIT) + 1);
        vm.prank(_delegator);
        checkEqual(UNIT, staking.delegate(_provider, UNIT, uint160(UNIT)), "a share is a token");
    }

    function test_what_is_undelegated_is_worth_what_was_asked() external {
        _delegate(UNIT);
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.InsufficientShares.selector, UNIT + 1, UNIT));
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, uint160(UNIT) + 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.AmountBelowMinimum.selector, UNIT + 1, UNIT));
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, uint160(UNIT), UNIT + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStaking.DelegationTooSmall.selector, UNIT / 100, UNIT / 100 - 1)
        );
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, uint160(UNIT) - uint160(UNIT) / 100 + 1, 0);
        vm.prank(_delegator);
        (, uint128 amount) = staking.requestUndelegate(_provider, uint160(UNIT), UNIT);
        checkEqual(UNIT, amount, "all of it");
        checkEqual(1, staking.undelegateRequestsOf(_delegator), "one request");
    }

    /// @dev After a slash one share alone is worth less than a unit of the token, and is not given away.
    function test_a_share_worth_nothing_stays() external {
        _delegate(UNIT);
        _slash(2 * UNIT + UNIT / 2, "offence");
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, 1, 0);
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, 1, 1);
        (uint160 shares, uint128 amount) = staking.delegationOf(_provider, _delegator);
        checkEqual(UNIT, shares, "all its shares");
        checkEqual(UNIT / 2, amount, "half of the worth");
    }

    /// @dev Case 55: what delegators take out is slashed beside what they leave in, by the same part.
    function test_undelegating_does_not_save_from_a_slash() external {
        _delegate(4 * UNIT);
        vm.prank(_delegator);
        (uint256 request,) = staking.requestUndelegate(_provider, uint160(UNIT), 0);
        _slash(2 * UNIT + 2 * UNIT, "offence");
        (uint128 delegated,,, uint128 undelegating) = staking.poolOf(_provider);
        checkEqual(3 * UNIT / 2, delegated, "half of what stayed");
        checkEqual(UNIT / 2, undelegating, "half of what leaves");
        vm.warp(START + UNBONDING_S);
        vm.prank(_delegator);
        checkEqual(UNIT / 2, staking.withdrawDelegation(request, _delegator), "paid");
    }

    /// @dev What cannot be shared among the old shares is the treasury's, as are the fees that had not flowed. Who was in
    /// the pool keeps what it had earned, and comes back as anybody does.
    function test_a_pool_slashed_away_starts_afresh() external {
        _delegate(5 * UNIT);
        _addFees(STREAM_S * 10);
        vm.warp(START + STREAM_S / 2);
        uint128 earned = staking.rewardsOf(_provider, _delegator);
        check(earned + 1 >= STREAM_S * 5 && earned <= STREAM_S * 5, "half of the fees, to the unit");
        _slash(2 * UNIT + 5 * UNIT - 1, "offence");
        (uint128 delegated, uint160 shares, uint32 generation,) = staking.poolOf(_provider);
        checkEqual(0, delegated, "nothing is left");
        checkEqual(0, shares, "nor a share");
        checkEqual(1, generation, "the next generation");
        check(!staking.hasPool(_provider), "no pool");
        checkEqual(1, staking.bountyOf(treasury), "the unit that was left");
        checkEqual(STREAM_S * 5, staking.feesOf(treasury), "what had not flowed");
        (uint128 remaining,) = staking.streamOf(_provider);
        checkEqual(0, remaining, "nothing flows");
        checkEqual(earned, staking.rewardsOf(_provider, _delegator), "what it had earned");

        _delegate(UNIT);
        (shares, delegated) = staking.delegationOf(_provider, _delegator);
        checkEqual(UNIT, shares, "a share is a token again");
        checkEqual(UNIT, delegated, "no old share came back");
        checkEqual(earned, staking.rewardsOf(_provider, _delegator), "what it had earned");
        vm.prank(_delegator);
        checkEqual(earned, staking.claimRewards(_provider, _delegator), "claimed");
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.NothingToWithdraw.selector, _delegator));
        vm.prank(_delegator);
        staking.claimRewards(_provider, _delegator);
    }

    // ------------------------------------------------------------------ fees

    /// @dev Case 59: a slash had left shares that were just worth enough; who joined then lost everything to the next one,
    /// however small.
    function test_a_small_slash_takes_no_more_because_a_great_one_came_before() external {
        _delegate(UNIT + JUST_SHARED);
        _slash(2 * UNIT, bytes32("own"));
        _slash(UNIT, bytes32("great"));
        address late = people[0];
        vm.prank(late);
        uint160 shares = staking.delegate(_provider, 100 * UNIT, 0);
        _slash(UNIT, bytes32("small"));
        (, uint128 worth) = staking.delegationOf(_provider, late);
        checkAtMost(worth + 2, 99 * UNIT, "what the slash did not ask for is there");
        checkEqual(0, staking.bountyOf(treasury), "and not the treasury's");
        vm.prank(late);
        (uint256 request,) = staking.requestUndelegate(_provider, shares, 0);
        vm.warp(block.timestamp + UNBONDING_S);
        uint256 before = bond.balanceOf(late);
        vm.prank(late);
        staking.withdrawDelegation(request, late);
        checkEqual(worth, bond.balanceOf(late) - before, "all of it leaves");
    }

    /// @dev And when two slashes in a row leave next to nothing, nobody joins who would have to count shares without end.
    function test_a_spent_pool_takes_no_newcomers_until_it_is_empty() external {
        _delegate(UNIT + JUST_SHARED);
        _slash(2 * UNIT, bytes32("own"));
        _slash(UNIT, bytes32("great"));
        _delegate(UNIT);
        _slash(UNIT, bytes32("greater"));
        _checkSpent();
        (uint160 shares,) = staking.delegationOf(_provider, _delegator);
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, shares, 0);
        _checkClean();
    }

    /// @dev Who joins will want to leave, through the pot of those who are on their way out.
    function test_nobody_joins_where_the_way_out_is_spent() external {
        vm.prank(_provider);
        staking.requestUnbond(UNIT);
        _slash(2 * UNIT, bytes32("own"));
        _leave(UNIT + JUST_SHARED);
        _slash(UNIT, bytes32("great"));
        _leave(UNIT);
        _slash(UNIT, bytes32("greater"));
        _checkSpent();
        vm.warp(block.timestamp + UNBONDING_S);
        for (uint256 request; request < 2; ++request) {
            vm.prank(_delegator);
            staking.withdrawDelegation(request, _delegator);
        }
        _checkClean();
    }

    /// @dev A provider that had all its unbonding stake slashed three times over waits for those requests to end.
    function test_own_stake_is_counted_in_160_bits_or_not_at_all() external {
        vm.prank(_provider);
        staking.requestUnbond(2 * UNIT);
        _slash(2 * UNIT - 2 * JUST_SHARED, bytes32("first"));
        for (uint256 i; i < 2; ++i) {
            _unbond(UNIT);
            _slash(UNIT, bytes32(i));
        }
        vm.prank(_provider);
        staking.stake(UNIT);
        vm.expectRevert(IProviderStaking.PotSpent.selector);
        vm.prank(_provider);
        staking.requestUnbond(UNIT);
        vm.warp(START + UNBONDING_S);
        for (uint256 request; request < 3; ++request) {
            vm.prank(_provider);
            staking.withdrawStake(request, _provider);
        }
        vm.prank(_provider);
        uint256 last = staking.requestUnbond(UNIT);
        vm.warp(START + 2 * UNBONDING_S);
        vm.prank(_provider);
        checkEqual(UNIT, staking.withdrawStake(last, _provider), "all of it");
    }

    function _unbond(uint128 amount) private {
        vm.prank(_provider);
        staking.stake(amount);
        vm.prank(_provider);
        staking.requestUnbond(amount);
    }

    function _leave(uint128 amount) private {
        _delegate(amount);
        (uint160 shares,) = staking.delegationOf(_provider, _delegator);
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, shares, 0);
    }

    function _checkSpent() private {
        vm.expectRevert(IProviderStaking.PotSpent.selector);
        vm.prank(people[0]);
        staking.delegate(_provider, UNIT, 0);
    }

    function _checkClean() private {
        vm.prank(people[0]);
        checkEqual(UNIT, staking.delegate(_provider, UNIT, 0), "a share is a token");
    }

    function test_a_commission_is_all_at_most() external {
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.CommissionTooHigh.selector, 10_000, 10_001));
        vm.prank(_provider);
        staking.setCommission(10_001);
        vm.prank(_provider);
        staking.setCommission(10_000);
        _delegate(UNIT);
        vm.warp(START + COMMISSION_NOTICE_S - 1);
        _addFees(8);
        checkEqual(0, staking.feesOf(_provider), "not before its notice is over");
        vm.warp(START + COMMISSION_NOTICE_S);
        _addFees(8);
        checkEqual(8, staking.feesOf(_provider), "all of it");
        (uint16 bps, uint16 nextBps, uint64 effectiveAt) = staking.commissionOf(_provider);
        checkEqual(10_000, bps, "now");
        checkEqual(10_000, nextBps, "and next");
        checkEqual(START + COMMISSION_NOTICE_S, effectiveAt, "since then");
    }

    function test_a_stream_of_nothing_has_no_time() external {
        _delegate(UNIT);
        _addFees(0);
        (uint128 remaining, uint64 endsAt) = staking.streamOf(_provider);
        checkEqual(0, remaining, "nothing");
        checkEqual(START, endsAt, "over at once");
        _addFees(10);
        (remaining, endsAt) = staking.streamOf(_provider);
        checkEqual(10, remaining, "all of it");
        checkEqual(START + STREAM_S, endsAt, "over its whole time");
    }

    /// @dev Two units among three of the same size: two thirds for each, which no one can take. With the last of them they
    /// are the treasury's, and once.
    function test_what_positions_carry_is_the_treasurys_once() external {
        _delegateThree();
        _addFees(2);
        vm.warp(START + STREAM_S);
        _undelegateThree();
        checkEqual(2, staking.feesOf(treasury), "both units");
        _delegateThree();
        _undelegateThree();
        checkEqual(2, staking.feesOf(treasury), "once");
        (uint128 remaining,) = staking.streamOf(_provider);
        checkEqual(0, remaining, "nothing flows");
    }

    /// @dev The same when the pool was slashed away between.
    function test_what_positions_of_a_void_pool_carry_is_the_treasurys_once() external {
        _delegateThree();
        _addFees(2);
        vm.warp(START + STREAM_S);
        _slash(2 * UNIT + 3 * UNIT, "offence");
        for (uint256 i; i < 3; ++i) {
            checkEqual(0, staking.rewardsOf(_provider, people[i]), "less than a unit");
        }
        for (uint256 i; i < 2; ++i) {
            _delegateThree();
            _undelegateThree();
            checkEqual(2, staking.feesOf(treasury), "both units, once");
        }
    }

    /// @dev What one earned before it added more, and before it took out a part, stays its own.
    function test_earnings_survive_a_change_of_the_position() external {
        _delegate(UNIT);
        _addFees(1024);
        vm.warp(START + STREAM_S);
        uint128 earned = staking.rewardsOf(_provider, _delegator);
        checkAtMost(earned + 1, 1024, "all, to the unit");
        _delegate(UNIT);
        checkEqual(earned, staking.rewardsOf(_provider, _delegator), "after more");
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, uint160(UNIT), 0);
        checkEqual(earned, staking.rewardsOf(_provider, _delegator), "after less");
        vm.prank(_delegator);
        staking.requestUndelegate(_provider, uint160(UNIT), 0);
        checkEqual(earned, staking.rewardsOf(_provider, _delegator), "after all");
        vm.prank(_delegator);
        checkEqual(earned, staking.claimRewards(_provider, _delegator), "claimed");
        checkEqual(0, staking.rewardsOf(_provider, _delegator), "once");
    }

    // ------------------------------------------------------------------ acts

    function _delegateThree() private {
        for (uint256 i; i < 3; ++i) {
            vm.prank(people[i]);
            staking.delegate(_provider, UNIT, 0);
        }
    }

    function _undelegateThree() private {
        for (uint256 i; i < 3; ++i) {
            vm.prank(people[i]);
            staking.requestUndelegate(_provider, uint160(UNIT), 0);
        }
    }

    function _bind() private {
        bytes memory consent = signed(KEY, staking.digestOfOperatorKey(_provider, _key), false);
        vm.prank(_provider);
        staking.bindOperatorKey(_key, consent);
    }

    function _delegate(uint128 amount) private {
        vm.prank(_delegator);
        staking.delegate(_provider, amount, 0);
    }

    /// @dev As the escrow does: it sends them, and says so.
    function _addFees(uint128 amount) private {
        payment.mint(address(staking), amount);
        vm.prank(address(escrow));
        staking.addFees(_provider, amount);
    }

    function _slash(uint128 amount, bytes32 offence) private {
        address[] memory nobody = new address[](0);
        vm.prank(address(court));
        staking.slash(_provider, amount, offence, nobody);
    }
}
