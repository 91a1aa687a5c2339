// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title A pot of tokens held in shares
/// @notice What a slash takes is taken from `tokens`, in one write, and every share is worth less at once. Tokens come in
/// and go out by these functions only, so nobody moves the price by sending tokens.
///
/// One virtual share and one virtual token stand behind every pot: the first holder cannot make a share so dear that the
/// next one's rounds to nothing. While a pot was never slashed a share is a token, exactly. Every conversion rounds down,
/// against who asks; the last one out takes what is there.
/// @dev A slash takes what was asked for and nothing else, unless it takes all but a 2^32nd of a pot: then the pot is void
/// and starts afresh in a new generation, and shares of an earlier generation are worth nothing. It is this slash that
/// counts, not the ones before it: a pot in which shares are dear already must not be void for a small one, or what
/// newcomers brought would be lost with it. A pot whose shares are worth less than 2^-32 tokens is spent, and takes no
/// newcomers; who came before has shares that fit 160 bits on every way out, since what a slash makes cheaper it also
/// makes fewer tokens of.
library SharePot {
    /// @dev Two slots; a slash writes the first.
    struct Pot {
        uint128 tokens;
        uint32 generation;
        uint256 shares;
    }

    /// @dev Newcomers' shares are worth at least 2^-32 tokens each, and no slash leaves less than a 2^32nd of a pot.
    uint256 private constant DUST_BITS = 32;

    /// @notice Shares for `amount` tokens, rounded down.
    function sharesDown(uint256 amount, uint256 tokens, uint256 shares) internal pure returns (uint256) {
        return Math.mulDiv(amount, shares + 1, tokens + 1);
    }

    /// @notice Tokens for `held` of all `shares`, rounded down; all tokens for all shares.
    /// @dev Never more than `tokens`: held <= shares - 1 makes it less than tokens + 1, and it is rounded down.
    function tokensDown(uint256 held, uint256 tokens, uint256 shares) internal pure returns (uint256) {
        return held == shares ? tokens : Math.mulDiv(held, tokens + 1, shares + 1);
    }

    /// @notice Whether a slash that leaves `rest` of `tokens` leaves too little to be shared.
    function isVoid(uint256 rest, uint256 tokens) internal pure returns (bool) {
        return rest <= tokens >> DUST_BITS;
    }

    /// @notice Whether slashes left so little that a token of a newcomer would be more than 2^32 shares.
    function isSpent(Pot storage pot) internal view returns (bool) {
        return pot.shares + 1 > (uint256(pot.tokens) + 1) << DUST_BITS;
    }

    /// @notice What shares of a generation are worth now.
    function valueDown(Pot storage pot, uint256 held, uint32 generation) internal view returns (uint128) {
        if (held == 0 || generation != pot.generation) return 0;
        // Safe cast: at most the pot's tokens.
        return uint128(tokensDown(held, pot.tokens, pot.shares));
    }

    /// @notice Put `amount` in.
    /// @return held Its shares. Zero only where a share is worth more than `amount`, which rounding can bring about by a
    /// few wei at most; more than 160 bits only in a spent pot.
    function add(Pot storage pot, uint128 amount) internal returns (uint256 held) {
        uint128 tokens = pot.tokens;
        uint256 shares = pot.shares;
        held = sharesDown(amount, tokens, shares);
        // Checked: a token with more than 2^128 units cannot wrap a pot.
        pot.tokens = tokens + amount;
        pot.shares = shares + held;
    }

    /// @notice Take out what `held` shares of the present generation are worth.
    function remove(Pot storage pot, uint256 held) internal returns (uint128 amount) {
        uint128 tokens = pot.tokens;
        uint256 shares = pot.shares;
        // Safe cast: at most the pot's tokens.
        amount = uint128(tokensDown(held, tokens, shares));
        pot.tokens = tokens - amount;
        pot.shares = shares - held;
    }

    /// @notice Slash `amount`, at most what is there.
    /// @return voided Whether the pot started afresh.
    /// @return rest What was left in it then: nobody's.
    function slash(Pot storage pot, uint128 amount) internal returns (bool voided, uint128 rest) {
        uint128 tokens = pot.tokens;
        rest = tokens - amount;
        voided = isVoid(rest, tokens);
        if (!voided) {
            pot.tokens = rest;
            return (false, 0);
        }
        pot.tokens = 0;
        pot.shares = 0;
        // 2^32 times slashed to nothing is out of reach.
        unchecked {
            ++pot.generation;
        }
    }
}
