// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITallystickDomain} from "../interfaces/ITallystickDomain.sol";
import {MessageHash} from "./MessageHash.sol";

/// @title The shared EIP-712 domain
/// @notice Inherited by every contract of a deployment, always with the escrow's address.
abstract contract TallystickDomain is ITallystickDomain {
    string private constant NAME = "Tallystick";
    string private constant VERSION = "1";

    address private immutable _verifyingContract;
    uint256 private immutable _cachedChainId;
    bytes32 private immutable _cachedSeparator;

    constructor(address escrow_) {
        _verifyingContract = escrow_;
        _cachedChainId = block.chainid;
        _cachedSeparator = _separator(escrow_);
    }

    /// @inheritdoc ITallystickDomain
    function domainSeparator() public view returns (bytes32) {
        return block.chainid == _cachedChainId ? _cachedSeparator : _separator(_verifyingContract);
    }

    /// @inheritdoc ITallystickDomain
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        // 0x0f: name, version, chainId and verifyingContract are used; salt is not.
        return (hex"0f", NAME, VERSION, block.chainid, _verifyingContract, bytes32(0), new uint256[](0));
    }

    /// @dev What a wallet signs for a message with this struct hash.
    function _digest(bytes32 structHash) internal view returns (bytes32) {
        return _digestUnder(domainSeparator(), structHash);
    }

    /// @dev The same under the chain id of the deployment. Finds what was stored before a fork; no signature is checked
    /// against it.
    function _digestAtDeployment(bytes32 structHash) internal view returns (bytes32) {
        return _digestUnder(_cachedSeparator, structHash);
    }

    /// @dev For batches, which read the separator once.
    function _digestUnder(bytes32 separator, bytes32 structHash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, hex"1901")
            mstore(add(start, 0x02), separator)
            mstore(add(start, 0x22), structHash)
            result := keccak256(start, 0x42)
        }
    }

    function _separator(address verifyingContract) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                MessageHash.DOMAIN_TYPEHASH,
                keccak256(bytes(NAME)),
                keccak256(bytes(VERSION)),
                block.chainid,
                verifyingContract
            )
        );
    }
}
