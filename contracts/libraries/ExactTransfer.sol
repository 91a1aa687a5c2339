// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title What a token really moved
library ExactTransfer {
    using SafeERC20 for IERC20;

    /// @notice Pull `amount` and tell by how much this contract's balance grew. Callers compare, and hold a reentrancy
    /// guard: a token with callbacks could have one transfer counted twice.
    function pull(IERC20 token, address from, uint256 amount) internal returns (uint256 received) {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(from, address(this), amount);
        return receivedSince(token, before);
    }

    /// @notice By how much the balance grew; one that fell counts as nothing received.
    function receivedSince(IERC20 token, uint256 before) internal view returns (uint256) {
        uint256 balance = token.balanceOf(address(this));
        return balance > before ? balance - before : 0;
    }

    /// @notice Use a permit of `owner` for this contract. A permit that fails is no failure: it may have been used up
    /// by somebody else, and then the allowance is there; if it is not, the transfer says so.
    function tryPermit(IERC20 token, address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        internal
    {
        try IERC20Permit(address(token)).permit(owner, address(this), amount, deadline, v, r, s) {} catch {}
    }
}
