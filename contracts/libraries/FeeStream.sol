// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Fees that reach the shares of a pool little by little
/// @notice What is added flows evenly over the stream's seconds. Added to a stream that still flows, the whole ends at the mean of
/// both ends, weighted by the amounts: dust added by a stranger holds nothing up.
///
/// Nothing is lost to rounding. What a second leaves over stays in `remaining`, what does not divide among the shares is
/// carried to the next division, and what a holder's part leaves over is carried with its position.
/// @dev Time is counted in 2^-32 seconds, and fees per share in 2^-96 of the token's smallest unit. `perShare` may wrap:
/// only differences count. Fees that ever pass through one pool are below 2^128, as no token in use has more units.
library FeeStream {
    /// @param perShare What one share has earned since the beginning, in 2^-96 units.
    /// @param carry What the last division left over, in 2^-96 units.
    /// @param remaining Has not flowed yet.
    /// @param timeLeft Until `remaining` has flowed, in 2^-32 seconds.
    /// @param updatedAt Unix seconds.
    struct Stream {
        uint256 perShare;
        uint256 carry;
        uint128 remaining;
        uint64 timeLeft;
        uint64 updatedAt;
    }

    uint256 private constant TIME_BITS = 32;
    uint256 private constant SHARE_BITS = 96;

    /// @notice The stream as it is at `time`, with `shares` in its pool ever since it was updated.
    function advanced(Stream memory stream, uint256 shares, uint256 time) internal pure returns (Stream memory) {
        // A pool without shares has nothing that flows: `drain` saw to that.
        if (stream.updatedAt != time && shares != 0) {
            uint256 elapsed = (time - stream.updatedAt) << TIME_BITS;
            uint256 released = stream.remaining;
            if (elapsed < stream.timeLeft) {
                released = released * elapsed / stream.timeLeft;
                // Safe cast: less than timeLeft.
                stream.timeLeft -= uint64(elapsed);
            } else {
                stream.timeLeft = 0;
            }
            // Safe cast: at most remaining.
            stream.remaining -= uint128(released);
            uint256 divided = (released << SHARE_BITS) + stream.carry;
            // Wraps, as it may.
            unchecked {
                stream.perShare += divided / shares;
            }
            stream.carry = divided % shares;
        }
        // Safe cast: a block's time.
        stream.updatedAt = uint64(time);
        return stream;
    }

    /// @notice `amount` more, on a stream that was just advanced.
    function add(Stream memory stream, uint128 amount, uint32 streamSeconds) internal pure {
        uint256 sum = uint256(stream.remaining) + amount;
        if (sum == 0) return;
        uint256 weighted =
            uint256(stream.remaining) * stream.timeLeft + uint256(amount) * (uint256(streamSeconds) << TIME_BITS);
        // Safe cast: a mean of two numbers of 64 bits. Rounded up: no number of additions makes fees flow sooner.
        stream.timeLeft = uint64((weighted + sum - 1) / sum);
        // Checked: 128 bits.
        stream.remaining += amount;
    }

    /// @notice Take out all that has no holder any more, in whole units.
    function drain(Stream memory stream) internal pure returns (uint128 rest) {
        // Safe cast: parts of what was added.
        rest = stream.remaining + uint128(stream.carry >> SHARE_BITS);
        stream.remaining = 0;
        stream.timeLeft = 0;
        stream.carry = uint96(stream.carry);
    }

    /// @notice When everything will have flowed: unix seconds, rounded up.
    function endsAt(Stream memory stream) internal pure returns (uint64) {
        // Safe cast: a block's time plus 32 bits of seconds.
        return uint64(stream.updatedAt + (uint256(stream.timeLeft) + (1 << TIME_BITS) - 1 >> TIME_BITS));
    }

    /// @notice What `shares` earned while `perShare` went from `from` to `to`, with the carry of their position.
    /// @return amount In whole units.
    /// @return carry The new carry.
    function earned(uint256 shares, uint256 from, uint256 to, uint96 carry)
        internal
        pure
        returns (uint128 amount, uint96)
    {
        // The difference of two numbers that wrap; times the shares, at most the fees of the pool, 2^-96 units.
        unchecked {
            uint256 sum = shares * (to - from) + carry;
            // Safe casts: the whole units, and the rest of them.
            return (uint128(sum >> SHARE_BITS), uint96(sum));
        }
    }
}
