// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

interface IWitness {
    /// @notice Whether the books are covered, asked in the middle of a transfer.
    function booksAreCovered() external view returns (bool);
}

/// @notice Moves exactly what it is asked to move, and meanwhile calls back as told and asks a witness for its view: what
/// an ERC-777 hook of the recipient could do (case 1).
contract HostileToken is ERC20Permit, ERC3009 {
    IWitness private immutable _witness;

    address private _target;
    bytes private _data;

    /// @notice Whether a call back got through, or the books were seen uncovered.
    bool public breached;

    constructor(IWitness witness) ERC20("Hostile", "HOST") ERC20Permit("Hostile") {
        _witness = witness;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function approveFor(address spender, uint256 amount) external {
        _approve(address(this), spender, amount);
    }

    function arm(address target, bytes calldata data) external {
        _target = target;
        _data = data;
    }

    function _update(address from, address to, uint256 value) internal override {
        address target = _target;
        if (target != address(0) && from != address(0)) {
            _target = address(0);
            // solhint-disable-next-line avoid-low-level-calls
            (bool success,) = target.call(_data);
            if (success || !_witness.booksAreCovered()) breached = true;
        }
        super._update(from, to, value);
    }
}
