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
}
