// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CallPricing} from "../../../contracts/libraries/CallPricing.sol";
import {Check} from "../base/Check.sol";

/// @notice The price against exact rationals, over the whole width of every field (cases 6, 7, 29, 32). A rounded number
/// is the right one if it is not below the exact value and less than one above, or the other way round.
contract PricingFuzz is Check {
    function testFuzz_the_charge_is_the_exact_price_rounded_up_once(
        uint128 flat,
        uint128 feePerCall,
        uint128 rate,
        uint128 maxCharge,
        uint64 calls,
        uint64 gpuMs
    ) external pure {
        uint256 charge = CallPricing.chargeUp(flat, feePerCall, rate, maxCharge, calls, gpuMs);
        uint256 exactTimes1000 = (uint256(flat) + uint256(feePerCall) * calls) * 1000 + uint256(rate) * gpuMs;
        if (charge == maxCharge) {
            check(
                exactTimes1000 > (uint256(maxCharge) * 1000 == 0 ? 0 : uint256(maxCharge) * 1000 - 1000)
                    || maxCharge == 0,
                "capped only from there on"
            );
            return;
        }
        checkAtMost(maxCharge, charge, "never above the ceiling");
        checkAtMost(charge * 1000, exactTimes1000, "rounded up");
        check(charge * 1000 - exactTimes1000 < 1000, "by less than one");
    }

    /// @dev Splitting a run in two never makes it cheaper, and dearer by one unit at most.
    function testFuzz_splitting_time_gains_nothing(uint128 rate, uint32 one, uint32 other) external pure {
        uint256 whole = CallPricing.gpuTimeUp(rate, uint256(one) + other);
        uint256 parts = CallPricing.gpuTimeUp(rate, one) + CallPricing.gpuTimeUp(rate, other);
        check(parts == whole || parts == whole + 1, "by one unit at most");
    }

    function testFuzz_a_share_is_rounded_down_and_never_above_the_amount(uint128 amount, uint16 seed) external pure {
        uint256 bps = uint256(seed) % 10_001;
        uint256 share = CallPricing.shareDown(amount, bps);
        checkAtMost(uint256(amount) * bps, share * 10_000, "rounded down");
        check(uint256(amount) * bps - share * 10_000 < 10_000, "by less than one");
        checkAtMost(amount, share, "a part");
    }

    function testFuzz_shares_and_rest_are_the_charge(uint128 charge, uint16 seed, uint16 other) external pure {
        uint256 bps = uint256(seed) % 3001;
        uint256 dispatcher = CallPricing.shareDown(charge, bps);
        uint256 royalty = CallPricing.shareDown(charge, uint256(other) % (3001 - bps));
        checkAtMost(charge, dispatcher + royalty, "the provider has the rest");
        checkAtMost(uint256(charge) * 3000 / 10_000, dispatcher + royalty, "never above the limit");
    }

    function testFuzz_a_bond_is_three_shares_rounded_up_and_the_floor(uint128 charge, uint16 seed, uint128 floor)
        external
        pure
    {
        uint256 bps = uint256(seed) % 10_001;
        uint256 bond = CallPricing.bondUp(charge, bps, floor) - floor;
        checkAtMost(bond * 10_000, 3 * bps * charge, "rounded up");
        check(bond * 10_000 - 3 * bps * charge < 10_000, "by less than one");
    }

    /// @dev All of it without a discount, nothing with a whole one.
    function testFuzz_a_discounted_price_is_rounded_up(uint128 amount, uint16 seed) external pure {
        uint256 bps = uint256(seed) % 10_001;
        uint256 exact = uint256(amount) * (10_000 - bps);
        uint256 left = CallPricing.discountedUp(amount, bps);
        checkAtMost(left * 10_000, exact, "rounded up");
        check(left * 10_000 - exact < 10_000, "by less than one");
        checkEqual(amount, CallPricing.discountedUp(amount, 0), "no discount");
        checkEqual(0, CallPricing.discountedUp(amount, 10_000), "all of it");
    }

    // ------------------------------------------------------------------ a million samples each, at 10,000 runs

    uint256 private constant SAMPLES = 100;

    /// @dev Case 6: to the unit, from no decimals to twenty-seven and up to the width of every field. Numbers below 2^204
    /// are exact here, so the quotient is.
    function testFuzz_a_million_prices_are_exact(uint256 seed) external pure {
        for (uint256 i; i < SAMPLES; ++i) {
            seed = mix(seed, i);
            uint256 flat = _spread(seed, 128);
            uint256 fee = _spread(seed >> 16, 128);
            uint256 rate = _spread(seed >> 32, 128);
            uint256 calls = _spread(seed >> 48, 64);
            uint256 gpuMs = _spread(seed >> 64, 64);
            uint256 most = _spread(seed >> 80, 128);
            uint256 thousandths = (flat + fee * calls) * 1000 + rate * gpuMs;
            uint256 exact = thousandths / 1000;
            if (thousandths % 1000 != 0) ++exact;
            uint256 charge = CallPricing.chargeUp(flat, fee, rate, most, calls, gpuMs);
            if (charge != least(exact, most)) revert NotEqual("exact, rounded up once, capped", exact, charge);
        }
    }

    /// @dev Case 7, law L2: every unit of a charge is somebody's; and a charge cut in two is the same charge, of which a cut
    /// moves one unit a share at most to the provider, who pays for one settlement more, and none to anybody else.
    function testFuzz_a_million_settlements_add_up(uint256 seed) external pure {
        for (uint256 i; i < SAMPLES; ++i) {
            seed = mix(seed, i);
            uint256 charge = _spread(seed, 128);
            uint256 first = charge == 0 ? 0 : mix(seed, 1) % (charge + 1);
            uint256 dispatcherBps = (seed >> 16) % 3001;
            uint256 royaltyBps = (seed >> 32) % (3001 - dispatcherBps);
            uint256 feeBps = (seed >> 48) % 501;
            uint256 cut = _afterShares(first, dispatcherBps, royaltyBps, feeBps)
                + _afterShares(charge - first, dispatcherBps, royaltyBps, feeBps);
            uint256 whole = _afterShares(charge, dispatcherBps, royaltyBps, feeBps);
            // What the others lose the provider has, no more and no less: a unit for each of the three.
            if (cut < whole || cut > whole + 3) revert NotEqual("a cut moves units", whole, cut);
            _checkCut(charge, first, dispatcherBps);
            _checkCut(charge, first, royaltyBps);
        }
    }

    /// @dev A share of the two parts is that of the whole, or one unit less.
    function _checkCut(uint256 charge, uint256 first, uint256 bps) private pure {
        uint256 whole = CallPricing.shareDown(charge, bps);
        uint256 cut = CallPricing.shareDown(first, bps) + CallPricing.shareDown(charge - first, bps);
        if (cut > whole || cut + 1 < whole) revert NotEqual("a share gains by a cut", whole, cut);
    }

    /// @dev What the provider is paid: all of the charge but dispatcher's, royalty's and, of its credit, the protocol's.
    function _afterShares(uint256 charge, uint256 dispatcherBps, uint256 royaltyBps, uint256 feeBps)
        private
        pure
        returns (uint256)
    {
        uint256 shares = CallPricing.shareDown(charge, dispatcherBps) + CallPricing.shareDown(charge, royaltyBps);
        if (shares > charge) revert NotAtMost("shares within the charge", charge, shares);
        uint256 credit = charge - shares;
        return credit - CallPricing.shareDown(credit, feeBps);
    }

    /// @dev Ends, neighbours of round numbers in any decimals, and anything between.
    function _spread(uint256 seed, uint256 bits) private pure returns (uint256) {
        uint256 most = (1 << bits) - 1;
        uint256 kind = seed % 8;
        if (kind == 0) return 0;
        if (kind == 1) return most;
        if (kind == 2) return least(10 ** ((seed >> 3) % 28) + (seed >> 8) % 2, most);
        unchecked {
            return (seed * 0x9E3779B97F4A7C15F39CC0605CEDC835 >> 64) & (most >> ((seed >> 3) % bits));
        }
    }
}
