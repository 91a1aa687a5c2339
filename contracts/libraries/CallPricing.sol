// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The price
/// @notice Pure, and the same to the unit in `tallystick.protocol.pricing`.
library CallPricing {
    uint256 internal constant BPS = 10_000;
    uint256 private constant MS_PER_SECOND = 1000;

    /// @notice min(maxCharge, flat + feePerCall * calls + ratePerGpuSecond * gpuMs / 1000), the last rounded up: once.
    function chargeUp(
        uint128 flat,
        uint128 feePerCall,
        uint128 ratePerGpuSecond,
        uint128 maxCharge,
        uint64 calls,
        uint64 gpuMs
    ) internal pure returns (uint128) {
        // Each product is below 2^192, so the sum stays below 2^194.
        unchecked {
            uint256 sum = uint256(flat) + uint256(feePerCall) * calls + gpuTimeUp(ratePerGpuSecond, gpuMs);
            // Safe cast: not above maxCharge, a uint128.
            return sum < maxCharge ? uint128(sum) : maxCharge;
        }
    }

    /// @notice What `gpuMs` cost at a rate per GPU-second; any started unit counts.
    function gpuTimeUp(uint128 ratePerGpuSecond, uint64 gpuMs) internal pure returns (uint256) {
        // The product is below 2^192.
        unchecked {
            return (uint256(ratePerGpuSecond) * gpuMs + (MS_PER_SECOND - 1)) / MS_PER_SECOND;
        }
    }

    /// @notice A share of a charge; what is lost in rounding stays with the provider.
    function shareDown(uint128 charge, uint256 bps) internal pure returns (uint128) {
        // Callers keep bps <= 10,000: the product is below 2^142 and the share not above the charge.
        unchecked {
            return uint128(uint256(charge) * bps / BPS);
        }
    }
}
