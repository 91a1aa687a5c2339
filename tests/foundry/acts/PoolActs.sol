// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {vm} from "../base/Vm.sol";
import {MarketActs} from "./MarketActs.sol";

/// @notice Delegators come and go, fees flow, providers change their commission.
abstract contract PoolActs is MarketActs {
    struct Price {
        uint256 tokens;
        uint256 shares;
        uint256 generation;
    }

    struct Leaving {
        address delegator;
        uint256 id;
        uint256 withdrawableAt;
        bool withdrawn;
    }

    Leaving[] internal leavings;
    mapping(address provider => Price) internal lastPrice;
    address[2][] internal positions;
    mapping(address provider => mapping(address delegator => bool)) internal known;

    /// @notice Payment tokens that left the staking.
    uint256 public feesOut;

    function rewardsOwed() public view virtual override returns (uint256 owed) {
        for (uint256 i; i < positions.length; ++i) {
            owed += staking.rewardsOf(positions[i][0], positions[i][1]);
        }
    }

    function positionCount() external view returns (uint256) {
        return positions.length;
    }

    function staking_delegate(uint256 seed, uint256 amountSeed) external {
        (address provider, address from, uint128 amount) = _toDelegate(seed, amountSeed);
        bool good = amount >= UNIT / 100 && bond.balanceOf(from) >= amount && from != treasury;
        bytes memory data = abi.encodeCall(IProviderStaking.delegate, (provider, amount, 0));
        (bool done,) = attempt(from, address(staking), data, good, Law.SharePrice, "delegate");
        if (done) _delegated(provider, from, amount);
    }

    function staking_delegateWithPermit(uint256 seed, uint256 amountSeed) external {
        (address provider, address from, uint128 amount) = _toDelegate(seed, amountSeed);
        bool good = amount >= UNIT / 100 && bond.balanceOf(from) >= amount && from != treasury;
        bytes32 inside =
            keccak256(abi.encode(STAKE_PERMIT, from, staking, type(uint256).max, bond.nonces(from), block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(
            keyOf[from] == 0 ? 1 : keyOf[from], keccak256(abi.encodePacked(hex"1901", bond.DOMAIN_SEPARATOR(), inside))
        );
        bytes memory data =
            abi.encodeCall(IProviderStaking.delegateWithPermit, (provider, amount, 0, block.timestamp, v, r, s));
        (bool done,) = attempt(from, address(staking), data, good, Law.SharePrice, "delegateWithPermit");
        if (done) _delegated(provider, from, amount);
    }

    function staking_requestUndelegate(uint256 seed, uint256 shareSeed) external {
        (address provider, address delegator) = _position(seed);
        (uint160 held, uint128 worth) = staking.delegationOf(provider, delegator);
        uint160 shares = uint160(seed % 4 != 0 ? held : within(shareSeed, 0, uint256(held) + 1));
        // What stays must be worth the minimum: sometimes it is not.
        bool certain = shares == held && worth != 0;
        vm.prank(delegator);
        try staking.requestUndelegate(provider, shares, 0) returns (uint256 id, uint128 amount) {
            if (shares > held) violate(Law.SharePrice, "more shares left than there were");
            if (amount > worth) violate(Law.SharePrice, "shares left for more than they were worth");
            leavings.push(Leaving(delegator, id, block.timestamp + UNBONDING_S, false));
        } catch {
            if (certain) violate(Law.Exit, "a delegator could not leave");
            revert Refused("requestUndelegate");
        }
        notePrice(provider, false);
    }

    function staking_withdrawDelegation(uint256 seed) external {
        if (seed % 4 == 3 || (seed % 4 == 1 && _allLeft())) _makeLeaving(seed);
        if (leavings.length == 0) revert Refused("nobody leaves");
        Leaving storage leaving = leavings[(seed >> 8) % leavings.length];
        for (uint256 i; i < leavings.length && leaving.withdrawn && seed % 8 != 0; ++i) {
            leaving = leavings[((seed >> 8) + i) % leavings.length];
        }
        if (seed % 2 == 1 && leaving.withdrawableAt > block.timestamp) later(leaving.withdrawableAt);
        (, uint128 worth,) = staking.undelegateRequest(leaving.delegator, leaving.id);
        uint256 before = bond.balanceOf(address(staking));
        bool due = !leaving.withdrawn && block.timestamp >= leaving.withdrawableAt;
        bytes memory data = abi.encodeCall(IProviderStaking.withdrawDelegation, (leaving.id, person(seed >> 30)));
        (bool done,) = attempt(leaving.delegator, address(staking), data, due, Law.Exit, "withdrawDelegation");
        if (!done) return;
        leaving.withdrawn = true;
        uint256 paid = before - bond.balanceOf(address(staking));
        if (paid != worth) violate(Law.Stake, "withdrawDelegation paid something else");
        stakedOut += paid;
    }

    function _allLeft() private view returns (bool) {
        for (uint256 i; i < leavings.length; ++i) {
            if (!leavings[i].withdrawn) return false;
        }
        return true;
    }

    function _makeLeaving(uint256 seed) private {
        (address provider, address delegator) = _position(seed);
        (uint160 shares, uint128 worth) = staking.delegationOf(provider, delegator);
        if (worth == 0) return;
        vm.prank(delegator);
        (uint256 id,) = staking.requestUndelegate(provider, shares, 0);
        leavings.push(Leaving(delegator, id, block.timestamp + UNBONDING_S, false));
        notePrice(provider, false);
    }

    function staking_claimRewards(uint256 seed) external {
        (address provider, address delegator) = _position(seed);
        if (seed % 8 != 0) flow(provider);
        uint256 due = staking.rewardsOf(provider, delegator);
        address to = people[seed % 4];
        uint256 before = payment.balanceOf(to);
        payment.arm(address(0), "");
        bytes memory data = abi.encodeCall(IProviderStaking.claimRewards, (provider, to));
        (bool done,) = attempt(delegator, address(staking), data, due != 0, Law.Exit, "claimRewards");
        if (!done) return;
        if (payment.balanceOf(to) != before + due) violate(Law.Conservation, "claimRewards paid something else");
        feesOut += due;
    }

    function staking_setCommission(uint256 seed) external {
        address provider = providerBy(seed);
        uint16 bps = uint16((seed >> 20) % 10_002);
        bytes memory data = abi.encodeCall(IProviderStaking.setCommission, (bps));
        (uint16 before,,) = staking.commissionOf(provider);
        (bool done,) = attempt(provider, address(staking), data, bps <= 10_000, Law.Terms, "setCommission");
        if (!done) return;
        (uint16 present, uint16 next, uint64 at_) = staking.commissionOf(provider);
        if (present != before || next != bps || at_ != block.timestamp + COMMISSION_NOTICE_S) {
            violate(Law.Terms, "a commission changed without notice");
        }
    }

    function staking_withdrawFees(uint256 seed) external {
        address account = seed % 3 == 0 ? treasury : providerBy(seed);
        for (uint256 i; i < people.length && staking.feesOf(account) == 0 && seed % 8 != 0; ++i) {
            account = people[((seed >> 9) + i) % people.length];
        }
        if (seed % 4 != 0 && staking.feesOf(account) == 0 && positions.length != 0) {
            (account,) = _position(seed);
            flow(account);
        }
        uint256 due = staking.feesOf(account);
        uint256 before = payment.balanceOf(account);
        payment.arm(address(0), "");
        bytes memory data = abi.encodeCall(IProviderStaking.withdrawFees, (account));
        (bool done,) = attempt(stranger, address(staking), data, due != 0, Law.Exit, "withdrawFees");
        if (!done) return;
        if (payment.balanceOf(account) != before + due) violate(Law.Conservation, "withdrawFees paid something else");
        feesOut += due;
    }

    function staking_withdrawBounty(uint256 seed) external {
        address account = person(seed >> 8);
        for (uint256 i; i < people.length && staking.bountyOf(account) == 0 && seed % 8 != 0; ++i) {
            account = people[((seed >> 9) + i) % people.length];
        }
        uint256 due = staking.bountyOf(account);
        bytes memory data = abi.encodeCall(IProviderStaking.withdrawBounty, (account));
        (bool done,) = attempt(stranger, address(staking), data, due != 0, Law.Exit, "withdrawBounty");
        if (done) stakedOut += due;
    }

    function staking_burnSlashed(uint256) external {
        uint256 due = staking.unburned();
        uint256 before = bond.balanceOf(BURN);
        bytes memory data = abi.encodeCall(IProviderStaking.burnSlashed, ());
        (bool done,) = attempt(stranger, address(staking), data, due != 0, Law.Exit, "burnSlashed");
        if (!done) return;
        if (bond.balanceOf(BURN) != before + due) violate(Law.Conservation, "burnSlashed burned something else");
        stakedOut += due;
    }

    function staking_unjail(uint256 seed) external {
        address provider = providerBy(seed);
        for (uint256 i; i < people.length && !staking.isJailed(provider) && seed % 8 != 0; ++i) {
            provider = people[(4 + i) % people.length];
        }
        uint64 until = staking.jailedUntil(provider);
        if (seed % 2 == 1 && until > block.timestamp) later(until);
        (uint128 bonded,) = staking.stakeOf(provider);
        bool good = until != 0 && block.timestamp >= until && bonded >= UNIT;
        bytes memory data = abi.encodeCall(IProviderStaking.unjail, ());
        attempt(provider, address(staking), data, good, Law.Exit, "unjail");
    }

    /// @dev Never: these are the court's and the escrow's.
    function refused_stakingOrders(uint256 seed) external {
        address[] memory friends = new address[](1);
        friends[0] = person(seed >> 8);
        bytes memory data = seed % 3 == 0
            ? abi.encodeCall(IProviderStaking.slash, (people[PROVIDER_FROM], 1, bytes32(seed), friends))
            : seed % 3 == 1
                ? abi.encodeCall(IProviderStaking.setSeats, (people[PROVIDER_FROM], uint16(seed)))
                : abi.encodeCall(IProviderStaking.addFees, (people[PROVIDER_FROM], uint128(seed)));
        attempt(person(seed), address(staking), data, false, Law.Stake, "a stranger gave the staking an order");
    }

    /// @dev What a provider is owed becomes fees, and a day's part of them rewards.
    function flow(address provider) internal {
        if (staking.hasPool(provider)) {
            payment.arm(address(0), "");
            if (credit[provider] == 0) {
                address payer = people[0];
                IComputeEscrow.Channel memory channel =
                    IComputeEscrow.Channel(payer, vm.addr(sessionKeyOf[payer]), provider, 7);
                payThrough(channel, 100 * TALLY);
            }
            if (credit[provider] != 0) {
                uint256 fee = credit[provider] * PROTOCOL_FEE_BPS / 10_000;
                paidOut += credit[provider] - fee;
                fees[provider] += fee;
                credit[provider] = 0;
                escrow.withdrawCredit(provider, new IComputeEscrow.Row[](0));
            }
            if (fees[provider] != 0) {
                poolFees += fees[provider] * POOL_SHARE_BPS / 10_000;
                paidOut += fees[provider];
                fees[provider] = 0;
                escrow.shareFees(provider);
            }
        }
        later(block.timestamp + DAY_S);
    }

    // ------------------------------------------------------------------ the price of a share

    /// @dev Only a slash lets a share lose; nothing but rounding lets it gain: fees are no part of it.
    function notePrice(address provider, bool slashed) internal {
        Price memory then_ = lastPrice[provider];
        (uint128 tokens, uint160 shares, uint32 generation,) = staking.poolOf(provider);
        lastPrice[provider] = Price(tokens, shares, generation);
        if (slashed) return;
        if (generation != then_.generation) violate(Law.SharePrice, "shares became void without a slash");
        if (shares == 0) {
            if (tokens != 0) violate(Law.SharePrice, "tokens stayed in a pool without shares");
            return;
        }
        uint256 now_ = (uint256(tokens) + 1) * (then_.shares + 1);
        uint256 before = (then_.tokens + 1) * (uint256(shares) + 1);
        if (now_ < before) violate(Law.SharePrice, "a share lost without a slash");
        if (now_ - before > then_.shares + then_.tokens + 2) violate(Law.SharePrice, "a share gained");
    }

    /// @notice Whether a pool is as the last act on it left it.
    function priceStands(address provider) external view returns (bool) {
        (uint128 tokens, uint160 shares, uint32 generation,) = staking.poolOf(provider);
        Price memory last = lastPrice[provider];
        return last.tokens == tokens && last.shares == shares && last.generation == generation;
    }

    /// @notice In and out again at once: never more than before. Leaves no trace where a law calls it.
    function roundTrip(address provider, uint128 amount) external returns (uint256 back) {
        address somebody = stranger;
        bond.mint(somebody, amount);
        (uint160 held,) = staking.delegationOf(provider, somebody);
        vm.prank(somebody);
        uint160 shares = staking.delegate(provider, amount, 0);
        // What was there before, if too small to stay alone, is left out of the way.
        if (held != 0) return amount;
        vm.prank(somebody);
        (, uint128 worth) = staking.requestUndelegate(provider, shares, 0);
        return worth;
    }

    // ------------------------------------------------------------------ private

    function _toDelegate(uint256 seed, uint256 amountSeed)
        private
        view
        returns (address provider, address from, uint128 amount)
    {
        provider = providerBy(seed);
        from = people[(seed >> 30) % people.length];
        amount = uint128(within(amountSeed, seed % 8 == 0 ? 0 : UNIT / 100, 3 * UNIT));
    }

    function _delegated(address provider, address from, uint128 amount) private {
        stakedIn += amount;
        if (!known[provider][from]) {
            known[provider][from] = true;
            positions.push([provider, from]);
        }
        notePrice(provider, false);
    }

    function _position(uint256 seed) private view returns (address provider, address delegator) {
        if (positions.length == 0) revert Refused("nobody delegated");
        address[2] storage found = positions[(seed >> 8) % positions.length];
        for (uint256 i; i < positions.length && seed % 8 != 0; ++i) {
            (uint160 shares,) = staking.delegationOf(found[0], found[1]);
            if (shares != 0) break;
            found = positions[((seed >> 8) + i) % positions.length];
        }
        return (found[0], found[1]);
    }
}
