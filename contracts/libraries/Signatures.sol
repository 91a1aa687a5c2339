// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ITaskMarket} from "../interfaces/ITaskMarket.sol";

/// @title Who signed
/// @notice ECDSA in 65 bytes or, by EIP-2098, in 64; low s only. For consumers that are contracts, EIP-1271.
library Signatures {
    /// @dev What a contract gets to check a signature. It is all or nothing: with less, a relayer could make a good
    /// signature look bad.
    uint256 internal constant CONTRACT_CHECK_GAS = 100_000;

    /// @notice The signer, or zero if this is no canonical signature. Compare with an address that is not zero.
    function recover(bytes32 digest, bytes calldata signature) internal pure returns (address signer) {
        if (signature.length == 65) {
            (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        } else if (signature.length == 64) {
            (signer,,) = ECDSA.tryRecover(digest, bytes32(signature[:32]), bytes32(signature[32:]));
        }
    }

    /// @notice Whether the contract at `account` takes the signature for its own. False for an account without code.
    function approvedByContract(address account, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool approved)
    {
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        // A call receives at most 63/64 of what is left (EIP-150); 3,000 cover the account access and the way to the call.
        uint256 required = CONTRACT_CHECK_GAS + CONTRACT_CHECK_GAS / 63 + 3000;
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
