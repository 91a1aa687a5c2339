// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/// @title The network token
/// @notice ERC-20 of 18 decimals with EIP-2612 permits and EIP-3009 authorizations. The whole supply exists from the
/// start; nobody can mint, freeze or take any.
contract TallyToken is ERC20Permit, ERC3009 {
    error ZeroSupply();
    error SupplyTooLarge(uint256 limit, uint256 actual);

    constructor(address holder, uint256 supply) ERC20("Tally", "TALLY") ERC20Permit("Tally") {
        if (supply == 0) revert ZeroSupply();
        // Amounts elsewhere are uint128: no sum of balances may pass it.
        if (supply > type(uint128).max) revert SupplyTooLarge(type(uint128).max, supply);
        _mint(holder, supply);
    }
}
