// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ITaskMarket} from "../interfaces/ITaskMarket.sol";

/// @title Who signed
/// @notice ECDSA in 65 bytes or, by EIP-2098, in 64; low s only. For consumers that are contracts, EIP-1271.
library Signatures {
    /// @dev What a contract gets to check a signature. It is all or nothing: with less, a relayer could make a good
    /// signature look bad.
    uint256 internal constant CONTRACT_CHECK_GAS = 100_000;

    /// @dev Half the order of secp256k1: with a higher s the same signature could be written in a second way.
    uint256 private constant HIGHEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @notice The signer, or zero if this is no canonical signature. Compare with an address that is not zero.
    /// @dev What OpenZeppelin's ECDSA accepts, and EIP-2098 beside it, at half the gas; the tests compare the two.
    function recover(bytes32 digest, bytes calldata signature) internal pure returns (address signer) {
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            r := calldataload(signature.offset)
            s := calldataload(add(signature.offset, 0x20))
            switch signature.length
            case 65 { v := byte(0, calldataload(add(signature.offset, 0x40))) }
            case 64 {
                v := add(shr(255, s), 27)
                s := shr(1, shl(1, s))
            }
            // Any other length leaves v zero, which the precompile takes for no signature.
        }
        return _recover(digest, v, r, s);
    }

    /// @notice The same for a signature in the two words of EIP-2098.
    function recover(bytes32 digest, bytes32 r, bytes32 vs) internal pure returns (address) {
        // Safe: the highest bit alone, 0 or 1, and 27.
        unchecked {
            return _recover(digest, uint8(uint256(vs) >> 255) + 27, r, vs & bytes32(type(uint256).max >> 1));
        }
    }

    function _recover(bytes32 digest, uint8 v, bytes32 r, bytes32 s) private pure returns (address) {
        if (uint256(s) > HIGHEST_S) return address(0);
        return ecrecover(digest, v, r, s);
    }

    /// @notice Whether the contract at `account` takes the signature for its own. False for an account without code.
    function approvedByContract(address account, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool approved)
    {
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        // A call receives at most 63/64 of what is left (EIP-150); 6,000 cover the access to the account and to the code it
        // may delegate to (EIP-7702), 2,600 each, and the way to the call.
        uint256 required = CONTRACT_CHECK_GAS + CONTRACT_CHECK_GAS / 63 + 6000;
        if (gasleft() < required) revert ITaskMarket.NotEnoughGas(required, gasleft());
        bytes4 magic = IERC1271.isValidSignature.selector;
        // Reads one word whatever comes back, so a long answer costs its sender, not the caller.
        assembly ("memory-safe") {
            mstore(0x00, 0)
            let success := staticcall(CONTRACT_CHECK_GAS, account, add(question, 0x20), mload(question), 0x00, 0x20)
            approved := and(and(success, gt(returndatasize(), 0x1f)), eq(mload(0x00), magic))
        }
    }
}
