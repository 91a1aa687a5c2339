// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/// @notice For tests: six decimals, EIP-2612 and EIP-3009, as USDC has them; `freeze` as its blacklist.
contract MockUSDC is ERC20Permit, ERC3009 {
    error Frozen(address account);

    mapping(address account => bool) private _frozen;

    constructor(address holder, uint256 supply) ERC20("USD Coin", "USDC") ERC20Permit("USD Coin") {
        _mint(holder, supply);
    }

    function freeze(address account) external {
        _frozen[account] = true;
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (_frozen[to]) revert Frozen(to);
        super._update(from, to, value);
    }
}

/// @notice For tests: takes a share of every transfer.
contract FeeOnTransferToken is ERC20 {
    uint256 private immutable _feeBps;

    constructor(address holder, uint256 supply, uint256 feeBps) ERC20("Fee", "FEE") {
        _feeBps = feeBps;
        _mint(holder, supply);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, value);
        uint256 fee = value * _feeBps / 10_000;
        super._update(from, address(0), fee);
        super._update(from, to, value - fee);
    }
}

/// @notice For tests: answers as told to a transfer: with nothing (USDT), with false, or with 64 kB.
contract OddAnswerToken {
    enum Answer {
        Nothing,
        False,
        Huge
    }

    Answer private immutable _answer;
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    constructor(address holder, uint256 supply, Answer answer) {
        _answer = answer;
        balanceOf[holder] = supply;
    }

    function approve(address spender, uint256 value) external {
        allowance[msg.sender][spender] = value;
    }

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        allowance[from][msg.sender] -= value;
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private {
        // A token that says false moves nothing.
        if (_answer == Answer.False) {
            assembly ("memory-safe") {
                mstore(0, 0)
                return(0, 32)
            }
        }
        balanceOf[from] -= value;
        balanceOf[to] += value;
        if (_answer == Answer.Huge) {
            assembly {
                mstore(0, 1)
                return(0, 65536)
            }
        }
    }
}

/// @notice For tests: calls `target` with `data` from inside every transfer, as an ERC-777 hook of its recipient could.
/// Whatever the call answers is remembered.
contract ReentrantToken is ERC20 {
    address private _target;
    bytes private _data;
    bool public called;
    bool public succeeded;
    bytes public answer;

    constructor(address holder, uint256 supply) ERC20("Reentrant", "REE") {
        _mint(holder, supply);
    }

    function arm(address target, bytes calldata data) external {
        _target = target;
        _data = data;
        called = false;
    }

    /// @notice So that the token can itself be an account that reenters.
    function approveFor(address spender, uint256 value) external {
        _approve(address(this), spender, value);
    }

    function _update(address from, address to, uint256 value) internal override {
        address target = _target;
        if (target != address(0) && !called) {
            called = true;
            // solhint-disable-next-line avoid-low-level-calls
            (succeeded, answer) = target.call(_data);
        }
        super._update(from, to, value);
    }
}

/// @notice For tests: no permit, but a fallback that swallows the call, as WETH has.
contract FallbackToken is ERC20 {
    constructor(address holder, uint256 supply) ERC20("Fallback", "FALL") {
        _mint(holder, supply);
    }

    fallback() external {}
}
