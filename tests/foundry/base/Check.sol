// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What a test says of two values; the error shows both.
abstract contract Check {
    error NotEqual(string what, uint256 expected, uint256 actual);
    error NotEqualWord(string what, bytes32 expected, bytes32 actual);
    error NotAtMost(string what, uint256 limit, uint256 actual);
    error NotTrue(string what);

    function check(bool condition, string memory what) internal pure {
        if (!condition) revert NotTrue(what);
    }

    function checkEqual(uint256 expected, uint256 actual, string memory what) internal pure {
        if (expected != actual) revert NotEqual(what, expected, actual);
    }

    function checkEqual(address expected, address actual, string memory what) internal pure {
        if (expected != actual) revert NotEqual(what, uint160(expected), uint160(actual));
    }

    function checkEqual(bytes32 expected, bytes32 actual, string memory what) internal pure {
        if (expected != actual) revert NotEqualWord(what, expected, actual);
    }

    function checkAtMost(uint256 limit, uint256 actual, string memory what) internal pure {
        if (actual > limit) revert NotAtMost(what, limit, actual);
    }

    /// @dev Every value of the range can come, its ends more often than by chance.
    function within(uint256 seed, uint256 low, uint256 high) internal pure returns (uint256) {
        if (seed % 16 == 0) return low;
        if (seed % 16 == 1) return high;
        uint256 span = high - low + 1;
        return span == 0 ? seed : low + (seed >> 4) % span;
    }

    function mix(uint256 seed, uint256 salt) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, salt)));
    }

    function least(uint256 a, uint256 b) internal pure returns (uint256) {
        return a < b ? a : b;
    }
}
