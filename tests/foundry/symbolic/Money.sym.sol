// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CallPricing} from "../../../contracts/libraries/CallPricing.sol";
import {Channels} from "../../../contracts/libraries/Channels.sol";
import {SharePot} from "../../../contracts/libraries/SharePot.sol";

/// @notice What a voucher over `total` makes of what is claimed: `ContractsSymbolic` proves that the escrow does this.
function claimedAfter(uint256 deposited, uint256 claimed, uint256 total) pure returns (uint256) {
    uint256 reach = deposited;
    if (total < reach) reach = total;
    else if (total > type(uint128).max) reach = 0;
    return reach <= claimed ? claimed : reach;
}

/// @notice Small properties that Halmos proves for every value, `make halmos`. A property that it cannot decide in time
/// fails the target: a time-out is no proof. Divisions of 128 bits are out of its reach, so those are proven narrower.
contract MoneySymbolic {
    // ------------------------------------------------------------------ the voucher, one step (case 34)

    function check_claimed_never_falls(uint128 deposited, uint128 claimed, uint256 total) external pure {
        assert(claimedAfter(deposited, claimed, total) >= claimed);
    }

    function check_claimed_stays_within_the_deposit(uint128 deposited, uint128 claimed, uint256 total) external pure {
        if (claimed > deposited) return;
        assert(claimedAfter(deposited, claimed, total) <= deposited);
    }

    function check_claimed_stays_within_the_total(uint128 deposited, uint128 claimed, uint256 total) external pure {
        uint256 after_ = claimedAfter(deposited, claimed, total);
        assert(after_ == claimed || after_ <= total);
    }

    function check_the_same_voucher_pays_once(uint128 deposited, uint128 claimed, uint128 total) external pure {
        uint256 once = claimedAfter(deposited, claimed, total);
        assert(claimedAfter(deposited, once, total) == once);
    }

    function check_order_of_vouchers_does_not_matter(uint128 deposited, uint128 claimed, uint128 one, uint128 other)
        external
        pure
    {
        if (claimed > deposited) return;
        assert(
            claimedAfter(deposited, claimedAfter(deposited, claimed, one), other)
                == claimedAfter(deposited, claimedAfter(deposited, claimed, other), one)
        );
    }

    function check_a_total_too_wide_pays_nothing(uint128 deposited, uint128 claimed, uint256 total) external pure {
        if (total <= type(uint128).max) return;
        assert(claimedAfter(deposited, claimed, total) == claimed);
    }

    // ------------------------------------------------------------------ two halves in a word

    function check_halves_come_back(uint128 low, uint128 high) external pure {
        uint256 word = uint256(low) | (uint256(high) << 128);
        assert(uint128(word) == low && uint128(word >> 128) == high);
    }

    function check_adding_within_the_low_half_leaves_the_high(uint128 low, uint128 high, uint128 amount) external pure {
        uint256 word = uint256(low) | (uint256(high) << 128);
        if (uint256(low) + amount > type(uint128).max) return;
        unchecked {
            word += amount;
        }
        assert(uint128(word >> 128) == high && uint128(word) == low + amount);
    }

    function check_payer_and_salt_come_back(address payer, uint96 salt) external pure {
        (address foundPayer, uint256 foundSalt) = Channels.split((uint256(uint160(payer)) << 96) | salt);
        assert(foundPayer == payer && foundSalt == salt);
    }

    // ------------------------------------------------------------------ the price

    function check_a_charge_is_never_above_its_ceiling(
        uint128 flat,
        uint128 feePerCall,
        uint128 rate,
        uint128 maxCharge,
        uint64 calls,
        uint64 gpuMs
    ) external pure {
        assert(CallPricing.chargeUp(flat, feePerCall, rate, maxCharge, calls, gpuMs) <= maxCharge);
    }

    function check_a_flat_price_is_the_flat_price(uint128 flat, uint128 maxCharge) external pure {
        uint256 charge = CallPricing.chargeUp(flat, 0, 0, maxCharge, 0, 0);
        assert(charge == (flat < maxCharge ? flat : maxCharge));
    }

    function check_a_started_unit_counts(uint8 rate, uint16 gpuMs) external pure {
        uint256 cost = CallPricing.gpuTimeUp(rate, gpuMs);
        uint256 exact = uint256(rate) * gpuMs;
        assert(cost * 1000 >= exact && cost * 1000 < exact + 1000);
    }

    function check_a_share_is_a_part(uint8 amount, uint16 bps) external pure {
        if (bps > 10_000) return;
        uint256 share = CallPricing.shareDown(amount, bps);
        assert(share <= amount && share * 10_000 <= uint256(amount) * bps);
    }

    function check_the_whole_and_nothing(uint128 amount) external pure {
        assert(CallPricing.shareDown(amount, 0) == 0);
    }

    // ------------------------------------------------------------------ pots (case 59)

    function check_a_pot_slashed_to_nothing_is_void(uint128 tokens) external pure {
        assert(SharePot.isVoid(0, tokens));
    }

    /// @dev Nobody loses more than a 2^32nd of a pot to the rounding.
    function check_what_a_void_pot_leaves_is_dust(uint128 rest, uint128 tokens) external pure {
        if (rest == 0 || rest > tokens) return;
        assert(SharePot.isVoid(rest, tokens) == (uint256(rest) << 32 <= tokens));
    }

    function check_everything_for_all_shares(uint128 tokens, uint160 shares) external pure {
        if (shares == 0) return;
        assert(SharePot.tokensDown(shares, tokens, shares) == tokens);
    }
}
