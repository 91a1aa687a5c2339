// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice For tests: what an escrow asks of its staking, with a pool for one provider and one operator key. `addFees`
/// writes down how many tokens had arrived before it was told of them.
contract FeePool {
    IERC20 private immutable _token;
    address private immutable _provider;
    address private immutable _key;

    uint256 public told;
    uint256 public arrived;

    constructor(address token, address provider, address key) {
        _token = IERC20(token);
        _provider = provider;
        _key = key;
    }

    function addFees(address provider, uint128 amount) external {
        require(provider == _provider, "not this provider");
        told += amount;
        arrived = _token.balanceOf(address(this));
    }

    function hasPool(address provider) external view returns (bool) {
        return provider == _provider;
    }

    function signsFor(address signer, address provider) external view returns (bool) {
        return provider == _provider && (signer == _provider || signer == _key);
    }
}
