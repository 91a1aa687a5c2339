// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../interfaces/IComputeEscrow.sol";

/// @title Which channel is meant
/// @notice A channel is its four fields; its id is their hash.
library Channels {
    uint256 private constant SALT_BITS = 96;

    function id(IComputeEscrow.Channel calldata channel) internal pure returns (bytes32) {
        return idOf(channel.payer, channel.signer, channel.provider, channel.salt);
    }

    /// @notice keccak256(abi.encode(payer, signer, provider, salt)).
    /// @dev The salt comes as a word; callers keep it within 96 bits.
    function idOf(address payer, address signer, address provider, uint256 salt)
        internal
        pure
        returns (bytes32 channelId)
    {
        // Written past the free memory pointer and forgotten.
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, payer)
            mstore(add(start, 0x20), signer)
            mstore(add(start, 0x40), provider)
            mstore(add(start, 0x60), salt)
            channelId := keccak256(start, 0x80)
        }
    }

    /// @notice The first word of a row taken apart.
    function split(uint256 payerAndSalt) internal pure returns (address payer, uint256 salt) {
        // Safe cast: the 160 bits above the salt.
        return (address(uint160(payerAndSalt >> SALT_BITS)), uint96(payerAndSalt));
    }

    /// @notice The total as it lies there: one that is wider than its type must not stop a whole batch.
    function readTotal(IComputeEscrow.Row calldata row) internal pure returns (uint256 total) {
        assembly ("memory-safe") {
            total := calldataload(add(row, 0x20))
        }
    }
}
