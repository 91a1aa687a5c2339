// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The one EIP-712 domain of a deployment
/// @notice Name `Tallystick`, version `1`, the chain id and the escrow's address, in every contract of a deployment.
/// Recomputed when the chain id changes, so that a fork does not inherit signatures.
interface ITallystickDomain {
    /// @notice The domain separator in force on this chain, now.
    function domainSeparator() external view returns (bytes32);

    /// @notice The domain as EIP-5267 describes it.
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
        );
}
