// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FeeStream} from "../libraries/FeeStream.sol";
import {SharePot} from "../libraries/SharePot.sol";

/// @notice For tests: pots and streams from outside, many steps in one call.
contract ShareHarness {
    using FeeStream for FeeStream.Stream;
    using SharePot for SharePot.Pot;

    SharePot.Pot private _pot;

    /// @notice Steps on an empty pot, kept nowhere: (0, amount) adds, (1, shares) removes, (2, amount) slashes.
    /// @return rows What the step answered, then tokens, shares and generation after it.
    function runPot(uint256[2][] calldata steps) external returns (uint256[4][] memory rows) {
        delete _pot;
        rows = new uint256[4][](steps.length);
        for (uint256 i; i < steps.length; ++i) {
            uint256 answer;
            if (steps[i][0] == 0) answer = _pot.add(uint128(steps[i][1]));
            else if (steps[i][0] == 1) answer = _pot.remove(steps[i][1]);
            else (, answer) = _pot.slash(uint128(steps[i][1]));
            rows[i] = [answer, _pot.tokens, _pot.shares, _pot.generation];
        }
    }

    /// @notice Steps on a stream without fees: advance to a time with so many shares, then add an amount, or drain where
    /// the amount is the largest number.
    /// @param steps shares, time, amount, streamSeconds.
    /// @return rows perShare, carry, remaining, timeLeft, and what a drain answered.
    function runStream(uint256[4][] calldata steps) external pure returns (uint256[5][] memory rows) {
        FeeStream.Stream memory stream;
        rows = new uint256[5][](steps.length);
        for (uint256 i; i < steps.length; ++i) {
            uint256 drained;
            stream = stream.advanced(steps[i][0], steps[i][1]);
            if (steps[i][2] == type(uint256).max) drained = stream.drain();
            else stream.add(uint128(steps[i][2]), uint32(steps[i][3]));
            rows[i] = [stream.perShare, stream.carry, stream.remaining, stream.timeLeft, drained];
        }
    }

    /// @param rows shares, from, to, carry.
    function earned(uint256[4][] calldata rows) external pure returns (uint256[2][] memory answers) {
        answers = new uint256[2][](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            (uint128 amount, uint96 carry) = FeeStream.earned(rows[i][0], rows[i][1], rows[i][2], uint96(rows[i][3]));
            answers[i] = [uint256(amount), carry];
        }
    }
}
