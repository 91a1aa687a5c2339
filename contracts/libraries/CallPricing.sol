// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The price
/// @notice Pure, and the same to the unit in `tallystick.protocol.pricing`.
library CallPricing {
    uint256 internal constant BPS = 10_000;
    uint256 internal constant CHECKERS = 3;
    uint256 private constant MS_PER_SECOND = 1000;

    /// @notice min(maxCharge, flat + feePerCall * calls + ratePerGpuSecond * gpuMs / 1000), the last rounded up: once.
    /// @dev Amounts are of 128 bits, `calls` and `gpuMs` of 64; callers have checked it.
    function chargeUp(
        uint256 flat,
        uint256 feePerCall,
        uint256 ratePerGpuSecond,
        uint256 maxCharge,
        uint256 calls,
        uint256 gpuMs
    ) internal pure returns (uint256) {
        // Each product is below 2^192, so the sum stays below 2^194.
        unchecked {
            uint256 sum = flat + feePerCall * calls + gpuTimeUp(ratePerGpuSecond, gpuMs);
            return sum < maxCharge ? sum : maxCharge;
        }
    }

    /// @notice What `gpuMs` cost at a rate per GPU-second; any started unit counts.
    function gpuTimeUp(uint256 ratePerGpuSecond, uint256 gpuMs) internal pure returns (uint256) {
        // The product is below 2^192.
        unchecked {
            return (ratePerGpuSecond * gpuMs + (MS_PER_SECOND - 1)) / MS_PER_SECOND;
        }
    }

    /// @notice What a dispute costs the consumer if it is wrong: the share of the charge that each of three checkers
    /// repeats, rounded up once, and a floor.
    function bondUp(uint256 charge, uint256 shareBps, uint256 floor) internal pure returns (uint256) {
        // The charge and the floor are of 128 bits, the share of 24: the sum stays below 2^155.
        unchecked {
            return (CHECKERS * shareBps * charge + (BPS - 1)) / BPS + floor;
        }
    }

    /// @notice A share of an amount of 128 bits; what is lost in rounding stays with the provider.
    function shareDown(uint256 amount, uint256 bps) internal pure returns (uint256) {
        // Callers keep bps <= 10,000: the product is below 2^142 and the share not above the amount.
        unchecked {
            return amount * bps / BPS;
        }
    }
}
